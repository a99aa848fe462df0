package journal

import (
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
// come until then.
func (j *Journal) later(e *events.Event, size int) (events.Ticket, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.refuses(false); err != nil {
		return events.Ticket{}, err
	}
	h := j.of(e.Session)
	if err := j.let(h); err != nil {
		return events.Ticket{}, err
	}
	if err := j.admit(e.Kind, h.id, e.Number, size); err != nil {
		return events.Ticket{}, err
	}
	h.statement.keep(e)
	h.statement.room = int64(size) + room(e.Kind, size)
	j.holding += h.statement.room
	h.waits, h.old = true, false
	h.became.Store(0)
	j.linger()
	return events.LaterTicket(h, j.seq), nil
}

// answers reports whether e is the outcome of the statement that waits.
func (h *held) answers(e *events.Event) bool {
	return h.waits && e.Kind == events.Response && e.Number == h.statement.e.Number
}

// answer makes one record of the statement that waits and its outcome, and one
// of the pieces behind it. mu is held.
func (j *Journal) answer(h *held, outcome *events.Event) (uint64, error) {
	if err := j.letStatement(h, h.statement.with(outcome), outcome.Number|answered); err != nil {
		return 0, err
	}
	return h.last, j.let(h)
}

// letStatement makes the statement's record. Its room was kept. mu is held.
func (j *Journal) letStatement(h *held, e *events.Event, number uint64) error {
	j.holding -= h.statement.room
	h.waits = false
	seq, err := j.put(e, number, true)
	if err != nil {
		return err
	}
	h.last = seq
	h.became.Store(seq)
	return nil
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
// not is told by the one it has.
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
	e        events.Event
	room     int64
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

// with returns the statement with its outcome.
func (k *kept) with(o *events.Event) *events.Event {
	e := &k.e
	e.Status, e.Rows, e.Bytes, e.BytesIn = o.Status, o.Rows, o.Bytes, o.BytesIn
	e.Duration, e.Recorded, e.Hash, e.Detected = o.Duration, o.Recorded, o.Hash, o.Detected
	e.Code, e.Reason, e.Message = o.Code, o.Reason, o.Message
	e.Subjects, e.Named = o.Subjects, o.Named
	return e
}

// keptSize is about what a statement's record takes, and rather more.
func keptSize(e *events.Event) int {
	n := 6<<10 + 2*len(e.Normalized) + 24*len(e.Literals)
	for _, names := range [...][]string{e.Rules, e.Objects, e.Masks} {
		for _, s := range names {
			n += 2*len(s) + 16
		}
	}
	return n + 256*(len(e.Masked)+len(e.Revealed))
}
