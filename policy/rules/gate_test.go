package rules_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// memory is a journal that forgets nothing and promises at once.
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

func session(change ...func(*policy.Session)) *policy.Session {
	s := agent(change...)
	s.Event = &events.Session{ID: "s"}
	return s
}

// A mask that begins between the analysis of a statement and its decision
// refuses the statement, kept verdicts included; so does a new policy.
func TestGateRefusesOtherScopes(t *testing.T) {
	const allow = `- {name: all, identity: "*", resource: "*", commands: read, relations: "*", effect: allow}` + "\n"
	evening := load(t, allow+`- {name: evening, identity: "*", resource: "*", fields: {clinic.patients.ssn: redact}, condition: now.getHours() >= 13, effect: mask}`)
	at := noon
	j := &memory{}
	g := policy.NewGate(evening, j, func() time.Time { return at })
	s := session(func(s *policy.Session) { s.Identity.Expires = noon.Add(24 * time.Hour) })
	memo := new(policy.Memo)
	ask := func(sc *policy.Scope) policy.Decision {
		t.Helper()
		r := request(t, s, "select clinic.patients/read")
		r.Scope, r.Memo = sc, memo
		d, err := g.Decide(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	before := g.Scope(s)
	for range 2 { // the second by the memo
		if d := ask(before); !d.Allowed() {
			t.Fatalf("before: %s", d.Reason())
		}
	}
	at = at.Add(2 * time.Hour)
	if d := ask(before); d.Allowed() || d.Verdict() != events.Blocked || d.Rules()[0] != "changed" {
		t.Errorf("analysed before the mask began: %v %s", d.Rules(), d.Reason())
	}
	if sc := g.Scope(s); !sc.Protects() {
		t.Error("the mask is not there")
	}

	plain := load(t, allow)
	g.SetEngine(plain)
	before = g.Scope(s)
	if d := ask(before); !d.Allowed() {
		t.Errorf("plain: %s", d.Reason())
	}
	g.SetEngine(load(t, allow+`- {name: m, identity: "*", resource: "*", fields: {clinic.patients.ssn: redact}, effect: mask}`))
	if d := ask(before); d.Allowed() || d.Rules()[0] != "changed" {
		t.Errorf("analysed under the old policy: %v", d.Rules())
	}
	g.SetEngine(load(t, allow))
	if d := ask(before); !d.Allowed() {
		t.Errorf("the same policy, loaded again: %s", d.Reason())
	}
	for _, e := range j.events {
		if e.Verdict == events.Blocked && (!strings.Contains(e.Reason, "changed") || e.Remedy == "") {
			t.Errorf("recorded: %+v", e)
		}
	}
}

// taking approves whatever it is asked for, and counts that.
type taking struct{ n int }

func (k *taking) Consume(context.Context, []policy.Asked) ([]string, *policy.Standing, error) {
	k.n++
	return []string{"ap-1"}, nil, nil
}
func (k *taking) Wait(context.Context, string) error             { return nil }
func (k *taking) Withdraw(context.Context, string, string) error { return nil }

// meanwhile does something while a statement's wording is told.
type meanwhile func()

func (m meanwhile) Exact() (policy.Exact, error) { m(); return policy.Exact{}, nil }

// What was approved is not used up by a statement that is refused because another policy
// came into force while it was told what it is.
func TestGateConsumesNothingUnderOtherRules(t *testing.T) {
	const asks = `- {name: all, identity: "*", resource: "*", commands: ["*"], relations: "*", effect: allow}
- {name: asks, identity: "*", resource: "*", commands: delete, relations: "*", effect: approve, approve: {by: {issuer: "https://id", subjects: [ann]}}}
`
	g := policy.NewGate(load(t, asks), &memory{}, func() time.Time { return noon })
	var k taking
	g.SetApprovals(&k)
	ask := func(m meanwhile) policy.Decision {
		t.Helper()
		r := request(t, session(), "delete clinic.visits/delete")
		r.Wording = m
		d, err := g.Decide(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := ask(func() {}); !d.Allowed() || k.n != 1 {
		t.Fatalf("%v %s, %d", d.Rules(), d.Reason(), k.n)
	}
	if d := ask(func() { g.SetEngine(load(t, asks)) }); d.Allowed() || d.Rules()[0] != "changed" || k.n != 1 {
		t.Errorf("%v %s, and %d were consumed", d.Rules(), d.Reason(), k.n-1)
	}
}
