package approval_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// What was given lasts no longer for a restart, though nothing was asked or decided
// since, and the clock was set back while somebody ran or while nobody did.
func TestIdleAndSetBackOverARestart(t *testing.T) {
	for _, ran := range []bool{true, false} {
		w := newWard(t)
		often := rule(func(a *policy.Approval) { a.Uses = 3 })
		_, given := w.consume(asked(often))
		if err := w.approve(given); err != nil {
			t.Fatal(err)
		}
		g := w.breakGlass(func(o *approval.Opening) { o.Lasts = 10 * time.Minute })
		sweep := func() {
			t.Helper()
			if err := w.Sweep(); err != nil {
				t.Fatal(err)
			}
		}
		w.pass(6 * time.Minute)
		sweep()
		w.set(-6 * time.Minute)
		if ran {
			sweep()
		}
		w.open()
		if ran { // then it is known how much time has passed
			if state, id := w.consume(asked(often)); state != "runs" || id != given {
				t.Error(state)
			}
			w.pass(4 * time.Minute)
		}
		if state, id := w.consume(asked(often)); state != "pending" || id == given {
			t.Errorf("ran %t: it lasts longer: %s", ran, state)
		}
		if state, id := w.runs(1); state != "pending" || id == g.ID {
			t.Errorf("ran %t: emergency access lasts longer: %s", ran, state)
		}
	}
}

// Time that passes is kept while something ends by it, and not each time.
func TestIdleLog(t *testing.T) {
	w := newWorld(t)
	sweep := func(n int) (grown int) {
		t.Helper()
		before := len(w.disk.records)
		for range n {
			w.pass(time.Second)
			if err := w.Sweep(); err != nil {
				t.Fatal(err)
			}
		}
		return len(w.disk.records) - before
	}
	if n := sweep(60); n != 0 {
		t.Errorf("%d records of nothing", n)
	}
	w.consume(asked(rule()))
	if n := sweep(60); n != 6 {
		t.Errorf("%d records in a minute", n)
	}
}

// What opened emergency access once opens it no more, also when that was long ago and
// is forgotten, and the clock says that it was just now.
func TestForgottenGlassIsNotOpenedAgain(t *testing.T) {
	w := newWard(t)
	o := w.opening()
	proof := w.person("dr-kim", "on-call", o, approval.OpenGlass, emergency)
	g, err := w.Break(o, emergency, proof)
	if err != nil {
		t.Fatal(err)
	}
	w.pass(time.Hour)
	if err := w.Sweep(); err != nil {
		t.Fatal(err)
	}
	if err := w.review(&g, "ann", "privacy"); err != nil {
		t.Fatal(err)
	}
	w.pass(2 * time.Hour)
	if err := w.Sweep(); err != nil {
		t.Fatal(err)
	}
	if n := len(w.Glasses(true)); n != 0 {
		t.Fatalf("%d are there", n)
	}
	w.set(-3 * time.Hour)
	for range 3 {
		if _, err := w.Break(o, emergency, proof); err == nil || !strings.Contains(err.Error(), "opened before") {
			t.Error(err)
		}
		w.open()
	}
	if state, _ := w.runs(1); state != "pending" {
		t.Error(state)
	}
	w.breakGlass()
}

// A host that has another's state, as a copy of its machine does, has nothing of what
// was asked and signed there.
func TestStateOfAnotherHost(t *testing.T) {
	w := newWard(t)
	at := func(host string) *approval.Book {
		t.Helper()
		b, err := approval.Open(slices.Clone(w.disk.records), &w.disk, approval.Options{Host: host, Now: w.clock, Passed: w.passed, Tell: w.tell, Glass: func() []policy.BreakGlass { return w.glass }})
		if err != nil {
			t.Fatal(err)
		}
		w.Book = b
		return b
	}
	at("h1")
	_, given := w.consume(asked(rule()))
	if err := w.approve(given); err != nil {
		t.Fatal(err)
	}
	_, waits := w.consume(asked(rule(), text("waits")))
	signed := w.proof(waits, approval.Approve, why)
	g := w.breakGlass(func(o *approval.Opening) { o.Host = "h1" })

	if lost := at("h2").Lost(); lost != 1 {
		t.Errorf("%d approvals are lost", lost)
	}
	if _, err := w.Decide(waits, approval.Approve, why, signed); err == nil {
		t.Error("what was signed for h1 is taken by h2")
	}
	for _, q := range [][]policy.Asked{asked(rule()), asked(rule(), text("waits"))} {
		if state, id := w.consume(q); state != "pending" || id == given || id == waits {
			t.Error("what h1 has is h2's:", state)
		}
	}
	if state, id := w.runs(1); state != "pending" || id == g.ID {
		t.Error("what is open on h1 is open on h2:", state)
	}
	if all := w.Glasses(false); len(all) != 1 || all[0].State != approval.GlassExpired {
		t.Errorf("%+v", all)
	}
}
