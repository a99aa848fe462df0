package approval_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// One after the other without a review is no way to have it open for ever, neither by
// one person for many nor by many for one; a review lets it be opened again.
func TestBreakGlassInARow(t *testing.T) {
	for name, c := range map[string]struct {
		by, whom func(n int) string
		want     string
	}{
		"by one person": {func(int) string { return "dr-kim" }, func(n int) string { return fmt.Sprint("patient-", n) }, "you have opened"},
		"for one party": {func(n int) string { return fmt.Sprint("dr-", n) }, func(int) string { return "alice" }, "for the same"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWard(t)
			var first approval.Glass
			open := func(n int) error {
				o := w.opening(func(o *approval.Opening) { o.For = c.whom(n) })
				g, err := w.Break(o, emergency, w.person(c.by(n), "on-call", o, approval.OpenGlass, emergency))
				if n == 0 {
					first = g
				}
				return err
			}
			for n := range 2 {
				if err := open(n); err != nil {
					t.Fatal(n, err)
				}
				w.pass(31 * time.Minute)
				w.open()
			}
			if err := open(2); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatal(err)
			}
			if err := w.Sweep(); err != nil {
				t.Fatal(err)
			}
			if err := w.review(&first, "ann", "privacy"); err != nil {
				t.Fatal(err)
			}
			if err := open(2); err != nil {
				t.Error("reviewed, it is not opened again:", err)
			}
		})
	}
}

// One person does not take the openings of all, nor one name those of the others; and
// none is open for a moment only.
func TestBreakGlassBounds(t *testing.T) {
	w := newWard(t)
	w.glass = append(w.glass, wardGlass(func(g *policy.BreakGlass) { g.Name, g.Digest = "other", [32]byte{8} }))
	n := 0
	open := func(of int, by string, change ...func(*approval.Opening)) error {
		n++
		o := approval.NewOpening(&w.glass[of], w.clock())
		o.Resource, o.Workload, o.For, o.ForIssuer, o.Lasts = "clinic", "billing", fmt.Sprint("patient-", n), "https://id", 30*time.Minute
		for _, c := range change {
			c(o)
		}
		_, err := w.Break(o, emergency, w.person(by, "on-call", o, approval.OpenGlass, emergency))
		return err
	}
	if err := open(0, "dr-kim", func(o *approval.Opening) { o.Lasts = 59 * time.Second }); err == nil || !strings.Contains(err.Error(), "1m0s at least") {
		t.Error(err)
	}
	for i := range 5 {
		if err := open(0, "dr-kim"); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := open(1, "DR-KIM"); err == nil || !strings.Contains(err.Error(), "that you have opened") {
		t.Error(err)
	}
	for i := range 15 {
		if err := open(0, fmt.Sprint("dr-", i)); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := open(0, "dr-lee"); err == nil || !strings.Contains(err.Error(), `by "ward"`) {
		t.Error(err)
	}
	if err := open(1, "dr-lee"); err != nil {
		t.Error(err)
	}
}
