package rules_test

import (
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/policy"
)

const clinic = `
- name: reports
  identity: {workload: billing-agent}
  resource: clinic-db
  commands: read
  relations: [clinic.encounters, clinic.patients, other.visits]
  effect: allow
- name: ledger
  identity: {workload: billing-agent}
  resource: clinic-db
  commands: [select, insert, update]
  relations: "billing.*"
  effect: allow
- name: staging
  identity: {workload: billing-agent}
  resource: clinic-db
  commands: [ddl, write]
  relations: staging.*
  effect: allow
- name: identifiers
  identity: "*"
  resource: clinic-db
  effect: mask
  fields:
    clinic.patients.ssn: {mask: partial, last: 4}
    clinic.patients.name: redact
    clinic.patients.phone: null
- name: closed
  resource: clinic-db
  relations: billing.closed
  commands: [write]
  reason: the year is closed
  remedy: book it in the next one
  effect: block
`

// What is decided, and by which rules.
func TestDecisions(t *testing.T) {
	p := load(t, clinic)
	for text, want := range map[string]string{
		// What no rule allows is denied, and each part needs a rule.
		"LOGIN":                                                         "allow by ledger",
		"select":                                                        "allow by ledger",
		"select clinic.encounters/read":                                 "allow by reports",
		"select clinic.secrets/read":                                    "deny by default",
		"copy_to clinic.encounters/read":                                "allow by reports",
		"copy_to billing.lines/read":                                    "deny by default",
		"delete clinic.encounters/delete":                               "deny by default",
		"select clinic.encounters/read clinic.secrets/read":             "deny by default",
		"insert billing.lines/insert":                                   "allow by ledger",
		"insert billing.lines/insert clinic.encounters/read":            "allow by ledger, reports",
		"insert billing.lines/insert clinic.secrets/read":               "deny by default",
		"insert clinic.encounters/insert":                               "deny by default",
		"select,delete staging.a/delete clinic.encounters/read":         "allow by staging, reports",
		"select,delete clinic.encounters/read clinic.encounters/delete": "deny by default",
		"explain,select clinic.encounters/read":                         "allow by reports",
		"explain,delete clinic.encounters/delete":                       "deny by default",
		"explain,select billing.lines/read":                             "deny by default",
		"explain,select":                                                "allow by reports, ledger",
		"select billing.lines/read billing.lines/lock":                  "allow by ledger",
		"select clinic.encounters/read clinic.encounters/lock":          "deny by default",
		"truncate staging.a/truncate":                                   "allow by staging",
		"merge staging.a/insert staging.a/update staging.a/delete":      "allow by staging",
		"copy_from staging.a/insert":                                    "allow by staging",
		"copy_from billing.lines/insert":                                "deny by default",
		// Several statements in one text: each command on each relation.
		"select,copy_to clinic.encounters/read billing.lines/read": "deny by default",
		"begin,insert,commit billing.lines/insert":                 "allow by ledger",

		// Session commands need no rule; what they carry does.
		"begin":                          "allow by session",
		"set":                            "allow by session",
		"empty":                          "allow by session",
		"declare clinic.encounters/read": "allow by reports",
		"fetch clinic.secrets/read":      "deny by default",
		"prepare clinic.patients/delete": "deny by default",
		"prepare billing.lines/update":   "allow by ledger",
		"listen":                         "deny by default",
		"checkpoint":                     "deny by default",

		// Definitions: on the relation that they tell, else on all.
		"create_table staging.a/define":                           "allow by staging",
		"create_table billing.a/define":                           "deny by default",
		"create_table .a/define":                                  "deny by default",
		"create_table_as staging.a/define clinic.encounters/read": "allow by staging, reports",
		"drop_index":                             "deny by default",
		"create_schema":                          "deny by default",
		"vacuum staging.a/define":                "allow by staging",
		"vacuum":                                 "deny by default",
		"drop_table,drop_index staging.a/define": "deny by default",
		"drop_table,create_table staging.a/define": "allow by staging",

		// Masks come on top of what is allowed.
		"select clinic.patients/read":                                   "allow by reports",
		"select clinic.patients/read masked=clinic.patients.ssn":        "mask by identifiers, reports",
		"select clinic.secrets/read masked=clinic.patients.ssn":         "deny by default",
		"select clinic.patients/read masked=clinic.patients.birth_date": "block by changed",

		// A block wins.
		"insert billing.closed/insert":                   "block by closed",
		"update billing.closed/update":                   "block by closed",
		"prepare billing.closed/update":                  "block by closed",
		"explain,update billing.closed/update":           "block by closed",
		"select billing.closed/read":                     "allow by ledger",
		"select billing.closed/read billing.closed/lock": "block by closed",
		"insert .closed/insert":                          "block by closed",
		"insert staging.closed/insert":                   "allow by staging",

		// What is not understood.
		"OPAQUE":       "block by opaque",
		"FUNCTION":     "deny by default",
		"REPLICATION":  "deny by default",
		"unknown":      "deny by default",
		"no_such_word": "deny by default",
	} {
		if got := decide(t, p, agent(), text); got != want {
			t.Errorf("%s:\n got  %s\n want %s", text, got, want)
		}
	}
	for _, s := range []*policy.Session{
		agent(workload("nobody-knows")), agent(workload("billing-agent-2")), agent(func(s *policy.Session) { s.Resource = "clinic-db2" }),
		agent(func(s *policy.Session) { s.Resource = "" }),
		{},
		agent(workload("")),
	} {
		for _, text := range []string{"LOGIN", "select", "begin", "select clinic.encounters/read"} {
			if got := decide(t, p, s, text); got != "deny by default" {
				t.Errorf("%s of %s: %s", text, s.Identity.Workload, got)
			}
		}
	}
	if e := p.Evaluate(&policy.Request{Session: agent(), Now: noon, Commands: []string{"select"}}); e.Effect != policy.EffectDeny {
		t.Errorf("a request of no kind: %+v", e)
	}
	if e := p.Evaluate(&policy.Request{Session: agent(), Kind: policy.StatementReq, Now: noon}); e.Effect != policy.EffectDeny {
		t.Errorf("a statement without a command: %+v", e)
	}
}

