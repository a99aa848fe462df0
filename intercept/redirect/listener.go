package redirect

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"sallyport.dev/sallyport/intercept"
)

const (
	// waiting is how many flows may be accepted ahead of Accept; more wait in
	// the kernel's backlog.
	waiting = 64

	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// Listener hands out the flows of the passage's listeners, which it owns. It
// implements intercept.Listener. Its methods may be called from many
// goroutines.
type Listener struct {
	onStray func(local, remote netip.AddrPort)
	flows   chan *intercept.Flow
	closed  chan struct{}

	mu     sync.Mutex
	lns    map[string]net.Listener
	halt   chan struct{} // closed: who accepts ends; nil while paused
	accept sync.WaitGroup

	heldMu sync.Mutex
	held   []*intercept.Flow // accepted, while paused
}

// NewListener hands out the flows of some listeners, named 0, 1, 2, and of
// those that are added later. A connection without the kernel's record is
// closed and told to onStray, which may be nil. Errors of accept (no
// descriptors left) are waited out; Accept fails only once the listener is
// closed or ctx ends.
func NewListener(lns []net.Listener, onStray func(local, remote netip.AddrPort)) *Listener {
	if onStray == nil {
		onStray = func(_, _ netip.AddrPort) {}
	}
	l := &Listener{
		onStray: onStray, flows: make(chan *intercept.Flow, waiting), closed: make(chan struct{}),
		lns: map[string]net.Listener{}, halt: make(chan struct{}),
	}
	for i, ln := range lns {
		_ = l.Add(strconv.Itoa(i), ln) // a new one under a new name
	}
	return l
}

// Add opens a further listener, in place of the one that had its name; it is
// closed on an error. It must have SetDeadline, as those of package net do.
func (l *Listener) Add(name string, ln net.Listener) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		ln.Close()
		return net.ErrClosed
	}
	if u, ok := ln.(*net.UnixListener); ok {
		ln = outlast(u)
	}
	if old := l.lns[name]; old != nil {
		old.Close()
	}
	l.lns[name] = ln
	l.start(ln)
	return nil
}

// Remove closes a listener, if there is one of the name. Connections that it
// has accepted stay.
func (l *Listener) Remove(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln := l.lns[name]; ln != nil {
		ln.Close()
		delete(l.lns, name)
	}
}

// Adopt takes over a connection that another process has accepted.
func (l *Listener) Adopt(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		c.Close()
		return
	}
	if f := l.flow(c); f != nil {
		l.offer(f)
	}
}

// Pause accepts no more, and returns the listeners by name and the flows that
// were accepted and that no Accept has returned. All of them stay open and the
// Listener's own, for Resume; more connections wait in the kernel's backlog.
func (l *Listener) Pause() (map[string]net.Listener, []*intercept.Flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop()
	all := map[string]net.Listener{}
	for name, ln := range l.lns {
		all[name] = ln
	}
	return all, slices.Clone(l.held)
}

// Resume accepts again.
func (l *Listener) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.halt != nil || l.isClosed() {
		return
	}
	l.halt = make(chan struct{})
	for _, ln := range l.lns {
		setDeadline(ln, time.Time{})
		l.start(ln)
	}
	held := l.held
	l.held = nil
	for _, f := range held {
		l.offer(f)
	}
}

// start accepts from ln until the halt; l.mu is held.
func (l *Listener) start(ln net.Listener) {
	if halt := l.halt; halt != nil {
		l.accept.Go(func() { l.acceptFrom(ln, halt) })
	}
}

// offer has Accept return f; l.mu is held.
func (l *Listener) offer(f *intercept.Flow) {
	if halt := l.halt; halt != nil {
		l.accept.Go(func() { l.hand(f, halt) })
		return
	}
	l.hold(f)
}

// stop ends accepting, and holds what was accepted; l.mu is held.
func (l *Listener) stop() {
	if l.halt == nil {
		return
	}
	close(l.halt)
	l.halt = nil
	for _, ln := range l.lns {
		setDeadline(ln, time.Unix(1, 0))
	}
	l.accept.Wait()
	for {
		select {
		case f := <-l.flows:
			l.hold(f)
		default:
			return
		}
	}
}

func (l *Listener) hold(f *intercept.Flow) {
	l.heldMu.Lock()
	l.held = append(l.held, f)
	l.heldMu.Unlock()
}

func setDeadline(ln net.Listener, t time.Time) {
	if d, ok := ln.(interface{ SetDeadline(time.Time) error }); ok {
		_ = d.SetDeadline(t) // closed: then nobody waits for it
	}
}

func (l *Listener) acceptFrom(ln net.Listener, halt <-chan struct{}) {
	backoff := minBackoff
	for {
		c, err := ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select {
			case <-halt:
				return
			case <-time.After(backoff):
				backoff = min(2*backoff, maxBackoff)
				continue
			}
		}
		backoff = minBackoff
		if f := l.flow(c); f != nil {
			l.hand(f, halt)
		}
		select {
		case <-halt:
			return
		default:
		}
	}
}

// hand waits until Accept takes f, or the halt.
func (l *Listener) hand(f *intercept.Flow, halt <-chan struct{}) {
	select {
	case l.flows <- f:
	case <-halt:
		l.hold(f)
	}
}

// flow returns the connection with its record, nil if it has none.
func (l *Listener) flow(c net.Conn) *intercept.Flow {
	switch c := c.(type) {
	case *net.TCPConn:
		peer, dst, reached, err := Facts(c)
		if err == nil {
			peer.Socket = c
			return &intercept.Flow{Conn: c, Destination: dst, Reached: reached, Peer: peer}
		}
		_ = c.SetLinger(0) // nothing of a stray is worth a graceful end
	case *net.UnixConn:
		if peer, path, err := UnixFacts(c); err == nil {
			peer.Socket = c
			return &intercept.Flow{Conn: c, Path: path, Peer: peer}
		}
	}
	local, remote := addrOf(c.LocalAddr()), addrOf(c.RemoteAddr())
	c.Close()
	l.onStray(local, remote)
	return nil
}

func addrOf(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		p := t.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}

// Accept implements intercept.Listener.
func (l *Listener) Accept(ctx context.Context) (*intercept.Flow, error) {
	select {
	case f := <-l.flows:
		return f, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *Listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// Close ends the listeners and the connections that nobody accepted.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		return nil
	}
	close(l.closed)
	var errs []error
	for _, last := range []bool{false, true} {
		for _, ln := range l.lns {
			if _, ok := ln.(*lasting); ok == last {
				errs = append(errs, ln.Close())
			}
		}
	}
	l.stop()
	for _, f := range l.held {
		f.Conn.Close()
	}
	l.held = nil
	return errors.Join(errs...)
}

var _ intercept.Listener = (*Listener)(nil)
