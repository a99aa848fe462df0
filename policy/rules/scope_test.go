package rules_test

import (
	"fmt"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/rules"
)

const everything = `- {name: all, identity: "*", resource: "*", commands: "*", relations: "*", effect: allow}` + "\n"

func TestScope(t *testing.T) {
	p := load(t, clinic+`
- name: helpers
  identity: {workload: billing-agent}
  resource: clinic-db
  commands: select
  relations: a.b
  functions: [public.double, 'public."Odd.Name"']
  effect: allow
`)
	sc := p.Scope(agent(), noon)
	if !sc.Static || sc.Opaque || !sc.Protects() || sc.ID == "" {
		t.Errorf("%+v", sc)
	}
	m := sc.Masks[policy.Relation{Schema: "clinic", Name: "patients"}]
	if len(sc.Masks) != 1 || len(m) != 3 || m["ssn"] != (policy.Mask{Kind: "partial", Last: 4}) || m["name"].Kind != "redact" || m["phone"].Kind != "null" {
		t.Errorf("masks %v", sc.Masks)
	}
	if len(sc.Functions) != 2 || !sc.Functions["public.double"] || !sc.Functions["public.Odd.Name"] {
		t.Errorf("functions %v", sc.Functions)
	}
	if o := p.Scope(agent(workload("other")), noon); len(o.Functions) != 0 || len(o.Masks) != 1 {
		t.Errorf("another workload: %+v", o)
	}
}

// A resource is relayed as it is only where nothing but an unconditional
// allow-all can match.
func TestOpaque(t *testing.T) {
	for more, want := range map[string]bool{
		"": true,
		`- {name: x, identity: "*", resource: "*", commands: select, relations: a.b, condition: now.getHours() > 3, effect: allow}`: true,
		`- {name: x, identity: "*", resource: "*", fields: {a.b.c: redact}, effect: mask}`:                                          false,
		`- {name: x, identity: {workload: other}, resource: "*", fields: {a.b.c: redact}, effect: mask}`:                            true,
		`- {name: x, identity: "*", resource: other, fields: {a.b.c: redact}, effect: mask}`:                                        true,
		`- {name: x, identity: "*", resource: "*", condition: now.getHours() > 20, fields: {a.b.c: redact}, effect: mask}`:          false,
		`- {name: x, identity: "*", resource: "*", condition: 'session.user == "x"', fields: {a.b.c: redact}, effect: mask}`:        true,
		`- {name: x, commands: delete, effect: block}`:                                                                              false,
		`- {name: x, commands: delete, condition: 'statement.text == "x"', effect: block}`:                                          false,
		`- {name: x, commands: delete, condition: 'identity.claims.role == "other"', effect: block}`:                                true,
		`- {name: x, commands: delete, condition: 'identity.claims.absent == "other"', effect: block}`:                              false,
		`- {name: x, identity: {workload: billing-agent}, resource: "*", commands: [select], relations: "*", effect: allow}`:        true,
	} {
		p := load(t, everything+more)
		if got := p.Scope(agent(), noon).Opaque; got != want {
			t.Errorf("with %s: opaque %v", more, got)
		}
		e := "block by opaque"
		if want {
			e = "allow by all"
		}
		if got := decide(t, p, agent(), "OPAQUE"); got != e {
			t.Errorf("with %s: %s", more, got)
		}
		r := request(t, agent(), "LOGIN")
		r.Opaque = "setting x may not be set"
		if got := p.Evaluate(r).Effect; (got == policy.EffectAllow) != want {
			t.Errorf("a login that is not understood, with %s: %s", more, effectNames[got])
		}
	}
	for _, text := range []string{
		`- {name: all, identity: "*", resource: "*", commands: "*", relations: "a.*", effect: allow}`,
		`- {name: all, identity: "*", resource: "*", commands: [read, write, ddl, session], relations: "*", effect: allow}`,
		`- {name: all, identity: "*", resource: "*", commands: "*", relations: "*", condition: now.getHours() > 3, effect: allow}`,
		`- {name: all, identity: "*", resource: "*", commands: "*", relations: "*", except: {condition: statement.writes}, effect: allow}`,
	} {
		if load(t, text).Scope(agent(), noon).Opaque {
			t.Errorf("%s: opaque", text)
		}
	}
}

