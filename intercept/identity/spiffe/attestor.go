package spiffe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"sallyport.dev/sallyport/intercept"
)

// Connection is what a Lease is asked for.
type Connection struct {
	// Peer is the kernel's record of who connected.
	Peer *intercept.Peer
	// Workload is its name in sallyport.yaml: attestations of one workload do
	// not hold up those of others.
	Workload string
	// IDs are those that it may have. Where they are given, one of them must be
	// the process's, and only one; where not, the process must have one alone.
	IDs []spiffeid.ID
	// Prove fails when the process is not the one of Peer any more, or not as it
	// was: another executable, user or cgroup. It is called before and after
	// attestations, until the lease is released.
	Prove func(context.Context) error
}

// Attestor binds processes to their SPIFFE identities. It is safe for
// concurrent use.
type Attestor struct {
	c       Config
	api     API
	own     *Source
	closers []func() error
	ctx     context.Context
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup
	asked   atomic.Uint64
	again   chan struct{} // places for attestations that repeat one

	mu        sync.Mutex
	processes map[key]*process
	of        map[string]int           // processes by workload
	first     map[string]chan struct{} // places for first attestations, by workload
}

// Attestations under way at a time.
const (
	atOnce      = 8 // first ones of a workload
	againAtOnce = 16
)

// key is the process, and all that an attestation may have looked at and that
// the process could change: an exec makes it another.
type key struct {
	tgid, uid, gid                     uint32
	start, inode, cgroup, dev, exeFile uint64
}

func keyOf(p *intercept.Peer) key {
	return key{
		tgid: p.TGID, uid: p.UID, gid: p.GID, start: p.Start, inode: p.PidInode,
		cgroup: p.CgroupID, dev: p.ExeDev, exeFile: p.ExeInode,
	}
}

// New returns an Attestor that asks an agent by api. own must have been made
// with the same Config; it stays the caller's.
func New(c Config, api API, own *Source) (*Attestor, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	a := &Attestor{
		c: c, api: api, own: own, again: make(chan struct{}, againAtOnce),
		processes: map[key]*process{}, of: map[string]int{}, first: map[string]chan struct{}{},
	}
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	return a, nil
}

// Own returns the daemon's own identity and bundles.
func (a *Attestor) Own() *Source { return a.own }

// Attestations returns how often the agent was asked to attest a process.
func (a *Attestor) Attestations() uint64 { return a.asked.Load() }

// Processes returns how many are held.
func (a *Attestor) Processes() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.processes)
}

// Close ends all leases, and returns when nothing is left under way.
func (a *Attestor) Close() error {
	a.mu.Lock() // nothing begins any more
	a.cancel(ErrClosed)
	a.mu.Unlock()
	a.wg.Wait()
	var err error
	for _, f := range a.closers {
		err = errors.Join(err, f())
	}
	return err
}

// Bind returns the identity of the process that connected, which the caller
// has proved for this connection. What is known of the process is taken; else
// it is attested, once for all who ask at the same time. Bind waits for the
// agent, Config.Wait at most. Its error wraps ErrNobody or ErrUnavailable, and
// refuses the connection.
func (a *Attestor) Bind(ctx context.Context, c Connection) (*Lease, error) {
	if c.Peer.TGID == 0 || c.Peer.Start == 0 || c.Prove == nil {
		return nil, fmt.Errorf("%w: the kernel's record of the connection is incomplete", ErrNobody)
	}
	for {
		l := &Lease{prove: c.Prove}
		p, err := a.join(l, &c)
		if err != nil {
			return nil, err
		}
		g, err := p.await(ctx, c.IDs)
		if err == nil {
			l.g = g
			return l, nil
		}
		p.leave(l)
		switch {
		case errors.Is(err, errIdle) && ctx.Err() == nil: // it ended for another reason than ours
		case errors.Is(err, ErrNobody), errors.Is(err, ErrUnavailable):
			return nil, err
		case errors.Is(err, ErrGone):
			return nil, fmt.Errorf("%w: %w", ErrNobody, err)
		default:
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
}

// join returns what is held of the process, and begins to where nothing is.
func (a *Attestor) join(l *Lease, c *Connection) (*process, error) {
	k := keyOf(c.Peer)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(a.ctx))
	}
	if p := a.processes[k]; p != nil {
		if p.join(l) {
			return p, nil
		}
		a.drop(p)
	}
	if full := a.of[c.Workload] >= a.share(); (full || len(a.processes) >= a.c.Processes) && !a.evict(c.Workload, full) {
		return nil, fmt.Errorf("%w: %d processes with SPIFFE identities are held, %d of them of workload %s: raise identity.spiffe.processes, or see what starts so many",
			ErrUnavailable, len(a.processes), a.of[c.Workload], c.Workload)
	}
	f, err := openPidfd(c.Peer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNobody, err)
	}
	places := a.first[c.Workload]
	if places == nil {
		places = make(chan struct{}, atOnce)
		a.first[c.Workload] = places
	}
	p := newProcess(a, k, c, f, places)
	p.join(l)
	a.processes[k] = p
	a.of[c.Workload]++
	a.wg.Go(p.run)
	a.wg.Go(func() { p.end(p.awaitEnd()) })
	return p, nil
}

// share is how many processes a workload may have.
func (a *Attestor) share() int { return (a.c.Processes + 1) / 2 }

// evict makes room for a process of a workload: one goes that nobody holds, of
// its own where it has its share. It is called with mu held.
func (a *Attestor) evict(workload string, own bool) bool {
	for _, p := range a.processes {
		if (!own || p.workload == workload) && p.retire() {
			a.drop(p)
			return true
		}
	}
	return false
}

// drop is called with mu held.
func (a *Attestor) drop(p *process) {
	if a.processes[p.key] != p {
		return
	}
	delete(a.processes, p.key)
	if a.of[p.workload]--; a.of[p.workload] == 0 {
		delete(a.of, p.workload)
	}
	p.cancel(errIdle)
}

// forget is drop for a process that has ended.
func (a *Attestor) forget(p *process) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(p)
}
