package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/rules"
)

// many returns a policy of n rules. shared says whether all of them are about
// the agent, or each about a workload of its own but two.
func many(b *testing.B, n int, shared bool) *rules.Policy {
	var s strings.Builder
	s.WriteString(`
- {name: own, identity: {workload: billing-agent}, resource: clinic-db, commands: read, relations: clinic.patients, effect: allow}
- {name: mask, identity: "*", resource: clinic-db, fields: {clinic.patients.ssn: {mask: partial, last: 4}}, effect: mask}
`)
	for i := range n - 2 {
		who := "billing-agent"
		if !shared {
			who = fmt.Sprintf("agent-%d", i)
		}
		switch i % 3 {
		case 0:
			fmt.Fprintf(&s, "- {name: r%d, identity: {workload: %s}, resource: clinic-db, commands: [select, insert], relations: s%d.t, effect: allow}\n", i, who, i)
		case 1:
			fmt.Fprintf(&s, "- {name: r%d, identity: {workload: %s}, resource: clinic-db, commands: write, relations: s%d.t, effect: block}\n", i, who, i)
		case 2:
			fmt.Fprintf(&s, "- {name: r%d, identity: {workload: %s}, resource: clinic-db, fields: {s%d.t.c: redact}, effect: mask}\n", i, who, i)
		}
	}
	return load(b, s.String())
}

func BenchmarkEvaluate(b *testing.B) {
	for _, shared := range []bool{false, true} {
		for _, n := range []int{10, 1000} {
			b.Run(fmt.Sprintf("rules=%d/shared=%v", n, shared), func(b *testing.B) {
				p := many(b, n, shared)
				r := request(b, agent(), "select clinic.patients/read masked=clinic.patients.ssn")
				r.Scope = p.Scope(r.Session, noon)
				b.ReportAllocs()
				for b.Loop() {
					if p.Evaluate(r).Effect != policy.EffectMask {
						b.Fatal("not masked")
					}
				}
			})
		}
	}
}

// BenchmarkScope is what a session costs once.
func BenchmarkScope(b *testing.B) {
	for _, shared := range []bool{false, true} {
		for _, n := range []int{10, 1000} {
			b.Run(fmt.Sprintf("rules=%d/shared=%v", n, shared), func(b *testing.B) {
				p, s := many(b, n, shared), agent()
				b.ReportAllocs()
				for b.Loop() {
					if len(p.Scope(s, noon).Masks) == 0 {
						b.Fatal("no masks")
					}
				}
			})
		}
	}
}

// BenchmarkCondition is a condition that every statement asks.
func BenchmarkCondition(b *testing.B) {
	p := load(b, `
- name: x
  identity: "*"
  resource: "*"
  commands: read
  relations: "*"
  condition: now.getHours("Europe/Berlin") < 18 && statement.relations.all(r, r.startsWith("clinic.")) && identity.claims.role == "billing"
  effect: allow
`)
	r := request(b, agent(), "select clinic.patients/read")
	r.Scope = p.Scope(r.Session, noon)
	b.ReportAllocs()
	for b.Loop() {
		if p.Evaluate(r).Effect != policy.EffectAllow {
			b.Fatal("not allowed")
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	var s strings.Builder
	s.WriteString("rules:\n")
	for i := range 1000 {
		fmt.Fprintf(&s, "- {name: r%d, identity: {workload: a%d}, resource: clinic-db, fields: {clinic.patients.ssn: redact}, condition: 'session.user == \"x\"', effect: mask}\n", i, i)
	}
	for b.Loop() {
		if _, err := rules.Parse(rules.File{Name: "p", Data: []byte(s.String())}); err != nil {
			b.Fatal(err)
		}
	}
}
