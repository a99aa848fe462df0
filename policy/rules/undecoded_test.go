package rules_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/rules"
)

const unread = `  - {name: unread, effect: allow, identity: {workload: billing-agent}, resource: clinic-db, commands: ["*", function_call, replication, undecoded], relations: "*"}
`

// A session may go unread only where nothing that it did, as whatever user and in
// whatever database, could be decided otherwise.
func TestUndecoded(t *testing.T) {
	blank := func(s *policy.Session) { s.User, s.Database, s.Application = "", "", "" }
	const masks = `, fields: {public.t.a: "null"}}`
	for text, want := range map[string]bool{
		unread: true,
		`  - {name: a, effect: allow, identity: "*", resource: "*", commands: ["*", function_call, replication], relations: "*"}`: false,
		strings.Replace(unread, "billing-agent", "other", 1):                                                                      false,
		strings.Replace(unread, "clinic-db", "other", 1):                                                                          false,

		unread + `  - {name: m, effect: mask, identity: "*", resource: "*"` + masks:                                                                                      false,
		unread + `  - {name: m, effect: mask, identity: {workload: other}, resource: "*"` + masks:                                                                        true,
		unread + `  - {name: m, effect: mask, identity: "*", resource: other` + masks:                                                                                    true,
		unread + `  - {name: m, effect: mask, identity: "*", resource: {database: payroll}` + masks:                                                                      false,
		unread + `  - {name: m, effect: mask, identity: "*", resource: "*", condition: session.user == "x"` + masks:                                                      false,
		unread + `  - {name: m, effect: mask, identity: "*", resource: "*", condition: process.uid == 7` + masks:                                                         true,
		unread + `  - {name: m, effect: mask, identity: "*", resource: "*", condition: process.uid == 1000` + masks:                                                      false,
		unread + `  - {name: m, effect: mask, identity: "*", resource: "*", condition: now.getHours() == 3` + masks:                                                      false,
		unread + `  - {name: m, effect: mask, identity: "*", resource: "*", except: {identity: {workload: billing-agent}}` + masks:                                       true,
		unread + `  - {name: m, effect: mask, identity: "*", resource: "*", except: {condition: session.user == ""}` + masks:                                             false,
		unread + `  - {name: m, effect: mask, identity: "*", resource: "*", except: {condition: now.getHours() == 12}` + masks:                                           false,
		unread + `  - {name: f, effect: filter, identity: "*", resource: "*", relations: clinic.patients, where: clinic_id = 7}`:                                         false,
		unread + `  - {name: f, effect: filter, identity: "*", resource: "*", condition: session.user == "x", relations: clinic.patients, where: clinic_id = 7}`:         false,
		unread + `  - {name: f, effect: filter, identity: {workload: other}, resource: "*", relations: clinic.patients, where: clinic_id = 7}`:                           true,
		unread + `  - {name: l, effect: allow, identity: "*", resource: {database: payroll}, commands: read, relations: "*", limits: {hour: {rows: 5}}}`:                 false,
		unread + `  - {name: l, effect: allow, identity: "*", resource: "*", commands: read, relations: "*", limits: {hour: {rows: 5}}, condition: session.user == "x"}`: false,
		unread + `  - {name: l, effect: allow, identity: {workload: other}, resource: "*", commands: read, relations: "*", limits: {hour: {rows: 5}}}`:                   true,
		unread + `  - {name: b, effect: block, identity: "*", resource: "*", commands: truncate}`:                                                                        false,
		unread + `  - {name: b, effect: block, identity: "*", resource: "*", commands: undecoded}`:                                                                       false,
		unread + `  - {name: b, effect: block, identity: "*", resource: "*", condition: session.application == "x"}`:                                                     false,
		unread + `  - {name: b, effect: block, identity: "*", resource: "*", condition: request.number > 9}`:                                                             false,
		strings.Replace(unread, "resource:", "condition: process.uid == 1000, resource:", 1):                                                                             true,
		strings.Replace(unread, "resource:", "condition: process.uid == 7, resource:", 1):                                                                                false,
		strings.Replace(unread, "resource:", "except: {condition: process.uid == 1000}, resource:", 1):                                                                   false,
	} {
		s := agent(blank)
		p := load(t, text)
		if got := p.Scope(s, noon).Undecoded; got != want {
			t.Errorf("%v, want %v:\n%s", got, want, text)
		}
		e := p.Evaluate(&policy.Request{Session: s, Kind: policy.Undecoded, Now: noon, Commands: []string{"undecoded"}, Writes: true})
		if (e.Effect == policy.EffectAllow) != want || want && e.Rules[0] != "unread" || !want && e.Reason == "" {
			t.Errorf("%+v, want %v:\n%s", e, want, text)
		}
		s.Identity.SpeaksFor = true
		if p.Scope(s, noon).Undecoded {
			t.Errorf("many people:\n%s", text)
		}
	}
}

// A rule that could not allow what is not read does not load.
func TestUndecodedRules(t *testing.T) {
	for text, want := range map[string]string{
		strings.Replace(unread, `"*", function_call, replication, `, "read, ", 1):                      "must allow everything",
		strings.Replace(unread, `function_call, `, "", 1):                                              "must allow everything",
		strings.Replace(unread, `replication, `, "", 1):                                                "must allow everything",
		strings.Replace(unread, `relations: "*"`, "relations: clinic.*", 1):                            "must allow everything",
		strings.Replace(unread, "resource: clinic-db", "resource: {database: clinic}", 1):              "which database",
		strings.Replace(unread, "resource:", "condition: session.user == 'x', resource:", 1):           "who connects",
		strings.Replace(unread, "resource:", "condition: now.getHours() == 3, resource:", 1):           "who connects",
		strings.Replace(unread, "resource:", "condition: statement.writes, resource:", 1):              "who connects",
		strings.Replace(unread, "resource:", "except: {condition: session.user == 'x'}, resource:", 1): "who connects",
	} {
		_, err := rules.Parse(rules.File{Name: "p.yaml", Data: []byte("rules:\n" + text)})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "p.yaml:2") {
			t.Errorf("%v, want %s:\n%s", err, want, text)
		}
	}
}
