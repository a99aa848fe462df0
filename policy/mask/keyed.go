package mask

import (
	"crypto/aes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"sync"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// Names of the keyed masks. They are applied on output, by a Masker, and only
// where a value can be followed from its column to the client. Everywhere else
// they are Redact.
const (
	Hash   = "hash"
	Token  = "token"
	Format = "format"
	Fake   = "fake"
)

// KeyedNames lists them.
var KeyedNames = []string{Hash, Token, Format, Fake}

// Keyed reports whether a mask needs a key.
func Keyed(m policy.Mask) bool { return slices.Contains(KeyedNames, m.Kind) }

// unkeyed is what a keyed mask is where there is no key.
func unkeyed(m policy.Mask) policy.Mask {
	if Keyed(m) {
		return policy.Mask{Kind: Redact}
	}
	return m
}

// Fakes are what a fake may be of.
var Fakes = []string{"name", "street", "city", "email"}

// HasOutput reports whether a keyed mask has a form for a type: one of
// PostgreSQL's built-in types, by name. Where it has none the column is
// redacted.
func HasOutput(m policy.Mask, typ string) bool {
	switch {
	case !Keyed(m) || Check(m) != nil:
		return false
	case isText(typ):
		return true
	}
	return m.Kind == Token && (typ == "uuid" || typ == "int4" || typ == "int8")
}

// MaxValue is the size of the largest value that a Masker looks at, in bytes.
// What is larger is NULL.
const MaxValue = 64 << 10

// Keys is the secret that keyed masks are made with. Each field and kind of
// mask has a key of its own, derived from it (HKDF-Expand, RFC 5869), so that
// the same value in two columns does not show as the same. It is safe for
// concurrent use.
type Keys struct {
	mu   sync.Mutex
	root []byte // nil: it is gone
}

// ParseKeys reads a key file, as events.ParseKey does.
func ParseKeys(b []byte) (*Keys, error) {
	root, err := events.ParseKey("masking", b)
	if err != nil {
		return nil, err
	}
	return &Keys{root: root}, nil
}

// Close clears the key: no Masker can be made of it any more. Those that were
// made keep their own, which Go offers no way to clear.
func (k *Keys) Close() {
	if k == nil {
		return
	}
	k.mu.Lock()
	clear(k.root)
	k.root = nil
	k.mu.Unlock()
}

// Masker shows the values of one field of one type under one keyed mask. It
// belongs to one goroutine. The nil Masker shows NULL.
type Masker struct {
	mask policy.Mask
	typ  string
	mac  hash.Hash
	ff1  *ff1 // of format, and of numbers
	sum  [sha256.Size]byte
	text format
}

// Masker returns what shows the values of a column; nil, which shows NULL, where the
// mask has no form for the type or the key is gone.
func (k *Keys) Masker(of policy.Relation, column string, m policy.Mask, typ string) *Masker {
	if k == nil || !HasOutput(m, typ) {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.root == nil {
		return nil
	}
	info := fmt.Sprintf("sallyport mask 1\x00%s\x00%s\x00%s\x00%s\x00%s", m.Kind, m.Of, of.Schema, of.Name, column)
	key, err := hkdf.Expand(sha256.New, k.root, info, 2*sha256.Size)
	if err != nil {
		return nil
	}
	defer clear(key)
	block, err := aes.NewCipher(key[sha256.Size:])
	if err != nil {
		return nil
	}
	return &Masker{
		mask: m, typ: typ, mac: hmac.New(sha256.New, key[:sha256.Size]), ff1: &ff1{block: block},
		text: format{shape: make([]byte, 0, maxFormat), digits: make([]byte, 0, maxFormat)},
	}
}

// Append appends what m shows in place of a value that is not NULL, in the
// form in which the value came: text, or binary as PostgreSQL sends its type.
// ok is false where NULL takes its place. Value is borrowed for the call.
func (m *Masker) Append(dst, value []byte, binary bool) (out []byte, ok bool) {
	if m == nil || len(value) > MaxValue {
		return dst, false
	}
	switch m.typ {
	case "uuid":
		return m.uuid(dst, value, binary)
	case "int4":
		return m.integer(dst, value, binary, 32)
	case "int8":
		return m.integer(dst, value, binary, 64)
	case "bpchar":
		for len(value) > 0 && value[len(value)-1] == ' ' { // padding
			value = value[:len(value)-1]
		}
	}
	switch m.mask.Kind {
	case Hash:
		return hex.AppendEncode(dst, m.tag(value)[:16]), true
	case Token:
		return appendToken(dst, m.tag(value)), true
	case Format:
		if out, ok := m.text.append(dst, value, m.ff1); ok {
			return out, true
		}
		return append(dst, defaultConstant...), true
	case Fake:
		return appendFake(dst, m.mask.Of, m.tag(value)), true
	}
	return dst, false
}

// tag is the HMAC-SHA-256 of a value, good until the next.
func (m *Masker) tag(value []byte) []byte {
	m.mac.Reset()
	m.mac.Write(value)
	return m.mac.Sum(m.sum[:0])
}
