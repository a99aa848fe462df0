package journal

import (
	"cmp"
	"context"
	"math"
	"unsafe"

	"sallyport.dev/sallyport/events"
)

// answered marks the number in the frame of a statement that tells its outcome
// too: no Response follows.
const answered = 1 << 63

// busy reports whether a statement that is appended now would wait for the
// syncs of others anyway.
func (j *Journal) busy() bool { return j.syncing.Load() || int(j.crowd.Load()) >= j.o.Together }

// later keeps a statement for as long as nobody waits for it: its outcome may
// come until then. It reports false where there is no room for what waits.
func (j *Journal) later(e *events.Event) (t events.Ticket, kept bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.refuses(false); err != nil {
		return t, false, err
	}
	h := j.of(e.Session)
	if err := j.let(h); err != nil {
		return t, false, err
	}
	size := j.size(e)
	// Few wait, so that the buffer is there for what does not.
	if j.deferred+int64(size) > int64(j.o.BufferBytes)/8 || size > maxHeld || j.admit(e.Kind, h.id, e.Number, size) != nil {
		return t, false, nil
	}
	h.statement.keep(e)
	h.statement.size, h.statement.room = int64(size), room(e.Kind, size)
	j.keep(h)
	j.late = append(j.late, h)
	h.old = false
	h.became.Store(0)
	j.linger()
	return events.LaterTicket(h, j.seq), true, nil
}

// size is what an event's record takes, or a little more. mu is held.
func (j *Journal) size(e *events.Event) int {
	const uid = "ffffffffffffffffffffffffffffffff-18446744073709551615"
	r := events.Record{Chain: j.chain, Kind: e.Kind, Protocol: e.Session.Protocol, Session: e.Session.ID}
	j.measured = j.o.Encode(r.Append(j.measured[:0]), uid, e)
	// What of the session becomes known meanwhile is told too.
	return frameHead + frameMeta + len(j.measured) + 512
}

// answers reports whether e is the outcome of the statement that waits.
func (h *held) answers(e *events.Event) bool {
	return h.waits && e.Kind == events.Response && e.Number == h.statement.e.Number
}

// answer makes one record of the statement that waits and its outcome, and one
// of the pieces behind it. Where they have no room together each has the one that was
// kept for it. mu is held.
func (j *Journal) answer(h *held, outcome *events.Event) (uint64, error) {
	j.release(h)
	seq, err := j.put(h.statement.with(outcome), outcome.Number|answered, events.Response, false)
	if err != nil {
		j.keep(h)
		if err := j.let(h); err != nil {
			return 0, err
		}
		return j.put(outcome, outcome.Number, outcome.Kind, false)
	}
	h.is(seq)
	return seq, j.let(h)
}

// letStatement makes the statement's record, in the room that was kept. mu is held.
func (j *Journal) letStatement(h *held) error {
	j.release(h)
	seq, err := j.put(&h.statement.e, h.statement.e.Number, events.Statement, true)
	if err != nil {
		return err
	}
	h.is(seq)
	return nil
}

func (j *Journal) keep(h *held) {
	j.deferred += h.statement.size
	j.intents.reserved += h.statement.room
	h.waits = true
}

func (j *Journal) release(h *held) {
	j.deferred -= h.statement.size
	j.intents.reserved -= h.statement.room
	h.waits = false
}

// is notes the record that the statement has become.
func (h *held) is(seq uint64) {
	h.last = max(h.last, seq)
	h.became.Store(seq)
}

// WaitDurable implements events.Waiter for the latest statement of a session.
func (h *held) WaitDurable(ctx context.Context, _ uint64) error {
	last, err := h.settle()
	if err != nil {
		return err
	}
	h.j.kick()
	return h.j.WaitDurable(ctx, last)
}

// WaitWritten implements events.Waiter, also for the pieces behind it.
func (h *held) WaitWritten(uint64) error {
	last, err := h.settle()
	if err != nil {
		return err
	}
	return h.j.WaitWritten(last)
}

// Durable implements events.Waiter: what waits has no number yet, and what does
// not is told by the one it has. Of pieces behind it only Written is asked.
func (h *held) Durable() uint64 {
	if seq := h.became.Load(); seq > 0 && h.j.durable.Load() >= seq {
		return math.MaxUint64
	}
	return 0
}

// settle makes records of what waits, and returns the last one.
func (h *held) settle() (last uint64, err error) {
	h.j.mu.Lock()
	defer h.j.mu.Unlock()
	err = h.j.let(h)
	return h.last, err
}

// kept is a copy of a statement's event that holds nothing of the caller's.
type kept struct {
	e, whole events.Event
	size     int64 // of its record, at most
	room     int64 // for its outcome
	text     []byte
	literals []events.Digest
	names    []string
	fields   []events.Field
}

// keep takes a copy of e, in what the last one was in. Strings but for the
// statement's text are of things that outlive the statement.
func (k *kept) keep(e *events.Event) {
	k.e = *e
	k.text = append(k.text[:0], e.Normalized...)
	k.e.Normalized = unsafe.String(unsafe.SliceData(k.text), len(k.text))
	k.literals = append(k.literals[:0], e.Literals...)
	k.e.Literals = k.literals
	k.names = append(append(append(k.names[:0], e.Rules...), e.Objects...), e.Masks...)
	rules, objects := len(e.Rules), len(e.Rules)+len(e.Objects)
	k.e.Rules, k.e.Objects, k.e.Masks = k.names[:rules:rules], k.names[rules:objects:objects], k.names[objects:]
	k.fields = append(append(k.fields[:0], e.Masked...), e.Revealed...)
	k.e.Masked, k.e.Revealed = k.fields[:len(e.Masked):len(e.Masked)], k.fields[len(e.Masked):]
}

// with returns the statement with its outcome, until the next call.
func (k *kept) with(o *events.Event) *events.Event {
	k.whole = k.e
	e := &k.whole
	e.Status, e.Rows, e.Bytes, e.BytesIn = o.Status, o.Rows, o.Bytes, o.BytesIn
	e.Duration, e.Recorded, e.Hash, e.Detected = o.Duration, o.Recorded, o.Hash, o.Detected
	e.Subjects, e.Named = o.Subjects, o.Named
	e.Code, e.Reason, e.Message = cmp.Or(o.Code, e.Code), cmp.Or(o.Reason, e.Reason), cmp.Or(o.Message, e.Message)
	e.Untold = cmp.Or(o.Untold, e.Untold)
	return e
}

// letLate makes records of the statements that wait for their outcomes: a sync that
// is made anyway costs no more for them, and whoever shows their outcomes finds
// them durable.
func (j *Journal) letLate() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, h := range j.late {
		if h.waits {
			_ = j.let(h) // it is no longer than a record may be
		}
	}
	clear(j.late)
	j.late = j.late[:0]
}
