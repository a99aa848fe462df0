package protocoltest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"sallyport.dev/sallyport/events"
)

// Journal is an events.Journal in memory that keeps what it was given. It
// holds sessions to the promises of events.Journal: see Faults.
type Journal struct {
	mu        sync.Mutex
	moved     chan struct{} // closed when something becomes durable
	events    []events.Event
	chunks    []events.Chunk
	durable   uint64 // of the events, while held
	held      bool
	full      bool
	unwritten bool
	begun     map[string]uint64 // by session: the latest number with a decision
	ended     map[string]uint64 // ... with an outcome
	faults    []string
}

// NewJournal returns a Journal in which everything is durable at once.
func NewJournal() *Journal {
	return &Journal{moved: make(chan struct{}), begun: map[string]uint64{}, ended: map[string]uint64{}}
}

// Full makes the journal refuse new requests, or take them again.
func (j *Journal) Full(full bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.full = full
}

// Unwritten makes writes of transcripts fail, or work again.
func (j *Journal) Unwritten(fail bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.unwritten = fail
}

// Hold lets nothing new become durable until release is called.
func (j *Journal) Hold() (release func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.held, j.durable = true, uint64(len(j.events))
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.held = false
		close(j.moved)
		j.moved = make(chan struct{})
	}
}

// Append implements events.Journal.
func (j *Journal) Append(e *events.Event) (events.Ticket, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.full && e.Kind != events.Response && e.Kind != events.SessionClose {
		return events.Ticket{}, events.ErrFull
	}
	c := *e
	c.Rules, c.Masked, c.Objects = slices.Clone(e.Rules), slices.Clone(e.Masked), slices.Clone(e.Objects)
	c.Masks, c.Detected, c.Revealed = slices.Clone(e.Masks), slices.Clone(e.Detected), slices.Clone(e.Revealed)
	c.Literals, c.Normalized = slices.Clone(e.Literals), strings.Clone(e.Normalized)
	c.Subjects = slices.Clone(e.Subjects)
	j.events = append(j.events, c)
	j.check(&c)
	return events.NewTicket(j, uint64(len(j.events))), nil
}

func (j *Journal) check(e *events.Event) {
	fault := func(format string, a ...any) {
		j.faults = append(j.faults, fmt.Sprintf("event %d, %v %d: ", len(j.events), e.Kind, e.Number)+fmt.Sprintf(format, a...))
	}
	if e.Session == nil && e.Approval != nil {
		return // of people, not of a session
	}
	if e.Session == nil {
		fault("no session")
		return
	}
	id := e.Session.ID
	switch e.Kind {
	case events.Statement, events.Block:
		if e.Number <= j.begun[id] && e.Number > 0 { // 0 is no statement
			fault("number %d came before", j.begun[id])
		}
		j.begun[id] = e.Number
	case events.Response:
		if e.Number > j.begun[id] {
			fault("an outcome without a decision")
		}
		if e.Number <= j.ended[id] {
			fault("the outcome of %d came before", j.ended[id])
		}
		j.ended[id] = e.Number
	}
}

// Record implements events.Journal.
func (j *Journal) Record(c *events.Chunk) (events.Ticket, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	k := *c
	k.Data = bytes.Clone(c.Data)
	j.chunks = append(j.chunks, k)
	return events.NewTicket(j, uint64(len(j.chunks))), nil
}

// WaitWritten implements events.Waiter: what was recorded is written, unless
// Unwritten says otherwise.
func (j *Journal) WaitWritten(uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.unwritten {
		return events.ErrFull
	}
	return nil
}

// WaitDurable implements events.Waiter.
func (j *Journal) WaitDurable(ctx context.Context, seq uint64) error {
	for {
		j.mu.Lock()
		done, moved := !j.held || j.durable >= seq, j.moved
		j.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Durable implements events.Waiter.
func (j *Journal) Durable() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.held {
		return j.durable
	}
	return uint64(len(j.events))
}

// Faults lists what no journal should be given: numbers that do not rise, an
// outcome of nothing, a second one, one out of order.
func (j *Journal) Faults() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.faults)
}

// All returns the events so far.
func (j *Journal) All() []events.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.events)
}

// Events returns those of some kinds.
func (j *Journal) Events(kinds ...events.Kind) []events.Event {
	return slices.DeleteFunc(j.All(), func(e events.Event) bool { return !slices.Contains(kinds, e.Kind) })
}

// Chunks returns the pieces of transcripts so far.
func (j *Journal) Chunks() []events.Chunk {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.chunks)
}

// Transcript returns what all pieces of a kind hold.
func (j *Journal) Transcript(k events.ChunkKind) string {
	var b strings.Builder
	for _, c := range j.Chunks() {
		if c.Kind == k {
			b.Write(c.Data)
		}
	}
	return b.String()
}

// Forget drops all events and pieces, between the parts of a test. Nothing may
// be held.
func (j *Journal) Forget() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.chunks = nil
	for i := range j.events { // their sequence numbers stay
		j.events[i] = events.Event{}
	}
}
