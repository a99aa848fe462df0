package journal

import "sallyport.dev/sallyport/events"

const (
	maxHeld  = 64 << 10 // bytes of pieces that wait; what is longer is a record at once
	heldRoom = 512      // what their record needs beyond its pieces
)

// held is pieces of one session's transcript that need not be written yet. They
// become one record with the next piece, or alone: before the session's next
// event, or when they have waited long enough. Their room is kept meanwhile.
type held struct {
	id, protocol string
	number       uint64 // of the latest piece
	payload      []byte // events.Pieces; empty: nothing waits
	old          bool   // it is as it was at the last look
}

// room is what it counts for while it waits.
func (h *held) room() int64 {
	if len(h.payload) == 0 {
		return 0
	}
	return int64(len(h.payload)) + heldRoom
}

// hold keeps a piece for the record of the next one. It reports false for one
// that is too long for that. mu is held.
func (j *Journal) hold(c *events.Chunk) (bool, error) {
	h := j.held[c.Session.ID]
	if h != nil && len(h.payload)+len(c.Data) > maxHeld {
		if err := j.let(h); err != nil {
			return true, err
		}
	}
	if len(c.Data) > maxHeld {
		return false, nil
	}
	if err := j.admit(0, c.Session.ID, c.Number, len(c.Data)+heldRoom); err != nil {
		return true, err
	}
	if h == nil {
		h = &held{id: c.Session.ID, protocol: c.Session.Protocol}
		j.held[h.id] = h
	}
	j.holding -= h.room()
	if len(h.payload) == 0 {
		h.payload = append(h.payload, events.Pieces)
	}
	h.payload, h.number, h.old = events.AppendPiece(h.payload, c), c.Number, false
	j.holding += h.room()
	j.intents.chunk(h.id, c, j.seq+1)
	return true, nil
}

// join makes one record of what waits and the piece behind it; false: nothing
// waits, or they are too long for one. mu is held.
func (j *Journal) join(c *events.Chunk) (seq uint64, joined bool, err error) {
	h := j.held[c.Session.ID]
	switch {
	case h == nil || len(h.payload) == 0:
		return 0, false, nil
	case len(h.payload)+len(c.Data) > maxChunk:
		return 0, false, j.let(h)
	}
	if err := j.admit(0, h.id, c.Number, len(c.Data)); err != nil {
		return 0, true, err
	}
	j.holding -= h.room()
	h.payload, h.number = events.AppendPiece(h.payload, c), c.Number
	j.holding += h.room()
	if err := j.let(h); err != nil {
		return 0, true, err
	}
	j.intents.chunk(h.id, c, j.seq)
	return j.seq, true, nil
}

// let makes a record of what waits; mu is held.
func (j *Journal) let(h *held) error {
	if len(h.payload) == 0 {
		return nil
	}
	b, pre, plen := j.begin(0, h.protocol, h.id)
	b = append(b, h.payload...)
	j.holding -= h.room()
	h.payload = h.payload[:0]
	_, err := j.commitFrame(b, pre, plen, h.number)
	return err
}

// letOld makes records of what waits since the last look, or of all, forgets
// sessions that nothing waits of, and reports whether to look again.
func (j *Journal) letOld(all bool) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for id, h := range j.held {
		switch {
		case !h.old && !all:
			h.old = true
		case len(h.payload) > 0:
			_ = j.let(h) // it is no longer than a record may be
		default:
			delete(j.held, id)
		}
	}
	return len(j.held) > 0
}
