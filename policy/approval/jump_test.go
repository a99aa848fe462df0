package approval_test

import (
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

const day = 24 * time.Hour

func text(s string) func(*policy.Asked) { return func(a *policy.Asked) { a.Request.Text = s } }

// A clock that is far ahead for a moment stops approvals for that moment. What it had
// end does not live again, and the alarm is raised once.
func TestClockThatWasAhead(t *testing.T) {
	w := newWard(t)
	_, given := w.consume(asked(rule()))
	if err := w.approve(given); err != nil {
		t.Fatal(err)
	}
	_, waits := w.consume(asked(rule(), text("waits")))
	open := w.breakGlass(func(o *approval.Opening) { o.For = "bob" })

	w.set(100 * day)
	_, ahead := w.consume(asked(rule(), text("ahead")))
	if err := w.approve(waits); err == nil {
		t.Error("what is over is approved")
	}
	for _, left := range []struct {
		all  bool
		want int
	}{{false, 1}, {true, 3}} {
		if l := w.List(left.all); len(l) != left.want {
			t.Errorf("%d are there, not %d", len(l), left.want)
		}
	}
	w.set(-100 * day)

	if state, id := w.consume(asked(rule())); state != "pending" || id == given {
		t.Error("what was over runs:", state)
	}
	if err := w.approve(waits); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Error("what was over is approved:", err)
	}
	for what, text := range map[string]string{"new": "new", ahead: "ahead"} {
		state, id := w.consume(asked(rule(), func(a *policy.Asked) { a.Request.Text = text }))
		if state != "pending" {
			t.Fatal(what, state)
		}
		if e, err := w.Glance(id); err != nil || e.Ends.Sub(w.clock()) != 15*time.Minute {
			t.Errorf("%s ends in %s", what, e.Ends.Sub(w.clock()))
		}
		if err := w.approve(id); err != nil {
			t.Error(what, err)
		}
		if state, _ := w.consume(asked(rule(), func(a *policy.Asked) { a.Request.Text = text })); state != "runs" {
			t.Error(what, state)
		}
	}
	// One that has ended by it is not reviewed too late by it.
	if g := w.Glasses(false); len(g) != 1 || g[0].ID != open.ID || g[0].State != approval.GlassExpired {
		t.Errorf("%+v", g)
	}
	g := w.breakGlass()
	if state, id := w.consume(asked(rule(givesWay), text("emergency"))); state != "runs" || id != g.ID {
		t.Error(state)
	}
	if _, err := w.Mend(g.ID, approval.CloseGlass, why, w.person("dr-kim", "on-call", &g.Opening, approval.CloseGlass, why)); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := w.Sweep(); err != nil {
			t.Fatal(err)
		}
	}
	told := 0
	for _, a := range w.alarms {
		if strings.HasPrefix(a, "clock: ") {
			told++
			if !strings.Contains(a, "forward by 2400h0m0s") || !strings.Contains(a, "back by 2400h0m0s") {
				t.Error(a)
			}
		}
	}
	if told != 1 {
		t.Error("alarms of the clock:", told)
	}
}