// Calls by number and replication need their names in a rule, and nothing
// else there.
func TestSpecial(t *testing.T) {
	if got := decide(t, load(t, everything), agent(), "FUNCTION"); got != "deny by default" {
		t.Errorf("*: %s", got)
	}
	named := `- {name: named, identity: "*", resource: "*", commands: ["*", function_call, replication], relations: "*", effect: allow}` + "\n"
	for _, kind := range []string{"FUNCTION", "REPLICATION"} {
		if got := decide(t, load(t, named), agent(), kind); got != "allow by named" {
			t.Errorf("%s by name: %s", kind, got)
		}
		for _, more := range []string{
			`- {name: x, identity: "*", resource: "*", fields: {a.b.c: redact}, effect: mask}`,
			`- {name: x, commands: delete, effect: block}`,
		} {
			if got := decide(t, load(t, named+more), agent(), kind); got != "deny by default" {
				t.Errorf("%s with %s: %s", kind, more, got)
			}
		}
		if got := decide(t, load(t, named+`- {name: x, commands: "*", effect: block}`), agent(), kind); got != "block by x" {
			t.Errorf("%s with a block on everything: %s", kind, got)
		}
	}
	few := `- {name: few, identity: "*", resource: "*", commands: [select, function_call], relations: "*", effect: allow}`
	if got := decide(t, load(t, few), agent(), "FUNCTION"); got != "deny by default" {
		t.Errorf("beside select only: %s", got)
	}
}

// IDs are equal for the same protection by the same rules, and else not.
func TestScopeID(t *testing.T) {
	const text = `
- {name: a, identity: {workload: "x*"}, resource: "*", commands: select, relations: "*", effect: allow}
- {name: b, identity: {workload: xb}, resource: "*", commands: delete, relations: "*", effect: allow}
- {name: c, identity: {claims: {role: masked}}, resource: "*", fields: {a.b.c: redact}, effect: mask}
- {name: d, identity: "*", resource: "*", condition: 'session.user == "special"', commands: insert, relations: "*", effect: allow}
- {name: e, commands: delete, except: [{identity: {subject: s}, condition: statement.writes}, {identity: {subject: t}, condition: '!statement.writes'}], effect: block}
- {name: f, identity: "*", resource: "*", condition: now.getHours() >= 12, fields: {a.b.d: redact}, effect: mask}
`
	p := load(t, text)
	at := func(hour int, change ...func(*policy.Session)) string {
		return p.Scope(agent(change...), time.Date(2026, 3, 2, hour, 0, 0, 0, time.UTC)).ID
	}
	subject := func(n string) func(*policy.Session) {
		return func(s *policy.Session) { s.Identity.Subject = n }
	}
	xa := workload("xa")
	base := at(9, xa)
	for name, id := range map[string]string{
		"another workload under the same rules": at(9, workload("xc")),
		"another subject under the same rules":  at(9, xa, subject("other")),
		"another resource":                      at(9, xa, func(s *policy.Session) { s.Resource = "other" }),
		"another process":                       at(9, xa, func(s *policy.Session) { s.Peer = intercept.Peer{TGID: 9} }),
		"the next hour":                         at(10, xa),
	} {
		if id != base {
			t.Errorf("%s: another scope", name)
		}
	}
	seen := map[string]string{base: "the base"}
	for name, id := range map[string]string{
		"one rule more":                 at(9, workload("xb")),
		"one rule less":                 at(9, workload("y")),
		"a mask":                        at(9, xa, func(s *policy.Session) { s.Identity.Claims["role"] = "masked" }),
		"a condition that holds":        at(9, xa, func(s *policy.Session) { s.User = "special" }),
		"an exception still to be made": at(9, xa, subject("s")),
		"another exception":             at(9, xa, subject("t")),
		"a mask of the afternoon":       at(13, xa),
	} {
		if other := seen[id]; other != "" {
			t.Errorf("%s: the scope of %s", name, other)
		}
		seen[id] = name
	}
	if again := load(t, text).Scope(agent(xa), time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)).ID; again != base {
		t.Error("the same policy loaded again: another scope")
	}
	changed := load(t, text+`- {name: g, identity: {workload: "x*"}, resource: "*", commands: select, relations: "*", effect: allow}`)
	if changed.Scope(agent(xa), noon).ID == p.Scope(agent(xa), noon).ID {
		t.Error("a policy with one rule more: the same scope")
	}
}

