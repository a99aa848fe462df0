package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"sallyport.dev/sallyport/intercept/broker"
)

// Source gives accounts of a path of a database secrets engine. It implements
// broker.Source.
type Source struct {
	Client *Client
	// Path is "MOUNT/creds/ROLE" for accounts that are made up, or
	// "MOUNT/static-creds/ROLE" for one whose password is rotated.
	Path string
	// PerSession has one made up for each session, given back at its end. Else
	// all sessions share one.
	PerSession bool
	// Fail is told of what goes wrong behind the back of sessions: a lease that
	// can't be renewed or given back.
	Fail func(error)

	asking sync.Once
	turn   chan struct{} // who has sent asks for the shared account

	mu      sync.Mutex
	current *lease // the shared one, nil for none
	counter uint64
	closed  bool
	giving  int           // accounts that are being given back
	given   chan struct{} // closed when none is; nil while nobody waits
}

// lease is one account of the server's.
type lease struct {
	id       string // "" for one that has no lease
	user     string
	password []byte
	version  uint64
	life     time.Duration // at first
	fresh    time.Time     // until then it is handed out
	refs     int           // sessions that use it, and the source itself while it is the current one
	stop     chan struct{}
}

// quick bounds what is asked of the server behind the back of sessions.
const quick = 10 * time.Second

// Credential implements broker.Source.
func (s *Source) Credential(ctx context.Context, _ string, refused uint64) (broker.Credential, error) {
	if s.PerSession {
		l, err := s.ask(ctx)
		if err != nil {
			return broker.Credential{}, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.hand(l), nil
	}
	s.asking.Do(func() { s.turn = make(chan struct{}, 1) })
	if c, ok := s.shared(refused); ok {
		return c, nil
	}
	// One asks for all that wait.
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return broker.Credential{}, ctx.Err()
	}
	if c, ok := s.shared(refused); ok {
		return c, nil
	}
	l, err := s.ask(ctx)
	if err != nil {
		return broker.Credential{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.current
	if old != nil && old.id == "" && old.version == refused && l.user == old.user && bytes.Equal(l.password, old.password) {
		return broker.Credential{}, broker.ErrUnchanged
	}
	if s.closed {
		return s.hand(l), nil
	}
	l.refs++
	s.current = l
	if old != nil {
		s.drop(old)
	}
	return s.hand(l), nil
}

// shared hands out the current account, if it is good and not the refused one.
func (s *Source) shared(refused uint64) (broker.Credential, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.current.version == refused || !time.Now().Before(s.current.fresh) {
		return broker.Credential{}, false
	}
	return s.hand(s.current), true
}

// hand gives an account to one more session; mu is held.
func (s *Source) hand(l *lease) broker.Credential {
	l.refs++
	return broker.Credential{
		User: l.user, Password: bytes.Clone(l.password), Version: l.version,
		Release: func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.drop(l)
		},
	}
}

// drop takes one use of a lease away, and gives it back with the last; mu is
// held.
func (s *Source) drop(l *lease) {
	if l.refs--; l.refs > 0 {
		return
	}
	clear(l.password)
	close(l.stop)
	if l.id == "" {
		return
	}
	s.giving++
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), quick)
		defer cancel()
		err := s.revoke(ctx, l)
		s.mu.Lock()
		if s.giving--; s.giving == 0 && s.given != nil {
			close(s.given)
			s.given = nil
		}
		s.mu.Unlock()
		if err != nil {
			s.fail(err)
		}
	}()
}

func (s *Source) revoke(ctx context.Context, l *lease) error {
	if err := s.Client.do(ctx, http.MethodPut, "sys/leases/revoke", map[string]string{"lease_id": l.id}, nil); err != nil {
		return fmt.Errorf("give back the account %s of %s, which ends by itself: %w", l.user, s.Path, err)
	}
	return nil
}

func (s *Source) fail(err error) {
	if s.Fail != nil {
		s.Fail(err)
	}
}

// ask has the server give an account.
func (s *Source) ask(ctx context.Context) (*lease, error) {
	var out struct {
		Lease     string `json:"lease_id"`
		Life      int64  `json:"lease_duration"`
		Renewable bool   `json:"renewable"`
		Data      struct {
			User     string `json:"username"`
			Password secret `json:"password"`
			TTL      int64  `json:"ttl"` // of static-creds: until the next rotation
		}
	}
	if err := s.Client.do(ctx, http.MethodGet, s.Path, nil, &out); err != nil {
		return nil, err
	}
	if out.Data.User == "" || len(out.Data.Password) == 0 {
		clear(out.Data.Password)
		return nil, fmt.Errorf("vault: %s: the answer is no account", s.Path)
	}
	l := &lease{
		id: out.Lease, user: out.Data.User, password: out.Data.Password,
		life: time.Duration(out.Life) * time.Second, stop: make(chan struct{}),
	}
	if l.id == "" {
		// What is rotated is asked for again when it is, or when it is refused.
		l.life = min(time.Duration(out.Data.TTL)*time.Second, time.Hour)
		l.fresh = time.Now().Add(l.life)
	} else {
		l.fresh = time.Now().Add(l.life * 2 / 3)
	}
	s.mu.Lock()
	s.counter++
	l.version = s.counter
	s.mu.Unlock()
	if l.id != "" && l.life > 0 && out.Renewable {
		go s.keep(l)
	}
	return l, nil
}

// keep renews a lease until nobody uses it. One that can't be renewed is not
// handed out any more; sessions that use it go on for as long as their server
// lets them.
func (s *Source) keep(l *lease) {
	ends, wait := time.Now().Add(l.life), l.life/2
	for {
		select {
		case <-l.stop:
			return
		case <-time.After(wait):
		}
		life, err := s.renew(l)
		var r *refusedError
		switch {
		case err != nil && !errors.As(err, &r) && time.Now().Before(ends): // not reached
			wait = max(l.life/10, time.Second)
			continue
		case err != nil || life < l.life/2: // at its greatest age it gets less
			s.mu.Lock()
			l.fresh = time.Time{}
			s.mu.Unlock()
			if err != nil && !l.over() {
				s.fail(fmt.Errorf("the account %s of %s is not renewed, and ends with its lease: %w", l.user, s.Path, err))
			}
			return
		}
		ends, wait = time.Now().Add(life), life/2
		s.mu.Lock()
		l.fresh = time.Now().Add(life * 2 / 3)
		s.mu.Unlock()
	}
}

// over reports whether nobody uses it any more.
func (l *lease) over() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// renew asks for as much time as the lease had at first, and returns what it
// has got.
func (s *Source) renew(l *lease) (time.Duration, error) {
	var out struct {
		Life int64 `json:"lease_duration"`
	}
	ctx, cancel := context.WithTimeout(context.Background(), quick)
	defer cancel()
	in := map[string]any{"lease_id": l.id, "increment": int64(l.life / time.Second)}
	err := s.Client.do(ctx, http.MethodPut, "sys/leases/renew", in, &out)
	return time.Duration(out.Life) * time.Second, err
}

// Close lets go of the shared account, and waits until all that no session uses
// is given back, or ctx ends.
func (s *Source) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	if s.current != nil {
		s.drop(s.current)
		s.current = nil
	}
	if s.giving > 0 && s.given == nil {
		s.given = make(chan struct{})
	}
	given := s.given
	s.mu.Unlock()
	if given == nil {
		return
	}
	select {
	case <-given:
	case <-ctx.Done():
	}
}

var _ broker.Source = (*Source)(nil)
