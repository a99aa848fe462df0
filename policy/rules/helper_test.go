package rules_test

import (
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/rules"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC) // a Monday

// load takes rules without their head line.
func load(t testing.TB, text string) *rules.Policy {
	t.Helper()
	p, err := rules.Parse(rules.File{Name: "p.yaml", Data: []byte("rules:\n" + text)})
	if err != nil {
		t.Fatal(err)
	}
	if err := validate("rules:\n" + text); err != nil {
		t.Errorf("the schema refuses a policy: %v\n%s", err, text)
	}
	return p
}

// agent is a session of billing-agent with the clinic.
func agent(change ...func(*policy.Session)) *policy.Session {
	s := &policy.Session{
		Identity: intercept.Identity{
			Workload: "billing-agent", Issuer: "https://id.example", Subject: "agent-7", Actors: []string{"agent-7-worker"},
			Claims: map[string]any{"role": "billing", "groups": []any{"a", "b"}, "level": float64(3), "temp": false},
			SPIFFE: "spiffe://example.org/billing", Audience: []string{"sallyport"}, Proof: "oidc+pidfd", Expires: noon.Add(time.Hour),
			Proofs: intercept.Proofs{
				Workload: intercept.Proved{By: "spiffe", Bound: []string{"pidfd"}}, Actor: intercept.Proved{By: "oidc+pidfd", Bound: []string{"subjects"}},
				Principal: intercept.Proved{By: "oidc+pidfd", Bound: []string{"audience"}},
			},
		},
		Peer:     intercept.Peer{TGID: 42, UID: 1000, Exe: "/usr/bin/psql", Cgroup: "/sallyport.guarded/x"},
		Resource: "clinic-db", Protocol: "postgres", Labels: map[string]string{"env": "prod"},
		User: "clinic", Database: "clinic", Application: "psql",
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func workload(name string) func(*policy.Session) {
	return func(s *policy.Session) { s.Identity.Workload = name }
}

// request reads "delete clinic.patients/delete clinic.visits/read !writes":
// commands, joined by commas, then objects.
func request(t testing.TB, s *policy.Session, text string) *policy.Request {
	t.Helper()
	f := strings.Fields(text)
	r := &policy.Request{Session: s, Kind: policy.StatementReq, Now: noon, Number: 3, Text: text}
	switch f[0] {
	case "LOGIN":
		r.Kind = policy.Login
		return r
	case "FUNCTION":
		r.Kind = policy.FunctionCall
		return r
	case "REPLICATION":
		r.Kind = policy.Replication
		return r
	case "OPAQUE":
		r.Opaque = "DO is not understood"
		return r
	}
	r.Commands = strings.Split(f[0], ",")
	for _, o := range f[1:] {
		if m, ok := strings.CutPrefix(o, "masked="); ok {
			p := strings.Split(m, ".")
			r.Masked = append(r.Masked, events.Field{Schema: p[0], Relation: p[1], Column: p[2]})
			continue
		}
		name, access, _ := strings.Cut(o, "/")
		schema, rel, _ := strings.Cut(name, ".")
		a, ok := policy.ParseAccess(access)
		if !ok {
			t.Fatalf("%s: no access", o)
		}
		r.Objects = append(r.Objects, policy.Object{Schema: schema, Name: rel, Access: a})
	}
	return r
}

var effectNames = map[policy.Effect]string{policy.EffectDeny: "deny", policy.EffectAllow: "allow", policy.EffectMask: "mask", policy.EffectBlock: "block"}

// decide returns "allow by x, y".
func decide(t testing.TB, p *rules.Policy, s *policy.Session, text string) string {
	t.Helper()
	e := p.Evaluate(request(t, s, text))
	return effectNames[e.Effect] + " by " + strings.Join(e.Rules, ", ")
}