// A clock that is set back gives nothing more time, and takes none.
func TestClockThatIsSetBack(t *testing.T) {
	w := newWard(t)
	often := rule(func(a *policy.Approval) { a.Uses = 3 })
	_, given := w.consume(asked(often))
	old := w.proof(given, approval.Approve, why)
	if err := w.approve(given); err != nil {
		t.Fatal(err)
	}
	_, waits := w.consume(asked(rule(), text("waits")))
	g := w.breakGlass(func(o *approval.Opening) { o.Lasts = 10 * time.Minute })
	w.pass(2 * time.Minute)
	w.set(-day)
	if l := w.List(false); len(l) != 2 {
		t.Fatalf("%d are there", len(l))
	}
	if e, err := w.Glance(given); err != nil || e.Ends.Sub(w.clock()) != 8*time.Minute {
		t.Errorf("it ends in %s", e.Ends.Sub(w.clock()))
	}
	if state, id := w.consume(asked(often)); state != "runs" || id != given {
		t.Error("it ended by that:", state)
	}
	if state, id := w.consume(asked(rule(givesWay), text("emergency"))); state != "runs" || id != g.ID {
		t.Error("it ended by that:", state)
	}
	if _, err := w.Decide(waits, approval.Approve, why, old); err == nil {
		t.Error("another's token counts")
	}
	w.pass(8 * time.Minute)
	if state, id := w.consume(asked(often)); state != "pending" || id == given {
		t.Error("it lasts longer:", state)
	}
	if state, id := w.consume(asked(rule(givesWay), text("again"))); state != "pending" || id == g.ID {
		t.Error("emergency access lasts longer:", state)
	}
	if e, err := w.Glance(waits); err != nil || e.State != "pending" {
		t.Error(e.State, err)
	}
	w.pass(5 * time.Minute)
	if err := w.approve(waits); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Error("it waits longer:", err)
	}
	// Nor is a review due later by it.
	w.pass(72 * time.Hour)
	o := w.opening(func(o *approval.Opening) { o.For = "bob" })
	if _, err := w.Break(o, emergency, w.person("dr-kim", "on-call", o, approval.OpenGlass, emergency)); err == nil || !strings.Contains(err.Error(), "should have been reviewed") {
		t.Error(err)
	}
}

// A token is as old as the wall clock says, however that was set between.
func TestOldTokenAfterSteps(t *testing.T) {
	w := newWorld(t)
	_, id := w.consume(asked(rule()))
	old := w.proof(id, approval.Approve, why)
	w.pass(7 * time.Minute)
	for _, step := range []time.Duration{0, day, -day, -day, day} {
		w.set(step)
		if _, err := w.Decide(id, approval.Approve, why, old); err == nil {
			t.Errorf("it counts after a step of %s", step)
		}
	}
	if state, _ := w.consume(asked(rule())); state != "pending" {
		t.Error(state)
	}
}

// Where the clock was set back while nobody ran, nobody knows how much time has passed:
// what was given holds no more, and what waited must be asked for again, at once.
func TestClockSetBackOverARestart(t *testing.T) {
	w := newWard(t)
	often := rule(func(a *policy.Approval) { a.Uses = 3 })
	_, given := w.consume(asked(often))
	if err := w.approve(given); err != nil {
		t.Fatal(err)
	}
	_, waits := w.consume(asked(rule(), text("waits")))
	g := w.breakGlass()
	w.set(-30 * time.Second) // as clocks are kept right
	w.open()
	if state, id := w.consume(asked(often)); state != "runs" || id != given {
		t.Error(state)
	}
	w.set(-day)
	w.open()
	if state, id := w.consume(asked(rule(givesWay), text("emergency"))); state != "pending" || id == g.ID {
		t.Error(state)
	}
	for id, q := range map[string][]policy.Asked{given: asked(often), waits: asked(rule(), text("waits"))} {
		state, again := w.consume(q)
		if state != "pending" || again == id {
			t.Error("it lives on:", state)
		}
		if err := w.approve(again); err != nil {
			t.Error(err)
		}
		w.open() // and now all is known
		if state, ran := w.consume(q); state != "runs" || ran != again {
			t.Error(state)
		}
	}
	w.breakGlass()
	if state, _ := w.consume(asked(rule(givesWay), text("again"))); state != "runs" {
		t.Error(state)
	}
	if err := w.Sweep(); err != nil {
		t.Fatal(err)
	}
}

// A clock that was ahead and is right again is not set back by a restart: what was given
// since ends in its time.
func TestRestartAfterAClockThatWasAhead(t *testing.T) {
	w := newWorld(t)
	w.set(day)
	w.List(false)
	w.set(-day)
	often := rule(func(a *policy.Approval) { a.Uses = 3 })
	_, given := w.consume(asked(often))
	if err := w.approve(given); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"runs", "runs", "pending"} {
		w.pass(4 * time.Minute)
		w.open()
		if state, _ := w.consume(asked(often)); state != want {
			t.Error(state, "want", want)
		}
	}
}
