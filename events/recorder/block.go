package recorder

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"

	"sallyport.dev/sallyport/events"
)

// Limits of a block: enough that records like each other are packed well, and
// little enough that one of them is read without reading much else.
const (
	blockRecords = 2048
	blockBytes   = 512 << 10 // of payloads
)

// A block is records of one chain in one row, in the order of their numbers, in
// two parts. heads is what the chain needs: a byte 1, a list of names, and for
// each record, integers as varints,
//
//	the distance to the number of the record before it (0 for the first) * 2,
//	+ 1 where the hash of that is not the prev of this, which then follows [32];
//	kind; protocol and session, as places in the list of names; length of its
//	payload; hash [32]
//
// with the list's bytes before it, each name with its length. bodies is the
// payloads, one behind the other, packed with zstd.
//
// Where transcripts are kept apart the first byte is 2, and behind the names comes
// a list of the sessions whose transcripts are, with its length before it: for each
// its place in the list of names; size, sum [32] and time of its body (see body).
// The payloads of their records of kind 0 are not among bodies.
//
// blockWriter makes blocks; it keeps its buffers.
type blockWriter struct {
	names map[string]uint64
	list  []byte
	heads []byte
	body  []byte
	apart map[string]bool

	waiting map[[32]byte]waitingPart // records whose payloads are not there
}

// block packs records, of which there is at least one. What it returns is valid
// until the next call.
func (w *blockWriter) block(rs []events.Record, apart ...body) (heads, bodies []byte) {
	if w.names == nil {
		w.names = map[string]uint64{}
	}
	clear(w.names)
	w.list, w.body, w.apart = w.list[:0], w.body[:0], nil
	var list []byte
	for i := range apart {
		list = w.bodyHead(list, &apart[i])
	}
	h := w.heads[:0]
	var seq uint64
	var hash [32]byte
	for i := range rs {
		r := &rs[i]
		var step uint64
		if i > 0 {
			step = (r.Seq - seq) << 1
		}
		if i == 0 || r.Prev != hash {
			h = append(binary.AppendUvarint(h, step|1), r.Prev[:]...)
		} else {
			h = binary.AppendUvarint(h, step)
		}
		h = append(h, byte(r.Kind))
		h = binary.AppendUvarint(h, w.name(r.Protocol))
		h = binary.AppendUvarint(h, w.name(r.Session))
		n := len(r.Payload)
		if x, ok := w.waiting[r.Hash]; ok {
			n = x.length
		}
		h = binary.AppendUvarint(h, uint64(n))
		h = append(h, r.Hash[:]...)
		if r.Kind != 0 || !w.apart[r.Session] {
			w.body = append(w.body, r.Payload...)
		}
		seq, hash = r.Seq, r.Hash
	}
	w.heads = h
	heads = binary.AppendUvarint([]byte{1}, uint64(len(w.list)))
	heads = append(heads, w.list...)
	if len(apart) > 0 {
		heads[0] = 2
		heads = append(binary.AppendUvarint(heads, uint64(len(list))), list...)
	}
	heads = append(heads, h...)
	e, _ := codec()
	return heads, e.EncodeAll(w.body, make([]byte, 0, len(w.body)/8+64))
}

// bodyHead appends what is said of a body.
func (w *blockWriter) bodyHead(to []byte, b *body) []byte {
	if w.apart == nil {
		w.apart = map[string]bool{}
	}
	w.apart[b.session] = true
	to = binary.AppendUvarint(to, w.name(b.session))
	to = append(binary.AppendUvarint(to, b.size), b.sum[:]...)
	return binary.AppendUvarint(to, uint64(max(b.stored, 0)))
}

func (w *blockWriter) name(s string) uint64 {
	n, ok := w.names[s]
	if !ok {
		n = uint64(len(w.names))
		w.names[s] = n
		w.list = append(binary.AppendUvarint(w.list, uint64(len(s))), s...)
	}
	return n
}

var writers = sync.Pool{New: func() any { return new(blockWriter) }}

var errBlock = errors.New("a block of records is damaged")

// blockHeads is what the heads of a block say.
type blockHeads struct {
	records []events.Record // without their payloads
	lengths []int           // of those
	apart   []body
}

