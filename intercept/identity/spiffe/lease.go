package spiffe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Lease is a session's hold on the identity of its process. It is safe for
// concurrent use.
type Lease struct {
	prove   func(context.Context) error
	p       *process
	g       *grant
	release sync.Once
}

// Identity returns the identity as the agent told it last: its Expires moves
// when the SVID is renewed.
func (l *Lease) Identity() Identity {
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	is := l.g.is
	is.Thumbprints = slices.Clone(is.Thumbprints)
	return is
}

// Done is closed when the identity has ended: withdrawn, expired, its process
// gone or another, or the Attestor closed. The session must end then.
func (l *Lease) Done() <-chan struct{} { return l.g.done }

// Err says why it has ended, nil while it has not.
func (l *Lease) Err() error { return l.g.check() }

// Release gives the lease back, when its connection is closed at the latest. A
// process without leases is forgotten after a while.
func (l *Lease) Release() { l.release.Do(func() { l.p.leave(l) }) }

// JWT has the agent make a JWT-SVID of the identity for the audience: the
// process is attested for it, and held to the same proof.
func (l *Lease) JWT(ctx context.Context, audience ...string) (*jwtsvid.SVID, error) {
	if err := l.Err(); err != nil {
		return nil, err
	}
	p := l.p
	ctx, cancel := context.WithTimeout(ctx, p.a.c.Wait)
	defer cancel()
	list, err := p.a.api.JWT(ctx, p.pid, audience)
	if err != nil {
		return nil, classify(err)
	}
	if err := p.proved(ctx); err != nil {
		return nil, err
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	return p.a.own.pickJWT(list, l.Identity().ID, audience)
}

// GetX509SVID implements x509svid.Source where Config.Keys is set: the passage
// can present the workload's own SVID to a server.
func (l *Lease) GetX509SVID() (*x509svid.SVID, error) {
	if err := l.Err(); err != nil {
		return nil, err
	}
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	if l.g.svid == nil {
		return nil, errors.New("SPIFFE: the keys of workloads are not kept: set identity.spiffe.keys")
	}
	return l.g.svid, nil
}

// classify says of an agent's error whether it is an answer.
func classify(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrNobody), errors.Is(err, ErrUnavailable), errors.Is(err, ErrGone), errors.Is(err, errIdle):
		return err
	case refused(err):
		return fmt.Errorf("%w: the agent refuses: %w", ErrNobody, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
