package protocols

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
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
	// nothing: the caller does. The error is for the record, so it holds no
	// data; nil for a session that ended as the protocol foresees.
	Serve(ctx context.Context, s *Session) error
	// Refuse tells a client that has no identity why, in the protocol's own
	// words, after reading as much of its greeting as that takes. cfg is what the
	// client's door may be secured with, nil for nothing.
	Refuse(ctx context.Context, client net.Conn, cfg *tls.Config, reason, remedy string) error
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
	// Speak proves for whom the peer says that its requests are, by their token;
	// nil: it may not say so. An error's text goes to the client and the record.
	Speak func(ctx context.Context, token []byte) (intercept.Spoken, error)
	// Present proves the peer by the token that its client sent: the host has told
	// it to Policy.Event when it returns. nil: no token is asked for. Otherwise
	// Policy.Identity is nobody's until then. See Session.Present.
	Present func(ctx context.Context, token []byte) (intercept.Identity, *Account, error)
	// Dial opens the server's door, secured where it is to be; see Secure.
	Dial func(context.Context) (net.Conn, error)
	// Account, when not nil, is whom the passage logs in as at the server. Dial
	// shows the server its certificate, where it has one.
	Account *Account
	// TLS is what the client's door is secured with, if the client asks for it;
	// nil: it is told that there is none. With TLSOnly it is refused without.
	TLS     *tls.Config
	TLSOnly bool
	// IgnoreCertificates lets clients in that show a certificate. It is never who
	// they are.
	IgnoreCertificates bool
	// Undecoded is the way for clients whose TLS is with the server itself; nil:
	// there is none.
	Undecoded *Undecoded
	// Notice is told to each client that is let in; "" for nothing.
	Notice string
	// Cut, when not nil, ends when a drain takes too long: what is in flight is
	// no longer waited for, and the session ends in the protocol's own words.
	Cut context.Context
}

// Session is one passage with two doors. Decide, Open, Send, Flush and
// CloseWrite belong to the goroutine that reads the client, Reply to the one
// that reads the server; Record, Event and Interrupt to any.
type Session struct {
	o      Options
	bound  intercept.Identity // who the peer is, whoever it speaks for
	event  *events.Session    // the same of it as it began
	voice  *voice             // nil: nobody is spoken for
	holder holder
	server net.Conn
	began  time.Time // zero: no SessionOpen is on the record
	out    *[]byte   // queued for the server; nil while there is nothing
	rest   atomic.Int64

	relayed struct{ in, out atomic.Int64 } // bytes from and to an undecoded client

	mu       sync.Mutex
	promised events.Ticket // the latest record that a reply may tell of
	written  events.Ticket // the latest that must be written before a reply; zero: none
}

// NewSession returns a session whose server door is shut.
func NewSession(o Options) *Session {
	return &Session{o: o, bound: o.Policy.Identity, event: o.Policy.Event}
}

// Client returns the client's door.
func (s *Session) Client() net.Conn { return s.o.Flow.Conn }

// Notice returns what a client is told when it is let in, "" for nothing.
func (s *Session) Notice() string { return s.o.Notice }

// Policy returns who and where.
func (s *Session) Policy() *policy.Session { return s.o.Policy }

// Cut ends when what is in flight is no longer waited for; see Options.
func (s *Session) Cut() context.Context {
	if s.o.Cut == nil {
		return context.Background()
	}
	return s.o.Cut
}

// Rest says that nothing is under way, no statement and no transaction, until
// the next Send. The protocol calls it so that no later Send comes before it.
func (s *Session) Rest() { s.rest.Store(time.Now().UnixNano()) }

// Resting returns how long nothing has been under way, 0 while something is.
func (s *Session) Resting() time.Duration {
	since := s.rest.Load()
	if since == 0 {
		return 0
	}
	return max(time.Since(time.Unix(0, since)), 0)
}

// Scope returns what is protected from this session right now.
func (s *Session) Scope() *policy.Scope { return s.o.Gate.Scope(s.o.Policy) }

// Record adds to the transcript. It is written before the next Reply, and
// before Written returns; see events.Journal.
func (s *Session) Record(c *events.Chunk) error {
	c.Session = s.event
	t, err := s.o.Journal.Record(c)
	if err != nil || t.Zero() {
		return err
	}
	s.mu.Lock()
	if t.After(s.written) {
		s.written = t
	}
	s.mu.Unlock()
	return nil
}

// Written returns nil once what was recorded has been written.
func (s *Session) Written() error {
	s.mu.Lock()
	t := s.written
	s.mu.Unlock()
	if t.Zero() {
		return nil
	}
	return t.Written()
}

// Event appends an event that is not a decision: an outcome. It is of the peer
// alone unless e.Session says for whom its statement was decided.
func (s *Session) Event(e *events.Event) error {
	if e.Session == nil {
		e.Session = s.event
	}
	_, err := s.o.Journal.Append(e)
	return err
}

// Decide asks the Gate about a request of this session. An identity that has
// expired is proved again first; another subject than before is refused.
func (s *Session) Decide(ctx context.Context, r *policy.Request) (policy.Decision, error) {
	r.Session = s.o.Policy
	now := time.Now()
	s.prove(ctx, now)
	s.hear(ctx, r, now)
	s.holding(ctx, r)
	return s.o.Gate.Decide(ctx, r)
}

// prove proves an identity again that has expired.
func (s *Session) prove(ctx context.Context, now time.Time) {
	if s.bound.Valid(now) || s.o.Renew == nil {
		return
	}
	if id, err := s.o.Renew(ctx); err == nil && id.Same(&s.bound) {
		s.bound = id
		s.renew()
	}
}

