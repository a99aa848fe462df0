package desk_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/approvaltest"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// A host that was taken over shows what waits on another as its own, and has somebody
// sign it: what is signed names the host that it is for, and who asks sees whose it is.
func TestOfAnotherHost(t *testing.T) {
	h := approvaltest.Start(t, "h2")
	h.Close()
	f := newForged(t) // of h1
	nc, err := h.NATS.Connect()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.desk.Serve(ctx, nc, "h2", slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		nc.Close()
	})
	c := h.Asker(jetstream.RoleApprovals)
	ask := func(q *desk.Ask) error { _, err := c.Ask(t.Context(), "h2", q); return err }
	for end := time.Now().Add(time.Minute); errors.Is(ask(&desk.Ask{Do: desk.GlassList}), desk.ErrAway) && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
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
