package approval_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/rules"
)

// memory is a journal.
type memory struct {
	mu     sync.Mutex
	events []events.Event
}

func (m *memory) Append(e *events.Event) (events.Ticket, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, *e)
	return events.NewTicket(m, uint64(len(m.events))), nil
}
func (m *memory) Record(*events.Chunk) (events.Ticket, error) { return events.NewTicket(m, 1), nil }
func (m *memory) WaitWritten(uint64) error                    { return nil }
func (m *memory) WaitDurable(context.Context, uint64) error   { return nil }
func (m *memory) Durable() uint64                             { m.mu.Lock(); defer m.mu.Unlock(); return uint64(len(m.events)) }

// gate decides by rules that have deletes approved, with a Book.
func gate(t *testing.T, b *approval.Book) (*memory, func(ctx context.Context, command, text string) (policy.Decision, error)) {
	t.Helper()
	p, err := rules.Parse(rules.File{Name: "p.yaml", Data: []byte(`rules:
- {name: all, identity: "*", resource: "*", commands: "*", relations: "*", effect: allow}
- name: deletes
  effect: approve
  identity: "*"
  resource: "*"
  commands: [delete]
  relations: "*"
  approve: {by: {issuer: "https://people", subjects: [dr-lee]}, within: 1h, wait: retry}
`)})
	if err != nil {
		t.Fatal(err)
	}
	j := &memory{}
	g := policy.NewGate(p, j, func() time.Time { return start })
	g.SetApprovals(b)
	return j, func(ctx context.Context, command, text string) (policy.Decision, error) {
		return g.Decide(ctx, &policy.Request{
			Kind: policy.StatementReq, Now: start, Number: 1, Text: text, Commands: []string{command}, Writes: command == "delete",
			Objects: []policy.Object{{Schema: "clinic", Name: "visits", Access: map[bool]policy.Access{true: policy.Delete, false: policy.Read}[command == "delete"]}},
			Session: &policy.Session{
				Identity: intercept.Identity{Workload: "billing", Issuer: "https://id", Subject: "alice", Actors: []string{"bot-7"}, Proof: "oidc", Expires: start.Add(time.Hour)},
				Resource: "clinic", Protocol: "postgres", Database: "clinic", User: "billing", Event: &events.Session{ID: "s-1"},
			},
		})
	}
}

// Who asks too often is told so, and when to come again, as by any limit that is
// reached; that is on the record, and what no rule asks about runs on.
func TestGateTellsOfPace(t *testing.T) {
	w := newWorld(t)
	j, decide := gate(t, w.Book)
	for n := range approval.Burst {
		if d, err := decide(t.Context(), "delete", fmt.Sprint("DELETE ", n)); err != nil || d.Allowed() || d.Reached() || d.Open() == nil {
			t.Fatal(n, err, d.Reason())
		}
	}
	d, err := decide(t.Context(), "delete", "DELETE more")
	if err != nil || d.Allowed() || !d.Reached() || d.Open() != nil || !strings.Contains(d.Reason(), "too many approvals") || !strings.HasPrefix(d.Remedy(), "wait ") {
		t.Errorf("%v %t %q %q", err, d.Reached(), d.Reason(), d.Remedy())
	}
	last := j.events[len(j.events)-1]
	if last.Kind != events.Block || last.Reason != d.Reason() || last.Remedy != d.Remedy() || len(last.Rules) != 1 || last.Rules[0] != "deletes" {
		t.Errorf("%+v", last)
	}
	if d, err := decide(t.Context(), "select", "SELECT 1"); err != nil || !d.Allowed() {
		t.Error(err, d.Reason())
	}
	if d, err := decide(t.Context(), "delete", "DELETE 0"); err != nil || d.Open() == nil {
		t.Error("what waits already is not found:", err, d.Reason())
	}
}
