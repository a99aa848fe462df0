// Package seal encrypts transcripts at the host, before they reach its journal: neither
// that, nor NATS, nor the recorder has them in clear then. Of each session a key is
// made, which is encrypted to recipients (age) and goes on the record in front of what it
// opens; each piece is sealed with it (AES-256-GCM, NIST SP 800-38D). When things were said,
// and of which statement, stays in clear.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"filippo.io/age"

	"sallyport.dev/sallyport/events"
)

const (
	keySize = 32
	idSize  = 4 // of a key, with which the nonces of what it seals begin
	// maxPart is the text of one sealed piece. The journal splits what is longer than
	// 256 KiB, and what is sealed can't be split.
	maxPart = 256<<10 - events.SealedRoom
	version = 1 // of a ChunkKey
)

// Journal is one that seals transcripts. Events go through it as they are: they hold
// no data.
type Journal struct {
	events.Journal
	to []age.Recipient

	mu       sync.Mutex
	sessions map[string]*session
}

// session has the key of one; it is made with its first piece.
type session struct {
	mu    sync.Mutex
	aead  cipher.AEAD // nil: there is none yet
	id    [idSize]byte
	count uint64 // of pieces that were sealed with it
	data  []byte // of the last; the journal has a copy
}

// New returns a journal whose transcripts recipients alone can read.
func New(j events.Journal, to []age.Recipient) (*Journal, error) {
	if len(to) == 0 {
		return nil, errors.New("seal: no recipients")
	}
	return &Journal{Journal: j, to: to, sessions: map[string]*session{}}, nil
}

// Append implements events.Journal. With a session's end its key is forgotten.
func (j *Journal) Append(e *events.Event) (events.Ticket, error) {
	if e.Kind == events.SessionClose && e.Session != nil {
		j.mu.Lock()
		delete(j.sessions, e.Session.ID)
		j.mu.Unlock()
	}
	return j.Journal.Append(e)
}

// Record implements events.Journal. What can't be sealed is not recorded, and so not
// shown.
func (j *Journal) Record(c *events.Chunk) (t events.Ticket, err error) {
	if c.Session == nil || c.Session.ID == "" {
		return t, errors.New("seal: a transcript chunk without a session")
	}
	s := j.session(c.Session.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.aead == nil {
		if err := s.begin(j, c); err != nil {
			return t, err
		}
	}
	part := *c
	part.Kind |= events.Sealed
	for data := c.Data; ; {
		text := data[:min(len(data), maxPart)]
		data = data[len(text):]
		part.Data = s.seal(&part, text)
		if t, err = j.Journal.Record(&part); err != nil || len(data) == 0 {
			return t, err
		}
	}
}

func (j *Journal) session(id string) *session {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.sessions[id]
	if s == nil {
		s = new(session)
		j.sessions[id] = s
	}
	return s
}

// begin makes the session's key, and puts it on the record in front of c.
func (s *session) begin(j *Journal, c *events.Chunk) error {
	var key [keySize]byte
	defer clear(key[:])
	rand.Read(key[:])
	rand.Read(s.id[:])
	out := bytes.NewBuffer(append([]byte{version}, s.id[:]...))
	w, err := age.Encrypt(out, j.to...)
	if err == nil {
		_, err = w.Write(key[:])
	}
	if err == nil {
		err = w.Close()
	}
	var aead cipher.AEAD
	if err == nil {
		aead, err = newAEAD(key[:])
	}
	if err != nil {
		return fmt.Errorf("seal: a session's key: %w", err)
	}
	if _, err := j.Journal.Record(&events.Chunk{Session: c.Session, Number: c.Number, Kind: events.ChunkKey, Time: c.Time, Data: out.Bytes(), Later: true}); err != nil {
		return err
	}
	s.aead, s.count = aead, 0
	return nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// seal returns a piece's data, until the next: the nonce, which no other piece of this
// key has, and what is encrypted.
func (s *session) seal(c *events.Chunk, text []byte) []byte {
	s.count++
	b := append(s.data[:0], s.id[:]...)
	b = binary.BigEndian.AppendUint64(b, s.count)
	var said [256]byte
	s.data = s.aead.Seal(b, b, text, bound(said[:0], c.Session.ID, c))
	return s.data
}

// bound is what a sealed piece is bound to: it opens as no other.
func bound(b []byte, session string, c *events.Chunk) []byte {
	b = append(append(b, "sallyport transcript 1\n"...), byte(c.Kind))
	b = binary.BigEndian.AppendUint64(b, c.Number)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Time.UnixNano()))
	return append(b, session...)
}
