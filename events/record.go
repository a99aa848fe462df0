package events

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Record is one link of a host's chain, as the journal keeps it, NATS carries
// it and the recorder stores it. Payload is OCSF JSON for an event, and what
// ParseChunks reads for pieces of a transcript.
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

// MaxName is how long the names in a record may be, bytes: of its chain, its session,
// its protocol, and of the subjects that it tells. Ours are far shorter; more than a
// database's index takes would keep a recorder from storing anybody's records.
const MaxName = 256

// CheckNames returns an error for a record that has a longer name than MaxName.
func (r *Record) CheckNames() error {
	for _, n := range [...]struct{ what, name string }{{"chain", r.Chain}, {"session", r.Session}, {"protocol", r.Protocol}} {
		if len(n.name) > MaxName {
			return fmt.Errorf("events: record %d: the name of its %s has %d bytes, and may have %d", r.Seq, n.what, len(n.name), MaxName)
		}
	}
	return nil
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

const (
	chunkHeader = 1 + 1 + 8 + 8 // version, kind, number, time
	pieceHeader = 1 + 8 + 8 + 4 // kind, number, time, length
)

// AppendChunk appends a chunk's payload: version 1, kind, the statement's
// number, the time in ns since the epoch (both big-endian), then the data.
func AppendChunk(b []byte, c *Chunk) []byte {
	return append(appendChunkHead(append(b, 1), c), c.Data...)
}

// Pieces is the version of a payload that holds several chunks: the version,
// then what AppendPiece appends for each.
const Pieces = 2

// AppendPiece appends one chunk of several: kind, number and time as
// AppendChunk has them, the length of the data (u32, big-endian), the data.
func AppendPiece(b []byte, c *Chunk) []byte {
	b = binary.BigEndian.AppendUint32(appendChunkHead(b, c), uint32(len(c.Data)))
	return append(b, c.Data...)
}

func appendChunkHead(b []byte, c *Chunk) []byte {
	b = append(b, byte(c.Kind))
	b = binary.BigEndian.AppendUint64(b, c.Number)
	return binary.BigEndian.AppendUint64(b, uint64(c.Time.UnixNano()))
}

// ParseChunks appends the chunks that a record's payload holds, at least one,
// in their order. Their Data borrows from b and their Session is nil.
func ParseChunks(to []Chunk, b []byte) ([]Chunk, error) {
	if len(b) > 0 && b[0] == Pieces {
		return parsePieces(to, b[1:])
	}
	if len(b) < chunkHeader {
		return to, errCutChunk
	}
	if b[0] != 1 {
		return to, fmt.Errorf("events: transcript chunk of version %d: this program reads versions 1 and 2", b[0])
	}
	return append(to, parseChunk(b[1:], b[chunkHeader:])), nil
}

func parsePieces(to []Chunk, b []byte) ([]Chunk, error) {
	for n := 0; n == 0 || len(b) > 0; n++ {
		if len(b) < pieceHeader {
			return to, errCutChunk
		}
		size := binary.BigEndian.Uint32(b[pieceHeader-4:])
		if uint64(len(b)-pieceHeader) < uint64(size) {
			return to, errCutChunk
		}
		end := pieceHeader + int(size)
		to = append(to, parseChunk(b, b[pieceHeader:end:end]))
		b = b[end:]
	}
	return to, nil
}

var errCutChunk = errors.New("events: a transcript chunk is cut short")

func parseChunk(head, data []byte) Chunk {
	return Chunk{
		Kind:   ChunkKind(head[0]),
		Number: binary.BigEndian.Uint64(head[1:]),
		Time:   time.Unix(0, int64(binary.BigEndian.Uint64(head[9:]))),
		Data:   data,
	}
}
