package rules_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
)

// A condition or an exception that fails counts against the request.
func TestConditionsFailClosed(t *testing.T) {
	rule := func(effect, more string) string {
		s := "- name: it\n  identity: \"*\"\n  resource: \"*\"\n  effect: " + effect + "\n"
		switch effect {
		case "allow":
			s += "  commands: \"*\"\n  relations: \"*\"\n"
		case "mask":
			s += "  fields: {clinic.patients.ssn: redact}\n"
		}
		return s + "  " + more + "\n"
	}
	const base = "- {name: base, identity: \"*\", resource: \"*\", commands: [select, delete], relations: \"*\", effect: allow}\n"
	for _, fails := range []string{
		`identity.claims.absent == "x"`, // no such key
		`identity.claims.role`,          // text
		`identity.claims.groups`,        // a list
		`identity.claims.role > 3`,      // no such comparison
		`1 / (process.uid - 1000) > 0`,  // division by zero
		`[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, a+b+c+d+e+f+process.uid > 0))))))`, // costs too much
	} {
		for _, late := range []string{"", ` && now > timestamp("2000-01-01T00:00:00Z")`} {
			cond := "'" + strings.ReplaceAll(fails, "'", "''") + late + "'"
			if late != "" && !strings.ContainsAny(fails, "=>") {
				continue // not of a type that && takes
			}
			if got := decide(t, load(t, rule("allow", "condition: "+cond)), agent(), "select a.b/read"); got != "deny by default" {
				t.Errorf("allow if %s: %s", cond, got)
			}
			if got := decide(t, load(t, rule("allow", "except: {condition: "+cond+"}")), agent(), "select a.b/read"); got != "deny by default" {
				t.Errorf("allow except %s: %s", cond, got)
			}
			if got := decide(t, load(t, base+rule("block", "condition: "+cond)), agent(), "select a.b/read"); got != "block by it" {
				t.Errorf("block if %s: %s", cond, got)
			}
			if got := decide(t, load(t, base+rule("block", "except: {condition: "+cond+"}")), agent(), "select a.b/read"); got != "block by it" {
				t.Errorf("block except %s: %s", cond, got)
			}
			for _, more := range []string{"condition: ", "except: {condition: "} {
				end := ""
				if more[0] == 'e' {
					end = "}"
				}
				sc := load(t, base+rule("mask", more+cond+end)).Scope(agent(), noon)
				if len(sc.Masks) != 1 {
					t.Errorf("mask %s%s: %v", more, cond, sc.Masks)
				}
			}
		}
	}
}

func TestExcept(t *testing.T) {
	p := load(t, `
- {name: all, identity: "*", resource: "*", commands: [read, write], relations: "*", effect: allow}
- name: no writes
  commands: write
  except:
  - identity: {workload: "etl-*", claims: {role: [loader, billing]}}
  - identity: {workload: admin}
    condition: request.number > 10
  - condition: statement.relations.all(r, r.startsWith("scratch."))
  effect: block
- name: mask
  identity: "*"
  resource: "*"
  fields: {clinic.patients.ssn: redact}
  except: {identity: {workload: clinician}}
  effect: mask
`)
	for _, c := range []struct{ who, text, want string }{
		{"billing-agent", "insert a.b/insert", "block by no writes"},
		{"billing-agent", "insert scratch.b/insert", "allow by all"},
		{"billing-agent", "insert scratch.b/insert a.b/read", "block by no writes"},
		{"etl-1", "insert a.b/insert", "allow by all"},
		{"admin", "insert a.b/insert", "block by no writes"}, // the third request
		{"admin", "select a.b/read", "allow by all"},
	} {
		if got := decide(t, p, agent(workload(c.who)), c.text); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.who, c.text, got, c.want)
		}
	}
	r := request(t, agent(workload("admin")), "insert a.b/insert")
	r.Number = 11
	if e := p.Evaluate(r); e.Effect != policy.EffectAllow {
		t.Errorf("the eleventh: %+v", e)
	}
	if m := p.Scope(agent(workload("clinician")), noon).Masks; len(m) != 0 {
		t.Errorf("a clinician: %v", m)
	}
	if m := p.Scope(agent(), noon).Masks; len(m) != 1 {
		t.Errorf("an agent: %v", m)
	}
}

// Strength is what a rule can ask for, and what it asks for is what is had: no
// part of a weaker proof is taken for a stronger one.
func TestStrength(t *testing.T) {
	p := load(t, `
- {name: strong, identity: {proof: [spiffe, "oidc+pidfd"]}, resource: "*", commands: select, relations: "*", effect: allow}
- {name: bound, identity: {workload: "*"}, resource: "*", commands: delete, relations: "*", condition: "'cnf' in identity.bindings", effect: allow}
- {name: least, identity: {workload: "*"}, resource: "*", commands: insert, relations: "*", condition: "identity.strength >= 40", effect: allow}
`)
	for _, c := range []struct {
		proof string
		bound []string
		want  string
	}{
		{"spiffe", []string{"cnf"}, "allow by strong; allow by bound; allow by least"},
		{"oidc+pidfd", []string{"subjects"}, "allow by strong; deny by default; allow by least"},
		{"oidc", nil, "deny by default; deny by default; deny by default"},
		{"token-bearer", nil, "deny by default; deny by default; deny by default"},
		{"made up", []string{"made up"}, "deny by default; deny by default; deny by default"},
	} {
		s := agent(func(s *policy.Session) {
			s.Identity.Proof, s.Identity.Proofs.Actor.Bound = c.proof, c.bound
		})
		got := decide(t, p, s, "select a.b/read") + "; " + decide(t, p, s, "delete a.b/delete") + "; " + decide(t, p, s, "insert a.b/insert")
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.proof, got, c.want)
		}
	}
}

