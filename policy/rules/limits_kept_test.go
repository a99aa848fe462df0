package rules_test

import (
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/policy"
)

// Counts go on over a restart; what can't be read, or is of the future, gives
// nobody anything.
func TestLimitsOverARestart(t *testing.T) {
	at := noon
	late := func(s *policy.Session) { s.Identity.Expires = noon.Add(24 * time.Hour) }
	start := func() *policy.Gate {
		return policy.NewGate(load(t, budgets), &memory{}, func() time.Time { return at })
	}
	rows := func(g *policy.Gate, change ...func(*policy.Session)) (n int64) {
		t.Helper()
		r := request(t, session(append(change, late)...), "select clinic.patients/read")
		r.Now = at
		d, err := g.Decide(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if !d.Allowed() {
			return -1
		}
		for d.Allowance().Row(n, 10*n, 10) == nil && n < 100 {
			n++
		}
		return n
	}
	saved := func(g *policy.Gate) string {
		t.Helper()
		b, err := g.SaveCounts()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	g := start()
	if n := rows(g); n != 5 {
		t.Fatal(n)
	}
	kept := saved(g)
	if kept != saved(g) {
		t.Error("it changes while nothing is counted")
	}
	again := func(text string) *policy.Gate {
		t.Helper()
		g := start()
		if err := g.RestoreCounts([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return g
	}
	g = again(kept)
	if n := rows(g); n != 0 {
		t.Errorf("%d rows after a restart", n)
	}
	if n := rows(g); n != -1 { // the third statement of the minute
		t.Errorf("%d", n)
	}
	other := func(s *policy.Session) { s.Identity.Subject, s.Identity.Actors = "agent-8", nil }
	if n := rows(again(kept), other); n != 5 {
		t.Errorf("%d rows for somebody else", n)
	}
	at = noon.Add(30 * time.Minute)
	half := saved(again(kept))
	at = noon.Add(61 * time.Minute)
	if n := rows(again(kept)); n != 5 {
		t.Errorf("%d rows when an hour has passed", n)
	}
	if n := rows(again(half)); n != 5 {
		t.Errorf("%d rows when an hour has passed, with a restart in it", n)
	}
	at = noon.Add(-3 * time.Hour) // the clock was set back
	g = again(kept)
	if n := rows(g); n != 0 {
		t.Errorf("%d rows of a budget that is of the future", n)
	}
	at = at.Add(61 * time.Minute)
	if n := rows(g); n != 5 {
		t.Errorf("%d rows an hour later", n)
	}
	at = noon
	for _, bad := range []string{
		"", "{", "null", `{"version":2,"meters":[]}`, strings.Replace(kept, `"at"`, `"at":-7,"x"`, 1),
		strings.Replace(kept, `"rows":5`, `"rows":-5`, 1), strings.Replace(kept, `"rows":5`, `"rows":9000000000000000000`, 1), `{"version":1,"meters":[{"key":""}]}`,
	} {
		g := start()
		if err := g.RestoreCounts([]byte(bad)); err == nil {
			t.Errorf("taken: %s", bad)
		}
	}
	g.LoseCounts()
	lost := saved(g)
	for name, g := range map[string]*policy.Gate{"at once": g, "after another restart": again(lost)} {
		if n := rows(g); n != -1 {
			t.Errorf("%s: %d rows though nothing is known", name, n)
		}
	}
	at = noon.Add(59 * time.Minute)
	if n := rows(again(lost), other); n != 0 {
		t.Errorf("%d rows within the hour", n)
	}
	at = noon.Add(61 * time.Minute)
	if n := rows(again(lost)); n != 5 {
		t.Errorf("%d rows when an hour has passed", n)
	}
}
