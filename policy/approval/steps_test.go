package approval_test

import (
	"slices"
	"testing"
	"time"

	"sallyport.dev/sallyport/policy/approval"
)

// Each step in the life of a request is on the record, and each decision with who took
// it, why, and how that was proved; so is the review of what ran without one.
func TestEachStepIsOnTheRecord(t *testing.T) {
	w := newWard(t)
	decide := func(id, verb string) {
		t.Helper()
		if _, err := w.Decide(id, verb, why, w.proof(id, verb, why)); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(n int) string {
		t.Helper()
		_, id := w.runs(n)
		return id
	}
	of := map[string]string{} // the step that a request ends with
	of["consumed"] = ask(1)
	decide(of["consumed"], approval.Approve)
	if state, _ := w.runs(1); state != "runs" {
		t.Fatal(state)
	}
	of["denied"] = ask(2)
	decide(of["denied"], approval.Deny)
	of["revoked"] = ask(3)
	decide(of["revoked"], approval.Approve)
	decide(of["revoked"], approval.Revoke)
	of["withdrawn"] = ask(4)
	if err := w.Withdraw(of["withdrawn"], "its client has gone"); err != nil {
		t.Fatal(err)
	}
	g := w.breakGlass()
	of["reviewed"] = g.ID
	if _, id := w.runs(5); id != g.ID {
		t.Fatal(id)
	}
	of["expired"] = ask(2) // what was denied is not asked again
	if of["expired"] != of["denied"] {
		t.Fatal("another request")
	}
	w.pass(time.Hour)
	of["expired"] = ask(6)
	w.pass(time.Hour)
	if err := w.Sweep(); err != nil {
		t.Fatal(err)
	}
	if err := w.review(&g, "ann", "privacy"); err != nil {
		t.Fatal(err)
	}
	for last, id := range of {
		var steps []string
		for _, e := range w.events {
			if e.ID != id {
				continue
			}
			steps = append(steps, e.Step)
			by := map[string]string{"approved": "dr-lee", "denied": "dr-lee", "revoked": "dr-lee", "opened": "dr-kim", "unreviewed": "dr-kim", "reviewed": "ann"}[e.Step]
			if e.Approver != by || by != "" && (e.Issuer != "https://people" || e.Why == "" || e.Proof != "oidc+nonce") {
				t.Errorf("%s: %+v", e.Step, e)
			}
			if e.Workload != "billing" || e.Resource != "clinic" || e.Digest == "" || e.Policy == "" {
				t.Errorf("%s: %+v", e.Step, e)
			}
		}
		want := map[string][]string{
			"consumed":  {"requested", "seen", "approved", "consumed"},
			"denied":    {"requested", "seen", "denied"},
			"revoked":   {"requested", "seen", "approved", "revoked"},
			"withdrawn": {"requested", "withdrawn"},
			"expired":   {"requested", "expired"},
			"reviewed":  {"opened", "opened", "used", "expired", "unreviewed", "reviewed"}, // an alarm is the second
		}[last]
		if !slices.Equal(steps, want) {
			t.Errorf("%s: %v, want %v", last, steps, want)
		}
	}
}
