package approval_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// hanging is a Book of which one request has the record hang, until goOn is called, and
// another one waits.
func hanging(t *testing.T) (b *approval.Book, waits string, goOn func()) {
	t.Helper()
	hangs, release := make(chan struct{}), make(chan struct{})
	n := 0
	b, err := approval.Open(nil, &disk{}, approval.Options{Now: time.Now, Tell: func(...*events.Event) error {
		if n++; n == 2 {
			close(hangs)
			<-release
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, open, err := b.Consume(t.Context(), asked(rule(), text("waits")))
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	go func() {
		_, _, err := b.Consume(context.Background(), asked(rule()))
		first <- err
	}()
	<-hangs
	return b, open.ID, sync.OnceFunc(func() {
		close(release)
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

// Who waits no more does not wait for a disk or a record that hangs for another,
// whatever was asked.
func TestAskingEndsWithItsContext(t *testing.T) {
	b, waits, goOn := hanging(t)
	defer goOn()
	q := asked(rule())
	for what, ask := range map[string]func(context.Context) error{
		"consume":  func(ctx context.Context) error { _, _, err := b.Consume(ctx, q); return err },
		"wait":     func(ctx context.Context) error { return b.Wait(ctx, waits) },
		"withdraw": func(ctx context.Context) error { return b.Withdraw(ctx, waits, "its client has gone") },
		"note":     func(ctx context.Context) error { return b.Note(ctx, waits, policy.Estimate{}) },
		"own":      func(ctx context.Context) error { _, err := b.Own(ctx, waits, q[0].Request.Session); return err },
		"show":     func(ctx context.Context) error { _, err := b.ShowTo(ctx, waits, nil); return err },
		"list":     func(ctx context.Context) error { _, err := b.List(ctx, true); return err },
		"glance":   func(ctx context.Context) error { _, err := b.Glance(ctx, waits); return err },
		"glasses":  func(ctx context.Context) error { _, err := b.Glasses(ctx, true); return err },
		"break": func(ctx context.Context) error {
			_, err := b.Break(ctx, &approval.Opening{}, why, &approval.Proof{})
			return err
		},
		"mend": func(ctx context.Context) error {
			_, err := b.Mend(ctx, "bg-", approval.CloseGlass, why, &approval.Proof{})
			return err
		},
		"decide": func(ctx context.Context) error {
			_, err := b.Decide(ctx, waits, approval.Approve, why, &approval.Proof{})
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- ask(ctx) }()
		select {
		case err := <-done:
			t.Errorf("%s does not wait: %v", what, err)
		case <-time.After(10 * time.Millisecond): // it most likely waits by now
		}
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(2 * time.Minute):
			t.Fatal(what, "waits on")
		}
	}
	goOn()
	if e, err := b.Show(waits); err != nil || e.State != "pending" {
		t.Error(e.State, err)
	}
}

// A statement that no rule asks an approval for has nothing to do with them: it is
// decided while what is approved hangs, and one that is asked for is refused when its
// time is over.
func TestHangingApprovalsHangNothingElse(t *testing.T) {
	b, _, goOn := hanging(t)
	defer goOn()
	_, decide := gate(t, b)
	done := make(chan error, 1)
	go func() {
		d, err := decide(t.Context(), "select", "SELECT 1")
		if err == nil && !d.Allowed() {
			err = errors.New(d.Reason())
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("a statement that nothing asks about waits for approvals")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, _ := decide(ctx, "delete", "DELETE 1"); d.Allowed() {
		t.Error("it runs")
	}
}

// What many requests of one workload came to does not push out those of another.
func TestEndedOfAnotherIsStillKnown(t *testing.T) {
	w := newWorld(t)
	_, mine := w.consume(asked(rule()))
	if err := w.Withdraw(mine, "its client has gone"); err != nil {
		t.Fatal(err)
	}
	var last string
	for i := range 1500 {
		w.pass(approval.Every)
		_, last = w.consume(asked(rule(), func(a *policy.Asked) {
			a.Request.Text = fmt.Sprint("DELETE ", i)
			a.Request.Session.Identity.Workload = "flood"
		}))
		if err := w.Withdraw(last, "its client has gone"); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{mine, last} {
		if e, err := w.Show(id); err != nil || e.State != "withdrawn" {
			t.Errorf("%s: %s %v", id, e.State, err)
		}
	}
}
