package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"sallyport.dev/sallyport/intercept"
)

// ErrNobody wraps every refusal of a Binder.
var ErrNobody = errors.New("no identity")

// Binder implements intercept.Binder: the peer's process is proved for each
// connection, its token verified once and kept until it expires.
type Binder struct {
	// Attester tells the SVIDs of processes; set it before use. nil where
	// there is no SPIFFE: what asks for it is then refused.
	Attester Attester
	// Lives tells whether a process that was proved before lives on, as the one
	// that it was; set it before use. nil: every connection is proved anew.
	Lives func(*intercept.Peer) bool
	// Placeless: nothing is known of the process that connects; set it before use.
	// Nothing then ties an identity to one, whatever presented its token.
	Placeless bool
	logins    *cache // of persons; nil: theirs are tokens

	prover    intercept.Prover
	verifier  Verifier
	now       func() time.Time
	workloads atomic.Pointer[map[string]Workload]
	cache     cache
	proofs    proofs
}

// Acquainted is a prover that wants to hear of proofs that it was not asked for
// once more.
type Acquainted interface {
	// Proved says that a peer is of a workload, by a proof of the same process in
	// the same state.
	Proved(peer *intercept.Peer, workload string)
}

// NewBinder returns a Binder. now is the clock that tokens are held against.
func NewBinder(p intercept.Prover, v Verifier, ws []Workload, now func() time.Time) (*Binder, error) {
	b := &Binder{prover: p, verifier: v, now: now, cache: cache{verifier: v, now: now, kept: map[cacheKey]*Token{}}}
	return b, b.SetWorkloads(ws)
}

// SetWorkloads replaces the workloads for all later connections; on an error
// the old ones stay.
func (b *Binder) SetWorkloads(ws []Workload) error {
	m := map[string]Workload{}
	for _, w := range ws {
		if err := w.check(); err != nil {
			return err
		}
		if _, twice := m[w.Name]; twice {
			return fmt.Errorf("workload %q: names must be set and unique", w.Name)
		}
		m[w.Name] = w
	}
	b.workloads.Store(&m)
	return nil
}

// Bind implements intercept.Binder. It fills peer.Exe and peer.Cgroup, for
// the record, also where it refuses for the token's sake. A process that was
// proved within the last second, lives, and has connected in the same state, is
// not proved again, unless that comes to nothing: its token may be another by now.
// With ErrInBand the identity is that of the workload alone, and not valid.
func (b *Binder) Bind(ctx context.Context, peer *intercept.Peer) (intercept.Identity, error) {
	if pr, ok := b.proofs.get(peer); ok && b.Lives(peer) {
		if a, ok := b.prover.(Acquainted); ok {
			a.Proved(peer, pr.Workload)
		}
		if id, err := b.proved(ctx, peer, &pr, nil, b.verifier.Spend); err == nil {
			return id, nil
		}
	}
	began := time.Now()
	pr, err := b.prover.Prove(ctx, peer)
	if err != nil {
		return intercept.Identity{}, fmt.Errorf("%w: %w", ErrNobody, err)
	}
	id, err := b.proved(ctx, peer, &pr, nil, b.verifier.Spend)
	if err == nil && b.Lives != nil {
		b.proofs.put(peer, pr, began)
	}
	return id, err
}

// Again implements intercept.Binder. A one-time token of the session itself
// holds on while it is there; any other is a new use.
func (b *Binder) Again(ctx context.Context, peer *intercept.Peer, was *intercept.Identity) (intercept.Identity, error) {
	return b.bind(ctx, peer, nil, func(t *Token) error {
		if t.Sum == was.Token {
			return nil
		}
		return b.verifier.Spend(t)
	})
}

// Look implements intercept.Binder.
func (b *Binder) Look(ctx context.Context, peer *intercept.Peer) (intercept.Identity, error) {
	return b.bind(ctx, peer, nil, func(*Token) error { return nil })
}

// bind proves a peer; sent is what its client sent, nil for nothing.
func (b *Binder) bind(ctx context.Context, peer *intercept.Peer, sent []byte, spend func(*Token) error) (intercept.Identity, error) {
	pr, err := b.prover.Prove(ctx, peer)
	if err != nil {
		return intercept.Identity{}, fmt.Errorf("%w: %w", ErrNobody, err)
	}
	return b.proved(ctx, peer, &pr, sent, spend)
}

// proved is what a proof comes to.
func (b *Binder) proved(ctx context.Context, peer *intercept.Peer, pr *intercept.Proof, sent []byte, spend func(*Token) error) (intercept.Identity, error) {
	peer.Exe, peer.Cgroup = pr.Exe, pr.Cgroup
	w, ok := (*b.workloads.Load())[pr.Workload]
	if !ok {
		return intercept.Identity{}, fmt.Errorf("%w: workload %s is not known here: the loader and the daemon read different configurations, restart sallyport", ErrNobody, pr.Workload)
	}
	if w.InBand && sent == nil {
		return intercept.Identity{Workload: w.Name}, fmt.Errorf("%w: workload %s: %w", ErrNobody, w.Name, ErrInBand)
	}
	id, err := b.identify(ctx, peer, &w, pr, sent, spend)
	if b.Placeless {
		placeless(&id)
	}
	if err == nil && !id.Valid(b.now()) {
		err = fmt.Errorf("%w: renew it", ErrExpired)
	}
	if err != nil {
		return intercept.Identity{}, fmt.Errorf("%w: workload %s: %w", ErrNobody, w.Name, err)
	}
	return id, nil
}

