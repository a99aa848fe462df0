package rules_test

import (
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/policy/rules"
)

const glass = `break_glass:
  - name: ward emergency
    by: {issuer: "https://id", claims: {groups: [on-call]}}
    rules: [deletes]
    resources: [clinic-db]
    workloads: [billing-agent]
    longest: 1h
    review: {by: {issuer: "https://id", claims: {groups: privacy}}, within: 72h}
`

// A rule gives way to the emergency accesses that name it, and to no other.
func TestBreakGlass(t *testing.T) {
	p := load(t, approvals+glass)
	list := p.BreakGlass()
	if len(list) != 1 {
		t.Fatal(list)
	}
	g := list[0]
	if g.Name != "ward emergency" || g.By[0].Claims["groups"][0] != "on-call" || g.Review[0].Claims["groups"][0] != "privacy" ||
		g.Longest != time.Hour || g.Within != 72*time.Hour || g.Resources[0] != "clinic-db" || g.Workloads[0] != "billing-agent" || g.Digest == [32]byte{} {
		t.Errorf("%+v", g)
	}
	a := p.Evaluate(request(t, agent(), "delete clinic.patients/delete")).Approvals[0]
	if len(a.Glass) != 1 || a.Glass[0] != g.Digest {
		t.Errorf("%+v", a)
	}
	if d := p.Evaluate(request(t, agent(), "vacuum")).Approvals[0]; d.Glass != nil {
		t.Errorf("a rule that is not named gives way: %+v", d)
	}
	if got := decide(t, p, agent(), "delete clinic.audit/delete"); got != "block by never" {
		t.Error(got)
	}
	// Any change makes it another.
	for _, change := range [][2]string{{"on-call", "staff"}, {"1h", "2h"}, {"72h", "73h"}, {"privacy", "staff"}, {"ward emergency", "ward"}, {"[billing-agent]", "[billing-agent, x]"}} {
		if load(t, approvals+strings.Replace(glass, change[0], change[1], 1)).BreakGlass()[0].Digest == g.Digest {
			t.Errorf("%v: the same digest", change)
		}
	}
}

// What is wrong with it is said with its line.
func TestBreakGlassRefused(t *testing.T) {
	lines := strings.Count("rules:\n"+approvals, "\n")
	for _, c := range []struct {
		old, is string
		line    int
		want    string
	}{
		{"[deletes]", "[deletes, nothing]", 4, `there is no rule "nothing"`},
		{"[deletes]", "[never]", 4, `rule "never" does not ask for an approval`},
		{"[deletes]", "[phi]", 4, `rule "phi" does not ask for an approval`},
		{"[deletes]", `"*"`, 4, `there is no rule "*"`},
		{"[clinic-db]", `["*"]`, 5, "is a pattern"},
		{"[billing-agent]", `"billing-*"`, 6, "is a pattern"},
		{"longest: 1h", "longest: 30h", 7, "from 1m0s to 24h0m0s"},
		{"longest: 1h", "longest: 1", 7, "from 1m0s to 24h0m0s"},
		{"72h", "1m", 8, "from 1h0m0s to 720h0m0s"},
		{", within: 72h", "", 8, "review: it has no within"},
		{`by: {issuer: "https://id", claims: {groups: privacy}}, `, "", 8, "review: it has no by"},
		{"    longest: 1h\n", "", 2, "an entry has no longest"},
		{"    rules: [deletes]\n", "", 2, "an entry has no rules"},
		{`{issuer: "https://id", claims: {groups: [on-call]}}`, `{issuer: "https://id"}`, 3, "whoever logs in there could approve"},
		{"    longest: 1h\n", "    longest: 1h\n    reveal: [clinic.patients.ssn]\n", 8, `unknown field "reveal"`},
		{"break_glass:\n", "break_glass: []\nx:\n", 1, "write a list"},
	} {
		text := "rules:\n" + approvals + strings.Replace(glass, c.old, c.is, 1)
		_, err := rules.Parse(rules.File{Name: "p.yaml", Data: []byte(text)})
		if err == nil {
			t.Errorf("%s: taken", c.is)
			continue
		}
		found := false
		for line := range strings.Lines(err.Error()) {
			at := (&rules.Error{File: "p.yaml", Line: lines + c.line}).Error()
			found = found || strings.HasPrefix(line, at) && strings.Contains(line, c.want)
		}
		if !found {
			t.Errorf("%s: %v, want %q at line %d", c.is, err, c.want, lines+c.line)
		}
	}
	if _, err := rules.Parse(rules.File{Name: "p.yaml", Data: []byte("rules:\n" + approvals + glass + strings.TrimPrefix(glass, "break_glass:\n"))}); err == nil || !strings.Contains(err.Error(), "the name is taken") {
		t.Error(err)
	}
}

// A rule that reveals with an approval reveals nothing without one: no emergency lifts a
// mask.
func TestBreakGlassRevealsNothing(t *testing.T) {
	const reveals = `
  - name: show ssn
    effect: reveal
    identity: "*"
    resource: clinic-db
    reveal: clinic.patients.ssn
    approve: {by: {issuer: "https://id", subjects: [ann]}}
`
	text := "rules:\n" + approvals + reveals + strings.Replace(glass, "[deletes]", "[deletes, show ssn]", 1)
	if _, err := rules.Parse(rules.File{Name: "p.yaml", Data: []byte(text)}); err == nil || !strings.Contains(err.Error(), "no block and no mask") {
		t.Error(err)
	}
	load(t, approvals+reveals+glass)
}
