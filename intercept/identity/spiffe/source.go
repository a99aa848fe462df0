package spiffe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
)

// Source is the daemon's own identity, and the bundles of its trust domain and
// of those that it is federated with, by the Workload API. It implements
// go-spiffe's sources of X.509-SVIDs and of both kinds of bundles.
//
// What the agent told is good for as long as the agent can be had, and after
// that for Config.Offline, until the daemon's own SVID expires at the latest.
type Source struct {
	client *workloadapi.Client
	c      Config
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.RWMutex
	svid *x509svid.SVID
	x509 *x509bundle.Set
	jwt  *jwtbundle.Set
	// Since when, and why, the agent tells nothing new.
	x509Lost, jwtLost lost
	changed           chan struct{} // closed at the next change
}

type lost struct {
	since time.Time // zero: it is there
	why   error
}

// NewSource watches the Workload API at c.Agent. It does not wait for the
// agent: see Ready.
func NewSource(c Config) (*Source, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(c.Agent), workloadapi.WithBackoffStrategy(watchBackoff{}),
		workloadapi.WithDialOptions(grpc.WithConnectParams(connectParams), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer))))
	if err != nil {
		cancel()
		return nil, fmt.Errorf("SPIFFE agent %s: %w", c.Agent, err)
	}
	none := lost{c.now(), ErrUnavailable}
	s := &Source{client: client, c: c, cancel: cancel, x509Lost: none, jwtLost: none, changed: make(chan struct{})}
	for _, watch := range []func() error{
		func() error { return client.WatchX509Context(ctx, watcher{s}) },
		func() error { return client.WatchJWTBundles(ctx, watcher{s}) },
		func() error { return s.fetch(ctx) },
	} {
		s.wg.Go(func() {
			// go-spiffe gives some errors up for good; the agent may recover from all.
			for ctx.Err() == nil {
				_ = watch() // watcher has its errors
				sleep(ctx, time.Second)
			}
		})
	}
	return s, nil
}

// Close ends it. What it has told is good no more.
func (s *Source) Close() error {
	s.cancel()
	err := s.client.Close()
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.svid, s.x509, s.jwt = nil, nil, nil
	return err
}

// Ready waits for the agent's first answers.
func (s *Source) Ready(ctx context.Context) error {
	for {
		s.mu.RLock()
		done, changed := s.svid != nil && s.jwt != nil, s.changed
		why := errors.Join(s.x509Lost.why, s.jwtLost.why)
		s.mu.RUnlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("the daemon's own SPIFFE identity: %w: %w", why, ctx.Err())
		}
	}
}

// Check says why the agent's word is not good now, nil while it is.
func (s *Source) Check() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return errors.Join(s.good(s.x509Lost), s.good(s.jwtLost))
}

// good is called with mu held.
func (s *Source) good(l lost) error {
	now := s.c.now()
	switch {
	case s.svid == nil:
		return fmt.Errorf("%w: %w: the daemon has no identity of its own yet", ErrUnavailable, l.why)
	case l.since.IsZero():
		return nil
	case !now.Before(s.svid.Certificates[0].NotAfter):
		return fmt.Errorf("%w: %w: the daemon's own SVID has expired meanwhile", ErrUnavailable, l.why)
	case s.c.Offline > 0 && now.Sub(l.since) >= s.c.Offline:
		return fmt.Errorf("%w: %w: for longer than identity.spiffe.offline (%s)", ErrUnavailable, l.why, s.c.Offline)
	}
	return nil
}

// GetX509SVID implements x509svid.Source.
func (s *Source) GetX509SVID() (*x509svid.SVID, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.svid == nil {
		return nil, fmt.Errorf("%w: %w: the daemon has no identity of its own yet", ErrUnavailable, s.x509Lost.why)
	}
	return s.svid, nil
}

// GetX509BundleForTrustDomain implements x509bundle.Source.
func (s *Source) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.good(s.x509Lost); err != nil {
		return nil, err
	}
	return s.x509.GetX509BundleForTrustDomain(td)
}

// GetJWTBundleForTrustDomain implements jwtbundle.Source.
func (s *Source) GetJWTBundleForTrustDomain(td spiffeid.TrustDomain) (*jwtbundle.Bundle, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.good(s.jwtLost); err != nil {
		return nil, err
	}
	if s.jwt == nil {
		return nil, fmt.Errorf("%w: no bundles for JWT-SVIDs yet", ErrUnavailable)
	}
	return s.jwt.GetJWTBundleForTrustDomain(td)
}

// trusts reports whether workloads may be of a trust domain: one of
// Config.TrustDomains, or the daemon's own where none are listed.
func (s *Source) trusts(td spiffeid.TrustDomain) error {
	own, err := s.GetX509SVID()
	switch {
	case err != nil:
		return err
	case len(s.c.TrustDomains) == 0 && td == own.ID.TrustDomain() || slices.Contains(s.c.TrustDomains, td):
		return nil
	}
	return fmt.Errorf("trust domain %s is not one whose workloads may come here: list it in identity.spiffe.trust_domains if it is", td)
}

// fetch asks for all of it every Recheck: a stream of an agent that hangs says
// nothing, and its silence is no news. While it is away, it is asked more often.
func (s *Source) fetch(ctx context.Context) error {
	w := watcher{s}
	for again := s.c.Recheck; ctx.Err() == nil; {
		sleep(ctx, again)
		call, cancel := context.WithTimeout(ctx, s.c.Wait)
		x, xerr := s.client.FetchX509Context(call)
		j, jerr := s.client.FetchJWTBundles(call)
		cancel()
		if xerr == nil {
			w.OnX509ContextUpdate(x)
		} else {
			w.OnX509ContextWatchError(xerr)
		}
		if jerr == nil {
			w.OnJWTBundlesUpdate(j)
		} else {
			w.OnJWTBundlesWatchError(jerr)
		}
		if again = s.c.Recheck; xerr != nil || jerr != nil {
			again = min(again, doubt)
		}
	}
	return ctx.Err()
}

// watcher takes what the Workload API says.
type watcher struct{ s *Source }

func (w watcher) change(f func()) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	f()
	close(w.s.changed)
	w.s.changed = make(chan struct{})
}

func (w watcher) OnX509ContextUpdate(x *workloadapi.X509Context) {
	w.change(func() { w.s.svid, w.s.x509, w.s.x509Lost = x.DefaultSVID(), x.Bundles, lost{} })
}

func (w watcher) OnX509ContextWatchError(err error) {
	w.change(func() { w.s.x509Lost.note(w.s.c.now(), err) })
}

func (w watcher) OnJWTBundlesUpdate(j *jwtbundle.Set) {
	w.change(func() { w.s.jwt, w.s.jwtLost = j, lost{} })
}

func (w watcher) OnJWTBundlesWatchError(err error) {
	w.change(func() { w.s.jwtLost.note(w.s.c.now(), err) })
}

func (l *lost) note(now time.Time, why error) {
	if l.since.IsZero() {
		l.since = now
	}
	l.why = why
}

// watchBackoff is how long go-spiffe waits before it asks again.
type watchBackoff struct{ n *int }

func (watchBackoff) NewBackoff() workloadapi.Backoff { return watchBackoff{new(int)} }

func (b watchBackoff) Next() time.Duration {
	d := min(100*time.Millisecond<<*b.n, 5*time.Second)
	*b.n = min(*b.n+1, 6)
	return d
}

func (b watchBackoff) Reset() { *b.n = 0 }

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
