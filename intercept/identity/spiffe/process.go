package spiffe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

var (
	errDue  = errors.New("it is time to attest the process again")
	errIdle = errors.New("nobody needs the process")
	errSlow = fmt.Errorf("%w in time", ErrUnavailable)
)

// doubt is when an answer that does not verify is asked for again.
const doubt = 2 * time.Second

// process is what is held of a process: the agent's stream, what it said last,
// and the grants that sessions lease.
type process struct {
	a        *Attestor
	key      key
	pid      int32
	workload string
	pidfd    *os.File
	places   chan struct{} // for first attestations, of the workload
	ctx      context.Context
	cancel   context.CancelCauseFunc

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, at each change of these:
	known   bool          // the agent's answer is told, and stands
	told    []candidate
	grants  map[spiffeid.ID]*grant
	err     error // while it is not known: why, so far
	final   bool  // asking again soon will not help
	ended   bool
	leases  map[*Lease]struct{} // of sessions, and of those that wait for one
}

func newProcess(a *Attestor, k key, c *Connection, pidfd *os.File, places chan struct{}) *process {
	p := &process{
		a: a, key: k, pid: int32(k.tgid), workload: c.Workload, pidfd: pidfd, places: places,
		changed: make(chan struct{}), grants: map[spiffeid.ID]*grant{}, leases: map[*Lease]struct{}{},
	}
	p.ctx, p.cancel = context.WithCancelCause(a.ctx)
	return p
}

// awaitEnd returns when the process has, or its stream.
func (p *process) awaitEnd() error {
	stop := context.AfterFunc(p.ctx, func() { p.pidfd.Close() })
	defer stop()
	if err := awaitEnd(p.pidfd); p.ctx.Err() == nil {
		return err
	}
	return context.Cause(p.ctx)
}

// run asks the agent again and again, until there is no reason to.
func (p *process) run() {
	pause := time.Duration(0)
	for {
		err := p.attest()
		switch {
		case p.ctx.Err() != nil:
			p.end(context.Cause(p.ctx))
			return
		case errors.Is(err, errDue), errors.Is(err, errIdle):
			pause = 0
		case errors.Is(err, ErrUnavailable):
			p.unconfirmed(err)
			pause = min(max(2*pause, 100*time.Millisecond), 5*time.Second)
			sleep(p.ctx, jitter(pause))
		default:
			// It is no: for sessions at once, for who asks again a little later.
			p.refuse(err)
			sleep(p.ctx, time.Second)
			p.end(errIdle)
			return
		}
		if p.retire() {
			p.end(errIdle)
			return
		}
	}
}

