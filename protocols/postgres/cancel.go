package postgres

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// cancelKey is what a CancelRequest names a session by, at one destination.
type cancelKey struct {
	destination netip.AddrPort
	key         string // process id and secret
}

// keyFits reports whether a process id and its secret have n bytes: 4 of each
// in protocol 3.0, and from 3.2 on (PostgreSQL 18) up to 256 of the secret.
func keyFits(n int64) bool { return n >= 4+4 && n <= 4+256 }

// remember notes the key by which a session may be cancelled (the body of
// BackendKeyData).
func (p *Protocol) remember(c *conn, body []byte) {
	if !keyFits(int64(len(body))) {
		return
	}
	c.cancel = &cancelKey{destination: c.event.Destination, key: string(body)}
	p.mu.Lock()
	p.cancels[*c.cancel] = c
	p.mu.Unlock()
}

func (p *Protocol) forget(c *conn) {
	if c.cancel == nil {
		return
	}
	p.mu.Lock()
	if p.cancels[*c.cancel] == c {
		delete(p.cancels, *c.cancel)
	}
	p.mu.Unlock()
}

// forward sends a cancel request to the server if its key is that of a session
// of the same identity; any other is ignored, as the server does.
func (p *Protocol) forward(from *conn, key []byte) error {
	p.mu.Lock()
	to := p.cancels[cancelKey{from.event.Destination, string(key)}]
	p.mu.Unlock()
	if to == nil || !sameIdentity(from, to) && !sameProcess(from, to) {
		return nil
	}
	if to.withdrawHeld() {
		return nil
	}
	ctx, stop := context.WithTimeout(from.ctx, 10*time.Second)
	defer stop()
	if err := to.s.Aside(ctx, to.login, to.cancel.request()); err != nil {
		return gone("server", err)
	}
	return nil
}

// sameIdentity reads what never changes in a session: a renewed identity is
// one of the same subject.
func sameIdentity(a, b *conn) bool {
	x, y := a.event, b.event
	return x.Workload == y.Workload && x.SPIFFE == y.SPIFFE && x.PrincipalIssuer == y.PrincipalIssuer && x.Issuer == y.Issuer && x.Actor == y.Actor && x.Principal == y.Principal && slices.Equal(x.Actors, y.Actors)
}
