package notify_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/notify"
	"sallyport.dev/sallyport/events/sink"
)

func key(t *testing.T, text string) []byte {
	t.Helper()
	k, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// hook is a configuration with one webhook.
func hook(url, more string) string {
	return fmt.Sprintf("channels:\n- name: hook\n  webhook: {url: %q, secret_files: [secret, older]}\n%sroutes:\n- steps:\n  - tell: [hook]\n", url, more)
}

type posted struct {
	Type      string
	Timestamp time.Time
	Data      struct {
		URL     string
		Request *notify.Request
		Step    int
		People  []string
		Ended   *notify.End
		More    int
		By      string
		Command string
	}
}

func read(t *testing.T, g got) (p posted) {
	t.Helper()
	if err := json.Unmarshal([]byte(g.body), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// A request and its end go out, signed with both secrets, with the address of the page
// and no word of what an approver wrote; faults of the receiver lose and double nothing.
func TestWebhook(t *testing.T) {
	w := newWorld(t)
	var both [][]byte
	for _, k := range []string{strings.Repeat("QUJD", 8), strings.Repeat("REVG", 8)} {
		both = append(both, key(t, k))
	}
	p := newPeer(t, ok, status(500, ""), later, status(400, "no"), status(302, ""))
	stop := w.run(w.load(hook(p.URL, "")))
	w.step("requested", 1)
	p.until(t, 1)
	w.step("seen", 1)
	w.step("approved", 1, func(e *events.Event) { e.Approval.Lacks = 1 }) // another one is wanted
	w.step("denied", 1)
	w.step("requested", 2)
	p.until(t, 3)
	w.step("approved", 2)
	w.step("consumed", 2)
	all := p.until(t, 4)
	if len(all) != 4 {
		t.Fatalf("%d messages", len(all))
	}
	// An end comes when nothing new waits: the order between requests is open.
	slices.SortFunc(all[1:3], func(a, b got) int { return strings.Compare(a.body, b.body) })
	for i, want := range []string{"approval.requested", "approval.ended", "approval.requested", "approval.ended"} {
		m := read(t, all[i])
		if m.Type != want || m.Data.URL != "https://recorder.example.org/approvals/h1/"+m.Data.Request.ID {
			t.Errorf("%d: %s %s", i, m.Type, m.Data.URL)
		}
		for _, k := range both {
			if err := sink.CheckSignature(k, all[i].header, []byte(all[i].body), time.Now()); err != nil {
				t.Error(err)
			}
		}
		if id := all[i].header.Get("Webhook-Id"); id == "" || all[i].header.Get("Idempotency-Key") != id {
			t.Error("no id")
		}
		if strings.Contains(all[i].body, "PLANTED") {
			t.Error("a message holds what an approver wrote")
		}
	}
	for n, i := range map[int]int{1: 1, 2: 3} {
		step := map[int]string{1: "denied", 2: "approved"}[n]
		if m := read(t, all[i]); m.Data.Ended == nil || m.Data.Ended.Step != step || m.Data.Ended.By != "dr-lee" || m.Data.Request.ID != id(n) {
			t.Errorf("%+v", m.Data)
		}
	}
	stop()
	var record []string
	for _, e := range w.record {
		record = append(record, e.Approval.Step+" "+e.Approval.ID)
	}
	if got := strings.Join(record, ", "); got != "notified "+id(1)+", notified "+id(2) {
		t.Error(got)
	}
}

// What ends before a channel takes it is not told; a restart forgets nothing and
// repeats nothing.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	down := newPeer(t, status(503, ""))
	stop := w.run(w.load(hook(down.URL, "")))
	w.step("requested", 1)
	w.step("requested", 2)
	until(t, func() bool { down.mu.Lock(); defer down.mu.Unlock(); return down.tries > 3 })
	stop()
	w.step("denied", 1)

	p := newPeer(t, ok)
	stop = w.run(w.load(hook(p.URL, "")))
	if m := read(t, p.until(t, 1)[0]); m.Data.Request.ID != id(2) && m.Data.Request.ID != id(1) {
		t.Errorf("%+v", m)
	}
	w.step("requested", 3)
	until(t, func() bool {
		return slices.ContainsFunc(p.taken(), func(g got) bool { return read(t, g).Data.Request.ID == id(3) })
	})
	stop()
	stop = w.run(w.load(hook(p.URL, "")))
	w.step("requested", 4)
	until(t, func() bool {
		return slices.ContainsFunc(p.taken(), func(g got) bool { return read(t, g).Data.Request.ID == id(4) })
	})
	stop()
	all := p.taken()
	ids := map[string]int{}
	for _, g := range all {
		ids[g.header.Get("Webhook-Id")]++
	}
	for id, n := range ids {
		if n != 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
	for i := 1; i <= 4; i++ {
		asked := slices.ContainsFunc(all, func(g got) bool {
			m := read(t, g)
			return m.Type == "approval.requested" && m.Data.Request.ID == id(i)
		})
		if !asked && i != 1 {
			t.Errorf("nobody was told of request %d", i)
		}
	}
}

// A channel that hangs or is away holds up no other.
func TestOneAwayHoldsUpNobody(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	hang := newPeer(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	p := newPeer(t, ok)
	w.run(w.load(fmt.Sprintf(`channels:
- name: slow
  webhook: {url: %q, secret_files: [secret]}
- name: fast
  webhook: {url: %q, secret_files: [secret]}
routes:
- steps:
  - tell: [slow, fast]
`, hang.URL, p.URL)))
	t.Cleanup(func() { close(release) })
	for i := range 5 {
		w.step("requested", i)
	}
	p.until(t, 5)
}

// A flood is told in a few messages, which leave nobody out.
func TestFlood(t *testing.T) {
	w := newWorld(t)
	const many = 10_000
	for i := range many {
		w.step("requested", i)
	}
	p := newPeer(t, ok)
	s := w.load(hook(p.URL, ""))
	s.Channels[0].PerMinute = 5
	w.run(s, func(n *notify.Notifier) { n.Minute = 2 * time.Second })
	sum := func() (all, alone int) {
		for _, g := range p.taken() {
			switch m := read(t, g); m.Type {
			case "approval.summary":
				all += m.Data.More
				if m.Data.URL != "https://recorder.example.org/approvals" {
					t.Errorf("%+v", m)
				}
			case "approval.requested":
				all++
				alone++
			}
		}
		return all, alone
	}
	until(t, func() bool { all, _ := sum(); return all == many })
	if _, alone := sum(); alone < 2 || len(p.taken()) > 500 {
		t.Errorf("%d alone, %d messages", alone, len(p.taken()))
	}
}

// What a host says in the name of another, or with names that none has, tells nobody.
func TestForgedEvents(t *testing.T) {
	w := newWorld(t)
	p := newPeer(t, ok)
	w.run(w.load(hook(p.URL, "")))
	w.step("requested", 1, func(e *events.Event) { e.Session.Host = "victim" })
	w.step("requested", 1, func(e *events.Event) { e.Approval.ID = "../../../evil?x=" })
	w.step("requested", 1, func(e *events.Event) { e.Approval = nil })
	w.step("requested", 2, func(e *events.Event) { e.Approval.Until = e.Time.Add(1000 * time.Hour) })
	w.step("requested", 3, func(e *events.Event) { e.Approval.Until = e.Time.Add(-time.Hour) }) // long over
	w.step("requested", 4, func(e *events.Event) {
		e.Time, e.Approval.Until = e.Time.Add(-16*time.Minute), e.Time.Add(-time.Second) // its clock is behind
		e.Approval.Database = "x\r\n\u202ehttps://evil.example\u200b" + strings.Repeat("y", 10_000)
	})
	m := read(t, p.until(t, 1)[0])
	if m.Data.Request.ID != id(4) {
		t.Fatalf("%+v", m.Data)
	}
	if d := m.Data.Request.Database; strings.ContainsAny(d, "\r\n\u202e\u200b") || len(d) > 250 {
		t.Errorf("%q", d)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.errs != 4 {
		t.Errorf("%d events were refused", w.errs)
	}
}
