package protocols

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
)

// Protocol serves sessions of one wire protocol.
type Protocol interface {
	// Name is the protocol's name in sallyport.yaml.
	Name() string
	// Serve runs one session to its end: it returns when either side closed,
	// the framing can no longer be trusted, or ctx ended (drain: finish the
	// statement in flight, then end in the protocol's own words). It closes
	// nothing: the caller does. The error is for the record, nil for a
	// session that ended as the protocol foresees.
	Serve(ctx context.Context, s *Session) error
	// Refuse tells a client that has no identity why, in the protocol's own
	// words, after reading as much of its greeting as that takes.
	Refuse(ctx context.Context, client net.Conn, reason, remedy string) error
}

// Errors of the seam. Each means that the caller must refuse or end.
var (
	ErrNotAllowed = errors.New("protocols: not covered by an allowing decision")
	ErrClosed     = errors.New("protocols: the server's door is not open")
)

// Options are what the host gives a Session.
type Options struct {
	Flow    *intercept.Flow
	Policy  *policy.Session
	Gate    *policy.Gate
	Journal events.Journal
	// Renew proves the peer again when its identity has expired.
	Renew func(context.Context) (intercept.Identity, error)
	// Dial opens the server's door.
	Dial func(context.Context) (net.Conn, error)
}

// Session is one passage with two doors. Decide, Open, Send and Flush belong
// to the goroutine that reads the client, Reply to the one that reads the
// server.
type Session struct {
	o        Options
	server   net.Conn
	out      []byte
	promised atomic.Pointer[events.Ticket] // the latest record that a reply may tell of
	opened   chan struct{}
}

// NewSession returns a session whose server door is shut.
func NewSession(o Options) *Session { return &Session{o: o, opened: make(chan struct{})} }

// Client returns the client's door.
func (s *Session) Client() net.Conn { return s.o.Flow.Conn }

// Policy returns who and where.
func (s *Session) Policy() *policy.Session { return s.o.Policy }

// Scope returns what is protected from this session right now.
func (s *Session) Scope() *policy.Scope { return s.o.Gate.Scope(s.o.Policy) }

// Record adds to the transcript; see events.Journal.
func (s *Session) Record(c *events.Chunk) error {
	c.Session = s.o.Policy.Event
	return s.o.Journal.Record(c)
}

// Event appends an event that is not a decision: an outcome.
func (s *Session) Event(e *events.Event) error {
	e.Session = s.o.Policy.Event
	_, err := s.o.Journal.Append(e)
	return err
}

// Decide asks the Gate about a request of this session. An identity that has
// expired is proved again first; another subject than before is refused.
func (s *Session) Decide(ctx context.Context, r *policy.Request) (policy.Decision, error) {
	p := s.o.Policy
	r.Session = p
	if now := time.Now(); !p.Identity.Valid(now) && s.o.Renew != nil {
		if id, err := s.o.Renew(ctx); err == nil && id.Workload == p.Identity.Workload &&
			id.Issuer == p.Identity.Issuer && id.Subject == p.Identity.Subject && equal(id.Actors, p.Identity.Actors) {
			p.Renew(id)
		}
	}
	return s.o.Gate.Decide(ctx, r)
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// Open opens the server's door under the login's decision.
func (s *Session) Open(ctx context.Context, login policy.Decision) error {
	if !login.Allowed() {
		return ErrNotAllowed
	}
	c, err := s.o.Dial(ctx)
	if err != nil {
		return err
	}
	s.promise(login)
	s.server = c
	close(s.opened)
	return nil
}

// Send queues bytes for the server that d covers. It copies b.
func (s *Session) Send(d policy.Decision, b []byte) error {
	if !d.Allowed() {
		return ErrNotAllowed
	}
	if s.server == nil {
		return ErrClosed
	}
	s.promise(d)
	s.out = append(s.out, b...)
	return nil
}

// promise notes the record that later replies wait for. The promise is made
// before the bytes leave, so no reply to them can overtake it.
func (s *Session) promise(d policy.Decision) {
	t := d.Ticket()
	if p := s.promised.Load(); p == nil || t.Seq() > p.Seq() {
		s.promised.Store(&t)
	}
}

// Flush writes what Send queued, in one write.
func (s *Session) Flush() error {
	if len(s.out) == 0 {
		return nil
	}
	if s.server == nil {
		return ErrClosed
	}
	_, err := s.server.Write(s.out)
	s.out = s.out[:0]
	return err
}

// Server returns the server's side to read from, nil before Open.
func (s *Session) Server() io.Reader { return s.server }

// Reply writes server bytes to the client once every statement sent so far
// is on the record.
func (s *Session) Reply(ctx context.Context, b []byte) error {
	if p := s.promised.Load(); p != nil {
		if err := p.Wait(ctx); err != nil {
			return err
		}
	}
	_, err := s.o.Flow.Conn.Write(b)
	return err
}

// Close shuts the server's door.
func (s *Session) Close() error {
	if s.server == nil {
		return nil
	}
	return s.server.Close()
}
