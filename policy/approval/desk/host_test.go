package desk_test

import (
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// A host that was taken over shows what waits on another as its own, and has somebody
// sign it: what is signed names the host that it is for, and who asks sees whose it is.
func TestOfAnotherHost(t *testing.T) {
	f := newForged(t) // of h1
	c := f.serve("h2")
	ask := func(q *desk.Ask) error { _, err := c.Ask(t.Context(), "h2", q); return err }
	for _, q := range []*desk.Ask{{Do: desk.Show, ID: f.id}, {Do: desk.List}, {Do: desk.GlassBegin, Name: glass.Name}} {
		if err := ask(q); err == nil || !strings.Contains(err.Error(), "another host's") {
			t.Errorf("%s: %v", q.Do, err)
		}
	}

	there := f.of
	there.Host = "h2"
	n, err := approval.Nonce(&there, approval.Approve, why)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.ask(&desk.Ask{Do: approval.Approve, ID: f.id, Why: why, Token: f.token("JWT", n)}); err == nil || !strings.Contains(err.Error(), "nonce") {
		t.Errorf("what was signed for h2 is a decision on h1: %v", err)
	}
	a, err := f.desk.Answer(t.Context(), &desk.Ask{Do: desk.GlassBegin, Name: glass.Name})
	if err != nil || a.Opening.Host != "h1" {
		t.Fatalf("%+v, %v", a, err)
	}
	o := a.Opening
	o.Host, o.Resource, o.Workload, o.For, o.ForIssuer, o.Lasts = "h2", "clinic", "billing", "alice", "https://id", 10*time.Minute
	if n, err = approval.GlassNonce(o, approval.OpenGlass, why); err != nil {
		t.Fatal(err)
	}
	if err := f.ask(&desk.Ask{Do: desk.GlassOpen, Glass: o, Why: why, Token: f.token("JWT", n)}); err == nil || !strings.Contains(err.Error(), "another host") {
		t.Errorf("what was opened on h2 is open on h1: %v", err)
	}
	o.Host = ""
	if n, err = approval.GlassNonce(o, approval.OpenGlass, why); err != nil {
		t.Fatal(err)
	}
	if err := f.ask(&desk.Ask{Do: desk.GlassOpen, Glass: o, Why: why, Token: f.token("JWT", n)}); err == nil {
		t.Error("what is opened nowhere is open on h1")
	}
}
