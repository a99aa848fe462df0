package rules_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy"
)

const naming = `
  - {name: all, effect: allow, identity: "*", resource: "*", commands: ["*"], relations: "*"}
  - {name: few, effect: allow, identity: "*", resource: "*", commands: [select], relations: clinic.counted, limits: {hour: {rows: 10}}}
  - {name: exact, effect: block, identity: "*", resource: "*", commands: [delete], relations: clinic.a}
  - {name: both, effect: block, identity: "*", resource: "*", commands: [delete], relations: [clinic.b, clinic.c]}
  - {name: glob, effect: block, identity: "*", resource: "*", commands: [delete], relations: "clinic.g_?*"}
  - {name: nothing, effect: block, identity: "*", resource: "*", commands: [truncate]}
  - {name: every, effect: block, identity: "*", resource: "*", commands: [truncate], relations: "*"}
  - {name: sometimes, effect: block, identity: "*", resource: "*", relations: clinic.s, condition: session.database == "other"}
  - {name: others, effect: block, identity: {workload: other}, resource: "*", commands: [delete], relations: clinic.o}
  - {name: but us, effect: block, identity: "*", resource: "*", commands: [delete], relations: clinic.e, except: {identity: {workload: billing-agent}}}
  - {name: but at times, effect: block, identity: "*", resource: "*", commands: [delete], relations: clinic.t, except: {condition: session.database == "clinic"}}
  - {name: watched, effect: block, identity: "*", resource: "*", commands: [delete], relations: clinic.w, observe: true}
  - {name: asks, effect: approve, identity: "*", resource: "*", commands: [delete], relations: clinic.q, approve: {by: {issuer: "https://id", subjects: [ann]}}}
  - {name: hides, effect: mask, identity: "*", resource: "*", fields: {clinic.m.ssn: redact}, condition: session.database == "other"}
  - {name: leaves out, effect: filter, identity: "*", resource: "*", relations: clinic.f, where: "id = 1", condition: session.database == "other"}
  - {name: looks, effect: mask, identity: "*", resource: "*", detect: [email], on: [clinic.d, mail.*]}
`

// Only the same rules may be about a relation's next name.
func TestRenames(t *testing.T) {
	p := load(t, naming)
	for names, want := range map[string]string{
		"clinic.free clinic.a": "", // ruled from then on
		"clinic.a clinic.x":    "exact", "clinic.a other.a": "exact", "clinic.a clinic.b": "exact",
		"clinic.b clinic.c": "", "clinic.b clinic.d": "both", "clinic.g_1 clinic.g_2": "", "clinic.g_1 clinic.g_": "glob", "clinic.g_1 clinic.h": "glob",
		"clinic.s clinic.x": "sometimes", "clinic.o clinic.x": "", "clinic.e clinic.x": "", "clinic.t clinic.x": "but at times", "clinic.w clinic.x": "",
		"clinic.q clinic.x": "asks", "clinic.m clinic.x": "hides", "clinic.f clinic.x": "leaves out", "clinic.counted clinic.x": "few",
		"clinic.d clinic.x": "looks", "clinic.d mail.d": "", "mail.a mail.b": "", "mail.a clinic.a": "looks",
	} {
		r := request(t, agent(), "alter_rename clinic.any/define")
		from, to, _ := strings.Cut(names, " ")
		relation := func(s string) policy.Relation {
			schema, name, _ := strings.Cut(s, ".")
			return policy.Relation{Schema: schema, Name: name}
		}
		r.Renames = []policy.Rename{{From: relation("clinic.free"), To: relation("clinic.free2")}, {From: relation(from), To: relation(to)}}
		e := p.Evaluate(r)
		switch {
		case want == "" && e.Effect != policy.EffectAllow, want != "" && (e.Effect != policy.EffectBlock || e.Rules[0] != want || e.Remedy == ""), e.Cacheable:
			t.Errorf("%s: %+v, want %q", names, e, want)
		}
	}
}