// Claims of a person whom another issuer vouches for are not the agent's.
func TestClaimsOfAPerson(t *testing.T) {
	s := agent(func(s *policy.Session) {
		s.Identity.Actors = nil
		s.Identity.Person = &intercept.Person{Issuer: "https://people.example", Subject: "dr.grey", Claims: map[string]any{"role": "doctor"}}
	})
	for cond, want := range map[string]string{
		`identity.claims.role == "billing" && identity.principal == "dr.grey" && identity.principal_issuer == "https://people.example"`: "allow by x",
		`identity.principal_claims.role == "doctor" && identity.claims_by_issuer["https://people.example"].role == "doctor"`:            "allow by x",
		`identity.claims.role == "doctor"`:                                     "deny by default",
		`identity.claims_by_issuer["https://id.example"].role == "doctor"`:     "deny by default",
		`identity.claims_by_issuer["https://nobody.example"].role == "doctor"`: "deny by default",
	} {
		p := load(t, "- name: x\n  identity: \"*\"\n  resource: \"*\"\n  commands: select\n  relations: \"*\"\n  condition: |\n    "+cond+"\n  effect: allow\n")
		if got := decide(t, p, s, "select a.b/read"); got != want {
			t.Errorf("%s: %s", cond, got)
		}
	}
}

// What conditions see.
func TestVariables(t *testing.T) {
	for _, cond := range []string{
		`identity.workload == "billing-agent" && identity.issuer == "https://id.example" && identity.subject == "agent-7"`,
		`identity.actor == "agent-7-worker" && identity.principal == "agent-7" && identity.actors == ["agent-7-worker"]`,
		`identity.claims.level >= 3 && identity.claims["role"] == "billing" && "b" in identity.claims.groups && !identity.claims.temp`,
		`has(identity.claims.role) && !has(identity.claims.absent)`,
		`process.pid == 42 && process.uid == 1000 && process.gid == 0 && process.exe.endsWith("/psql") && process.cgroup.startsWith("/sallyport.guarded/")`,
		`resource.name == "clinic-db" && resource.protocol == "postgres" && resource.labels.env == "prod"`,
		`session.user == "clinic" && session.database == "clinic" && session.application.matches("^ps")`,
		`statement.commands == ["select"] && statement.relations == ["clinic.patients", "clinic.visits"] && !statement.writes`,
		`statement.objects[0].schema == "clinic" && statement.objects[0].name == "patients" && statement.objects.exists(o, o.access == "lock")`,
		`statement.masked == ["clinic.patients.ssn"] && statement.text.contains("select") && statement.normalized == ""`,
		`request.kind == "statement" && request.number == 3`,
		`now == timestamp("2026-03-02T12:00:00Z") && now.getDayOfWeek() == 1 && now.getHours("America/New_York") == 7 && now.getHours("+05:30") == 17 && now.getMinutes("+05:30") == 30`,
		`now.getFullYear("UTC") == 2026 && now.getMonth("UTC") == 2 && now.getDayOfYear("UTC") == 60 && now.getDayOfMonth("UTC") == 1 && now.getDate("UTC") == 2 && now.getDayOfWeek("UTC") == 1 && now.getSeconds("UTC") == 0 && now.getMilliseconds("UTC") == 0`,
		`now - timestamp("2026-03-01T12:00:00Z") == duration("24h")`,
		`identity.subject.split("-")[0] == "agent"`,
		`identity.proof in ["spiffe", "oidc+pidfd"] && identity.strength == 40 && identity.spiffe == "spiffe://example.org/billing"`,
		`identity.workload_proof == "spiffe" && identity.actor_proof == "oidc+pidfd" && identity.principal_proof == "oidc+pidfd"`,
		`"subjects" in identity.bindings && !("cnf" in identity.bindings) && identity.principal_bindings == ["audience"]`,
		`identity.claims_by_issuer["https://id.example"].role == "billing" && !("https://other.example" in identity.claims_by_issuer)`,
		`identity.principal_issuer == "https://id.example" && identity.principal_claims.role == "billing" && identity.audience == ["sallyport"]`,
	} {
		p := load(t, `
- {name: m, identity: "*", resource: "*", fields: {clinic.patients.ssn: redact}, effect: mask}
- name: x
  identity: "*"
  resource: "*"
  commands: [select, lock]
  relations: "*"
  condition: |
    `+cond+"\n  effect: allow\n")
		if got := decide(t, p, agent(), "select clinic.patients/read clinic.visits/read clinic.visits/lock masked=clinic.patients.ssn"); got != "mask by m, x" {
			t.Errorf("%s: %s", cond, got)
		}
	}
}
