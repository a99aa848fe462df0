package approval_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// of sets the shape of what is asked, with a value that is none of it.
func of(shape, value string) func(*policy.Asked) {
	return func(a *policy.Asked) {
		a.Request.Normalized, a.Request.Literals = shape, []events.Digest{{}}
		copy(a.Request.Literals[0][:], value)
		a.Request.Text = strings.Replace(shape, "?", value, 1)
		a.Exact.Parameters = nil
	}
}

// An approver is told what came of statements of the shape, and of the workload's,
// over a restart and a log that was written anew; nothing of it is data.
func TestHistory(t *testing.T) {
	w := newWorld(t)
	const shape = "DELETE FROM clinic.visits WHERE id = ?"
	ask := func(value string, change ...func(*policy.Asked)) string {
		t.Helper()
		w.pass(time.Second)
		state, id := w.consume(asked(rule(), append([]func(*policy.Asked){of(shape, value)}, change...)...))
		if state != "pending" {
			t.Fatal(state)
		}
		return id
	}
	id := ask("1")
	if err := w.approve(id); err != nil {
		t.Fatal(err)
	}
	if state, _ := w.consume(asked(rule(), of(shape, "1"))); state != "runs" {
		t.Fatal(state)
	}
	id = ask("2")
	if _, err := w.Decide(id, approval.Deny, "no ticket was named", w.proof(id, approval.Deny, "no ticket was named")); err != nil {
		t.Fatal(err)
	}
	if err := w.Withdraw(ask("3"), "gone"); err != nil {
		t.Fatal(err)
	}
	id = ask("4")
	if err := w.approve(id); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Decide(id, approval.Revoke, "it was a mistake", w.proof(id, approval.Revoke, "it was a mistake")); err != nil {
		t.Fatal(err)
	}
	ask("5")
	w.pass(time.Hour)
	if err := w.Sweep(); err != nil {
		t.Fatal(err)
	}
	// Of another shape, in another database, of another relation, by another workload.
	ask("6", func(a *policy.Asked) { a.Request.Normalized += " AND true" })
	ask("6", func(a *policy.Asked) { a.Request.Session.Database = "other" })
	ask("6", func(a *policy.Asked) { a.Request.Objects[0].Schema = "other" })
	ask("7", func(a *policy.Asked) { a.Request.Session.Identity.Workload = "other" })
	id = ask("secret-8")
	for range 3 { // as it is, after a restart, and from a log that was written anew
		e, err := w.Show(id)
		if err != nil || e.History == nil {
			t.Fatal(e.History, err)
		}
		h := *e.History
		for _, x := range []*approval.Tally{&h.Statement, &h.Workload} {
			if x.First.IsZero() || x.Last.Before(x.First) {
				t.Errorf("%+v", x)
			}
			x.First, x.Last = time.Time{}, time.Time{}
		}
		if want := (approval.Tally{Asked: 7, Approved: 2, Denied: 1, Revoked: 1, Withdrawn: 1, Expired: 1, Ran: 1}); h.Statement != want {
			t.Errorf("of the shape: %+v, not %+v", h.Statement, want)
		}
		if want := (approval.Tally{Asked: 9, Approved: 2, Denied: 1, Revoked: 1, Withdrawn: 1, Expired: 1, Ran: 1}); h.Workload != want {
			t.Errorf("of the workload: %+v, not %+v", h.Workload, want)
		}
		if b, err := json.Marshal(e.History); err != nil || strings.Contains(string(b), "secret") {
			t.Errorf("%s %v", b, err)
		}
		w.open()
	}
}

// Whoever asks for ever new shapes makes what is known of old ones be forgotten, not
// grow without end; an approver is told so.
func TestHistoryIsBounded(t *testing.T) {
	w := newWorld(t)
	w.disk.records = append(w.disk.records, tallies(t, 10_000))
	w.open()
	w.pass(time.Second)
	_, id := w.consume(asked(rule(), of("SELECT ?", "1")))
	e, err := w.Show(id)
	if err != nil || e.History.Statement.Asked != 1 || !e.History.Forgotten.Equal(start.Add(999*time.Microsecond)) {
		t.Errorf("%+v %v", e.History, err)
	}
	w.open()
	if n := strings.Count(string(join(w.disk.records)), `"asked":`); n > 9_100 {
		t.Errorf("%d tallies are kept", n)
	}
	if e, err := w.Show(id); err != nil || e.History.Forgotten.IsZero() || e.History.Statement.Asked != 1 {
		t.Errorf("%+v %v", e.History, err)
	}
}

func join(records [][]byte) (out []byte) {
	for _, r := range records {
		out = append(out, r...)
	}
	return out
}

// tallies is a record of n shapes, one after the other.
func tallies(t *testing.T, n int) []byte {
	t.Helper()
	shapes := map[string]approval.Tally{}
	for i := range n {
		at := start.Add(time.Duration(i) * time.Microsecond)
		shapes[fmt.Sprintf("%032x", i)] = approval.Tally{Asked: 1, First: at, Last: at}
	}
	b, err := json.Marshal(map[string]any{"do": "tally", "at": start, "history": map[string]any{"shapes": shapes}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What the planner expects is kept with the request, and is no part of what is
// decided.
func TestEstimateIsKept(t *testing.T) {
	w := newWorld(t)
	_, open, err := w.Consume(t.Context(), asked(rule()))
	if err != nil || len(open.Fresh) != 1 || open.Fresh[0] != open.ID {
		t.Fatalf("%+v %v", open, err)
	}
	if _, again, _ := w.Consume(t.Context(), asked(rule())); len(again.Fresh) != 0 {
		t.Error("a retry is asked about anew")
	}
	before, err := w.Show(open.ID)
	if err != nil || before.Estimate != nil {
		t.Fatal(before.Estimate, err)
	}
	for _, n := range []int64{3, 4} { // the first counts
		if err := w.Note(open.ID, policy.Estimate{Changed: n}); err != nil {
			t.Fatal(err)
		}
	}
	w.open()
	w.open()
	after, err := w.Show(open.ID)
	if err != nil || after.Estimate == nil || after.Estimate.Changed != 3 {
		t.Errorf("%+v %v", after.Estimate, err)
	}
	x, _ := approval.Nonce(&before.Subject, approval.Approve, why)
	if y, _ := approval.Nonce(&after.Subject, approval.Approve, why); x != y {
		t.Error("it is part of what is signed")
	}
	w.disk.fail.Store(true)
	_, open, _ = w.Consume(t.Context(), asked(rule(), func(a *policy.Asked) { a.Request.Text = "other" }))
	if open != nil {
		t.Error("nothing can be kept, and it waits")
	}
}