// readHeads is the inverse of block, for the records of a chain that begin with
// the number first.
func readHeads(chain string, first uint64, b []byte) (h blockHeads, err error) {
	if len(b) == 0 || b[0] != 1 && b[0] != 2 {
		return h, errBlock
	}
	in := cursor{b: b[1:]}
	list := cursor{b: in.bytes(in.num())}
	var names []string
	for !in.bad && len(list.b) > 0 && !list.bad {
		names = append(names, string(list.bytes(list.num())))
	}
	name := func(in *cursor) string {
		n := in.num()
		if n >= uint64(len(names)) {
			in.bad = true
			return ""
		}
		return names[n]
	}
	apart := cursor{}
	if b[0] == 2 {
		apart.b = in.bytes(in.num())
	}
	for len(apart.b) > 0 && !apart.bad {
		x := body{session: name(&apart), size: apart.num()}
		copy(x.sum[:], apart.bytes(32))
		x.stored = int64(apart.num())
		h.apart = append(h.apart, x)
	}
	seq := first
	for len(in.b) > 0 && !in.bad && !list.bad {
		r := events.Record{Chain: chain}
		step := in.num()
		seq += step >> 1
		r.Seq = seq
		if step&1 != 0 {
			copy(r.Prev[:], in.bytes(32))
		} else if n := len(h.records); n > 0 {
			r.Prev = h.records[n-1].Hash
		}
		if k := in.bytes(1); k != nil {
			r.Kind = events.Kind(k[0])
		}
		r.Protocol, r.Session = name(&in), name(&in)
		h.lengths = append(h.lengths, int(min(in.num(), maxPayload)))
		copy(r.Hash[:], in.bytes(32))
		h.records = append(h.records, r)
	}
	if in.bad || list.bad || apart.bad || len(h.records) == 0 {
		return blockHeads{}, errBlock
	}
	return h, nil
}

// isApart reports whether a session's transcript is not among the bodies.
func (h *blockHeads) isApart(session string) bool {
	for i := range h.apart {
		if h.apart[i].session == session {
			return true
		}
	}
	return false
}

// readBlock is the inverse of block. Where only the payloads cannot be had it
// returns the records without them, and why. Those that are kept apart it leaves
// out.
func readBlock(chain string, first uint64, heads, bodies []byte) (blockHeads, error) {
	h, err := readHeads(chain, first, heads)
	if err != nil {
		return h, err
	}
	_, d := codec()
	b, err := d.DecodeAll(bodies, nil)
	if err != nil {
		return h, fmt.Errorf("%w: %w", errBlock, err)
	}
	apart := map[string]bool{}
	for i := range h.apart {
		apart[h.apart[i].session] = true
	}
	for i, n := range h.lengths {
		if r := &h.records[i]; r.Kind == 0 && apart[r.Session] {
			continue
		}
		if n > len(b) {
			return h, errBlock
		}
		h.records[i].Payload, b = b[:n:n], b[n:]
	}
	if len(b) > 0 {
		return h, errBlock
	}
	return h, nil
}

// cursor reads; it goes bad at the first thing that is not there.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) num() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) bytes(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

const maxPayload = 64 << 20 // bytes of a block, unpacked

var codec = sync.OnceValues(func() (*zstd.Encoder, *zstd.Decoder) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		panic(err) // the options are constants
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPayload))
	if err != nil {
		panic(err)
	}
	return e, d
})

// storedBlock is a row of blocks. err says what of its records is not there.
type storedBlock struct {
	first, last int64
	blockHeads
	err  error
	lost map[string]error // why a session's transcript is not there, once it was fetched
}

// placed reports whether the row says of itself what a recorder may have
// written: the first record of a chain is 1.
func (b *storedBlock) placed() bool { return b.first >= 1 && b.last >= b.first }

// whole reports whether the heads are there, and as many as the row says.
func (b *storedBlock) whole() bool {
	n := len(b.records)
	return n > 0 && b.records[n-1].Seq == uint64(b.last)
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// blocksAtOnce are read together: what they hold must find room.
const blocksAtOnce = 8

// blocks gives those of a chain that hold records from one number to another,
// in order. From the least number on it gives all, also those that are not placed.
// Nothing is under way in the database while one is given.
func blocks(ctx context.Context, q querier, host, chain string, from, to int64) iter.Seq2[storedBlock, error] {
	return func(yield func(storedBlock, error) bool) {
		start := from
		err := q.QueryRowContext(ctx, `SELECT coalesce(max(first), ?3) FROM blocks WHERE host = ?1 AND chain = ?2 AND first <= ?3`, host, chain, from).Scan(&start)
		for err == nil {
			var some []packedBlock
			if some, err = packed(ctx, q, host, chain, start, from, to); err != nil {
				break
			}
			for _, p := range some {
				b := storedBlock{first: p.first, last: p.last}
				b.blockHeads, b.err = readBlock(chain, uint64(p.first), p.heads, p.bodies)
				if !yield(b, nil) {
					return
				}
				start = p.first
			}
			if len(some) < blocksAtOnce || start == math.MaxInt64 {
				return
			}
			start++
		}
		yield(storedBlock{}, err)
	}
}

// packedBlock is a row of blocks.
type packedBlock struct {
	first, last   int64
	heads, bodies []byte
}

// packed returns the first few blocks whose row begins at start or later, and that
// hold records from one number to another.
func packed(ctx context.Context, q querier, host, chain string, start, from, to int64) (out []packedBlock, err error) {
	rows, err := q.QueryContext(ctx, `SELECT first, last, heads, bodies FROM blocks WHERE host = ? AND chain = ? AND first >= ? AND first <= ? AND last >= ?
		ORDER BY first LIMIT ?`, host, chain, start, to, from, blocksAtOnce)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var b packedBlock
		if err := rows.Scan(&b.first, &b.last, &b.heads, &b.bodies); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, rows.Err()
}
