package notify_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
)

// glass publishes a step of emergency access, as a host does.
func (w *world) glass(step string, n int, until time.Duration, change ...func(*events.Event)) {
	w.step(step, n, append([]func(*events.Event){func(e *events.Event) {
		e.Kind, e.Approval.ID, e.Approval.Covers, e.Approval.Rule = events.ApprovalDecision, glassID(n), "break-glass", "ward emergency"
		e.Approval.Until = e.Time.Add(until)
		e.Approval.Approver, e.Approval.Why = "dr-kim", "PLANTED bed 4"
	}}, change...)...)
}

func glassID(n int) string { return fmt.Sprintf("bg-%020d", n) }

// glasses are the messages about emergency access that a peer has taken, sorted.
func glasses(t *testing.T, p *peer) (out []string) {
	t.Helper()
	for _, g := range p.taken() {
		if m := read(t, g); strings.HasPrefix(m.Type, "break_glass.") {
			out = append(out, m.Type+" "+m.Data.Request.ID)
		}
		if strings.Contains(g.body, "PLANTED") {
			t.Error("a message holds what an approver wrote")
		}
	}
	slices.Sort(out)
	return out
}

// Emergency access is told when it is opened, when it has ended and must be reviewed,
// and when nobody has reviewed it in time: to all whom routes of its resource name,
// whatever else waits, one by one.
func TestBreakGlass(t *testing.T) {
	w := newWorld(t)
	p, elsewhere := newPeer(t, ok), newPeer(t, ok)
	for i := range 500 { // requests are told in summaries
		w.step("requested", i)
	}
	for i := range 5 {
		w.glass("opened", i, time.Hour)
	}
	w.glass("used", 0, time.Hour)
	w.glass("closed", 0, time.Hour)          // to be reviewed in an hour
	w.glass("expired", 1, -time.Millisecond) // nobody has
	w.glass("closed", 2, time.Hour)
	w.glass("reviewed", 2, time.Hour)
	w.glass("closed", 3, -time.Millisecond)
	w.glass("reviewed", 3, time.Hour)
	s := w.load(fmt.Sprintf(`channels:
- {name: hook, per_minute: 20, webhook: {url: %q, secret_files: [secret]}}
- {name: elsewhere, webhook: {url: %q, secret_files: [secret]}}
people: {alice: {}}
routes:
- rules: ["deletes *"]
  resources: [clinic]
  steps:
  - {tell: [hook], people: [alice]}
- resources: [billing]
  steps:
  - tell: [elsewhere]
`, p.URL, elsewhere.URL))
	w.run(s)
	var want []string
	for i := range 5 {
		want = append(want, "break_glass.opened "+glassID(i))
	}
	want = append(want, "break_glass.ended "+glassID(0), "break_glass.ended "+glassID(1), "break_glass.overdue "+glassID(1))
	slices.Sort(want)
	until(t, func() bool { return len(glasses(t, p)) >= len(want) })
	// What comes after is told after: nothing else came before.
	w.glass("opened", 9, time.Hour)
	want = append(want, "break_glass.opened "+glassID(9))
	slices.Sort(want)
	until(t, func() bool { return slices.Contains(glasses(t, p), "break_glass.opened "+glassID(9)) })
	if got := glasses(t, p); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	for _, g := range p.taken() {
		m := read(t, g)
		switch m.Type {
		case "break_glass.opened":
			if m.Data.By != "dr-kim" || m.Data.Request.Rule != "ward emergency" || m.Data.URL != "" || strings.Join(m.Data.People, " ") != "alice" {
				t.Errorf("%s", g.body)
			}
		case "break_glass.ended", "break_glass.overdue":
			if m.Data.Command != "sallyport breakglass review "+m.Data.Request.ID || m.Data.Ended == nil {
				t.Errorf("%s", g.body)
			}
		}
	}
	if got := elsewhere.taken(); len(got) != 0 {
		t.Errorf("who is of another resource is told: %v", got)
	}
}

// break_glass names who is told. A host that says nothing any more keeps nobody from
// hearing that it must be reviewed; one that says too much is not believed.
func TestBreakGlassRoute(t *testing.T) {
	w := newWorld(t)
	p, own := newPeer(t, ok), newPeer(t, ok)
	w.run(w.load(fmt.Sprintf(`channels:
- {name: hook, webhook: {url: %q, secret_files: [secret]}}
- {name: privacy, webhook: {url: %q, secret_files: [secret]}}
break_glass: {tell: [privacy]}
routes:
- steps:
  - tell: [hook]
`, p.URL, own.URL)))
	ago := func(d time.Duration) func(*events.Event) {
		return func(e *events.Event) { e.Time, e.Approval.Until = e.Time.Add(-d), e.Approval.Until.Add(-d) }
	}
	w.glass("opened", 1, time.Hour, ago(2*time.Hour))     // its host is silent since
	w.glass("opened", 2, time.Hour, ago(30*24*time.Hour)) // the stream is read anew
	w.glass("opened", 3, 100*time.Hour)                   // none lasts so long
	w.glass("expired", 4, 10_000*time.Hour)               // nor may it be reviewed so late
	w.glass("opened", 5, time.Hour)
	want := []string{"break_glass.ended " + glassID(1), "break_glass.opened " + glassID(1), "break_glass.opened " + glassID(5)}
	until(t, func() bool { return len(glasses(t, own)) >= len(want) })
	if got := glasses(t, own); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	w.mu.Lock()
	errs := w.errs
	w.mu.Unlock()
	if got := p.taken(); len(got) != 0 || errs != 2 {
		t.Errorf("%v, %d refused", got, errs)
	}
}