// What a rule that blocks takes for a command on a relation.
func TestBlockedCommands(t *testing.T) {
	for _, c := range []struct {
		command, text string
		want          bool
	}{
		{"select", "select clinic.a/read", true},
		{"select", "copy_to clinic.a/read", true},
		{"copy_to", "copy_to clinic.a/read", true},
		{"copy_to", "select clinic.a/read", false},
		{"copy_to", "copy_to,update clinic.a/update", true},
		{"select", "insert x.b/insert clinic.a/read", true},
		{"insert", "insert x.b/insert clinic.a/read", false},
		{"update", "insert,update clinic.a/insert clinic.a/update", true},
		{"declare", "declare clinic.a/read", true},
		{"select", "declare clinic.a/read", true},
		{"prepare", "prepare clinic.a/delete", true},
		{"delete", "prepare clinic.a/delete", true},
		{"explain", "explain,select clinic.a/read", true},
		{"explain", "explain,select x.a/read", false},
		{"lock", "select clinic.a/read clinic.a/lock", true},
		{"insert", "copy_from clinic.a/insert", true},
		{"delete", "merge clinic.a/insert clinic.a/update clinic.a/delete", true},
		{"begin", "begin", false}, // it reaches nothing
		{"ddl", "create_schema", true},
		{"drop_*", "drop_table,drop_index x.a/define", true},
		{"drop_*", "drop_table x.a/define", false},
	} {
		p := load(t, everything+`- {name: stop, commands: "`+c.command+`", relations: clinic.*, effect: block}`)
		if got := decide(t, p, agent(), c.text); (got == "block by stop") != c.want {
			t.Errorf("%s of %s: %s", c.command, c.text, got)
		}
	}
}

