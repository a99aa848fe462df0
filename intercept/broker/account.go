package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"

	"sallyport.dev/sallyport/intercept"
)

// ErrNobody: no account is for the identity.
var ErrNobody = errors.New("no account of this resource is for this identity")

// ErrUnchanged: the source still has what the server has refused.
var ErrUnchanged = errors.New("the source has nothing newer than what the server refused")

// Credential is what proves an account. The taker wipes it.
type Credential struct {
	User     string // of the database, where the source makes it up, else ""
	Password []byte // or a token; nil for none
	Version  uint64 // not 0; another secret of the same source has another
	// Release, when not nil, is called once, when the session that uses it has
	// ended.
	Release func()
}

// Wipe overwrites the secret.
func (c *Credential) Wipe() {
	clear(c.Password)
	c.Password = nil
}

// Source is where the credentials of an account come from. It may be used by
// many at a time.
type Source interface {
	// Credential returns one for a user. refused is the Version of what the
	// server has just refused, 0 for none: the source looks afresh then, and
	// answers ErrUnchanged if there is nothing newer.
	Credential(ctx context.Context, user string, refused uint64) (Credential, error)
}

// Certifier is a Source that proves an account by a client certificate, in TLS.
type Certifier interface {
	Source
	// Certificate returns the one to show from now on.
	Certificate(ctx context.Context) (*tls.Certificate, error)
}

// Account is one entry of a resource's list.
type Account struct {
	For    Who
	User   Template // "" where the source makes users up
	Origin string   // for the record: where they come from then
	Role   Template // that the session runs as, "" for the user itself
	Source Source
}

// Choose returns the first account that is for an identity, as a grant for one
// session. ErrNobody when there is none. An account whose names can't be made of
// the identity is an error, and none behind it is looked at.
func Choose(accounts []Account, id *intercept.Identity) (*Grant, error) {
	i := slices.IndexFunc(accounts, func(a Account) bool { return a.For.Is(id) })
	if i < 0 {
		return nil, ErrNobody
	}
	a := &accounts[i]
	g := &Grant{Index: i, source: a.Source}
	var err error
	if g.User, err = a.User.For(id); err == nil {
		g.Role, err = a.Role.For(id)
	}
	if err != nil {
		return nil, fmt.Errorf("account %d of this resource: %w", i+1, err)
	}
	g.named = g.User
	if g.User == "" {
		g.User = a.Origin
	}
	return g, nil
}

// Grant is an account for one session.
type Grant struct {
	Index int    // in the list
	User  string // of the database, or where it comes from
	Role  string

	source Source
	named  string

	mu      sync.Mutex
	version uint64
	release []func()
	ended   bool
}

// Credential returns what to log in with. again: the server has refused the
// last one.
func (g *Grant) Credential(ctx context.Context, again bool) (Credential, error) {
	var refused uint64
	g.mu.Lock()
	if again {
		refused = g.version
	}
	g.mu.Unlock()
	c, err := g.source.Credential(ctx, g.named, refused)
	if err != nil {
		return Credential{}, err
	}
	if c.User == "" {
		c.User = g.named
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.version = c.Version
	if c.Release != nil && g.ended {
		go c.Release()
	} else if c.Release != nil {
		g.release = append(g.release, c.Release)
	}
	c.Release = nil
	return c, nil
}

// Certificate returns the client certificate to show, nil for none.
func (g *Grant) Certificate(ctx context.Context) (*tls.Certificate, error) {
	if s, ok := g.source.(Certifier); ok {
		return s.Certificate(ctx)
	}
	return nil, nil
}

// End gives back what the session had. It may wait for the source.
func (g *Grant) End() {
	g.mu.Lock()
	all := g.release
	g.release, g.ended = nil, true
	g.mu.Unlock()
	for _, f := range all {
		f()
	}
}
