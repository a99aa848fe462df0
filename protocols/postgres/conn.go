package postgres

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/wire"
)

// conn is one session. What stands before queue belongs to the goroutine that
// reads the client, what stands behind it to the one that reads the server.
type conn struct {
	p   *Protocol
	s   *protocols.Session
	pol *policy.Session // of the goroutine that reads the client
	ctx context.Context

	client   *wire.Reader
	login    policy.Decision // covers what is of the session, not of a statement
	number   uint64          // of the latest statement
	dead     bool            // a refusal will fail: the server skips all up to Sync
	ddl      ddl
	batch    bool        // the server was sent messages that no Sync has followed yet
	begun    bool        // ... of which one may have run something
	piped    bool        // ... even if a Query followed, which need not end their transaction
	fetched  []*portal   // cursors that the message's text names
	named    []*prepared // ... and prepared statements
	wording  wording
	readings readings
	unnoted  unnoted                // what may have been set before anything asked for an approval
	under    *policy.Cover          // what the next decision is to go on under
	held     atomic.Pointer[func()] // withdraws what the session waits for; nil: for nothing
	asking   asking
	early    atomic.Uint32 // what came before there was anything to withdraw
	explain  bool          // statements are explained, in place of being run; see mode
	// switched: whether they are may change with a transaction's end.
	switched bool
	voiced   bool            // whom it speaks for may not be for the session; see settle
	latest   policy.Decision // of the latest statement that was sent
	input    inputRecord
	chunk    events.Chunk
	current  step
	key      []byte
	lits     []span
	digests  []events.Digest
	msg      []byte
	req      policy.Request
	would    would

	analyzer query.Analyzer // base, or one within the open transaction
	base     query.Analyzer // of what is committed
	apart    uint64         // not 0: analyzer is the session's own, of this version of base
	release  func()
	changes  *changes // of the database; nil: it is only observed
	caught   uint64   // how many of them base is known to have seen

	queue queue

	unsafe  atomic.Pointer[unsafeSetting] // why texts may mean something else than is understood
	guarded atomic.Bool                   // something is protected, as of the latest message
	watch   atomic.Uint64                 // what is looked for in messages, a detect.Set; as of the latest message
	ended   atomic.Uint64                 // the latest statement with an outcome

	server   *wire.Reader
	replyCtx context.Context
	reply    replyState
	settings settings
	cancel   *cancelKey
	minor    uint16 // of the protocol that the client asked for, then of what the server settled on
	shown    string // application_name as the client gave it
	sent     string // as the server was given it

	event *events.Session // of the session as it began: never replaced

	leaf *x509.Certificate // that the client was shown; see noting
}

