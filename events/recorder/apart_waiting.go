package recorder

import (
	"encoding/binary"
	"fmt"

	"sallyport.dev/sallyport/events"
)

// A record that waits for one in front of it waits on the disk, and so does one
// that was refused. Where transcripts are encrypted, these are as well: what is
// written here nobody but a recipient reads, and this program neither.

// waitingPart is the payload of a record that waits, as a part of a body.
type waitingPart struct {
	part   []byte
	time   int64 // ns, of its first piece
	length int   // of the payload
	copies int   // of the record, that were read and have no place yet
}

// weight is what a record takes of the room of a block, in bytes: of one whose
// payload is not there, that of its part, or that which it has when it is read.
func (a *adder) weight(r *events.Record) int {
	if w, ok := a.waiting[r.Hash]; ok {
		return max(w.length, len(w.part))
	}
	return len(r.Payload)
}

// placed forgets the part of a record that waited, once its block is written or it
// was refused: of a transaction no more is in memory than what has no place yet.
func (a *adder) placed(r *events.Record) {
	w, ok := a.waiting[r.Hash]
	switch {
	case !ok || len(r.Payload) > 0: // it came just now
	case w.copies > 1:
		w.copies--
		a.waiting[r.Hash] = w
	default:
		delete(a.waiting, r.Hash)
	}
}

// seals reports whether transcripts are encrypted.
func (a *adder) seals() bool { return a.apart != nil && len(a.apart.Recipients) > 0 }

// sealed is what is kept of a record that was refused.
func (a *adder) sealed(r *events.Record, payload []byte) ([]byte, error) {
	if w, ok := a.waiting[r.Hash]; ok {
		return w.part, nil
	}
	if !a.seals() || len(payload) == 0 {
		return payload, nil
	}
	return a.apart.part(payload)
}

// waitingBlock is a block of records that wait. Where a transcript among them is
// encrypted its bodies are the length of a block's; that; and for each record of a
// transcript the time of its first piece, the length of its part, and that.
func (a *adder) waitingBlock(rs []events.Record) (heads, bodies []byte, err error) {
	seals := a.seals()
	for i := range rs {
		_, waits := a.waiting[rs[i].Hash]
		seals = seals || waits
	}
	if !seals {
		heads, bodies = a.w.block(rs)
		return heads, bodies, nil
	}
	var apart []body
	var parts []byte
	for i := range rs {
		r := &rs[i]
		if r.Kind != 0 {
			continue
		}
		if !(&blockHeads{apart: apart}).isApart(r.Session) {
			apart = append(apart, body{session: r.Session})
		}
		w, ok := a.waiting[r.Hash]
		if !ok {
			t := a.apart
			if t == nil {
				t = new(Transcripts)
			}
			f, err := a.look.facts(r)
			if err != nil {
				f.Time = a.now // it says nothing
			}
			if w.part, err = t.part(r.Payload); err != nil {
				return nil, nil, err
			}
			w.time = f.Time.UnixNano()
		}
		parts = binary.AppendVarint(parts, w.time)
		parts = append(binary.AppendUvarint(parts, uint64(len(w.part))), w.part...)
	}
	heads, packed := a.w.block(rs, apart...)
	if len(apart) == 0 {
		return heads, packed, nil
	}
	bodies = append(binary.AppendUvarint(nil, uint64(len(packed))), packed...)
	return heads, append(bodies, parts...), nil
}

// readWaiting is the inverse of waitingBlock. What was encrypted is noted in a.waiting.
func (a *adder) readWaiting(chain string, first uint64, heads, bodies []byte) ([]events.Record, error) {
	if len(heads) == 0 || heads[0] != 2 {
		h, err := readBlock(chain, first, heads, bodies)
		return h.records, err
	}
	in := cursor{b: bodies}
	packed := in.bytes(in.num())
	h, err := readBlock(chain, first, heads, packed)
	if err != nil {
		return nil, err
	}
	for i := range h.records {
		r := &h.records[i]
		if r.Kind != 0 {
			continue
		}
		at, n := binary.Varint(in.b)
		if n <= 0 {
			return nil, errBlock
		}
		in.b = in.b[n:]
		part := in.bytes(in.num())
		if in.bad {
			return nil, errBlock
		}
		if a.waiting == nil {
			a.waiting = map[[32]byte]waitingPart{}
			a.w.waiting = a.waiting
		}
		a.waiting[r.Hash] = waitingPart{part, at, h.lengths[i], a.waiting[r.Hash].copies + 1}
	}
	if len(in.b) > 0 {
		return nil, fmt.Errorf("%w: there is more than it says", errBlock)
	}
	return h.records, nil
}
