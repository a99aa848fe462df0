package rules_test

import (
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/rules"
)

const lookups = `
- name: all
  identity: "*"
  resource: "*"
  commands: "*"
  relations: "*"
  effect: allow
- name: some
  identity: "*"
  resource: "*"
  fields:
    clinic.patients.ssn: {mask: redact, match: equality}
    clinic.patients.name: redact
  limits: {minute: {lookups: 10}, statement: {lookups: 4}}
  effect: mask
- name: more
  identity: "*"
  resource: "*"
  fields: {clinic.patients.phone: {mask: "null", match: equality}}
  effect: mask
`

// Each rule that lets fields be looked up has a budget of its own, and one where it
// says nothing; a field that may not be looked up never is.
func TestLookups(t *testing.T) {
	e := load(t, lookups)
	g := policy.NewGate(e, &memory{}, func() time.Time { return noon })
	s := session()
	ask := func(n int64, fields ...string) policy.Decision {
		t.Helper()
		r := request(t, s, "select clinic.patients/read")
		for _, f := range fields {
			r.Matched = append(r.Matched, events.Field{Schema: "clinic", Relation: "patients", Column: f})
		}
		r.Masked, r.Lookups = r.Matched, n
		d, err := g.Decide(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	refused := func(d policy.Decision, what string) {
		t.Helper()
		if d.Allowed() || !d.Reached() || !strings.Contains(d.Reason(), what) || d.Remedy() == "" {
			t.Errorf("%t, %v: %q", d.Allowed(), d.Rules(), d.Reason())
		}
	}
	refused(ask(5, "ssn"), `rule "some" lets at most 4 look-ups of masked values of a statement through`)
	for range 2 {
		if d := ask(4, "ssn"); !d.Allowed() {
			t.Errorf("%q", d.Reason())
		}
	}
	refused(ask(3, "ssn"), `rule "some" lets at most 10 look-ups of masked values a minute through`)
	if d := ask(2, "ssn"); !d.Allowed() {
		t.Errorf("what is left is refused: %q", d.Reason())
	}
	refused(ask(2, "ssn", "phone"), `"some"`)
	if d := ask(28, "phone"); !d.Allowed() {
		t.Errorf("another rule's: %q", d.Reason())
	}
	refused(ask(3, "phone"), `rule "more" lets at most 30 look-ups`)
	for _, f := range []string{"name", "city"} {
		if d := ask(1, f); d.Allowed() || d.Reached() {
			t.Errorf("%s may be looked up", f)
		}
	}
	if d := ask(0); !d.Allowed() {
		t.Errorf("what looks nothing up: %q", d.Reason())
	}
}

func TestLookupMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"fields: {a.b.c: {mask: redact, match: like}}\n  effect: mask":                                                            `match "like": write equality`,
		"fields: {a.b.c: redact}\n  limits: {hour: {lookups: 3}}\n  effect: mask":                                                 "lets what it masks be looked up (match: equality)",
		"fields: {a.b.c: {mask: redact, match: equality}}\n  limits: {hour: {rows: 3}}\n  effect: mask":                           "limits lookups only",
		"fields: {a.b.c: {mask: redact, match: equality}}\n  limits: {session: {lookups: 3}}\n  effect: mask":                     "of a minute or an hour",
		"fields: {a.b.c: {mask: redact, match: equality}}\n  limits: {hour: {lookups: 0}}\n  effect: mask":                        "from 1 to 2^53",
		"commands: read\n  relations: \"*\"\n  limits: {hour: {lookups: 3}}\n  effect: allow":                                     "limits: only a rule that masks",
		"relations: a.b\n  where: c = 1\n  limits: {hour: {lookups: 3}}\n  effect: filter":                                        "limits: only a rule that allows",
		"fields: {a.b.c: {mask: redact, match: equality}}\n  limits: {session: {length: 1h}, hour: {lookups: 3}}\n  effect: mask": "limits lookups only",
	} {
		if _, err := rules.Parse(rules.File{Name: "p.yaml", Data: []byte("rules:\n- name: x\n  identity: \"*\"\n  resource: \"*\"\n  " + text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v", text, err)
		}
	}
}