// A scope may be kept unless a mask, whether there or not, depends on the
// time.
func TestStatic(t *testing.T) {
	for rule, want := range map[string]bool{
		`- {name: x, identity: "*", resource: "*", fields: {a.b.c: redact}, condition: now.getHours() > 20, effect: mask}`:                                            false,
		`- {name: x, identity: "*", resource: "*", fields: {a.b.c: redact}, condition: now.getHours() > 2, effect: mask}`:                                             false,
		`- {name: x, identity: "*", resource: "*", fields: {a.b.c: redact}, except: {condition: now.getHours() > 2}, effect: mask}`:                                   false,
		`- {name: x, identity: "*", resource: "*", fields: {a.b.c: redact}, except: [{identity: {subject: agent-7}}, {condition: now.getHours() > 2}], effect: mask}`: false,
		`- {name: x, identity: "*", resource: "*", fields: {a.b.c: redact}, except: {identity: {workload: other}, condition: now.getHours() > 2}, effect: mask}`:      true,
		`- {name: x, identity: {workload: other}, resource: "*", fields: {a.b.c: redact}, condition: now.getHours() > 20, effect: mask}`:                              true,
		`- {name: x, identity: "*", resource: "*", commands: select, relations: "*", condition: now.getHours() > 20, effect: allow}`:                                  true,
		`- {name: x, condition: now.getHours() > 20, effect: block}`:                                                                                                  true,
	} {
		if got := load(t, everything+rule).Scope(agent(), noon).Static; got != want {
			t.Errorf("%s: static %v", rule, got)
		}
	}
}

// A verdict may be kept with an analysis only if nothing else decided it.
func TestCacheable(t *testing.T) {
	const base = `- {name: base, identity: "*", resource: "*", commands: select, relations: "*", effect: allow}` + "\n"
	block := func(cond string) string {
		return base + `- {name: x, commands: [select, delete], relations: a.b, condition: '` + cond + `', effect: block}`
	}
	for _, c := range []struct {
		rules, text string
		want        bool
	}{
		{base, "select a.b/read", true},
		{base, "delete a.b/delete", true}, // a denial is one too
		{base, "OPAQUE", true},
		{block(`"delete" in statement.commands`), "select a.b/read", true},
		{block(`statement.relations.size() > 3 || statement.objects.exists(o, o.access == "delete") || statement.masked.size() > 2 || statement.writes || statement.normalized == "x"`), "select a.b/read", true},
		{block(`statement.text.contains("x")`), "select a.b/read", false},
		{block(`[statement].exists(s, s.text == "x")`), "select a.b/read", false},
		{block(`[statement].size() > 3`), "select a.b/read", false},
		{block(`now.getHours() > 20`), "select a.b/read", false},
		{block(`now.getHours() > 20`), "select other.b/read", true}, // never asked
		{block(`request.number > 5`), "select a.b/read", false},
		{block(`request.kind == "login"`), "select a.b/read", false},
		{block(`session.user == "x"`), "select a.b/read", true}, // the scope's
		{block(`session.user == "x" && statement.writes`), "select a.b/read", false},
		{block(`identity.subject == "x" || statement.writes`), "select a.b/read", false},
		{base + `- {name: x, commands: select, except: {condition: request.number < 100}, effect: block}`, "select a.b/read", false},
		{base + `- {name: x, identity: "*", resource: "*", commands: select, relations: "*", condition: now.getHours() > 2, effect: allow}`, "select a.b/read", true}, // one that is sure comes first
		{base + `- {name: x, identity: "*", resource: "*", commands: delete, relations: "*", condition: now.getHours() > 2, effect: allow}`, "delete a.b/delete", false},
		{base + `- {name: x, identity: "*", resource: "*", commands: delete, relations: "*", condition: now.getHours() > 20, effect: allow}`, "delete a.b/delete", false},
	} {
		p := load(t, c.rules)
		if e := p.Evaluate(request(t, agent(), c.text)); e.Cacheable != c.want {
			t.Errorf("%s with\n%s: cacheable %v (%s)", c.text, c.rules, e.Cacheable, e.Reason)
		}
	}
}

