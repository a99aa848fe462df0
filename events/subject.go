package events

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"sync"
)

// Subject says whose row went out, without telling: a patient, as policy calls it,
// and the keyed hash of what the patient goes by in the store.
type Subject struct {
	Name string // as policy has it
	Key  [16]byte
}

// String returns name:hex, as events have it.
func (s Subject) String() string { return s.Name + ":" + hex.EncodeToString(s.Key[:]) }

// ParseSubject is the inverse of String.
func ParseSubject(text string) (s Subject, err error) {
	i := len(text) - 2*len(s.Key) - 1
	if i < 1 || i > MaxName || text[i] != ':' {
		return Subject{}, fmt.Errorf("events: a subject is a name of at most %d bytes, a colon and 32 hexadecimal digits", MaxName)
	}
	b, err := hex.DecodeString(text[i+1:])
	if err != nil {
		return Subject{}, fmt.Errorf("events: subject: %w", err)
	}
	s.Name = text[:i]
	copy(s.Key[:], b)
	return s, nil
}

// How many subjects one event names at most. A statement's others are in events of
// kind Subjects.
const (
	MaxResponseSubjects = 32
	MaxSubjects         = 512
)

// SubjectKey makes Subjects. All hosts of a deployment have the same one, so that
// whoever has it finds a subject in the evidence of all of them. It is safe for
// concurrent use.
type SubjectKey struct{ macs sync.Pool }

// ParseSubjectKey reads a key file, as ParseKey does.
func ParseSubjectKey(b []byte) (*SubjectKey, error) {
	key, err := ParseKey("subject", b)
	if err != nil {
		return nil, err
	}
	k := &SubjectKey{}
	k.macs.New = func() any { return hmac.New(sha256.New, key) }
	return k, nil
}

// Subject returns who goes by value, in the form in which the store prints it as
// text: the first half of HMAC-SHA-256 over "sallyport subject 1", the name and the
// value, with a NUL behind the first two.
func (k *SubjectKey) Subject(name string, value []byte) Subject {
	m := k.macs.Get().(hash.Hash)
	m.Reset()
	m.Write([]byte("sallyport subject 1\x00"))
	m.Write([]byte(name))
	m.Write([]byte{0})
	m.Write(value)
	var sum [sha256.Size]byte
	s := Subject{Name: name}
	copy(s.Key[:], m.Sum(sum[:0]))
	k.macs.Put(m)
	return s
}
