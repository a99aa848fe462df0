package spiffe

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Why an identity ends.
var (
	// ErrWithdrawn: the agent says that the process does not have it any more.
	ErrWithdrawn = errors.New("the SPIFFE identity was withdrawn")
	// ErrExpired: its SVID has expired, and the agent told no other.
	ErrExpired = errors.New("the SPIFFE identity has expired")
	// ErrClosed: the Attestor was closed.
	ErrClosed = errors.New("the passage is closing")
)

// grant is one identity of one process, from the agent's answer on until it
// ends; renewals are the same grant. All leases on it share it.
type grant struct {
	now  func() time.Time
	done chan struct{}

	mu    sync.Mutex
	is    Identity
	svid  *x509svid.SVID
	until time.Time // an end before the SVID's; zero: none
	why   error     // of that
	timer *time.Timer
	err   error // once it has ended
}

func newGrant(c *candidate, now func() time.Time) *grant {
	g := &grant{now: now, done: make(chan struct{})}
	g.renew(c)
	return g
}

// renew takes the SVID that was told last, and the agent's word that it is so.
// What has ended stays so: then it reports false.
func (g *grant) renew(c *candidate) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return false
	}
	if old := g.is.Thumbprints; len(old) > 0 {
		if c.is.Thumbprints[0] == old[0] {
			c.is.Thumbprints = old
		} else {
			c.is.Thumbprints = [][sha256.Size]byte{c.is.Thumbprints[0], old[0]}
		}
	}
	g.is, g.svid, g.until, g.why = c.is, c.svid, time.Time{}, nil
	g.schedule()
	return true
}

// bound has the grant end at a time, unless the agent renews it. The first
// bound stands.
func (g *grant) bound(until time.Time, why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.until.IsZero() {
		g.until, g.why = until, why
		g.schedule()
	}
}

// ends, schedule, expire and finish are called with mu held.
func (g *grant) ends() (at time.Time, bounded bool) {
	if !g.until.IsZero() && g.until.Before(g.is.Expires) {
		return g.until, true
	}
	return g.is.Expires, false
}

func (g *grant) schedule() {
	if g.err != nil {
		return
	}
	if g.timer != nil {
		g.timer.Stop()
	}
	at, _ := g.ends()
	g.timer = time.AfterFunc(at.Sub(g.now()), func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.expire()
		g.schedule() // the clock and the timer need not go together
	})
}

// expire ends the grant when it is time.
func (g *grant) expire() {
	switch at, bounded := g.ends(); {
	case g.now().Before(at):
	case bounded:
		g.finish(g.why)
	default:
		g.finish(fmt.Errorf("%w: the SVID of %s was valid until %s", ErrExpired, g.is.ID, at.UTC().Format(time.RFC3339)))
	}
}

// check says why the grant has ended, nil while it is good.
func (g *grant) check() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expire()
	return g.err
}

func (g *grant) finish(why error) {
	if g.err == nil {
		g.err = why
		g.svid = nil
		g.timer.Stop()
		close(g.done)
	}
}

// end ends the grant.
func (g *grant) end(why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.finish(why)
}
