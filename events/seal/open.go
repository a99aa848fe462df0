package seal

import (
	"bytes"
	"cmp"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"sallyport.dev/sallyport/events"
)

// ErrSealed says that a transcript is encrypted, and not to any identity that was given.
var ErrSealed = errors.New("the transcript is encrypted: give the identity of one of its recipients (--identity-file)")

var (
	errNoKey = errors.New("it was encrypted by its host, and the piece of it that has the key is not there")
	errPiece = errors.New("a piece of it was encrypted by its host and can't be opened: it is damaged, or of another place")
)

// Opener opens the transcript of one session, whose records it is given in their order,
// from the first. It is not safe for concurrent use.
type Opener struct {
	host, session string

	ids    []age.Identity
	keys   map[[idSize]byte]*opening
	missed error
}

// opening is a key that is there.
type opening struct {
	aead  cipher.AEAD // nil: of other recipients
	count uint64      // of the last piece that it opened
}

// NewOpener returns one for a session of a host, that has some identities.
func NewOpener(host, session string, ids []age.Identity) *Opener {
	return &Opener{host: host, session: session, ids: ids, keys: map[[idSize]byte]*opening{}}
}

// Missed tells it why it was not given a record: that may be where a key is which it lacks.
func (o *Opener) Missed(why error) { o.missed = why }

// Payload returns what the payload of a record is in clear: the same where nothing of it
// is sealed. more is false where it has a key and nothing else. ErrSealed: it is of others.
func (o *Opener) Payload(b []byte) (_ []byte, more bool, _ error) {
	cs, err := events.ParseChunks(nil, b)
	if err != nil {
		return b, true, nil // who reads it says so
	}
	plain := true
	for i := range cs {
		plain = plain && cs[i].Kind&events.Sealed == 0 && cs[i].Kind != events.ChunkKey
	}
	if plain {
		return b, true, nil
	}
	var out []byte
	for i := range cs {
		c := &cs[i]
		if c.Kind == events.ChunkKey {
			if err := o.key(c.Data); err != nil {
				return nil, false, err
			}
			continue
		}
		if c.Kind&events.Sealed != 0 {
			if err := o.open(c); err != nil {
				return nil, false, err
			}
		}
		if out == nil {
			out = []byte{events.Pieces}
		}
		out = events.AppendPiece(out, c)
	}
	return out, out != nil, nil
}

// key notes a key. One of others is noted as that: what it opens is theirs.
func (o *Opener) key(b []byte) error {
	if len(b) < 1+idSize || b[0] != version {
		return errPiece
	}
	id := [idSize]byte(b[1:])
	if o.keys[id] != nil {
		return nil // who follows reads it again; no other one takes its place
	}
	k := new(opening)
	o.keys[id] = k
	if len(o.ids) == 0 {
		return nil
	}
	r, err := age.Decrypt(bytes.NewReader(b[1+idSize:]), o.ids...)
	if no := (*age.NoIdentityMatchError)(nil); errors.As(err, &no) {
		return nil
	}
	var key []byte
	if err == nil {
		key, err = io.ReadAll(io.LimitReader(r, keySize+1))
	}
	defer clear(key)
	if err != nil || len(key) != keySize {
		return fmt.Errorf("%w: its key", errPiece)
	}
	k.aead, err = newAEAD(key)
	return err
}

// open makes of a sealed piece what it was.
func (o *Opener) open(c *events.Chunk) error {
	if len(c.Data) < events.SealedRoom {
		return errPiece
	}
	k := o.keys[[idSize]byte(c.Data)]
	switch {
	case k == nil:
		return cmp.Or(o.missed, errNoKey)
	case k.aead == nil:
		return ErrSealed
	}
	n := k.aead.NonceSize()
	count := binary.BigEndian.Uint64(c.Data[idSize:n])
	text, err := k.aead.Open(nil, c.Data[:n], c.Data[n:], bound(nil, o.host, o.session, c))
	if err != nil || count <= k.count { // the pieces of one answer may be of one time
		return errPiece
	}
	k.count = count
	c.Kind, c.Data = c.Kind&^events.Sealed, text
	return nil
}
