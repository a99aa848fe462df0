package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"unsafe"

	"sallyport.dev/sallyport/events"
)

// maxChunk is the data of one transcript record; longer chunks are split, so
// that a record stays below what NATS carries in a message.
const maxChunk = 256 << 10

var blank [frameHead + frameMeta]byte

// Append implements events.Journal.
func (j *Journal) Append(e *events.Event) (events.Ticket, error) {
	unsynced := e.Session != nil && e.Session.Unsynced // nobody waits for a sync
	if e.Later && e.Kind == events.Statement && e.Session != nil && (unsynced || j.busy()) {
		if t, kept, err := j.later(e); kept || err != nil {
			return t, err
		}
	}
	seq, err := j.append(e, false)
	if err != nil {
		return events.Ticket{}, err
	}
	if unsynced || outcome(e.Kind) {
		j.linger()
	} else {
		j.kick()
	}
	return events.NewTicket(j, seq), nil
}

// append adds an event; force takes it over the budget, for recovery.
func (j *Journal) append(e *events.Event, force bool) (uint64, error) {
	if e.Kind.String() == "" {
		return 0, fmt.Errorf("journal: event of unknown kind %d", e.Kind)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.refuses(outcome(e.Kind)); err != nil {
		return 0, err
	}
	if e.Session == nil {
		j.scratch = *e
		j.scratch.Session = j.host
		e = &j.scratch
	}
	if h := j.held[e.Session.ID]; h != nil {
		if h.answers(e) {
			return j.answer(h, e)
		}
		if err := j.let(h); err != nil {
			return 0, err
		}
	}
	return j.put(e, e.Number, e.Kind, force)
}

// put makes a record of an event; number is what its frame says, as what it needs
// room as. mu is held.
func (j *Journal) put(e *events.Event, number uint64, as events.Kind, force bool) (uint64, error) {
	s := e.Session
	b, pre, plen := j.begin(e.Kind, s.Protocol, s.ID)
	j.uid = append(append(j.uid[:0], j.chain...), '-')
	j.uid = strconv.AppendUint(j.uid, j.seq+1, 10)
	// The encoder copies: the string lives no longer than the call.
	b = j.o.Encode(b, unsafe.String(&j.uid[0], len(j.uid)), e)
	size := len(b) - len(j.pending)
	if !force {
		if err := j.admit(as, s.ID, e.Number, size); err != nil {
			return 0, err
		}
	}
	seq, err := j.commitFrame(b, pre, plen, number)
	if err != nil {
		return 0, err
	}
	j.intents.event(e.Kind, s.ID, s.Protocol, number, seq, size)
	return seq, nil
}

// Record implements events.Journal.
func (j *Journal) Record(c *events.Chunk) (events.Ticket, error) {
	part := *c
	if c.Session == nil || c.Session.ID == "" {
		return events.Ticket{}, errors.New("journal: a transcript chunk without a session")
	}
	for data := c.Data; ; {
		part.Data = data[:min(len(data), maxChunk)]
		data = data[len(part.Data):]
		t, arrears, err := j.addChunk(&part)
		if err == nil && arrears > 0 {
			err = j.WaitWritten(arrears)
		}
		if err != nil {
			return events.Ticket{}, err
		}
		if len(data) > 0 {
			continue
		}
		j.linger()
		return t, nil
	}
}

// WaitWritten implements events.Waiter: it writes what nobody else has written.
func (j *Journal) WaitWritten(seq uint64) error {
	if j.written.Load() >= seq {
		return nil
	}
	j.wmu.Lock()
	var err error
	if j.written.Load() < seq {
		err = j.write()
	}
	if j.written.Load() >= seq {
		err = nil // even if what came later found no room
	}
	j.wmu.Unlock()
	if err != nil {
		j.kick() // the committer tries again
		return j.failed(err)
	}
	if !j.o.Sync {
		j.setDurable(seq)
	}
	return nil
}

// addChunk returns the ticket of the record that the chunk is in, the zero one if
// it waits for the next. Where so much waits to be written that who adds to it
// must see to that, also with a chunk that waits, arrears is the record to write
// up to.
func (j *Journal) addChunk(c *events.Chunk) (t events.Ticket, arrears uint64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.refuses(false); err != nil {
		return t, 0, err
	}
	share := int64(j.o.BufferBytes) / 8
	h := j.held[c.Session.ID]
	with := h != nil && h.waits // its statement's record comes first, and is waited for
	var seq uint64
	var done bool
	// Pieces wait only while all that wait are few: the rest of the buffer is
	// for what others add.
	if (c.Later || with) && j.holding+int64(len(c.Data))+heldRoom <= share {
		done, err = j.hold(c)
	}
	if !done && err == nil {
		seq, done, err = j.join(c)
	}
	if !done && err == nil {
		seq, err = j.alone(c)
	}
	if j.buffered > share {
		arrears = j.seq
	}
	switch {
	case err != nil:
	case seq > 0:
		t = events.NewTicket(j, seq)
	case with && !c.Later:
		t = events.LaterTicket(h, j.seq)
	}
	return t, arrears, err
}

// alone makes a record of one chunk; mu is held.
func (j *Journal) alone(c *events.Chunk) (uint64, error) {
	b, pre, plen := j.begin(0, c.Session.Protocol, c.Session.ID)
	b = events.AppendChunk(b, c)
	if err := j.admit(0, c.Session.ID, c.Number, len(b)-len(j.pending)); err != nil {
		return 0, err
	}
	seq, err := j.commitFrame(b, pre, plen, c.Number)
	if err == nil {
		j.intents.chunk(c.Session.ID, c, seq)
	}
	return seq, err
}

// begin starts a frame behind pending: pre is where its canonical form
// begins, plen where the payload's length goes.
func (j *Journal) begin(k events.Kind, protocol, session string) (b []byte, pre, plen int) {
	b = append(j.pending, blank[:]...)
	pre = len(b) - len(blank)
	r := events.Record{Chain: j.chain, Seq: j.seq + 1, Kind: k, Protocol: protocol, Session: session, Prev: j.prev}
	b = r.Append(b)
	return b, pre, len(b) - 8
}

// commitFrame makes the frame that begin started part of the chain.
func (j *Journal) commitFrame(b []byte, pre, plen int, number uint64) (uint64, error) {
	n := len(b) - plen - 8
	if n < 0 || len(b)-pre-frameHead > maxBody {
		return 0, fmt.Errorf("journal: a record of %d bytes: the limit is %d", n, maxBody)
	}
	binary.BigEndian.PutUint64(b[plen:], uint64(n))
	var durable uint64
	if j.o.Sync {
		durable = j.durable.Load()
	}
	j.prev = seal(b[pre:], j.salt, durable, number)
	j.seq++
	size := int64(len(b) - len(j.pending))
	j.buffered += size
	j.used += size
	j.pending = b
	return j.seq, nil
}

// outcome reports whether an event tells of what has already happened: it is
// taken as long as there is any room.
func outcome(k events.Kind) bool {
	switch k {
	case events.Response, events.SessionClose, events.Alarm, events.Checkpoint, events.Lifecycle:
		return true
	}
	return false
}

// refuses returns why nothing can be added now. While the disk is full,
// outcomes still wait in memory.
func (j *Journal) refuses(outcome bool) error {
	if j.closed {
		return fmt.Errorf("%w: %w", events.ErrFull, ErrClosed)
	}
	if t := j.trouble.Load(); t != nil && (t.final || !outcome) {
		return t.err
	}
	return nil
}

// admit decides whether there is room for a record and for what must follow
// it.
func (j *Journal) admit(k events.Kind, session string, number uint64, size int) error {
	buffer, budget := int64(j.o.BufferBytes), j.o.MaxBytes
	need := j.used + j.holding + j.deferred + int64(size) + j.intents.reserved + room(k, size)
	if outcome(k) {
		// Its own room, and that of alarms.
		buffer *= 4
		need -= j.intents.held(k, session, number)
	} else {
		budget -= j.alarmRoom()
	}
	switch {
	case need > budget:
		return fmt.Errorf("%w: %d of %d bytes are used and %d are kept for outcomes: is the recorder reachable? (evidence.journal.max_bytes)",
			events.ErrFull, j.used, j.o.MaxBytes, j.intents.reserved)
	case j.buffered+j.holding+j.deferred+int64(size) > buffer:
		return fmt.Errorf("%w: %d bytes wait for the disk", events.ErrFull, j.buffered+j.holding+j.deferred)
	}
	return nil
}

// alarmRoom is kept for alarms, checkpoints and outcomes that are larger than
// foreseen.
func (j *Journal) alarmRoom() int64 { return min(1<<20, j.o.MaxBytes/8) }

// kick has the committer commit now.
func (j *Journal) kick() {
	if n := j.gathered.Add(1); n == 1 || n >= j.crowd.Load() {
		poke(j.kicked)
	}
}

// linger has it commit soon, for what nobody waits for: the disk is not kept
// busy just when the next statement needs it.
func (j *Journal) linger() {
	if !j.lingering.Load() && j.lingering.CompareAndSwap(false, true) {
		poke(j.lingers)
	}
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
