package approval_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// Who waits no more does not wait for a disk or a record that hangs for another.
func TestConsumeEndsWithItsContext(t *testing.T) {
	hangs, goOn := make(chan struct{}), make(chan struct{})
	b, err := approval.Open(nil, &disk{}, approval.Options{Now: time.Now, Tell: func(...*events.Event) error {
		close(hangs)
		<-goOn
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	go func() {
		_, _, err := b.Consume(context.Background(), asked(rule()))
		first <- err
	}()
	<-hangs
	ctx, cancel := context.WithCancel(context.Background())
	second := make(chan error, 1)
	go func() {
		_, _, err := b.Consume(ctx, asked(rule()))
		second <- err
	}()
	cancel()
	select {
	case err := <-second:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it waits on")
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Error(err)
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
