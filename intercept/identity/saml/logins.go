package saml

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Limits of what is remembered. Beyond them nothing new is taken: forgetting
// would let a response in again.
const (
	maxRequests = 1024
	maxLogins   = 16 << 10

	requestLife = 10 * time.Minute // that a person has for logging in
)

// Logins remembers the requests that were made and the assertions that were
// believed. What was believed can be kept over a restart (Save, Restore); what
// was asked before one is never answered.
type Logins struct {
	now func() time.Time

	mu       sync.Mutex
	last     time.Time // the clock's furthest: a clock set back forgets nothing
	requests map[string]request
	accepted map[[sha256.Size]byte]login
	seen     map[assertionKey]time.Time // until when it matters
}

type request struct {
	provider string
	until    time.Time
}

// login is a response that was believed.
type login struct {
	provider string
	until    time.Time
}

type assertionKey struct{ provider, id string }

// NewLogins returns an empty Logins. It outlives the Verifiers that use it.
func NewLogins(now func() time.Time) *Logins {
	return &Logins{
		now: now, requests: map[string]request{}, accepted: map[[sha256.Size]byte]login{}, seen: map[assertionKey]time.Time{},
	}
}

// advance moves the clock and forgets what is over; mu is held. All is looked
// at: logins are rare, and there is a limit.
func (l *Logins) advance() time.Time {
	if now := l.now(); now.After(l.last) {
		l.last = now
	}
	for id, r := range l.requests {
		if !l.last.Before(r.until) {
			delete(l.requests, id)
		}
	}
	for sum, x := range l.accepted {
		if !l.last.Before(x.until) {
			delete(l.accepted, sum)
		}
	}
	for k, until := range l.seen {
		if !l.last.Before(until) {
			delete(l.seen, k)
		}
	}
	return l.last
}

// ask remembers a request, and says until when it may be answered.
func (l *Logins) ask(provider, id string) (time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.advance()
	if len(l.requests) >= maxRequests {
		return time.Time{}, fmt.Errorf("more than %d logins are under way: try again in %s", maxRequests, requestLife)
	}
	until := now.Add(requestLife)
	l.requests[id] = request{provider, until}
	return until, nil
}

// take believes an assertion, once: it uses up the request that it answers. The
// login lasts until; window is until when the assertion could be presented.
func (l *Logins) take(provider string, s *said, sum [sha256.Size]byte, until, window time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	k := assertionKey{provider, s.id}
	if _, twice := l.seen[k]; twice {
		return errors.New("its assertion was handed over before: log in again")
	}
	if r, ok := l.requests[s.request]; !ok || r.provider != provider {
		return errors.New("it answers no login that began here and is still open (InResponseTo): log in again, and within ten minutes")
	}
	if max(len(l.seen), len(l.accepted)) >= maxLogins {
		return fmt.Errorf("more than %d logins are in force: try again when some have ended", maxLogins)
	}
	delete(l.requests, s.request)
	if window.Before(until) {
		window = until
	}
	l.seen[k], l.accepted[sum] = window, login{provider, until}
	return nil
}

// known reports that a response was believed, and until when it lasts.
func (l *Logins) known(provider string, sum [sha256.Size]byte) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x, ok := l.accepted[sum]
	return x.until, ok && x.provider == provider
}
