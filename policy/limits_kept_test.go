package policy

import (
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept"
)

// What is counted after counts were lost can be read again, and what is too old to
// count is not kept.
func TestLostCountsAreKept(t *testing.T) {
	at := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return at }
	begin := func(g *Gate, l *Limits) *Over {
		r := &Request{Session: &Session{Identity: intercept.Identity{Workload: "a"}, Resource: "clinic"}}
		return g.allowance(r, []Limited{{Rule: "some", Limits: l}}, at).begin(0)
	}
	rows := &Limits{Hour: Amount{Rows: 5}} // any statements
	statements := &Limits{Hour: Amount{Statements: 5}}
	g := &Gate{now: clock}
	g.LoseCounts()
	for range 3 {
		if o := begin(g, rows); o != nil {
			t.Fatal(o)
		}
	}
	kept, err := g.SaveCounts()
	if err != nil {
		t.Fatal(err)
	}
	again := &Gate{now: clock}
	if err := again.RestoreCounts(kept); err != nil {
		t.Fatalf("%v: %s", err, kept)
	}
	at = at.Add(30 * time.Minute)
	if begin(g, statements) == nil || begin(again, statements) == nil {
		t.Error("given anew")
	}
	at = at.Add(31 * time.Minute)
	for range 5 {
		if g, again := begin(g, statements), begin(again, statements); g != nil || again != nil {
			t.Error(g, again)
		}
	}
	if begin(g, statements) == nil || begin(again, statements) == nil {
		t.Error("not counted any more")
	}
	at = at.Add(5 * time.Hour)
	if kept, err = again.SaveCounts(); err != nil || strings.Contains(string(kept), `"at"`) || strings.Contains(string(kept), `"lost"`) {
		t.Errorf("%v: kept for ever: %s", err, kept)
	}
}
