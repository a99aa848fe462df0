package protocols

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// Undecoded is the way for clients whose TLS is with the server itself, and whose
// sessions the passage can't read: those that have pinned the server's certificate,
// or that the server knows by theirs. The rules must let them, see
// policy.Scope.Undecoded. No field may be nil.
type Undecoded struct {
	// Dial opens the server's door as it is. The client verifies the server.
	Dial func(context.Context) (net.Conn, error)
	// Named reports whether the client may ask the server for a name (SNI): behind
	// one address there may be many servers, which are told apart by it.
	Named func(name string) bool
	// Wanted reports whether a client that asks for TLS is to go this way now.
	Wanted func() bool
	// Still reports whether one that goes this way may go on.
	Still func() bool
	// Tell is how often a session is told of in which something has moved. What can't
	// be recorded ends.
	Tell time.Duration
	// Failed is told that a client did not come in by TLS with the passage.
	Failed func()
}

// Errors that end an undecoded session, besides those of its doors.
var (
	errUndecoded = errors.New("protocols: the session may not be undecoded any more: the policy or the resource has changed")
	errExpired   = errors.New("protocols: the token of an undecoded session's workload has expired")
	errRelayCut  = errors.New("protocols: the passage closed an undecoded session")
)

// Undecoded reports whether a client that asks for TLS is to have it with the
// server itself. Where the passage logs in, or is to be sent a token, it never is.
// Call it before anything is known of the client.
func (s *Session) Undecoded() bool {
	u := s.o.Undecoded
	if u == nil || s.o.Account != nil || s.Asks() {
		return false
	}
	// What the rules say before the client has named its user is not kept: if it is
	// decoded, they are asked anew.
	before := *s.o.Policy
	return s.o.Gate.Undecoded(&before) && u.Wanted()
}

// PassUndecoded marks the session: what Open dials is the server as it is, and
// every event tells. name is what the client asks the server for (SNI, "" for
// none); false: it may not, and the session must end. Only a session that is
// Undecoded, before its first event.
func (s *Session) PassUndecoded(name string) bool {
	s.event.Undecoded, s.event.ClientTLS = true, events.TLS{Name: name}
	return name == "" || s.o.Undecoded.Named(strings.ToLower(name))
}

// Unsecured notes that the client did not come in by TLS with the passage: its
// next connection may be Undecoded.
func (s *Session) Unsecured() {
	if s.o.Undecoded != nil {
		s.o.Undecoded.Failed()
	}
}

const (
	// relayLook is how often an undecoded session is looked at in which nothing
	// moves; where something does, it is before it goes on.
	relayLook = 250 * time.Millisecond
	// relayQuiet is for how long nothing must have moved when ctx has ended: what
	// is in flight can't be seen.
	relayQuiet = time.Second
	// relayLast is for the other side's last words when one has closed.
	relayLast = 5 * time.Second
)

// Relay passes bytes between the doors of an undecoded session that was opened
// under d, until a side closes, ctx or Cut ends, or the session may no longer
// be: nothing that is read after that goes on to the other side. It returns nil
// where a side closed or ctx ended.
func (s *Session) Relay(ctx context.Context, d policy.Decision) error {
	if !d.Allowed() || !s.event.Undecoded {
		return ErrNotAllowed
	}
	s.relayed.in.Add(int64(s.Queued())) // the handshake's first message
	if err := s.Flush(); err != nil {
		return err
	}
	if s.server == nil {
		return ErrClosed
	}
	r := &relay{s: s, ctx: ctx, done: make(chan struct{})}
	r.moved.Store(time.Now().UnixNano())
	r.told = time.Now()
	client := s.Client()
	_ = client.SetDeadline(time.Time{})
	_ = s.server.SetDeadline(time.Time{})
	var wg sync.WaitGroup
	wg.Go(func() { r.watch() })
	var pumps sync.WaitGroup
	pumps.Go(func() { r.pump(s.server, client, &s.relayed.in) })
	pumps.Go(func() { r.pump(client, s.server, &s.relayed.out) })
	pumps.Wait()
	r.end(nil)
	wg.Wait()
	return r.why
}

