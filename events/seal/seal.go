// Package seal encrypts transcripts at the host, before they reach its journal: neither
// that, nor NATS, nor the recorder has them in clear then. Of each session a key is
// made, and another one each hour, which is encrypted to recipients (age) and goes on the
// record in front of what it opens; each piece is sealed with it (AES-256-GCM, NIST SP
// 800-38D). When things were said, and of which statement, stays in clear.
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
	"time"

	"filippo.io/age"

	"sallyport.dev/sallyport/events"
)

const (
	keySize = 32
	idSize  = 4 // of a key, with which the nonces of what it seals begin
	// maxPart is the text of one sealed piece. The journal splits what is longer than
	// 256 KiB, and what is sealed can't be split.
	maxPart = 256<<10 - events.SealedRoom
	version = 2 // of a ChunkKey, and of what its pieces are bound to
	// maxKey is what a ChunkKey may be long: the journal has it on one record then. So many
	// keys of RSA do not fit.
	maxKey        = 32 << 10
	maxRecipients = 64
	// keyTime is how long a key is used: what is kept of a long session is opened without
	// what was deleted of it.
	keyTime = time.Hour
	maxKept = 64 << 10 // of the memory of a piece, until the next
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
	made  time.Time
	id    [idSize]byte
	count uint64 // of pieces that were sealed with it

	// Of the last piece; the journal has a copy.
	part        events.Chunk
	data, bound []byte
}

// New returns a journal whose transcripts recipients alone can read. It refuses those to
// whom nothing can be encrypted, and too many.
func New(j events.Journal, to []age.Recipient) (*Journal, error) {
	switch {
	case len(to) == 0:
		return nil, errors.New("seal: no recipients")
	case len(to) > maxRecipients:
		return nil, fmt.Errorf("seal: %d recipients: there may be %d", len(to), maxRecipients)
	}
	if _, err := wrap(to, [idSize]byte{}, make([]byte, keySize)); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
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
	if s.aead == nil || time.Since(s.made) >= keyTime {
		if err := s.begin(j, c); err != nil {
			return t, err
		}
	}
	s.part = *c
	s.part.Kind |= events.Sealed
	for data := c.Data; ; {
		text := data[:min(len(data), maxPart)]
		data = data[len(text):]
		s.part.Data = s.seal(&s.part, text)
		if t, err = j.Journal.Record(&s.part); err != nil || len(data) == 0 {
			break
		}
	}
	s.part = events.Chunk{}
	if cap(s.data) > maxKept { // there are many sessions, which rest mostly
		s.data = nil
	}
	return t, err
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

// begin makes a key of the session, and puts it on the record in front of c.
func (s *session) begin(j *Journal, c *events.Chunk) error {
	var key [keySize]byte
	var id [idSize]byte
	defer clear(key[:])
	rand.Read(key[:])
	rand.Read(id[:])
	data, err := wrap(j.to, id, key[:])
	var aead cipher.AEAD
	if err == nil {
		aead, err = newAEAD(key[:])
	}
	if err != nil {
		return fmt.Errorf("seal: a session's key: %w", err)
	}
	if _, err := j.Journal.Record(&events.Chunk{Session: c.Session, Number: c.Number, Kind: events.ChunkKey, Time: c.Time, Data: data, Later: true}); err != nil {
		return err
	}
	s.aead, s.id, s.made, s.count = aead, id, time.Now(), 0
	return nil
}

// wrap returns the data of a ChunkKey.
func wrap(to []age.Recipient, id [idSize]byte, key []byte) ([]byte, error) {
	out := bytes.NewBuffer(append([]byte{version}, id[:]...))
	w, err := age.Encrypt(out, to...)
	if err == nil {
		_, err = w.Write(key)
	}
	if err == nil {
		err = w.Close()
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("to its recipients: %w", err)
	case out.Len() > maxKey:
		return nil, fmt.Errorf("for %d recipients it has %d bytes: it may have %d", len(to), out.Len(), maxKey)
	}
	return out.Bytes(), nil
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
	s.bound = bound(s.bound[:0], c.Session.Host, c.Session.ID, c)
	s.data = s.aead.Seal(b, b, text, s.bound)
	return s.data
}

// bound is what a sealed piece is bound to: it opens as no other.
func bound(b []byte, host, session string, c *events.Chunk) []byte {
	b = append(append(b, "sallyport transcript 2\n"...), byte(c.Kind))
	b = binary.BigEndian.AppendUint64(b, c.Number)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Time.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(len(host)))
	return append(append(b, host...), session...)
}