// renew has the policy see the latest proofs of the same parties.
func (s *Session) renew() {
	id := s.bound
	if s.voice != nil {
		id = id.For(&s.voice.person)
	}
	s.o.Policy.Renew(id)
}

// Open opens the server's door under the login's decision, and records that
// the session began.
func (s *Session) Open(ctx context.Context, login policy.Decision) error {
	if !login.Allowed() {
		return ErrNotAllowed
	}
	if err := s.Event(&events.Event{Kind: events.SessionOpen, Time: time.Now()}); err != nil {
		return fmt.Errorf("%w: %w", policy.ErrUnrecorded, err)
	}
	s.began = time.Now()
	dial := s.o.Dial
	if s.event.Undecoded {
		dial = s.o.Undecoded.Dial
	}
	c, err := dial(ctx)
	if err != nil {
		return err
	}
	s.promise(login)
	s.server = c
	if c, ok := s.ServerTLS(); ok {
		t := described(c)
		s.event.ServerTLS.Store(&t)
	}
	if from, err := netip.ParseAddrPort(c.LocalAddr().String()); err == nil {
		s.event.ServerFrom.Store(&from)
	}
	return nil
}

// Aside opens the server's door a second time for a message beside the
// session, such as a cancel request: b, and the wait for the server's end.
func (s *Session) Aside(ctx context.Context, login policy.Decision, b []byte) error {
	if !login.Allowed() {
		return ErrNotAllowed
	}
	c, err := s.o.Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, c)
	return err
}

var outs = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}

// Send queues bytes for the server that d covers. It copies b.
func (s *Session) Send(d policy.Decision, b []byte) error {
	if !d.Allowed() {
		return ErrNotAllowed
	}
	if s.server == nil {
		return ErrClosed
	}
	if s.rest.Load() != 0 {
		s.rest.Store(0)
	}
	s.promise(d)
	if s.out == nil {
		s.out = outs.Get().(*[]byte)
	}
	*s.out = append(*s.out, b...)
	return nil
}

// Queued returns how many bytes wait for Flush.
func (s *Session) Queued() int {
	if s.out == nil {
		return 0
	}
	return len(*s.out)
}

// promise notes the record that later replies wait for. The promise is made
// before the bytes leave, so no reply to them can overtake it.
func (s *Session) promise(d policy.Decision) {
	t := d.Ticket()
	s.mu.Lock()
	if t.After(s.promised) {
		s.promised = t
	}
	s.mu.Unlock()
}

// Flush writes what Send queued, in one write.
func (s *Session) Flush() error {
	if s.out == nil {
		return nil
	}
	if s.server == nil {
		return ErrClosed
	}
	_, err := s.server.Write(*s.out)
	if cap(*s.out) <= 128<<10 { // what one large message needed is not kept
		*s.out = (*s.out)[:0]
		outs.Put(s.out)
	}
	s.out = nil
	return err
}

// CloseWrite tells the server that nothing more comes, as the client did.
func (s *Session) CloseWrite() error {
	if s.server == nil {
		return ErrClosed
	}
	if c, ok := s.server.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return s.server.Close()
}

// Interrupt makes reads and writes at the server's door fail from now on. It
// may be called once Open has returned.
func (s *Session) Interrupt() {
	if s.server != nil {
		_ = s.server.SetDeadline(time.Unix(1, 0))
	}
}

// SetServerDeadline bounds reads and writes at the server's door; the zero
// time removes the bound.
func (s *Session) SetServerDeadline(t time.Time) error {
	if s.server == nil {
		return ErrClosed
	}
	return s.server.SetDeadline(t)
}

// Server returns the server's side to read from, nil before Open. It can't
// be made into a writer.
func (s *Session) Server() io.Reader {
	if s.server == nil {
		return nil
	}
	if _, ok := s.server.(syscall.Conn); ok {
		return rawDoor{door{s.server}}
	}
	return door{s.server}
}

// door hides all of a connection but its reading side.
type door struct{ c net.Conn }

func (d door) Read(b []byte) (int, error) { return d.c.Read(b) }

// rawDoor lets a reader wait for bytes without holding a buffer.
type rawDoor struct{ door }

func (d rawDoor) SyscallConn() (syscall.RawConn, error) {
	raw, err := d.c.(syscall.Conn).SyscallConn()
	return readOnly{raw}, err
}

type readOnly struct{ raw syscall.RawConn }

func (r readOnly) Control(func(uintptr)) error        { return ErrNotAllowed }
func (r readOnly) Write(func(uintptr) bool) error     { return ErrNotAllowed }
func (r readOnly) Read(f func(fd uintptr) bool) error { return r.raw.Read(f) }

// Reply writes server bytes to the client once every statement sent so far
// is on the record, and what was recorded is written.
func (s *Session) Reply(ctx context.Context, b []byte) error {
	s.mu.Lock()
	t, w := s.promised, s.written
	s.mu.Unlock()
	if !t.Zero() && !t.Done() {
		if err := t.Wait(ctx); err != nil {
			return err
		}
	}
	if !w.Zero() {
		if err := w.Written(); err != nil {
			return err
		}
	}
	_, err := s.o.Flow.Conn.Write(b)
	return err
}

// Close shuts the server's door and records the end of a session that began;
// why is what Serve returned. Call it once, after Serve.
func (s *Session) Close(why error) error {
	farewell(s.o.Flow.Conn)
	var err error
	if s.server != nil {
		err = s.server.Close()
	}
	if s.began.IsZero() {
		return err
	}
	now := time.Now()
	e := events.Event{Kind: events.SessionClose, Time: now, Status: "ok", Duration: now.Sub(s.began), Bytes: s.relayed.out.Load(), BytesIn: s.relayed.in.Load()}
	if why != nil {
		e.Status, e.Reason = "error", why.Error()
	}
	return errors.Join(err, s.Event(&e))
}
