package journal

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"sallyport.dev/sallyport/events"
)

const (
	chainName   = "chain"
	literalName = "literal.key"
	hostName    = "host.key"
)

// keys are the secrets of the folder, each in a file of mode 0600.
type keys struct {
	literal []byte
	host    ed25519.PrivateKey
}

// LiteralKey returns the key of events.Digest: HMAC-SHA-256 with it says
// whether a literal had a value, for whoever holds the key. 32 bytes, made at
// the folder's birth.
func (j *Journal) LiteralKey() []byte { return append([]byte(nil), j.keys.literal...) }

// HostKey returns the public key of the checkpoints.
func (j *Journal) HostKey() ed25519.PublicKey { return j.keys.host.Public().(ed25519.PublicKey) }

// ReadHostKey returns the public key of a folder's checkpoints, without opening
// the journal.
func ReadHostKey(folder string) (ed25519.PublicKey, error) {
	b, err := read(Dir(folder), hostName)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	seed, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("journal: %s in %s is missing or damaged", hostName, folder)
	}
	return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey), nil
}

func (k *keys) load(fs FS) error {
	seed, err := secret(fs, literalName)
	if err != nil {
		return err
	}
	k.literal = seed
	if seed, err = secret(fs, hostName); err != nil {
		return err
	}
	k.host = ed25519.NewKeyFromSeed(seed)
	return nil
}

// secret reads 32 random bytes, in hex, or makes them.
func secret(fs FS, name string) ([]byte, error) {
	b, err := read(fs, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if b == nil {
		b = make([]byte, 32)
		rand.Read(b) // never fails
		if err := replace(fs, name, append(hex.AppendEncode(nil, b), '\n')); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return b, nil
	}
	s, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(s) != 32 {
		return nil, fmt.Errorf("%s: damaged: restore it from a backup", name)
	}
	return s, nil
}

func newChain() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func newSalt() uint32 {
	var b [4]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint32(b[:])
}

// checkpoint appends the signed head of the chain, if it moved.
func (j *Journal) checkpoint() {
	seq, hash := j.Head()
	if seq == 0 || seq == j.marked {
		return
	}
	note := events.SignHead(events.SignedHead{Host: j.o.Host, Chain: j.chain, Seq: seq, Hash: hash}, j.keys.host)
	if j.o.Vouch != nil {
		note = j.o.Vouch(note)
	}
	// Refused: the next one covers it.
	if at, err := j.append(&events.Event{Kind: events.Checkpoint, Time: j.o.Now(), Message: note}, false); err == nil {
		j.marked = at
	}
}

// Head is a place in a chain.
type Head struct {
	Chain string
	Seq   uint64
	Hash  [32]byte
}

// ParseCheckpoint verifies the message of a Checkpoint event with the host's
// key and returns the head that it signs.
func ParseCheckpoint(note string, key ed25519.PublicKey) (Head, error) {
	h, err := events.ParseSignedHead(note)
	if err != nil {
		return Head{}, fmt.Errorf("journal: %w", err)
	}
	if !h.SignedBy(key) {
		return Head{}, errors.New("journal: a checkpoint that the host's key did not sign")
	}
	return Head{h.Chain, h.Seq, h.Hash}, nil
}
