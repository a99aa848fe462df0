package spiffe

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
)

// Sessions joins an Attestor to an identity.Binder: it is the Binder's prover
// and its attester, so that it knows which workload the loader has proved a
// connection to be of, and keeps the connection's lease until Release. Peers
// are told apart by their address: a connection's must stay where it is.
type Sessions struct {
	attestor *Attestor
	prover   intercept.Prover

	mu  sync.Mutex
	ids map[string][]spiffeid.ID // that a workload's processes may have
	of  map[*intercept.Peer]*session
}

type session struct {
	workload string
	lease    *Lease
}

// NewSessions returns Sessions that prove with p. ids are those that the
// processes of a workload may have, by its name.
func NewSessions(a *Attestor, p intercept.Prover, ids map[string][]spiffeid.ID) *Sessions {
	return &Sessions{attestor: a, prover: p, ids: ids, of: map[*intercept.Peer]*session{}}
}

// SetIDs replaces the lists of all workloads for later connections.
func (s *Sessions) SetIDs(ids map[string][]spiffeid.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = ids
}

// Prove implements intercept.Prover.
func (s *Sessions) Prove(ctx context.Context, peer *intercept.Peer) (intercept.Proof, error) {
	pr, err := s.prover.Prove(ctx, peer)
	if err != nil {
		return pr, err
	}
	s.Proved(peer, pr.Workload)
	return pr, nil
}

// Proved implements identity.Acquainted.
func (s *Sessions) Proved(peer *intercept.Peer, workload string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.of[peer]; x == nil || x.workload != workload {
		s.release(peer)
		s.of[peer] = &session{workload: workload}
	}
}

// Attest implements identity.Attester for a peer that Prove has proved. The
// lease stays the connection's; a second call returns its SVID of now.
func (s *Sessions) Attest(ctx context.Context, peer *intercept.Peer) (identity.SVID, error) {
	s.mu.Lock()
	x := s.of[peer]
	if x == nil {
		s.mu.Unlock()
		return identity.SVID{}, errors.New("SPIFFE: a connection that was not proved")
	}
	l, workload, ids := x.lease, x.workload, s.ids[x.workload]
	s.mu.Unlock()
	if l == nil {
		var err error
		l, err = s.attestor.Bind(ctx, Connection{Peer: peer, Workload: workload, IDs: ids, Prove: func(ctx context.Context) error {
			return s.same(ctx, peer, workload)
		}})
		if err != nil {
			return identity.SVID{}, err
		}
		if l = s.keep(peer, x, l); l == nil {
			return identity.SVID{}, errors.New("SPIFFE: the connection is over")
		}
	}
	if err := l.Err(); err != nil {
		return identity.SVID{}, err
	}
	is := l.Identity()
	return identity.SVID{ID: is.ID.String(), Certs: is.Thumbprints, Expires: is.Expires}, nil
}

// keep stores a connection's lease, and returns the one that it has; nil where
// it was released meanwhile.
func (s *Sessions) keep(peer *intercept.Peer, x *session, l *Lease) *Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.of[peer] != x:
		l.Release()
		return nil
	case x.lease != nil:
		l.Release()
	default:
		x.lease = l
	}
	return x.lease
}

// same proves a peer again: the same workload, and the same program.
func (s *Sessions) same(ctx context.Context, peer *intercept.Peer, workload string) error {
	pr, err := s.prover.Prove(ctx, peer)
	switch {
	case err != nil:
		return err
	case pr.Workload != workload:
		return fmt.Errorf("it is of workload %s now, and was of %s", pr.Workload, workload)
	case pr.Exe == "":
		return errors.New("it runs another program than when it connected")
	}
	return nil
}

// Lease returns a connection's, nil where it has none: its workload needs no
// SVID. The session must end when Done is closed.
func (s *Sessions) Lease(peer *intercept.Peer) *Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.of[peer]; x != nil {
		return x.lease
	}
	return nil
}

// Release forgets a connection; it must be called for every one that was
// proved, bound or not, before its socket is closed or soon after.
func (s *Sessions) Release(peer *intercept.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(peer)
}

// release is called with mu held.
func (s *Sessions) release(peer *intercept.Peer) {
	if x := s.of[peer]; x != nil && x.lease != nil {
		x.lease.Release()
	}
	delete(s.of, peer)
}

var (
	_ intercept.Prover    = (*Sessions)(nil)
	_ identity.Acquainted = (*Sessions)(nil)
	_ identity.Attester   = (*Sessions)(nil)
)
