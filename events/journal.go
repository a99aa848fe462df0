package events

import (
	"context"
	"errors"
)

// ErrFull is returned by a Journal that has no room, or whose disk failed: a
// request that would need a record must be refused.
var ErrFull = errors.New("the journal is full or failing")

// Journal is the host's durable record. All methods may be called from many
// goroutines. Events and chunks of one goroutine keep their order, and all
// form one chain.
type Journal interface {
	// Append adds one event. It does bounded memory work and never waits for
	// the disk. A Statement and a SessionOpen reserve the room for their
	// Response and SessionClose, so that finished work can always be
	// recorded. A Response ends its Statement and those with lower numbers of
	// its session that have none: answers keep the order of statements.
	// A Statement that is Later may wait for its Response: see there.
	// ErrFull: nothing was added, refuse the request.
	Append(*Event) (Ticket, error)

	// Record adds a chunk of a transcript, and does not wait for the disk unless
	// it is in arrears. Once the Ticket's Written returns nil the chunk has been
	// written to the operating system: it survives the death of this process,
	// and becomes durable with the next group commit. For a chunk that is Later
	// the Ticket may be the zero one: see there.
	Record(*Chunk) (Ticket, error)
}

// Waiter is the journal's side of a Ticket.
type Waiter interface {
	// WaitDurable returns nil when all records up to seq are on stable
	// storage, ErrFull when they can no longer get there.
	WaitDurable(ctx context.Context, seq uint64) error
	// WaitWritten returns nil when all records up to seq have been written to
	// the operating system, ErrFull when they can't be.
	WaitWritten(seq uint64) error
	// Durable returns the highest sequence number on stable storage.
	Durable() uint64
}

// Ticket is the promise of an Append. The zero Ticket is no promise: Wait
// fails.
type Ticket struct {
	w       Waiter
	seq     uint64
	later   bool
	written bool
}

// NewTicket is for implementations of Journal. Sequence numbers start at 1.
func NewTicket(w Waiter, seq uint64) Ticket { return Ticket{w: w, seq: seq} }

// LaterTicket is of what has no sequence number yet: it comes behind seq. Its
// Waiter is told seq, and answers for what it has become.
func LaterTicket(w Waiter, seq uint64) Ticket { return Ticket{w: w, seq: seq, later: true} }

// Unsynced returns a Ticket whose Wait is Written: what it promises survives the
// process, not the machine.
func (t Ticket) Unsynced() Ticket {
	t.written = true
	return t
}

// Wait returns nil once the record is on stable storage.
func (t Ticket) Wait(ctx context.Context) error {
	if t.w == nil {
		return errNoRecord
	}
	if t.Done() {
		return nil
	}
	if t.written {
		return t.Written()
	}
	return t.w.WaitDurable(ctx, t.seq)
}

// Written returns nil once the record has been written to the operating system.
// Behind a Wait for a record before it that is mostly so already.
func (t Ticket) Written() error {
	if t.w == nil {
		return errNoRecord
	}
	return t.w.WaitWritten(t.seq)
}

var errNoRecord = errors.New("events: no record to wait for")

// Done reports whether the record is on stable storage.
func (t Ticket) Done() bool {
	if t.w == nil {
		return false
	}
	durable := t.w.Durable()
	return durable > t.seq || durable == t.seq && !t.later
}

// Zero reports whether it is no promise.
func (t Ticket) Zero() bool { return t.w == nil }

// After reports whether t is of a later record than u, both of one session; all
// are later than the zero Ticket.
func (t Ticket) After(u Ticket) bool {
	if t.w == nil || u.w == nil {
		return t.w != nil
	}
	return t.seq > u.seq || t.seq == u.seq && t.later && !u.later
}

// Seq returns the record's sequence number; 0 for the zero Ticket, and for what
// had none yet when the Ticket was made.
func (t Ticket) Seq() uint64 {
	if t.later {
		return 0
	}
	return t.seq
}
