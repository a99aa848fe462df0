package tlsport

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// signTime bounds the signer's answer.
	signTime = 5 * time.Second
	// maxLeaves bounds what is kept: names come from the configuration, but the
	// addresses of a prefix are many.
	maxLeaves = 4096
)

// Leaves presents certificates of this host's authority. Its zero value
// presents none.
type Leaves struct {
	now  func() time.Time
	slot chan struct{} // one request at a time
	conn net.Conn
	next uint64

	mu   sync.Mutex
	have map[string]*tls.Certificate
}

// NewLeaves returns Leaves that a signer at the other end of conn signs.
func NewLeaves(conn net.Conn, now func() time.Time) *Leaves {
	return &Leaves{now: now, slot: make(chan struct{}, 1), conn: conn, have: map[string]*tls.Certificate{}}
}

// maxNames bounds the names in one leaf, in bytes: a message has room for it.
const maxNames = 1024

// Config returns what an agent's door is secured with. answers tells the
// resource's DNS names; an agent that asks for another (by SNI) is refused. One
// that asks for none gets a leaf for address, the one that it dialled, and all:
// Java asks for no name without a dot, and libpq before version 14 for none.
func (l *Leaves) Config(answers func(string) bool, address string, all ...string) *tls.Config {
	unasked, size := []string{address}, 0
	for _, n := range all {
		if size += len(n); size > maxNames {
			break
		}
		unasked = append(unasked, n)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			name := strings.ToLower(h.ServerName)
			if name == "" {
				return l.get(h.Context(), unasked)
			}
			if !answers(name) {
				return nil, errors.New("the client asks for a name that is not the resource's")
			}
			return l.get(h.Context(), []string{name})
		},
	}
}

// get returns the leaf of some names, which has at least a third of its life
// before it.
func (l *Leaves) get(ctx context.Context, names []string) (*tls.Certificate, error) {
	name := strings.Join(names, " ")
	if c := l.fresh(name); c != nil {
		return c, nil
	}
	select {
	case l.slot <- struct{}{}:
		defer func() { <-l.slot }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c := l.fresh(name); c != nil { // somebody else asked
		return c, nil
	}
	c, err := l.mint(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("a certificate for %q: %w", name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.have) >= maxLeaves {
		clear(l.have)
	}
	l.have[name] = c
	return c, nil
}

func (l *Leaves) fresh(name string) *tls.Certificate {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.have[name]
	if c == nil {
		return nil
	}
	if life := c.Leaf.NotAfter.Sub(c.Leaf.NotBefore); l.now().After(c.Leaf.NotBefore.Add(life * 2 / 3)) {
		return nil
	}
	return c
}

// mint makes a key and has it signed. The key never leaves this process.
func (l *Leaves) mint(ctx context.Context, names []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := ask{Names: names}
	if a.Key, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		return nil, err
	}
	chain, err := l.ask(ctx, &a)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, err
	}
	if pub, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(key.Public()) {
		return nil, errors.New("the signer has signed another key")
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

// ask is one request; the slot is held. A signer that was started again answers
// no request of before.
func (l *Leaves) ask(ctx context.Context, a *ask) ([][]byte, error) {
	if l.conn == nil {
		return nil, errors.New("there is no signer")
	}
	l.next++
	a.ID = l.next
	b, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	end := time.Now().Add(signTime)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	if err := l.conn.SetDeadline(end); err != nil {
		return nil, err
	}
	if _, err := l.conn.Write(b); err != nil {
		return nil, signerGone(err)
	}
	buf := make([]byte, maxAnswer)
	for {
		n, err := l.conn.Read(buf)
		if err != nil || n == 0 {
			return nil, signerGone(err)
		}
		var out answer
		if err := json.NewDecoder(bytes.NewReader(buf[:n])).Decode(&out); err != nil {
			return nil, errors.New("the signer's answer is none")
		}
		switch {
		case out.ID != a.ID: // to somebody who did not wait
		case out.Error != "":
			return nil, errors.New(out.Error)
		case len(out.Chain) == 0:
			return nil, errors.New("the signer's answer is none")
		default:
			return out.Chain, nil
		}
	}
}

func signerGone(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("the signer does not answer")
	}
	return fmt.Errorf("the signer can't be asked: %w", err)
}
