package jetstream

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/events"
)

// Limits of one message. NATS takes 64 KiB of headers.
const (
	packHeader = 48 << 10
	packBytes  = 256 << 10
)

// pack is one message: records of one subject, each payload on a line of its
// own.
type pack struct {
	subject, protocol string
	kind              events.Kind
	chain             string
	last              uint64   // number of the last record
	records           []string // headerRecord
	data              []byte
	head              int // bytes of records
}

// add reports whether the record found room.
func (p *pack) add(r *events.Record, limit int, line *[]byte) bool {
	if len(p.records) > 0 && (p.head > packHeader || len(p.data)+len(r.Payload) > limit) {
		return false
	}
	b := (*line)[:0]
	b = append(strconv.AppendUint(b, r.Seq, 10), ' ')
	b = append(strconv.AppendInt(b, int64(len(r.Payload)), 10), ' ')
	b = append(append(b, url.PathEscape(r.Session)...), ' ')
	b = append(hex.AppendEncode(b, r.Prev[:]), ' ')
	b = hex.AppendEncode(b, r.Hash[:])
	if len(p.records) > 0 {
		p.data = append(p.data, '\n')
	}
	p.data = append(p.data, r.Payload...)
	p.records, *line = append(p.records, string(b)), b
	p.last, p.head = r.Seq, p.head+len(headerRecord)+len(b)+4
	return true
}

// message makes it. Where somebody else has published with its id, which may be known
// before, it is told by the hash of its last record too, which nobody knows before.
func (p *pack) message(taken bool) *nats.Msg {
	kind := transcript
	if p.kind != 0 {
		kind = p.kind.String()
	}
	chain := url.PathEscape(p.chain)
	id := chain + "-" + strconv.FormatUint(p.last, 10)
	if line := p.records[len(p.records)-1]; taken {
		id += "-" + line[len(line)-2*sha256.Size:]
	}
	return &nats.Msg{Subject: p.subject, Data: p.data, Header: nats.Header{
		nats.MsgIdHdr: {id},
		headerChain:   {chain}, headerKind: {kind}, headerProtocol: {url.PathEscape(p.protocol)}, headerRecord: p.records,
	}}
}

// batch is records that follow each other, in as few messages as their subjects
// allow. The message that holds the last of them is the last.
type batch struct {
	host        string
	first, last uint64
	prev        [32]byte // of the first
	n, size     int
	room        int                 // bytes of one message
	have        map[uint64][32]byte // records that the stream holds already
	packs       []*pack
	open        map[packKey]*pack
	spare       *buffers
	line        []byte // scratch
}

// buffers are kept for the payloads of messages, up to so many bytes. One
// goroutine at a time uses them.
type buffers struct {
	free [][]byte
	size int
}

const spareBytes = 8 << 20

func (f *buffers) get() []byte {
	n := len(f.free)
	if n == 0 {
		return nil
	}
	b := f.free[n-1]
	f.free, f.size = f.free[:n-1], f.size-cap(b)
	return b[:0]
}

func (f *buffers) put(b []byte) {
	if f.size+cap(b) <= spareBytes {
		f.free, f.size = append(f.free, b), f.size+cap(b)
	}
}

// release gives back what the messages held, once nobody sends them any more.
func (b *batch) release() {
	for _, p := range b.packs {
		b.spare.put(p.data)
		p.data = nil
	}
}

type packKey struct {
	kind              events.Kind
	protocol, session string
}

func (b *batch) add(r *events.Record) error {
	if b.n == 0 {
		b.first, b.prev = r.Seq, r.Prev
	}
	b.last = r.Seq
	b.n++
	if h, ok := b.have[r.Seq]; ok {
		if h != r.Hash {
			return fmt.Errorf("%w: it holds another record %d", ErrForked, r.Seq)
		}
		return nil
	}
	b.size += len(r.Payload)
	key := packKey{kind: r.Kind, protocol: r.Protocol}
	if r.Kind == 0 {
		key.session = r.Session
	}
	if p := b.open[key]; p != nil && p.add(r, b.room, &b.line) {
		return nil
	}
	p := &pack{subject: Subject(b.host, r), protocol: r.Protocol, kind: r.Kind, chain: r.Chain, data: b.spare.get()}
	p.add(r, b.room, &b.line)
	b.packs = append(b.packs, p)
	b.open[key] = p
	return nil
}

func (b *batch) full(limit int) bool {
	return b.n >= limit || b.size >= batchBytes || len(b.packs) >= batchMessages
}

// messages returns the batch's messages, in the order of their last records.
func (b *batch) messages(taken bool) []*nats.Msg {
	slices.SortFunc(b.packs, func(x, y *pack) int { return cmp.Compare(x.last, y.last) })
	out := make([]*nats.Msg, len(b.packs))
	for i, p := range b.packs {
		out[i] = p.message(taken)
	}
	return out
}

// extent is the batch that a message belongs to: its first and its last record,
// and the stream's own number of the message before it.
type extent struct{ first, last, after uint64 }

func (e extent) String() string { return fmt.Sprintf("%d %d %d", e.first, e.last, e.after) }

func parseExtent(s string) (e extent, err error) {
	if _, err := fmt.Sscanf(s, "%d %d %d", &e.first, &e.last, &e.after); err != nil || e.first == 0 || e.last < e.first {
		return e, fmt.Errorf("jetstream: header %s %q: want first and last record, and the message before", headerBatch, s)
	}
	return e, nil
}
