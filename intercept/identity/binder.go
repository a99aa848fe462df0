package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport.dev/sallyport/intercept"
)

// Workload says what a workload may present.
type Workload struct {
	Name   string
	Issuer string // "" for any that the verifier knows
	// Subjects are those that may present themselves here: the token's
	// subject, or its current actor where it has an act claim.
	Subjects []string
}

const (
	cacheSize = 4096
	// cacheLife bounds how long a verified token is believed without looking
	// at its issuer's keys again, so that a withdrawn key ends soon.
	cacheLife = 5 * time.Minute
)

// ErrNobody wraps every refusal of a Binder.
var ErrNobody = errors.New("no identity")

// Binder implements intercept.Binder: the peer's process is proved for each
// connection, its token verified once and kept until it expires.
type Binder struct {
	prover    intercept.Prover
	verifier  Verifier
	now       func() time.Time
	workloads atomic.Pointer[map[string]Workload]

	mu    sync.Mutex
	cache map[cacheKey]cached
}

type cacheKey struct {
	workload string
	issuer   string // that the workload is held to
	token    [sha256.Size]byte
}

type cached struct {
	token *Token
	until time.Time
}

// NewBinder returns a Binder. now is the clock that tokens are held against.
func NewBinder(p intercept.Prover, v Verifier, ws []Workload, now func() time.Time) (*Binder, error) {
	b := &Binder{prover: p, verifier: v, now: now, cache: map[cacheKey]cached{}}
	return b, b.SetWorkloads(ws)
}

// SetWorkloads replaces the workloads for all later connections; on an error
// the old ones stay.
func (b *Binder) SetWorkloads(ws []Workload) error {
	m := map[string]Workload{}
	for _, w := range ws {
		if _, twice := m[w.Name]; twice || w.Name == "" {
			return fmt.Errorf("workload %q: names must be set and unique", w.Name)
		}
		if len(w.Subjects) == 0 {
			return fmt.Errorf("workload %s: subjects: list those that it may present", w.Name)
		}
		m[w.Name] = w
	}
	b.workloads.Store(&m)
	return nil
}

// Bind implements intercept.Binder. It fills peer.Exe and peer.Cgroup, for
// the record, also where it refuses for the token's sake.
func (b *Binder) Bind(ctx context.Context, peer *intercept.Peer) (intercept.Identity, error) {
	pr, err := b.prover.Prove(ctx, peer)
	if err != nil {
		return intercept.Identity{}, fmt.Errorf("%w: %w", ErrNobody, err)
	}
	peer.Exe, peer.Cgroup = pr.Exe, pr.Cgroup
	w, ok := (*b.workloads.Load())[pr.Workload]
	if !ok {
		return intercept.Identity{}, fmt.Errorf("%w: workload %s is not known here: the loader and the daemon read different configurations, restart sallyport", ErrNobody, pr.Workload)
	}
	t, err := b.verify(ctx, w, pr.Token)
	if err != nil {
		return intercept.Identity{}, fmt.Errorf("%w: workload %s: %w", ErrNobody, w.Name, err)
	}
	if !slices.Contains(w.Subjects, t.Presenter()) {
		return intercept.Identity{}, fmt.Errorf("%w: workload %s may not present a token of %q: its own are listed in identity.workloads (subjects)", ErrNobody, w.Name, t.Presenter())
	}
	id := intercept.Identity{
		Workload: w.Name, Issuer: t.Issuer, Subject: t.Subject, Actors: t.Actors,
		Claims: t.Claims, Audience: t.Audience,
		NotBefore: t.NotBefore, Expires: t.Expires,
	}
	proved := intercept.Proved{By: intercept.ProofPidfd, Bound: []string{intercept.BoundSubjects, intercept.BoundAudience, intercept.BoundPidfd}}
	id.Proofs.Workload, id.Proofs.Actor = proved, proved
	if id.Principal() != "" {
		id.Proofs.Principal = proved
	}
	id.Proof = id.Weakest()
	if !id.Valid(b.now()) {
		return intercept.Identity{}, fmt.Errorf("%w: workload %s: its token has expired: renew it", ErrNobody, w.Name)
	}
	return id, nil
}

func (b *Binder) verify(ctx context.Context, w Workload, raw []byte) (*Token, error) {
	raw = bytes.TrimSpace(raw)
	key := cacheKey{w.Name, w.Issuer, sha256.Sum256(raw)}
	now := b.now()
	b.mu.Lock()
	c, ok := b.cache[key]
	b.mu.Unlock()
	if ok && now.Before(c.until) {
		return c.token, nil
	}
	t, err := b.verifier.Verify(ctx, string(raw), w.Issuer)
	if err != nil {
		return nil, err
	}
	until := now.Add(cacheLife)
	if t.Expires.Before(until) {
		until = t.Expires
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.cache) >= cacheSize {
		b.evict(now)
	}
	b.cache[key] = cached{t, until}
	return t, nil
}

// evict makes room: all that has expired goes, or else an arbitrary one.
func (b *Binder) evict(now time.Time) {
	for k, c := range b.cache {
		if !now.Before(c.until) {
			delete(b.cache, k)
		}
	}
	for k := range b.cache {
		if len(b.cache) < cacheSize {
			return
		}
		delete(b.cache, k)
	}
}

var _ intercept.Binder = (*Binder)(nil)
