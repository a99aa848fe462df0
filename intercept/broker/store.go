package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Store holds secrets that somebody else reads for this process, which may not
// open their files.
type Store struct {
	// Refresh has them read again, and returns when Replace was called with what
	// was found. nil where nobody can.
	Refresh func(context.Context) error

	mu      sync.Mutex
	files   map[string]entry
	counter uint64

	refreshing sync.Mutex
	refreshed  time.Time
}

type entry struct {
	secret  []byte
	version uint64
}

// Replace takes secrets by the names of their files, in place of all it had.
// What is not in use any more is overwritten. The maps' bytes are the store's
// from now on.
func (s *Store) Replace(files map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := make(map[string]entry, len(files))
	for name, secret := range files {
		if was := s.files[name]; was.version != 0 && bytes.Equal(was.secret, secret) {
			clear(secret)
			now[name] = was
			delete(s.files, name)
			continue
		}
		s.counter++
		now[name] = entry{secret, s.counter}
	}
	for _, old := range s.files {
		clear(old.secret)
	}
	s.files = now
}

// get returns a copy of a secret.
func (s *Store) get(name string) ([]byte, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.files[name]
	if !ok {
		return nil, 0, fmt.Errorf("%s: it has not been read", name)
	}
	return bytes.Clone(e.secret), e.version, nil
}

// Get returns a copy of a secret, and its version. It looks afresh if refused
// is that version: ErrUnchanged when that brings nothing newer.
func (s *Store) Get(ctx context.Context, name string, refused uint64) ([]byte, uint64, error) {
	secret, version, err := s.get(name)
	if err != nil || version != refused {
		return secret, version, err
	}
	clear(secret)
	if err := s.Renew(ctx); err != nil {
		return nil, 0, fmt.Errorf("%s: read it again: %w", name, err)
	}
	if secret, version, err = s.get(name); err == nil && version == refused {
		clear(secret)
		return nil, 0, ErrUnchanged
	}
	return secret, version, err
}

// refreshEvery is the least time between two looks: a client that is refused
// again and again makes no more of them.
const refreshEvery = time.Second

// Renew looks afresh at all secrets, unless that was done a moment ago.
func (s *Store) Renew(ctx context.Context) error {
	if s.Refresh == nil {
		return ErrUnchanged
	}
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	if time.Since(s.refreshed) < refreshEvery {
		return nil
	}
	if err := s.Refresh(ctx); err != nil {
		return err
	}
	s.refreshed = time.Now()
	return nil
}

// Password is a Source: what stands in a file, without the newline at its end.
type Password struct {
	Store *Store
	File  string
}

// Credential implements Source.
func (p Password) Credential(ctx context.Context, _ string, refused uint64) (Credential, error) {
	secret, version, err := p.Store.Get(ctx, p.File, refused)
	if err != nil {
		return Credential{}, err
	}
	trimmed := bytes.TrimRight(secret, "\r\n")
	if len(trimmed) == 0 {
		return Credential{}, fmt.Errorf("%s: it is empty", p.File)
	}
	return Credential{Password: trimmed, Version: version}, nil
}

// KeyPair is a Certifier: a certificate and its key in PEM form.
type KeyPair struct {
	Store     *Store
	Cert, Key string // files
}

// Credential implements Source: there is no secret to be said.
func (k KeyPair) Credential(ctx context.Context, _ string, refused uint64) (Credential, error) {
	_, version, err := k.Store.Get(ctx, k.Cert, refused)
	return Credential{Version: version}, err
}

// Certificate implements Certifier.
func (k KeyPair) Certificate(ctx context.Context) (*tls.Certificate, error) {
	cert, _, err := k.Store.Get(ctx, k.Cert, 0)
	if err != nil {
		return nil, err
	}
	key, _, err := k.Store.Get(ctx, k.Key, 0)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	c, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("client certificate %s with key %s: %w", k.Cert, k.Key, err)
	}
	return &c, nil
}

// Certified is a Certifier of certificates that another package keeps fresh: an
// SVID of this host's own.
type Certified func(context.Context) (*tls.Certificate, error)

// Credential implements Source: there is no secret to be said.
func (f Certified) Credential(context.Context, string, uint64) (Credential, error) {
	return Credential{Version: 1}, nil
}

// Certificate implements Certifier.
func (f Certified) Certificate(ctx context.Context) (*tls.Certificate, error) {
	c, err := f(ctx)
	if err == nil && c == nil {
		err = errors.New("there is no certificate")
	}
	return c, err
}

var (
	_ Source    = Password{}
	_ Certifier = KeyPair{}
	_ Certifier = Certified(nil)
)