// Preparing is decided like running.
func TestPrepareRequest(t *testing.T) {
	p := load(t, clinic)
	for _, text := range []string{"select clinic.encounters/read", "delete clinic.encounters/delete", "update billing.closed/update"} {
		r := request(t, agent(), text)
		run := p.Evaluate(r)
		r.Kind = policy.PrepareReq
		if e := p.Evaluate(r); e.Effect != run.Effect || e.Reason != run.Reason {
			t.Errorf("%s: %+v, %+v", text, run, e)
		}
	}
}

// What a client is told.
func TestReasons(t *testing.T) {
	p := load(t, clinic+`
- name: nights
  identity: {workload: billing-agent}
  resource: clinic-db
  commands: [delete]
  relations: billing.lines
  condition: now.getHours() < 6
  effect: allow
- name: broken
  identity: {workload: billing-agent}
  resource: clinic-db
  commands: [delete]
  relations: billing.drafts
  condition: identity.claims.absent == "x" || statement.writes
  effect: allow
- name: careful
  resource: clinic-db
  commands: truncate
  condition: statement.writes && identity.claims.absent == "x"
  effect: block
`)
	for text, want := range map[string]string{
		"delete clinic.patients/delete": "no rule allows delete on clinic.patients|ask whoever keeps the policy for a rule that allows it",
		"create_table .a/define":        "no rule allows create_table on a, whose schema is not known,|",
		"drop_index":                    "no rule allows drop_index, which may reach any relation, on all of them|",
		"listen":                        "no rule allows listen|",
		"insert billing.closed/insert":  `rule "closed" blocks insert on billing.closed: the year is closed|book it in the next one`,
		"delete billing.lines/delete":   `no rule allows delete on billing.lines; the condition or an exception of rule "nights" forbids it|`,
		"delete billing.drafts/delete":  `rule "broken" forbids it, since it could not be evaluated|`,
		"OPAQUE":                        "the statement is not understood: DO is not understood|write it in another way",
		"truncate staging.a/truncate":   `rule "careful" blocks truncate (its condition could not be evaluated)|`,
	} {
		r := request(t, agent(), text)
		r.Writes = text[0] == 't'
		e := p.Evaluate(r)
		reason, remedy, _ := strings.Cut(want, "|")
		if !strings.HasSuffix(e.Reason, reason) || !strings.Contains(e.Remedy, remedy) || e.Remedy == "" {
			t.Errorf("%s:\n got  %s|%s\n want %s", text, e.Reason, e.Remedy, want)
		}
	}
}

// The order of rules and of files changes nothing.
func TestOrder(t *testing.T) {
	list := strings.SplitAfter(strings.TrimSpace(clinic), "\n- name")
	for i := range list {
		if i < len(list)-1 {
			list[i] = strings.TrimSuffix(list[i], "\n- name")
		}
		if i > 0 {
			list[i] = "- name" + list[i]
		}
	}
	var turned []string
	for i := len(list) - 1; i >= 0; i-- {
		turned = append(turned, strings.TrimSpace(list[i]))
	}
	a, b := load(t, clinic), load(t, strings.Join(turned, "\n")+"\n")
	if x, y := a.Scope(agent(), noon).ID, b.Scope(agent(), noon).ID; x != y {
		t.Errorf("scopes differ: %s, %s", x, y)
	}
	for _, text := range []string{
		"select clinic.patients/read masked=clinic.patients.ssn", "insert billing.closed/insert", "delete clinic.patients/delete",
		"insert billing.lines/insert clinic.encounters/read",
	} {
		if x, y := decide(t, a, agent(), text), decide(t, b, agent(), text); x != y {
			t.Errorf("%s: %s, then %s", text, x, y)
		}
	}
}

