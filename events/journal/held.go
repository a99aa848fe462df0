package journal

import (
	"sync/atomic"

	"sallyport.dev/sallyport/events"
)

const (
	maxHeld  = 64 << 10 // bytes of pieces that wait; what is longer is a record at once
	heldRoom = 512      // what their record needs beyond its pieces
)

// held is what of one session need not be written yet: a statement that nobody
// waits for, and behind it pieces of the transcript. The pieces become one record
// with the next one, or alone; all of it before the session's next event, when
// somebody waits, or when it has waited long enough. Its room is kept meanwhile.
type held struct {
	j            *Journal
	id, protocol string
	number       uint64 // of the latest piece
	payload      []byte // events.Pieces; empty: none waits
	old          bool   // it is as it was at the last look

	waits     bool // the statement does
	statement kept
	last      uint64        // the latest record that was made of it
	became    atomic.Uint64 // the record of the latest statement, 0 while it waits
}

// room is what the pieces count for while they wait.
func (h *held) room() int64 {
	if len(h.payload) == 0 {
		return 0
	}
	return int64(len(h.payload)) + heldRoom
}

// of returns where what a session need not write yet is kept. mu is held.
func (j *Journal) of(s *events.Session) *held {
	h := j.held[s.ID]
	if h == nil {
		h = &held{j: j, id: s.ID, protocol: s.Protocol}
		j.held[h.id] = h
	}
	return h
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
	h = j.of(c.Session)
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
	case h == nil || len(h.payload) == 0 && !h.waits:
		return 0, false, nil
	case h.waits, len(h.payload)+len(c.Data) > maxChunk:
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

// let makes records of what waits: of the statement, and of the pieces. mu is
// held.
func (j *Journal) let(h *held) error {
	waited := h.waits
	if waited {
		if err := j.letStatement(h); err != nil {
			return err
		}
	}
	if len(h.payload) == 0 {
		return nil
	}
	b, pre, plen := j.begin(0, h.protocol, h.id)
	b = append(b, h.payload...)
	j.holding -= h.room()
	seq, err := j.commitFrame(b, pre, plen, h.number)
	if err == nil && waited {
		// Only now is there a statement that they count for.
		cs, _ := events.ParseChunks(nil, h.payload)
		for i := range cs {
			j.intents.chunk(h.id, &cs[i], seq)
		}
	}
	h.payload = h.payload[:0]
	h.last = max(h.last, seq)
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
		case h.waits || len(h.payload) > 0:
			_ = j.let(h) // it is no longer than a record may be
		default:
			delete(j.held, id)
		}
	}
	return len(j.held) > 0
}