// attest has the agent attest the process, and takes what it tells of it, until
// the next attestation is due.
func (p *process) attest() error {
	if err := p.ready(); err != nil {
		return err
	}
	leave, err := p.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := p.proved(p.ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(p.ctx)
	defer cancel(nil)
	p.a.asked.Add(1)
	clock := time.AfterFunc(p.a.c.Wait, func() { cancel(errSlow) })
	defer func() { clock.Stop() }()
	answered := false
	err = p.a.api.Watch(ctx, p.pid, func(list []Told) error {
		defer clearKeys(list)
		if !answered {
			if answered = true; !clock.Stop() {
				return errSlow
			}
			clock = time.AfterFunc(jitter(p.a.c.Recheck), func() { cancel(errDue) })
			leave()
			// Whom has the agent looked at? The number may have been another's.
			if err := p.proved(ctx); err != nil {
				return err
			}
		}
		if err := alive(p.pidfd); err != nil {
			return err
		}
		if err := p.take(list); err != nil {
			return err
		}
		if p.doubtful() {
			clock.Reset(min(p.a.c.Recheck, doubt))
		}
		return nil
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return classify(err)
}

// ready waits for the bundles that an answer is verified with.
func (p *process) ready() error {
	ctx, cancel := context.WithTimeout(p.ctx, p.a.c.Wait)
	defer cancel()
	if err := p.a.own.Ready(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// enter takes a place among the attestations under way.
func (p *process) enter() (leave func(), err error) {
	p.mu.Lock()
	places := p.places
	if len(p.grants) > 0 {
		places = p.a.again
	}
	p.mu.Unlock()
	select {
	case places <- struct{}{}:
		return sync.OnceFunc(func() { <-places }), nil
	case <-p.ctx.Done():
		return nil, context.Cause(p.ctx)
	}
}

// proved holds the process to the loader's proof. One of its connections is
// enough; some may have been closed meanwhile.
func (p *process) proved(ctx context.Context) error {
	const tries = 8
	p.mu.Lock()
	var some []*Lease
	for l := range p.leases {
		if some = append(some, l); len(some) == tries {
			break
		}
	}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, p.a.c.Wait)
	defer cancel()
	err := errIdle
	for _, l := range some {
		if err = l.prove(ctx); err == nil {
			return alive(p.pidfd)
		}
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: the process could not be proved in time: %w", ErrUnavailable, err)
	case len(some) > 0:
		return fmt.Errorf("%w: %w", ErrNobody, err)
	}
	return err
}

// take is the agent's word of what the process is.
func (p *process) take(list []Told) error {
	if len(list) > maxSVIDs {
		return fmt.Errorf("%w: %d SVIDs of one process are more than %d", ErrUnavailable, len(list), maxSVIDs)
	}
	var told []candidate
	for i := range list {
		c := p.a.check(&list[i])
		// Two entries may give the same name.
		same := slices.IndexFunc(told, func(x candidate) bool { return x.err == nil && c.err == nil && x.id == c.id })
		switch {
		case same < 0:
			told = append(told, c)
		case told[same].is.Expires.Before(c.is.Expires):
			told[same] = c
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return errIdle
	}
	for id, g := range p.grants {
		// One that is told and does not verify is not renewed, and not withdrawn.
		if !slices.ContainsFunc(told, func(c candidate) bool { return c.id == id.String() }) {
			g.end(fmt.Errorf("%w: the agent does not give %s to this process any more", ErrWithdrawn, id))
		}
		if g.check() != nil {
			delete(p.grants, id)
		}
	}
	for i := range told {
		c := &told[i]
		if c.err != nil {
			continue
		}
		if g := p.grants[c.is.ID]; g == nil || !g.renew(c) {
			p.grants[c.is.ID] = newGrant(c, p.a.c.now)
		}
	}
	p.told, p.known, p.err, p.final = told, true, nil, false
	p.change()
	return nil
}

// unconfirmed: the agent is away. What was valid stays so for a while; nobody
// new gets in until it answers.
func (p *process) unconfirmed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known, p.err = false, err
	if off := p.a.c.Offline; off > 0 {
		for _, g := range p.grants {
			g.bound(p.a.c.now().Add(off), fmt.Errorf("%w: for longer than identity.spiffe.offline (%s): %w", ErrExpired, off, err))
		}
	}
	p.change()
}

// refuse ends all that was valid.
func (p *process) refuse(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known, p.err, p.final = false, err, true
	for _, g := range p.grants {
		g.end(fmt.Errorf("%w: %w", ErrWithdrawn, err))
	}
	clear(p.grants)
	p.change()
}

// end lets go of the process, for good.
func (p *process) end(why error) {
	p.mu.Lock()
	p.finish(why)
	p.mu.Unlock()
	p.cancel(why)
	p.a.forget(p)
}

// finish is called with mu held.
func (p *process) finish(why error) {
	if p.ended {
		return
	}
	p.ended, p.known, p.err = true, false, why
	for _, g := range p.grants {
		g.end(why)
	}
	clear(p.grants)
	p.change()
}

// retire finishes what nobody needs.
func (p *process) retire() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.leases) > 0 {
		return false
	}
	p.finish(errIdle)
	return true
}

// join notes who needs it; false where it has ended.
func (p *process) join(l *Lease) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return false
	}
	l.p = p
	p.leases[l] = struct{}{}
	return true
}

func (p *process) leave(l *Lease) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.leases, l)
}

// doubtful reports that the agent told an SVID which does not verify. Bundles
// come by another stream, and may be behind.
func (p *process) doubtful() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.told, func(c candidate) bool { return c.err != nil })
}

// change is called with mu held.
func (p *process) change() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// clearKeys clears the private keys of an answer.
func clearKeys(list []Told) {
	for i := range list {
		clear(list[i].Key)
	}
}

// jitter spreads what begins at the same time: d, up to a tenth less.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10+1) }