// identify puts together what a proved process of a workload presents.
func (b *Binder) identify(ctx context.Context, peer *intercept.Peer, w *Workload, pr *intercept.Proof, sent []byte, spend func(*Token) error) (intercept.Identity, error) {
	id := intercept.Identity{Workload: w.Name, SpeaksFor: w.SpeaksFor}
	svid, err := b.attest(ctx, peer, w)
	if err != nil {
		return id, err
	}
	if svid.ID != "" {
		id.SPIFFE, id.Expires = svid.ID, svid.Expires
		id.Proofs.Workload = intercept.Proved{By: intercept.ProofSPIFFE, Bound: []string{intercept.BoundPidfd}}
	}
	if w.InBand != (sent != nil) {
		return id, errors.New("its token is not to come in band (identity.workloads): connect again")
	}
	by, raw := intercept.ProofPidfd, bytes.TrimSpace(pr.Token)
	if w.InBand {
		by, raw = intercept.ProofOIDC, bytes.TrimSpace(sent)
	}
	if len(raw) == 0 && len(w.Subjects) == 0 {
		id.Issuer, id.Subject = trustDomain(svid.ID), svid.ID
		id.Proofs.Actor = id.Proofs.Workload
		return id, b.actsFor(ctx, &id, pr.Person)
	}
	t, err := b.cache.verify(ctx, raw, w.Issuer)
	if err != nil {
		return id, err
	}
	if err := w.may(t); err != nil {
		return id, err
	}
	if err := present(&id, t, &svid, by); err != nil {
		return id, err
	}
	if err := b.actsFor(ctx, &id, pr.Person); err != nil {
		return id, err
	}
	if w.InBand {
		if err := b.agrees(ctx, &id, w, pr, &svid, spend); err != nil {
			return id, err
		}
	}
	return id, spend(t)
}

// attest returns the SVID that the workload must have, or that it has where a
// token may be bound to it. The zero SVID is none.
func (b *Binder) attest(ctx context.Context, peer *intercept.Peer, w *Workload) (SVID, error) {
	if w.SPIFFE == "" {
		return SVID{}, nil
	}
	if b.Attester == nil {
		return SVID{}, errors.New("it needs an SVID (spiffe), and no SPIFFE is configured")
	}
	svid, err := b.Attester.Attest(ctx, peer)
	switch {
	case err != nil:
		return SVID{}, err
	case svid.ID != w.SPIFFE:
		return SVID{}, fmt.Errorf("SPIRE takes its process for %.256q, not for %s: one of both is configured wrongly", svid.ID, w.SPIFFE)
	}
	return svid, nil
}

// present fills id with a token of the workload's, which is worth what by says
// where nothing better binds it. A token that is bound to somebody else is refused.
func present(id *intercept.Identity, t *Token, svid *SVID, by string) error {
	proved := intercept.Proved{By: by, Bound: []string{intercept.BoundSubjects}}
	if len(t.Audience) == 1 && !t.Shared {
		// Whom else it is for could present it here.
		proved.Bound = append(proved.Bound, intercept.BoundAudience)
	}
	if t.Party != "" {
		proved.Bound = append(proved.Bound, intercept.BoundParty)
	}
	if t.Cert != nil {
		switch {
		case len(svid.Certs) == 0:
			return errors.New("its token is bound to a certificate (cnf), and the workload has shown none: name its spiffe ID in identity.workloads")
		case !slices.Contains(svid.Certs, *t.Cert):
			return errors.New("its token is bound to the certificate (cnf) of somebody else")
		}
		proved.By, proved.Bound = intercept.ProofOIDCSPIFFE, append(proved.Bound, intercept.BoundCert)
	}
	if who := t.Presenter(); trustDomain(who) != "" && svid.ID != "" {
		if who != svid.ID {
			return fmt.Errorf("its token is of %.256q, and SPIRE takes its process for %s", who, svid.ID)
		}
		proved.By, proved.Bound = intercept.ProofOIDCSPIFFE, append(proved.Bound, intercept.BoundSPIFFE)
	}
	proved.Bound = append(proved.Bound, intercept.BoundPidfd)

	id.Issuer, id.Subject, id.Actors, id.Claims, id.Audience = t.Issuer, t.Subject, t.Actors, t.Claims, t.Audience
	id.NotBefore, id.Token = t.NotBefore, t.Sum
	if id.Expires.IsZero() || t.Expires.Before(id.Expires) {
		id.Expires = t.Expires
	}
	id.Proofs.Actor = proved
	if id.SPIFFE == "" {
		id.Proofs.Workload = proved
	}
	if id.Principal() != "" {
		id.Proofs.Principal = proved
	}
	return nil
}

var _ intercept.Binder = (*Binder)(nil)
