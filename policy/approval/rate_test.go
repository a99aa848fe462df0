package approval_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// One workload makes so many requests, and no more: people are asked. What waits
// already is found, however often it is sent.
func TestPace(t *testing.T) {
	w := newWorld(t)
	ask := func(workload string, n int) (string, error) {
		_, open, err := w.Consume(context.Background(), asked(rule(), func(a *policy.Asked) {
			a.Request.Text = fmt.Sprint("DELETE ", n)
			a.Request.Session.Identity.Workload = workload
		}))
		if err != nil {
			return "", err
		}
		return open.ID, nil
	}
	refused := func(n int) {
		t.Helper()
		_, err := ask("flood", n)
		if not := (*policy.Unasked)(nil); !errors.As(err, &not) || !strings.Contains(not.Why, `"flood"`) || !strings.HasPrefix(not.Remedy, "wait ") {
			t.Error(err)
		}
	}
	first := ""
	for n := range approval.Burst {
		id, err := ask("flood", n)
		if err != nil {
			t.Fatal(n, err)
		}
		if n == 0 {
			first = id
		}
		for range 20 {
			if again, err := ask("flood", n); err != nil || again != id {
				t.Fatal("the same again is another:", err)
			}
		}
	}
	refused(100)
	w.set(day) // gives nobody more
	w.set(-day)
	refused(101)
	w.pass(approval.Every / 2)
	refused(102)
	w.pass(approval.Every / 2)
	if _, err := ask("flood", 103); err != nil {
		t.Error(err)
	}
	refused(104)
	if _, err := ask("other", 1); err != nil {
		t.Error("another workload:", err)
	}
	w.pass(10 * approval.Every * approval.Burst)
	if err := w.Sweep(); err != nil {
		t.Fatal(err)
	}
	for n := range approval.Burst {
		if _, err := ask("flood", 200+n); err != nil {
			t.Fatal(n, err)
		}
	}
	refused(300)
	if n := strings.Count(w.told(), "requested"); n != approval.Burst*2+2 {
		t.Errorf("%d are on the record", n)
	}
	if _, err := w.Glance(first); err != nil {
		t.Error(err)
	}
}