// Two masks that only an evaluation finds to disagree.
func TestConflictingMasks(t *testing.T) {
	p := load(t, `
- {name: all, identity: "*", resource: "*", commands: read, relations: "*", effect: allow}
- name: one
  identity: {claims: {role: billing}}
  resource: "*"
  fields: {clinic.patients.ssn: {mask: partial, last: 4}, clinic.patients.name: redact}
  effect: mask
- name: two
  identity: {claims: {groups: [b, c]}}
  resource: "*"
  fields: {clinic.patients.ssn: redact, clinic.patients.name: redact}
  effect: mask
`)
	rel := policy.Relation{Schema: "clinic", Name: "patients"}
	sc := p.Scope(agent(), noon)
	if m := sc.Masks[rel]; m["ssn"] != (policy.Mask{Kind: "null"}) || m["name"] != (policy.Mask{Kind: "redact"}) {
		t.Errorf("masks: %v", m)
	}
	if got := decide(t, p, agent(), "select clinic.patients/read masked=clinic.patients.ssn"); got != "block by conflict, one, two" {
		t.Errorf("the field: %s", got)
	}
	if got := decide(t, p, agent(), "select clinic.patients/read masked=clinic.patients.name"); got != "mask by one, two, all" {
		t.Errorf("another field: %s", got)
	}
	if got := decide(t, p, agent(), "select clinic.patients/read"); got != "allow by all" {
		t.Errorf("no field: %s", got)
	}
	only := agent(func(s *policy.Session) { s.Identity.Claims = map[string]any{"role": "billing"} })
	if m := p.Scope(only, noon).Masks[rel]["ssn"]; m != (policy.Mask{Kind: "partial", Last: 4}) {
		t.Errorf("only one of them: %v", m)
	}
}

// Who and what, by patterns.
func TestMatching(t *testing.T) {
	for who, want := range map[string]bool{
		`"*"`: true, `{workload: billing-agent}`: true, `{workload: billing-*}`: true, `{workload: ["x", "*agent"]}`: true,
		`{workload: "billing-agen?"}`: true, `{workload: billing}`: false, `{workload: Billing-agent}`: false, `{workload: 'billing\-agent'}`: true,
		`{issuer: "https://id.example"}`: true, `{issuer: "https://*.example"}`: true, `{issuer: "http://*"}`: false,
		`{subject: agent-7}`: true, `{subject: agent-7-worker}`: false, `{actor: agent-7-worker}`: true, `{principal: "agent-*"}`: true,
		`{workload: billing-agent, subject: other}`: false,
		`{claims: {role: billing}}`:                 true, `{claims: {role: "b*"}}`: true, `{claims: {role: [x, billing]}}`: true, `{claims: {role: x}}`: false,
		`{claims: {groups: b}}`: true, `{claims: {groups: c}}`: false, `{claims: {level: 3}}`: true, `{claims: {level: 3.0}}`: true, `{claims: {level: 4}}`: false,
		`{claims: {temp: false}}`: true, `{claims: {temp: true}}`: false, `{claims: {absent: "*"}}`: false, `{claims: {role: billing, absent: "*"}}`: false,
	} {
		p := load(t, "- {name: x, identity: "+who+", resource: \"*\", commands: select, relations: \"*\", effect: allow}\n")
		if got := decide(t, p, agent(), "select"); (got == "allow by x") != want {
			t.Errorf("identity %s: %s", who, got)
		}
	}
	for where, want := range map[string]bool{
		`"*"`: true, `clinic-db`: true, `[other, "clinic-*"]`: true, `clinic`: false,
		`{name: clinic-db}`: true, `{labels: {env: prod}}`: true, `{labels: {env: [test, "pr*"]}}`: true, `{labels: {env: test}}`: false, `{labels: {tier: "*"}}`: false,
		`{database: clinic}`: true, `{database: postgres}`: false, `{name: clinic-db, database: "c*"}`: true, `{name: other, database: clinic}`: false,
	} {
		p := load(t, "- {name: x, identity: \"*\", resource: "+where+", commands: select, relations: \"*\", effect: allow}\n")
		if got := decide(t, p, agent(), "select"); (got == "allow by x") != want {
			t.Errorf("resource %s: %s", where, got)
		}
	}
	for rel, want := range map[string]bool{
		`"*"`: true, `"*.*"`: true, `clinic.patients`: true, `clinic.*`: true, `"*.patients"`: true, `"clin?c.pat*"`: true, `patients.clinic`: false,
		`'clinic."patients"'`: true, `'"clinic".patients'`: true, `'clinic."pat*"'`: false, `'clinic."Patients"'`: false, `clinic.patient`: false,
		`[a.b, clinic.patients]`: true,
	} {
		p := load(t, "- {name: x, identity: \"*\", resource: \"*\", commands: select, relations: "+rel+", effect: allow}\n")
		if got := decide(t, p, agent(), "select clinic.patients/read"); (got == "allow by x") != want {
			t.Errorf("relations %s: %s", rel, got)
		}
	}
	for cmd, want := range map[string]bool{
		`"*"`: true, `read`: false, `ddl`: true, `drop_table`: true, `"drop_*"`: true, `[select, ddl]`: true, `create_table`: false, `"*_table"`: true,
	} {
		p := load(t, "- {name: x, identity: \"*\", resource: \"*\", commands: "+cmd+", relations: \"*\", effect: allow}\n")
		if got := decide(t, p, agent(), "drop_table clinic.patients/define"); (got == "allow by x") != want {
			t.Errorf("commands %s: %s", cmd, got)
		}
	}
}

