package journal

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
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
	// Refused: the next one covers it.
	if at, err := j.append(&events.Event{
		Kind: events.Checkpoint, Time: j.o.Now(),
		Message: signCheckpoint(j.o.Host, j.keys.host, Head{j.chain, seq, hash}),
	}, false); err == nil {
		j.marked = at
	}
}

// Head is a place in a chain.
type Head struct {
	Chain string
	Seq   uint64
	Hash  [32]byte
}

// signCheckpoint returns a note (C2SP signed-note) over a head: the origin
// "sallyport/<host>/<chain>", the number of records, the last one's hash.
func signCheckpoint(host string, key ed25519.PrivateKey, h Head) string {
	name := "sallyport/" + host
	text := fmt.Sprintf("%s/%s\n%d\n%s\n", name, h.Chain, h.Seq, base64.StdEncoding.EncodeToString(h.Hash[:]))
	sig := append(keyID(name, key.Public().(ed25519.PublicKey)), ed25519.Sign(key, []byte(text))...)
	return text + "\n— " + name + " " + base64.StdEncoding.EncodeToString(sig) + "\n"
}

func keyID(name string, key ed25519.PublicKey) []byte {
	sum := sha256.Sum256(append([]byte(name+"\n\x01"), key...))
	return append([]byte(nil), sum[:4]...)
}

// ParseCheckpoint verifies the message of a Checkpoint event with the host's
// key and returns the head that it signs.
func ParseCheckpoint(note string, key ed25519.PublicKey) (Head, error) {
	var h Head
	text, sigLine, ok := strings.Cut(note, "\n\n")
	text += "\n"
	lines := strings.Split(text, "\n")
	if !ok || len(lines) != 4 || len(key) != ed25519.PublicKeySize {
		return h, errors.New("journal: not a checkpoint")
	}
	i := strings.LastIndexByte(lines[0], '/')
	if i < 0 {
		return h, errors.New("journal: a checkpoint without an origin")
	}
	name := lines[0][:i]
	rest, ok := strings.CutPrefix(strings.TrimSuffix(sigLine, "\n"), "— "+name+" ")
	sig, err := base64.StdEncoding.DecodeString(rest)
	if !ok || err != nil || len(sig) != 4+ed25519.SignatureSize ||
		string(sig[:4]) != string(keyID(name, key)) || !ed25519.Verify(key, []byte(text), sig[4:]) {
		return h, errors.New("journal: a checkpoint that the host's key did not sign")
	}
	h.Chain = lines[0][i+1:]
	if h.Seq, err = strconv.ParseUint(lines[1], 10, 64); err != nil {
		return h, fmt.Errorf("journal: checkpoint: %w", err)
	}
	hash, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(hash) != 32 {
		return h, errors.New("journal: a checkpoint without a hash")
	}
	copy(h.Hash[:], hash)
	return h, nil
}
