package notify_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
)

// While nobody decides the next list is told, in its time and with whoever is on call
// then; the first route that fits counts, and no list behind the end of the wait.
func TestEscalation(t *testing.T) {
	w := newWorld(t)
	first, second, other := newPeer(t, ok), newPeer(t, ok), newPeer(t, ok)
	w.write("oncall", "carol")
	w.run(w.load(fmt.Sprintf(`channels:
- name: first
  webhook: {url: %q, secret_files: [secret]}
- name: second
  webhook: {url: %q, secret_files: [secret]}
- name: other
  webhook: {url: %q, secret_files: [secret]}
people:
  alice: {}
on_call:
  dba: {rota: {from: 2026-11-02T09:00:00Z, people: [alice]}}
  night: {file: oncall}
  gone: {file: nowhere}
routes:
- rules: ["deletes *"]
  resources: ["clin*c"]
  hosts: [h1]
  steps:
  - {tell: [first], on_call: [dba]}
  - {after: 30m, tell: [second, first], on_call: [night, gone, dba]}
  - {after: 46m, tell: [other]}
- steps:
  - tell: [other]
`, first.URL, second.URL, other.URL)))
	ago := func(d time.Duration) func(*events.Event) { // it was asked so long ago, and waits for 15 minutes more
		return func(e *events.Event) { e.Time = e.Time.Add(-d) }
	}
	of := func(p *peer, what string, n int) (out []posted) {
		for _, g := range p.taken() {
			if m := read(t, g); m.Type == what && m.Data.Request.ID == id(n) {
				out = append(out, m)
			}
		}
		return out
	}
	w.step("requested", 1)
	w.step("requested", 2, func(e *events.Event) { e.Approval.Resource = "billing" })
	until(t, func() bool { return len(of(first, "approval.requested", 1)) == 1 })
	w.write("oncall", "dan # since this morning")
	// Two lists are due: whoever is in both is told once.
	w.step("requested", 3, ago(31*time.Minute))
	// The next is due in a while.
	w.step("requested", 4, ago(30*time.Minute-2*time.Second))
	until(t, func() bool {
		return len(of(second, "approval.requested", 4)) == 1 && len(of(second, "approval.requested", 3)) == 1
	})
	for _, n := range []int{3, 4} {
		m := of(second, "approval.requested", n)[0]
		if m.Data.Step != 1 || strings.Join(m.Data.People, " ") != "dan alice" || m.Timestamp.Sub(m.Data.Request.Asked) < 30*time.Minute {
			t.Errorf("%d: %+v", n, m)
		}
	}
	if m := of(first, "approval.requested", 1)[0]; m.Data.Step != 0 || strings.Join(m.Data.People, " ") != "alice" {
		t.Errorf("%+v", m)
	}
	until(t, func() bool { return len(of(first, "approval.requested", 3)) > 0 })
	if all := of(first, "approval.requested", 3); len(all) != 1 || all[0].Data.Step != 1 {
		t.Errorf("%+v", all)
	}
	// All who were told are told the end, once.
	for _, n := range []int{1, 3} {
		w.step("denied", n)
	}
	until(t, func() bool {
		return len(of(first, "approval.ended", 1)) == 1 && len(of(first, "approval.ended", 3)) == 1 && len(of(second, "approval.ended", 3)) == 1
	})
	if all := append(of(second, "approval.requested", 1), of(second, "approval.ended", 1)...); len(all) > 0 {
		t.Errorf("what was decided in time is escalated: %+v", all)
	}
	// The last list would be told when the wait is over: it is not.
	w.step("requested", 5, func(e *events.Event) {
		e.Time = e.Time.Add(-46*time.Minute - time.Second)
		e.Approval.Until = e.Time.Add(46 * time.Minute)
	})
	until(t, func() bool { return len(of(second, "approval.requested", 5)) == 1 })
	w.step("requested", 6, func(e *events.Event) { e.Approval.Resource = "billing" })
	until(t, func() bool { return len(of(other, "approval.requested", 6)) == 1 })
	if all := other.taken(); len(all) != 2 || read(t, all[0]).Data.Request.ID != id(2) {
		t.Errorf("%v", all)
	}
}
