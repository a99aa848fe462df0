package notify_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/notify"
)

// One agent that asks for very much keeps nobody from hearing of another's request, nor
// that it still waits.
func TestOneAgentHidesNobody(t *testing.T) {
	w := newWorld(t)
	p := newPeer(t, ok)
	victim := func(e *events.Event) { e.Approval.Workload = "ward" }
	late := func(e *events.Event) { e.Time = e.Time.Add(-31 * time.Minute) }
	for i := range 400 { // the second half is to be escalated already
		if i < 200 {
			w.step("requested", i)
		} else {
			w.step("requested", i, late)
		}
	}
	s := w.load(fmt.Sprintf(`channels:
- {name: hook, per_minute: 20, webhook: {url: %q, secret_files: [secret]}}
routes:
- steps:
  - tell: [hook]
  - {after: 30m, tell: [hook]}
`, p.URL))
	w.run(s, func(n *notify.Notifier) { n.Minute = 24 * time.Hour }) // all is in one minute
	alone := func(workload string) (ids []string) {
		for _, g := range p.taken() {
			if m := read(t, g); m.Type == "approval.requested" && m.Data.Request.Workload == workload {
				ids = append(ids, fmt.Sprintf("%s %d", m.Data.Request.ID, m.Data.Step))
			}
		}
		slices.Sort(ids)
		return ids
	}
	until(t, func() bool {
		return slices.ContainsFunc(p.taken(), func(g got) bool { return read(t, g).Type == "approval.summary" })
	})
	var want []string
	for i := 1001; i < 1005; i++ {
		w.step("requested", i, victim)
		want = append(want, id(i)+" 0")
	}
	w.step("requested", 1005, victim, late)
	want = append(want, id(1005)+" 1")
	until(t, func() bool { return len(alone("ward")) == len(want) })
	if got := alone("ward"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := alone("billing"); len(got) != 9 {
		t.Errorf("half of a channel's messages are of one agent at most: %q", got)
	}
}

// Ends of requests that nobody has heard of fill no disk.
func TestUnknownEndsAreBounded(t *testing.T) {
	w := newWorld(t)
	p := newPeer(t, ok)
	for i := range 30 {
		w.step("denied", i)
	}
	w.run(w.load(hook(p.URL, "")), func(n *notify.Notifier) { n.MostOpen = 10 })
	w.step("requested", 100)
	p.until(t, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.errs != 20 {
		t.Errorf("%d were refused", w.errs)
	}
}
