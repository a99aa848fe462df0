package events

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Record is one link of a host's chain, as the journal keeps it, NATS carries
// it and the recorder stores it. Payload is OCSF JSON for an event, and the
// form of AppendChunk for a piece of a transcript.
type Record struct {
	Chain    string // id of the chain: one journal's life on one host
	Seq      uint64 // from 1, without gaps
	Kind     Kind   // 0 for a chunk of a transcript
	Protocol string // "" when no protocol is known
	Session  string // "" for events of the host itself
	Payload  []byte
	Prev     [32]byte // Hash of the record before; zero for Seq 1
	Hash     [32]byte
}

// Sum computes the hash that a record must have: SHA-256 over its canonical
// form.
func (r *Record) Sum() [32]byte {
	b := make([]byte, 0, 256)
	h := sha256.New()
	h.Write(r.appendHead(b))
	h.Write(r.Payload)
	var sum [32]byte
	h.Sum(sum[:0])
	return sum
}

// Append appends the record's canonical form, which is what is hashed: Prev,
// then every other field but Hash with its length before it, integers
// big-endian.
func (r *Record) Append(b []byte) []byte { return append(r.appendHead(b), r.Payload...) }

func (r *Record) appendHead(b []byte) []byte {
	b = append(b, r.Prev[:]...)
	b = binary.BigEndian.AppendUint64(b, r.Seq)
	b = append(b, byte(r.Kind))
	for _, s := range [...]string{r.Chain, r.Protocol, r.Session} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return binary.BigEndian.AppendUint64(b, uint64(len(r.Payload)))
}

// Intact reports whether the record's hash is that of its content.
func (r *Record) Intact() bool { return r.Sum() == r.Hash }

const chunkHeader = 1 + 1 + 8 + 8 // version, kind, number, time

// AppendChunk appends a chunk's payload: version 1, kind, the statement's
// number, the time in ns since the epoch (both big-endian), then the data.
func AppendChunk(b []byte, c *Chunk) []byte {
	b = append(b, 1, byte(c.Kind))
	b = binary.BigEndian.AppendUint64(b, c.Number)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Time.UnixNano()))
	return append(b, c.Data...)
}

// ParseChunk is the inverse of AppendChunk; Data borrows from b and Session
// is nil.
func ParseChunk(b []byte) (Chunk, error) {
	if len(b) < chunkHeader {
		return Chunk{}, errors.New("events: a transcript chunk is cut short")
	}
	if b[0] != 1 {
		return Chunk{}, fmt.Errorf("events: transcript chunk of version %d: this program reads version 1", b[0])
	}
	return Chunk{
		Kind:   ChunkKind(b[1]),
		Number: binary.BigEndian.Uint64(b[2:]),
		Time:   time.Unix(0, int64(binary.BigEndian.Uint64(b[10:]))),
		Data:   b[chunkHeader:],
	}, nil
}
