package events

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// SignedHead is what the message of a Checkpoint event says: a note (C2SP
// signed-note) over the head of a host's chain,
//
//	sallyport/<host>/<chain>
//	<number of the record>
//	<its hash, base64>
//	ed25519 <the host's public key, base64>
//
//	— sallyport/<host> <key id and signature, base64>
//
// Key is what the note says of itself: whose it is has to be known from elsewhere, or
// from a Vouching, nil where there is none. Notes of hosts that are older have no line
// for the key, and a Key of nil.
type SignedHead struct {
	Host  string
	Chain string
	Seq   uint64
	Hash  [32]byte
	Key   ed25519.PublicKey
	// Vouching is the word of the host's identity for Key; SignHead does not take it.
	Vouching *Vouching

	text, sig []byte
}

const (
	notePrefix = "sallyport/"
	noteKey    = "ed25519 "
)

// SignHead returns the note over a head.
func SignHead(h SignedHead, key ed25519.PrivateKey) string {
	name := notePrefix + h.Host
	pub := key.Public().(ed25519.PublicKey)
	b64 := base64.StdEncoding.EncodeToString
	text := fmt.Sprintf("%s/%s\n%d\n%s\n%s%s\n", name, h.Chain, h.Seq, b64(h.Hash[:]), noteKey, b64(pub))
	return text + "\n— " + name + " " + b64(append(noteKeyID(name, pub), ed25519.Sign(key, []byte(text))...)) + "\n"
}

func noteKeyID(name string, key ed25519.PublicKey) []byte {
	sum := sha256.Sum256(append([]byte(name+"\n\x01"), key...))
	return sum[:4:4]
}

// ParseSignedHead reads a note. Who signed it is not known until SignedBy says so.
func ParseSignedHead(note string) (h SignedHead, err error) {
	text, sigLine, ok := strings.Cut(note, "\n\n")
	text += "\n"
	lines := strings.Split(text, "\n")
	if !ok || len(lines) < 4 || len(lines) > 5 {
		return h, errors.New("not a checkpoint")
	}
	i := strings.LastIndexByte(lines[0], '/')
	if i < len(notePrefix) || !strings.HasPrefix(lines[0], notePrefix) {
		return h, errors.New("a checkpoint without an origin")
	}
	h.Host, h.Chain = lines[0][len(notePrefix):i], lines[0][i+1:]
	if h.Seq, err = strconv.ParseUint(lines[1], 10, 64); err != nil {
		return h, fmt.Errorf("checkpoint: %w", err)
	}
	hash, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(hash) != len(h.Hash) {
		return h, errors.New("a checkpoint without a hash")
	}
	copy(h.Hash[:], hash)
	if len(lines) == 5 {
		rest, ok := strings.CutPrefix(lines[3], noteKey)
		key, err := base64.StdEncoding.DecodeString(rest)
		if !ok || err != nil || len(key) != ed25519.PublicKeySize {
			return h, errors.New("a checkpoint whose fourth line is no key")
		}
		h.Key = key
	}
	sigLine, second, _ := strings.Cut(strings.TrimSuffix(sigLine, "\n"), "\n")
	if second != "" {
		if h.Vouching, err = parseVouching(second); err != nil {
			return h, err
		}
	}
	rest, ok := strings.CutPrefix(sigLine, "— "+notePrefix+h.Host+" ")
	sig, err := base64.StdEncoding.DecodeString(rest)
	if !ok || err != nil || len(sig) != 4+ed25519.SignatureSize {
		return h, errors.New("a checkpoint without the host's signature")
	}
	h.text, h.sig = []byte(text), sig
	return h, nil
}

// SignedBy reports whether key signed the note.
func (h *SignedHead) SignedBy(key ed25519.PublicKey) bool {
	return len(key) == ed25519.PublicKeySize && len(h.sig) == 4+ed25519.SignatureSize &&
		bytes.Equal(h.sig[:4], noteKeyID(notePrefix+h.Host, key)) && ed25519.Verify(key, h.text, h.sig[4:])
}

// HostKeys are the public keys with which hosts sign, by the host's name. A host
// may have several: those that it had before.
type HostKeys map[string][]ed25519.PublicKey

// HostKeyLine returns a host's key in the form of signed notes, NAME+ID+KEY, which
// ReadHostKeys reads.
func HostKeyLine(host string, key ed25519.PublicKey) string {
	name := notePrefix + host
	return name + "+" + hex.EncodeToString(noteKeyID(name, key)) + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, key...))
}

// ReadHostKeys reads a file of keys, one on a line as HostKeyLine writes it. Empty
// lines, and those that begin with #, say nothing.
func ReadHostKeys(file string) (HostKeys, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("host keys: %w", err)
	}
	keys := HostKeys{}
	in := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		host, key, err := parseHostKey(line)
		if err != nil {
			return nil, fmt.Errorf("host keys: %s, line %d: %w (sallyport verify --journal prints a host's)", file, n, err)
		}
		keys[host] = append(keys[host], key)
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("host keys: %s: %w", file, err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("host keys: %s has none (sallyport verify --journal prints a host's)", file)
	}
	return keys, nil
}

func parseHostKey(line string) (host string, key ed25519.PublicKey, err error) {
	name, rest, _ := strings.Cut(line, "+")
	id, text, _ := strings.Cut(rest, "+")
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) != 1+ed25519.PublicKeySize || b[0] != 1 || !strings.HasPrefix(name, notePrefix) {
		return "", nil, errors.New("not a key of the form sallyport/HOST+ID+KEY")
	}
	if key = b[1:]; hex.EncodeToString(noteKeyID(name, key)) != id {
		return "", nil, errors.New("the key's id is not that of this name and key")
	}
	return name[len(notePrefix):], key, nil
}
