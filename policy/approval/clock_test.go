package approval_test

import (
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/policy/approval"
)

// The clock of an approver's issuer may differ by a minute, and a login may be five
// minutes old besides; whatever is beyond is refused, with the reason, and leaves the
// request as it was.
func TestApproverClock(t *testing.T) {
	for _, c := range []struct {
		ahead time.Duration // of the token's time, at the host's
		why   string        // "": it is taken
	}{
		{0, ""},
		{time.Minute, ""},
		{time.Minute + time.Second, "of the future: look at both clocks"},
		{10 * time.Minute, "of the future: look at both clocks"},
		{-time.Minute, ""},
		{-6 * time.Minute, ""},
		{-6*time.Minute - time.Second, "too old: log in again"},
		{-12 * time.Minute, "older than the request"},
	} {
		w := newWorld(t)
		_, id := w.consume(asked(rule()))
		w.pass(10 * time.Minute)
		err := w.approve(id, func(p *approval.Proof) { p.Issued = w.clock().Add(c.ahead) })
		if c.why == "" && err != nil || c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)) {
			t.Errorf("%v: %v", c.ahead, err)
		}
		want := "approved"
		if c.why != "" {
			want = "pending"
		}
		if e, err := w.Show(id); err != nil || e.State != want || c.why != "" && len(e.Decisions) > 0 {
			t.Errorf("%v: %s %v", c.ahead, e.State, err)
		}
	}
}
