package approval_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/policy/approval"
)

// Each who is shown what is to run is on the record, once, in whatever state it is;
// what is claimed is told from what is proved, and no flood of names makes a flood of
// records.
func TestEachViewerIsOnTheRecord(t *testing.T) {
	w := newWorld(t)
	_, id := w.consume(asked(rule()))
	var want []string
	seen := func() (out []string) {
		for _, e := range w.events {
			if e.Step == "seen" {
				out = append(out, strings.TrimSpace(e.Approver+" "+e.Proof))
			}
		}
		return out
	}
	show := func(on string, look func() error) {
		t.Helper()
		if err := look(); err != nil {
			t.Fatal(err)
		}
		if on != "-" {
			want = append(want, on)
		}
		if got := seen(); !slices.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	nobody := func() error { _, err := w.Show(id); return err }
	claims := func(who string) func() error {
		return func() error {
			_, err := w.ShowClaimed(id, approval.Viewer{Issuer: "https://people", Subject: who})
			return err
		}
	}
	proves := func() error {
		_, err := w.ShowTo(id, &approval.Proof{Issuer: "https://people", Subject: "dr-may", Claims: map[string]any{"groups": []any{"leads"}}})
		return err
	}
	show("", nobody)
	show("-", nobody)
	show("dr-lee page", claims("dr-lee"))
	show("-", claims("dr-lee"))
	show("dr-may oidc", proves)
	show("dr-kim page", claims("dr-kim"))
	w.pass(time.Minute)
	show("", nobody)
	w.pass(time.Minute)
	show("", func() error { return w.approve(id) })
	show("dr-ash page", claims("dr-ash")) // approved, it may still be read
	for i := range 500 {
		if err := claims(fmt.Sprint("x", i))(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(seen()); n > 80 {
		t.Errorf("%d are on the record", n)
	}
	before := len(seen())
	w.pass(time.Minute)
	for _, who := range []string{"y1", "y2"} {
		if err := claims(who)(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(seen()); n != before+1 {
		t.Errorf("of many, %d more are on the record after a minute", n-before)
	}
	for _, v := range []approval.Viewer{{}, {Issuer: "https://people"}, {Issuer: "https://people", Subject: strings.Repeat("x", 513)}, {Issuer: "https://people", Subject: "\xff"}} {
		if _, err := w.ShowClaimed(id, v); err == nil {
			t.Errorf("shown to %.20q", v)
		}
	}
	// Consumed, nothing is left to be read.
	if state, _ := w.consume(asked(rule())); state != "runs" {
		t.Fatal(state)
	}
	before = len(seen())
	w.pass(time.Hour)
	if e, err := w.Show(id); err != nil || e.What.Text != "" || len(seen()) != before {
		t.Errorf("%+v %v", e.What, err)
	}
	// What can't be on the record is not shown.
	_, id = w.consume(asked(rule()))
	w.deaf.Store(true)
	if err := claims("dr-lee")(); err == nil {
		t.Error("shown, and not on the record")
	}
}
