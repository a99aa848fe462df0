package rules_test

import (
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/policy"
)

const budgets = `
- name: some
  identity: "*"
  resource: "*"
  commands: read
  relations: clinic.*
  limits: {minute: {statements: 2}, hour: {rows: 5, bytes: 1KiB}}
  effect: allow
- name: rest
  identity: "*"
  resource: "*"
  commands: "*"
  relations: "*"
  effect: allow
`

// What went out is forgotten when its time has passed, and not before; other
// identities, resources and statements have budgets of their own.
func TestLimitsOverTime(t *testing.T) {
	at := noon
	g := policy.NewGate(load(t, budgets), &memory{}, func() time.Time { return at })
	late := func(s *policy.Session) { s.Identity.Expires = noon.Add(24 * time.Hour) }
	mine := session(late)
	ask := func(s *policy.Session, text string) policy.Decision {
		t.Helper()
		r := request(t, s, text)
		r.Now = at
		d, err := g.Decide(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	rows := func(d policy.Decision) (n int64) {
		for d.Allowance().Row(n, 10*n, 10) == nil && n < 100 {
			n++
		}
		return n
	}
	const read = "select clinic.patients/read"
	first := ask(mine, read)
	if n := rows(first); n != 5 {
		t.Errorf("%d rows of the hour", n)
	}
	if d := ask(mine, read); !d.Allowed() || rows(d) != 0 {
		t.Errorf("the second: %v", d.Rules())
	}
	d := ask(session(late), read) // another session of the same identity
	if d.Allowed() || strings.Join(d.Rules(), "") != "some" || !strings.Contains(d.Reason(), "2 statements a minute") || d.Remedy() == "" {
		t.Errorf("the third of a minute: %v, %q", d.Rules(), d.Reason())
	}
	if d := ask(mine, "select other.visits/read"); !d.Allowed() || d.Allowance() != nil {
		t.Error("a rule limits what it is not about")
	}
	for name, s := range map[string]*policy.Session{
		"another identity": session(late, func(s *policy.Session) { s.Identity.Subject, s.Identity.Actors = "agent-8", nil }),
		"another resource": session(late, func(s *policy.Session) { s.Resource = "lab" }),
	} {
		if d := ask(s, read); !d.Allowed() || rows(d) != 5 {
			t.Errorf("%s has no budget of its own", name)
		}
	}
	at = noon.Add(59 * time.Second)
	if ask(mine, read).Allowed() {
		t.Error("a minute has not passed")
	}
	at = noon.Add(61 * time.Second)
	if d := ask(mine, read); !d.Allowed() || rows(d) != 0 {
		t.Error("a minute has passed, and no hour")
	}
	at = noon.Add(-time.Hour) // a clock that is set back gives nothing
	if rows(ask(session(late), read)) != 0 {
		t.Error("a clock that is set back gives rows")
	}
	at = noon.Add(61 * time.Minute)
	if d := ask(mine, read); !d.Allowed() || rows(d) != 5 {
		t.Error("an hour has passed")
	}
}