// How much is recorded is what the deciding rules say.
func TestRecording(t *testing.T) {
	p := load(t, `
- {name: a, identity: "*", resource: "*", commands: select, relations: [s.plain, s.both], effect: allow}
- {name: b, identity: "*", resource: "*", commands: select, relations: [s.bulk, s.both], record: events, effect: allow}
- {name: c, identity: "*", resource: "*", commands: select, relations: [s.large], record_limit: 5MiB, effect: allow}
- {name: d, identity: "*", resource: "*", commands: select, relations: [s.small, s.large], record_limit: 64KiB, effect: allow}
- {name: e, identity: "*", resource: "*", commands: select, relations: [s.text], record: statement, effect: allow}
`)
	const kib = 1 << 10
	for text, want := range map[string]policy.Recording{
		"select s.plain/read":              {},
		"select s.bulk/read":               {Level: policy.RecordEvents},
		"select s.both/read":               {Level: policy.RecordEvents}, // one rule says so, the other says nothing
		"select s.plain/read s.bulk/read":  {},
		"select s.bulk/read s.text/read":   {Level: policy.RecordStatement},
		"select s.small/read":              {Limit: 64 * kib},
		"select s.large/read":              {Limit: 5 << 10 * kib},
		"select s.large/read s.small/read": {Limit: 5 << 10 * kib},
		"select s.plain/read s.small/read": {},
		"begin":                            {Limit: 5 << 10 * kib},
	} {
		if got := p.Evaluate(request(t, agent(), text)).Record; got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
	quiet := load(t, `- {name: b, identity: "*", resource: "*", commands: "*", relations: "*", record: events, effect: allow}`)
	for _, text := range []string{"LOGIN", "begin", "select a.b/read", "OPAQUE"} {
		if got := quiet.Evaluate(request(t, agent(), text)).Record; got.Level != policy.RecordEvents {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

// A request that was analysed under another policy's scope is refused, unless
// that protects the same.
func TestScopeOfAnotherPolicy(t *testing.T) {
	a := load(t, clinic)
	b := load(t, clinic+`- {name: new, identity: "*", resource: clinic-db, fields: {clinic.encounters.note: redact}, effect: mask}`)
	r := request(t, agent(), "select clinic.encounters/read")
	r.Scope = a.Scope(agent(), noon)
	if e := b.Evaluate(r); e.Effect != policy.EffectBlock || e.Rules[0] != "changed" {
		t.Errorf("%+v", e)
	}
	if e := load(t, clinic).Evaluate(r); e.Effect != policy.EffectAllow {
		t.Errorf("the same policy, loaded again: %+v", e)
	}
}

func TestConcurrent(t *testing.T) {
	p := load(t, clinic)
	done := make(chan string)
	for i := range 4 {
		go func() {
			s := agent(workload(fmt.Sprintf("billing-agent%s", []string{"", "-x"}[i%2])))
			var last string
			for range 200 {
				last = decide(t, p, s, "select clinic.patients/read masked=clinic.patients.ssn")
			}
			done <- last
		}()
	}
	for range 4 {
		if got := <-done; got != "mask by identifiers, reports" && got != "deny by default" {
			t.Error(got)
		}
	}
}

var _ policy.Engine = (*rules.Policy)(nil)
