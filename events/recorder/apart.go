package recorder

import (
	stdbytes "bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder/transcripts"
	"sallyport.dev/sallyport/events/seal"
)

// Transcripts says where the payloads of transcripts are kept, apart from the
// records that they belong to. So they can be deleted: a record's hash, which is
// that of its payload as well, stays where it is, and so does the chain.
type Transcripts struct {
	Store transcripts.Store
	// Recipients can read what is stored from now on; none: whoever can read the
	// store. The recorder itself can't.
	Recipients []age.Recipient
	// Identities open what was encrypted to them.
	Identities []age.Identity
}

// TranscriptsFolder is where a store, and an export of it, has transcripts that are
// kept in files.
func TranscriptsFolder(dir string) string { return filepath.Join(dir, "transcripts") }

// KeepTranscripts has a store keep transcripts apart, or find those that are. It
// comes before any use of the store.
func (s *DB) KeepTranscripts(t Transcripts) { s.apart = &t }

// A body is the payloads of one session's transcript in one block, in the order of
// their records. It is stored as
//
//	a byte 1, then parts: a byte, 0 for plain and 1 for age; how many payloads;
//	how many bytes follow; the payloads, one behind the other, packed with zstd and
//	then encrypted, integers as varints
//
// under a name of its own. body is what the block's heads say of it.
type body struct {
	session string
	size    uint64   // as it is stored, bytes; 0: not stored apart
	sum     [32]byte // SHA-256 of it as it is stored
	stored  int64    // s since 1970, by the recorder's clock
}

// name is that under which a body is stored: nobody else's, and nothing can be
// learned from it.
func (b *body) name(host, chain string, first uint64) string {
	h := sha256.New()
	for _, s := range [...]string{"sallyport body 1", host, chain, b.session} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(s)))
		h.Write(n[:])
		io.WriteString(h, s)
	}
	h.Write(binary.BigEndian.AppendUint64(nil, first))
	h.Write(b.sum[:])
	return hex.EncodeToString(h.Sum(nil))
}

const (
	plainPart  = 0
	sealedPart = 1
)

// part makes a part of a body.
func (t *Transcripts) part(payloads ...[]byte) ([]byte, error) {
	e, _ := codec()
	b, kind := e.EncodeAll(stdbytes.Join(payloads, nil), nil), byte(plainPart)
	if len(t.Recipients) > 0 {
		var out stdbytes.Buffer
		w, err := age.Encrypt(&out, t.Recipients...)
		if err == nil {
			_, err = w.Write(b)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("transcript: encrypt: %w", err)
		}
		b, kind = out.Bytes(), sealedPart
	}
	head := binary.AppendUvarint([]byte{kind}, uint64(len(payloads)))
	return append(binary.AppendUvarint(head, uint64(len(b))), b...), nil
}

// ErrSealed says that a transcript is encrypted, and not to any identity that was given.
var ErrSealed = seal.ErrSealed

// errBody says that a body is not what a recorder wrote.
var errBody = errors.New("its body is damaged")

// open is the inverse of part, for payloads of these lengths, of all parts.
func (t *Transcripts) open(b []byte, lengths []int) ([][]byte, error) {
	if len(b) == 0 || b[0] != 1 {
		return nil, errBody
	}
	out := make([][]byte, 0, len(lengths))
	for in := (cursor{b: b[1:]}); len(in.b) > 0; {
		kind := in.bytes(1)
		n := in.num()
		data := in.bytes(in.num())
		if in.bad || n > uint64(len(lengths)-len(out)) {
			return nil, errBody
		}
		payloads, err := t.payloads(kind[0], data, lengths[len(out):len(out)+int(n)])
		if err != nil {
			return nil, err
		}
		out = append(out, payloads...)
	}
	if len(out) != len(lengths) {
		return nil, errBody
	}
	return out, nil
}

// payloads are those of one part.
func (t *Transcripts) payloads(kind byte, data []byte, lengths []int) (out [][]byte, err error) {
	switch kind {
	case plainPart:
	case sealedPart:
		if len(t.Identities) == 0 {
			return nil, ErrSealed
		}
		r, err := age.Decrypt(stdbytes.NewReader(data), t.Identities...)
		if no := (*age.NoIdentityMatchError)(nil); errors.As(err, &no) {
			return nil, ErrSealed
		}
		if err == nil {
			data, err = io.ReadAll(r)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBody, err)
		}
	default:
		return nil, errBody
	}
	_, d := codec()
	if data, err = d.DecodeAll(data, nil); err != nil {
		return nil, fmt.Errorf("%w: %w", errBody, err)
	}
	for _, n := range lengths {
		if n > len(data) {
			return nil, errBody
		}
		out, data = append(out, data[:n:n]), data[n:]
	}
	if len(data) > 0 {
		return nil, errBody
	}
	return out, nil
}

