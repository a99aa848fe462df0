package tlsport

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// The signer is a process of its own: it alone reads the authority's key. What
// it is asked comes as one message each over a packet socket (unixpacket), and
// names one of those that it was told to sign for.

// maxAsk and maxAnswer bound messages, in bytes.
const (
	maxAsk    = 4096
	maxAnswer = 64 << 10
)

// ask is a request for a leaf; answer is what comes back.
type ask struct {
	ID    uint64
	Names []string // a leaf is for those of them that may be signed for
	Key   []byte   // SubjectPublicKeyInfo, DER
}

type answer struct {
	ID    uint64
	Chain [][]byte `json:",omitempty"` // DER, the leaf first
	Error string   `json:",omitempty"`
}

// A Signer answers requests for leaves.
type Signer struct {
	authority *Authority
	now       func() time.Time

	mu   sync.Mutex
	only Permitted
}

// NewSigner returns a Signer that signs for nobody yet.
func NewSigner(a *Authority, now func() time.Time) *Signer { return &Signer{authority: a, now: now} }

// Allow replaces what is signed for. A name that begins with a dot is none.
func (s *Signer) Allow(p Permitted) {
	s.mu.Lock()
	s.only = p
	s.mu.Unlock()
}

// allowed reports whether a name or an address is signed for.
func (p *Permitted) allowed(name string) bool {
	if a, err := netip.ParseAddr(name); err == nil {
		return slices.ContainsFunc(p.Prefixes, func(f netip.Prefix) bool { return f.Contains(a.Unmap()) })
	}
	return slices.ContainsFunc(p.Names, func(n string) bool { return strings.EqualFold(n, name) })
}

// Serve answers until reading fails, io.EOF included. conn keeps the boundaries
// of messages.
func (s *Signer) Serve(conn io.ReadWriter) error {
	buf := make([]byte, maxAsk)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		var a ask
		if err := json.Unmarshal(buf[:n], &a); err != nil {
			return fmt.Errorf("a request that is none: %w", err)
		}
		out := answer{ID: a.ID}
		if out.Chain, err = s.sign(&a); err != nil {
			out.Error = err.Error()
		}
		b, err := json.Marshal(out)
		if err != nil {
			return err
		}
		if _, err := conn.Write(b); err != nil {
			return err
		}
	}
}

func (s *Signer) sign(a *ask) ([][]byte, error) {
	if len(a.Names) == 0 {
		return nil, errors.New("no name was given")
	}
	first := a.Names[0]
	s.mu.Lock()
	listed := slices.DeleteFunc(a.Names, func(n string) bool { return !s.only.allowed(n) })
	s.mu.Unlock()
	if len(listed) == 0 {
		return nil, fmt.Errorf("%q is not a name of a resource", first)
	}
	pub, err := x509.ParsePKIXPublicKey(a.Key)
	if err != nil {
		return nil, errors.New("an unreadable public key")
	}
	return s.authority.SignAny(pub, listed, s.now())
}