// serve runs the session.
func (c *conn) serve() error {
	door := c.s.Client()
	stop := context.AfterFunc(c.ctx, func() { _ = door.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	defer func() {
		if c.release != nil {
			c.leave()
			c.release()
		}
	}()
	_ = door.SetReadDeadline(time.Now().Add(startupTime))
	if c.ctx.Err() != nil {
		_ = door.SetReadDeadline(time.Unix(1, 0))
	}
	offer, only := c.s.TLS()
	g := greeting{conn: door, tls: c.noting(offer), unread: c.s.Undecoded()}
	if err := g.read(c.ctx); err != nil {
		switch {
		case errors.Is(err, errUnread):
			return c.unread(&g, stop)
		case errors.Is(err, protocols.ErrHandshake):
			return c.unsecured(err)
		case g.secured != nil && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
			return c.unsecured(errSilent)
		case errors.Is(err, io.EOF):
			return nil // a probe
		}
		return gone("client", err)
	}
	if g.secured != nil {
		c.s.Secured(g.secured)
	} else {
		c.s.InClear()
	}
	if g.cancel != nil {
		return c.p.forward(c, g.cancel)
	}
	if only && g.secured == nil {
		return c.inClear(&g)
	}
	if c.s.Mutual() {
		return c.mutual(&g)
	}
	ready, err := c.start(&g)
	if !ready {
		if e := (*ending)(nil); errors.As(err, &e) {
			return c.farewellEarly(e.refusal, e.why)
		}
		return err
	}
	defer c.p.forget(c)
	c.changes = c.p.changesOf(c.pol.Resource, c.pol.Database)
	_ = door.SetReadDeadline(time.Time{})
	if c.ctx.Err() != nil {
		_ = door.SetReadDeadline(time.Unix(1, 0))
	}

	cut := context.AfterFunc(c.s.Cut(), func() {
		c.queue.end(closing())
		c.s.Interrupt()
	})
	defer cut()

	served := make(chan error, 1)
	var fault *protocols.Fault
	go func() {
		var err error
		defer func() {
			fault = protocols.Caught(recover())
			c.queue.end(nil)
			c.s.Interrupt() // nothing will be answered
			_ = door.SetReadDeadline(time.Unix(1, 0))
			served <- err
		}()
		err = c.serveServer()
	}()
	err = c.serveClient()
	var r *ending
	switch {
	case errors.Is(err, io.EOF): // half closed: what is under way is answered
		_ = c.s.CloseWrite()
		_ = c.s.SetServerDeadline(time.Now().Add(startupTime))
		err = nil
	case errors.As(err, &r):
		c.queue.end(r.refusal)
		c.s.Interrupt()
		err = r.why
	case errors.Is(err, os.ErrDeadlineExceeded): // the server's side ended first, or ctx did
		c.s.Interrupt()
		err = nil
	default:
		c.s.Interrupt()
	}
	serr := <-served
	if fault != nil {
		panic(fault) // it ends this session alone, and the caller tells of it
	}
	if err == nil || c.lost(serr) {
		err = serr
	}
	if err == nil && c.s.Cut().Err() != nil {
		err = errCut
	}
	return err
}

// errCut: the passage closed, and what was in flight took too long for it.
var errCut = errors.New("postgres: the passage closed before the statement in flight had ended")

// lost reports whether the server's side ended for a reason of its own.
func (c *conn) lost(err error) bool { return err != nil && !errors.Is(err, os.ErrDeadlineExceeded) }

// ending ends the session with a last word to the client; why is for the
// record.
type ending struct {
	refusal *refusal
	why     error
}

func (e *ending) Error() string { return e.refusal.message }

// violation ends the session: nothing that follows can be trusted.
func violation(why error) error {
	return &ending{&refusal{code: codeProtocol, message: "sallyport: " + why.Error()}, why}
}

// gone names the door that failed.
func gone(door string, err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("postgres: %s: %w", door, err)
}

// serveClient walks the client's messages.
func (c *conn) serveClient() error {
	defer c.client.Release()
	for {
		w := c.client.Window()
		typ, n, ok, err := head(w)
		switch {
		case err != nil:
			return violation(err)
		case ok && typ == 'd':
			err = c.copyData(n)
		case ok && n > maxMessage:
			err = c.oversized(typ, n)
		case ok && len(w) >= n:
			c.client.Advance(n)
			err = c.message(typ, w[headLen:n])
		default:
			if err = c.flush(); err != nil {
				return err
			}
			c.msg, c.key = thrift(c.msg), thrift(c.key)
			err = c.fill()
			if c.ctx.Err() != nil && !c.queue.takesData() {
				return c.drain()
			}
			if err != nil {
				if len(c.client.Window()) == 0 && errors.Is(err, io.EOF) {
					return io.EOF
				}
				return gone("client", err)
			}
			continue
		}
		if err != nil {
			return err
		}
		if c.s.Queued() > wire.Size {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
}

// thrift gives up a buffer that one large message needed.
func thrift(b []byte) []byte {
	if cap(b) > 4*wire.Size {
		return nil
	}
	return b[:0]
}

// fill waits for more from the client. When the session is to end it still
// does, for as long as a COPY under way needs the client's data.
func (c *conn) fill() error {
	for {
		err := c.client.Fill()
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.ctx.Err() == nil || !c.queue.takesData() {
			return err
		}
		_ = c.s.Client().SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	}
}

// scope returns what is protected right now, and lets the server's side know.
func (c *conn) scope() *policy.Scope {
	sc := c.s.Scope()
	if p := sc.Protects(); p != c.guarded.Load() {
		c.guarded.Store(p)
	}
	if k := watches(sc); k != c.watch.Load() {
		c.watch.Store(k)
	}
	return sc
}

func (c *conn) flush() error {
	if err := c.s.Flush(); err != nil {
		return gone("server", err)
	}
	return nil
}

// drain lets what is under way be answered and says good-bye.
func (c *conn) drain() error {
	if err := c.barrier(); err != nil {
		return err
	}
	return &ending{refusal: closing()}
}

// closing is what a client hears when the passage ends.
func closing() *refusal {
	return &refusal{code: codeShutdown, message: "sallyport: the passage is closing: this connection ends", hint: "Connect again."}
}

// barrier waits until everything that was sent is answered.
func (c *conn) barrier() error {
	if err := c.hurry(); err != nil {
		return err
	}
	c.queue.drained()
	return nil
}

// hurry has the server answer what it was sent.
func (c *conn) hurry() error {
	if err := c.s.Send(c.login, flushMessage); err != nil {
		return err
	}
	return c.flush()
}

// message dispatches on a message's type; each type of the protocol has its
// answer here. body is borrowed for the call.
func (c *conn) message(typ byte, body []byte) error {
	if go_, err := c.copyGate(typ); !go_ || err != nil {
		return err
	}
	switch typ {
	case 'X':
		if err := c.s.Send(c.login, []byte{'X', 0, 0, 0, 4}); err != nil {
			return err
		}
		if err := c.flush(); err != nil {
			return err
		}
		return io.EOF
	case 'S':
		return c.sync(body)
	case 'c', 'f':
		return c.copyEnd(typ, body)
	case 'Q', 'F', 'P', 'B', 'D', 'E', 'C', 'H':
	default:
		return violation(fmt.Errorf("a message of type %q is not of this protocol", typ))
	}
	if c.dead || c.queue.skips() {
		c.unsaid(typ, body)
		return nil // as the server does
	}
	if err := c.settle(); err != nil {
		return err
	}
	c.fetched, c.named = c.fetched[:0], c.named[:0]
	if err := c.mode(); err != nil {
		return err
	}
	switch typ {
	case 'Q':
		return c.query(body)
	case 'F':
		return c.functionCall(body)
	case 'P':
		return c.parse(body)
	case 'B':
		return c.bind(body)
	case 'D':
		return c.describe(body)
	case 'E':
		return c.execute(body)
	case 'C':
		return c.close(body)
	}
	if len(body) != 0 {
		return violation(malformed('H'))
	}
	return c.s.Send(c.login, flushMessage)
}

// push adds a step and sends its message, unless the server would skip it.
func (c *conn) push(st *step, d policy.Decision, msg []byte) error {
	if c.queue.full() { // what it waits for must have been sent
		if err := c.hurry(); err != nil {
			return err
		}
	}
	switch c.queue.push(st) {
	case goes:
		c.batch = !st.kind.alone()
		c.begun = c.batch && (c.begun || st.kind != stepParse && st.kind != stepDescribeStatement)
		c.piped = st.kind != stepSync && (c.piped || c.begun)
		return c.s.Send(d, msg)
	case skips:
		c.skipped(st)
		if st.voice != voiceNone {
			c.silence()
		}
	}
	return nil
}

// refuse has a message fail at the server in its place.
func (c *conn) refuse(simple bool, r *refusal) error {
	st := step{kind: stepParse, refusal: r, statement: r.fails, number: r.number, record: r.record, started: time.Now(), event: c.pol.Event}
	if simple {
		st.kind = stepQuery
	} else {
		c.dead = true
	}
	c.msg = c.decoy(c.msg[:0], simple, r.late)
	return c.push(&st, c.login, c.msg)
}

func (c *conn) sync(body []byte) error {
	if len(body) != 0 {
		return violation(malformed('S'))
	}
	c.dead = false
	c.ddl.synced = true
	return c.push(&step{kind: stepSync, guard: protects(c.scope())}, c.login, syncMessage)
}

// oversized refuses a message that is too large to be looked at, and passes
// over it. The session goes on where its type leaves no doubt how.
func (c *conn) oversized(typ byte, n int) error {
	switch typ {
	case 'Q', 'P', 'B', 'F':
	default:
		return violation(fmt.Errorf("a message of type %q with %d bytes", typ, n))
	}
	if go_, err := c.copyGate(typ); err != nil {
		return err
	} else if go_ && !c.dead && !c.queue.skips() {
		c.number++
		c.silence() // nobody knows what it would have said
		if err := c.refuseOpaque(typ == 'Q' || typ == 'F', codeUnsupported, fmt.Sprintf("a message of %d bytes is larger than what is analysed (%d)", n, maxMessage), "Send less at once, or use COPY.", nil, nil); err != nil {
			return err
		}
	}
	if err := c.flush(); err != nil {
		return err
	}
	for n > 0 {
		k := min(n, len(c.client.Window()))
		c.client.Advance(k)
		if n -= k; n > 0 {
			if err := c.fill(); err != nil {
				return gone("client", err)
			}
		}
	}
	return nil
}