// parted notes a body that is being made.
type parted struct {
	body
	parts    []byte
	payloads [][]byte
	own      bool // a part was encrypted just now: nobody else makes a body of this name
}

// putApart stores the transcripts among some records that become a block, and
// returns what its heads say of them, in the order of their first records; nil
// where transcripts are kept in blocks. When it returns, all are on stable storage:
// a crash then leaves bodies that no record names, which Prune removes.
func (a *adder) putApart(c *chainState, rs []events.Record) ([]body, error) {
	t := a.apart
	if t == nil {
		for i := range rs {
			if _, ok := a.waiting[rs[i].Hash]; ok {
				return nil, errors.New("a transcript that waited is encrypted, to be kept apart: say where again")
			}
		}
		return nil, nil
	}
	var order []*parted
	of := map[string]*parted{}
	for i := range rs {
		r := &rs[i]
		if r.Kind != 0 {
			continue
		}
		p := of[r.Session]
		if p == nil {
			p = &parted{body: body{session: r.Session, stored: a.now.Unix()}, parts: []byte{1}}
			of[r.Session], order = p, append(order, p)
		}
		w, sealed := a.waiting[r.Hash]
		if !sealed {
			p.payloads = append(p.payloads, r.Payload)
			continue
		}
		if err := p.close(t); err != nil {
			return nil, err
		}
		p.parts = append(p.parts, w.part...)
	}
	within, cancel := context.WithTimeout(a.putting, putTime)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(8)
	for _, p := range order {
		g.Go(func() error {
			if err := p.close(t); err != nil {
				return err
			}
			p.size, p.sum = uint64(len(p.parts)), sha256.Sum256(p.parts)
			name := p.name(c.Host, c.Chain, rs[0].Seq)
			if p.own {
				a.put.add(name)
			}
			return t.Store.Put(within, name, p.parts)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("transcript: %w", err)
	}
	out := make([]body, len(order))
	for i, p := range order {
		out[i] = p.body
	}
	return out, nil
}

// close makes a part of what has come together.
func (p *parted) close(t *Transcripts) error {
	if len(p.payloads) == 0 {
		return nil
	}
	part, err := t.part(p.payloads...)
	p.parts, p.payloads, p.own = append(p.parts, part...), nil, p.own || len(t.Recipients) > 0
	return err
}

// fetch loads the bodies of a block whose sessions are wanted. Why one can't be
// had is in its session's place of lost; the payloads of its records are nil then.
func (t *Transcripts) fetch(ctx context.Context, host, chain string, b *storedBlock, wanted func(session string) bool) {
	for i := range b.apart {
		x := &b.apart[i]
		if !wanted(x.session) {
			continue
		}
		if err := t.load(ctx, host, chain, b, x); err != nil {
			if b.lost == nil {
				b.lost = map[string]error{}
			}
			b.lost[x.session] = err
		}
	}
}

// ErrElsewhere says that a transcript is kept apart, and it was not said where.
var ErrElsewhere = errors.New("the transcript is kept apart from the store: say where (--recorder-config)")

// Withheld says that a piece of a session's transcript is not there, or can't be
// read by who asks: that it was said is on the record.
type Withheld struct {
	Session string
	Err     error // ErrSealed, ErrElsewhere, of what was deleted, or of what is damaged
}

func (w *Withheld) Error() string {
	return "the transcript of session " + w.Session + ": " + w.Err.Error()
}
func (w *Withheld) Unwrap() error { return w.Err }

// IsWithheld reports whether an error is of a piece of a transcript alone.
func IsWithheld(err error) bool {
	var w *Withheld
	return errors.As(err, &w)
}

// of is the error of a record: of what is not there of its payload.
func (b *storedBlock) of(r *events.Record) error {
	if b.err != nil || r.Kind != 0 {
		return b.err
	}
	if err := b.lost[r.Session]; err != nil {
		return &Withheld{r.Session, err}
	}
	return nil
}

// load fills in one session's payloads.
func (t *Transcripts) load(ctx context.Context, host, chain string, b *storedBlock, x *body) error {
	if t == nil || t.Store == nil {
		return ErrElsewhere
	}
	raw, err := t.Store.Get(ctx, x.name(host, chain, uint64(b.first)))
	if err != nil {
		return err
	}
	if uint64(len(raw)) != x.size || sha256.Sum256(raw) != x.sum {
		return fmt.Errorf("%w: it is not what was stored", errBody)
	}
	var at, lengths []int
	for i := range b.records {
		if b.records[i].Kind == 0 && b.records[i].Session == x.session {
			at, lengths = append(at, i), append(lengths, b.lengths[i])
		}
	}
	payloads, err := t.open(raw, lengths)
	if err != nil {
		return err
	}
	for k, i := range at {
		b.records[i].Payload = payloads[k]
	}
	return nil
}

// storedAt is when a body was stored, by the recorder's clock.
func (b *body) storedAt() time.Time { return time.Unix(b.stored, 0) }