// A database that the client left unnamed could be any.
func TestUnknownDatabase(t *testing.T) {
	s := agent(func(s *policy.Session) { s.Database = "" })
	p := load(t, `
- {name: all, identity: "*", resource: {database: clinic}, commands: read, relations: "*", effect: allow}
- {name: mask, identity: "*", resource: {database: clinic}, fields: {clinic.patients.ssn: redact}, effect: mask}
- {name: stop, resource: {database: clinic}, commands: delete, effect: block}
`)
	if got := decide(t, p, s, "select"); got != "deny by default" {
		t.Errorf("allow: %s", got)
	}
	if len(p.Scope(s, noon).Masks) != 1 {
		t.Error("mask: not there")
	}
	if got := decide(t, p, s, "delete a.b/delete"); got != "block by stop" {
		t.Errorf("block: %s", got)
	}
}

// A login may be blocked at a time, or for good.
func TestLogin(t *testing.T) {
	p := load(t, `
- {name: all, identity: "*", resource: "*", commands: read, relations: "*", effect: allow}
- {name: nights, commands: login, condition: now.getHours() >= 20, effect: block}
- {name: lockdown, identity: {workload: bad}, effect: block}
- {name: table, relations: a.b, effect: block}
- {name: writes, commands: [write, ddl, session], effect: block}
- {name: masked only, identity: {workload: other}, resource: elsewhere, fields: {a.b.c: redact}, effect: mask}
`)
	for _, c := range []struct {
		who  string
		hour int
		want string
	}{{"billing-agent", 12, "allow"}, {"billing-agent", 21, "block"}, {"bad", 12, "block"}} {
		r := request(t, agent(workload(c.who)), "LOGIN")
		r.Now = time.Date(2026, 3, 2, c.hour, 0, 0, 0, time.UTC)
		if e := p.Evaluate(r); effectNames[e.Effect] != c.want {
			t.Errorf("%s at %d: %+v", c.who, c.hour, e)
		}
	}
	only := load(t, `- {name: m, identity: "*", resource: "*", fields: {a.b.c: redact}, effect: mask}`)
	if got := decide(t, only, agent(), "LOGIN"); got != "deny by default" {
		t.Errorf("a mask grants: %s", got)
	}
}
