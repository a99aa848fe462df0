package approval_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// worded is a statement about a visit as its analysis has it.
func worded(text, visit string) func(*policy.Asked) {
	return func(a *policy.Asked) {
		a.Request.Text, a.Request.Normalized = text, "DELETE FROM clinic.visits WHERE id = ?"
		a.Request.Literals = []events.Digest{{1}}
		copy(a.Request.Literals[0][:], visit)
		a.Exact.Parameters = nil
	}
}

// Another comment makes nothing else of what was denied, with emergency access or
// without, over restarts too. Of another visit may be asked; emergency access lifts no
// denied shape, for as long as the denial stands, and lifts all else.
func TestDeniedByAnotherWording(t *testing.T) {
	w := newWard(t)
	ask := func(change ...func(*policy.Asked)) (string, string) {
		t.Helper()
		return w.consume(asked(rule(givesWay), change...))
	}
	_, denied := ask(worded("DELETE FROM clinic.visits WHERE id = 7", "7"))
	if _, err := w.Decide(denied, approval.Deny, why, w.proof(denied, approval.Deny, why)); err != nil {
		t.Fatal(err)
	}
	for _, glass := range []bool{false, true} {
		if glass {
			w.breakGlass()
		}
		for range 2 {
			for i, text := range []string{"DELETE FROM clinic.visits WHERE id = 7 -- again", "DELETE  FROM clinic.visits /* please */ WHERE id = 7"} {
				if state, id := ask(worded(text, "7")); state != "denied" || id != denied {
					t.Errorf("glass %v: wording %d is %s %s", glass, i, state, id)
				}
			}
			if state, id := ask(worded("DELETE FROM clinic.visits WHERE id = 8", "8")); state != "pending" || id == denied {
				t.Errorf("glass %v: another visit's is %s", glass, state)
			}
			w.open()
		}
	}
	// Another actor of the same party, and a policy that was loaded again, are no way round.
	for name, c := range map[string]func(*policy.Asked){
		"another actor":  func(a *policy.Asked) { a.Request.Session.Identity.Actors = []string{"bot-8"} },
		"another policy": func(a *policy.Asked) { x := *a.Approval; x.Policy[0]++; a.Approval = &x },
	} {
		if state, _ := ask(worded("DELETE FROM clinic.visits WHERE id = 7", "7"), c); state != "pending" {
			t.Errorf("%s: %s", name, state)
		}
	}
	if state, _ := ask(worded("TRUNCATE clinic.visits", ""), func(a *policy.Asked) { a.Request.Normalized = "TRUNCATE clinic.visits" }); state != "runs" {
		t.Error("what nobody denied is", state)
	}
	w.pass(16 * time.Minute)
	if state, _ := ask(worded("DELETE FROM clinic.visits WHERE id = 7 -- later", "7")); state != "runs" {
		t.Error("a denial never ends:", state)
	}
}

// Who is denied all of a rule is not let in by emergency access with any of it.
func TestDeniedRuleIsNotLifted(t *testing.T) {
	w := newWard(t)
	ask := func(n int, policyNumber byte) (string, string) {
		return w.consume(asked(rule(givesWay, func(a *policy.Approval) { a.Covers, a.Uses, a.Policy[0] = policy.ARule, 0, policyNumber }), func(a *policy.Asked) {
			a.Request.Text = fmt.Sprint("DELETE ", n)
			a.Request.Normalized = a.Request.Text
		}))
	}
	_, denied := ask(1, 2)
	if _, err := w.Decide(denied, approval.Deny, why, w.proof(denied, approval.Deny, why)); err != nil {
		t.Fatal(err)
	}
	w.breakGlass()
	if state, _ := ask(2, 2); state != "denied" {
		t.Error(state)
	}
	if state, _ := ask(3, 3); state != "pending" {
		t.Error("after a reload it", state)
	}
}

// What emergency access does not let run waits on: a client is not sent round for ever.
func TestBreakGlassLetsWait(t *testing.T) {
	w := newWard(t)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_, denied := w.consume(asked(rule(givesWay), worded("DELETE FROM clinic.visits WHERE id = 7", "7")))
	_, other := w.consume(asked(rule(givesWay), worded("DELETE FROM clinic.visits WHERE id = 8", "8")))
	_, pooled := w.runs(1, func(a *policy.Asked) {
		a.Request.Session.Identity = intercept.Identity{Workload: "billing", Issuer: "https://id", Subject: "pool", SpeaksFor: true}
	})
	_, plain := w.runs(2)
	if _, err := w.Decide(denied, approval.Deny, why, w.proof(denied, approval.Deny, why)); err != nil {
		t.Fatal(err)
	}
	w.breakGlass(func(o *approval.Opening) { o.For, o.ForIssuer = "pool", "https://id" })
	g := w.breakGlass()
	for id, want := range map[string]error{other: context.Canceled, pooled: context.Canceled, plain: nil} {
		if err := w.Wait(gone, id); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", id, err, want)
		}
	}
	if state, id := w.runs(2); state != "runs" || id != g.ID {
		t.Error(state)
	}
}