// relay is one under way.
type relay struct {
	s     *Session
	ctx   context.Context
	moved atomic.Int64 // when something last did

	ends atomic.Int32 // sides that have closed

	look sync.Mutex // the session's policy is one goroutine's at a time
	no   error      // why it can't go on, told already
	told time.Time  // when the record was last told how much has moved
	sum  int64      // of bytes then

	once sync.Once
	why  error
	done chan struct{}
}

// end has reads and writes at both doors fail from now on.
func (r *relay) end(why error) {
	r.once.Do(func() {
		r.why = why
		close(r.done)
		past := time.Unix(1, 0)
		_ = r.s.Client().SetDeadline(past)
		_ = r.s.server.SetDeadline(past)
	})
}

// pump takes what one side says to the other.
func (r *relay) pump(to, from net.Conn, n *atomic.Int64) {
	b := make([]byte, 32<<10)
	for {
		k, err := from.Read(b)
		if k > 0 {
			if why := r.still(); why != nil {
				r.end(why)
				return
			}
			r.moved.Store(time.Now().UnixNano())
			w, werr := to.Write(b[:k])
			n.Add(int64(w))
			if werr != nil {
				r.end(nil) // that side has gone, or the relay ends
				return
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			if c, ok := to.(interface{ CloseWrite() error }); ok {
				_ = c.CloseWrite()
			}
			if r.ends.Add(1) == 1 {
				select {
				case <-r.done:
				case <-time.After(relayLast):
				}
			}
			r.end(nil)
			return
		default: // also where the relay ends
			r.end(nil)
			return
		}
	}
}

// still says why the session can't go on.
func (r *relay) still() error {
	r.look.Lock()
	defer r.look.Unlock()
	if r.no != nil {
		return r.no
	}
	now := time.Now()
	r.s.prove(r.ctx, now)
	switch {
	case !r.s.bound.Valid(now):
		return r.tell(errExpired, "identity", "the workload's token has expired", "renew the token, and connect again")
	case !r.s.o.Undecoded.Still() || !r.s.o.Gate.Undecoded(r.s.o.Policy):
		return r.tell(errUndecoded, "changed", "it may not be undecoded any more", "connect again: with a client that trusts this host's authority it is decoded")
	}
	return r.count(now)
}

// count puts on the record how much has moved so far.
func (r *relay) count(now time.Time) error {
	in, out := r.s.relayed.in.Load(), r.s.relayed.out.Load()
	if now.Sub(r.told) < r.s.o.Undecoded.Tell || in+out == r.sum {
		return nil
	}
	r.told, r.sum = now, in+out
	if err := r.s.Event(&events.Event{
		Kind: events.Lifecycle, Time: now, Status: "undecoded", Message: fmt.Sprintf("%d bytes from the client and %d to it so far", in, out),
	}); err != nil {
		r.no = fmt.Errorf("%w: %w", policy.ErrUnrecorded, err)
	}
	return r.no
}

// tell puts the end of a session on the record.
func (r *relay) tell(why error, rule, reason, remedy string) error {
	r.no = errors.Join(why, r.s.Event(&events.Event{
		Kind: events.Block, Time: time.Now(), Verdict: events.Blocked, Rules: []string{rule},
		Reason: "the session is ended: " + reason, Remedy: remedy,
	}))
	return r.no
}

// watch ends the relay when it may not go on, also where nothing moves.
func (r *relay) watch() {
	tick := time.NewTicker(relayLook)
	defer tick.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-r.s.Cut().Done():
			r.end(errRelayCut)
			return
		case <-tick.C:
		}
		if r.ctx.Err() != nil {
			if time.Since(time.Unix(0, r.moved.Load())) >= relayQuiet {
				r.end(nil)
				return
			}
			continue
		}
		if why := r.still(); why != nil {
			r.end(why)
			return
		}
	}
}
