package redirect

import (
	"context"
	"errors"
	"net"
	"net/netip"
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

type listener struct {
	lns     []net.Listener
	onStray func(local, remote netip.AddrPort)
	flows   chan *intercept.Flow
	closed  chan struct{}
	close   sync.Once
	wg      sync.WaitGroup
}

// NewListener hands out the flows of the passage's listeners, which it owns
// from then on. A connection without the kernel's record is closed and told
// to onStray, which may be nil. Errors of accept (no descriptors left) are
// waited out; Accept fails only once the listener is closed or ctx ends.
func NewListener(lns []net.Listener, onStray func(local, remote netip.AddrPort)) intercept.Listener {
	if onStray == nil {
		onStray = func(_, _ netip.AddrPort) {}
	}
	l := &listener{lns: lns, onStray: onStray, flows: make(chan *intercept.Flow, waiting), closed: make(chan struct{})}
	for _, ln := range lns {
		l.wg.Go(func() { l.accept(ln) })
	}
	return l
}

func (l *listener) accept(ln net.Listener) {
	backoff := minBackoff
	for {
		c, err := ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select {
			case <-time.After(backoff):
				backoff = min(2*backoff, maxBackoff)
				continue
			case <-l.closed:
				return
			}
		}
		backoff = minBackoff
		f := l.flow(c)
		if f == nil {
			continue
		}
		select {
		case l.flows <- f:
		case <-l.closed:
			c.Close()
			return
		}
	}
}

// flow returns the connection with its record, nil if it has none.
func (l *listener) flow(c net.Conn) *intercept.Flow {
	tc, ok := c.(*net.TCPConn)
	if ok {
		peer, dst, err := Facts(tc)
		if err == nil {
			return &intercept.Flow{Conn: tc, Destination: dst, Peer: peer}
		}
		_ = tc.SetLinger(0) // nothing of a stray is worth a graceful end
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

func (l *listener) Accept(ctx context.Context) (*intercept.Flow, error) {
	select {
	case f := <-l.flows:
		return f, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close ends the listeners and the connections that nobody accepted.
func (l *listener) Close() error {
	var errs []error
	l.close.Do(func() {
		close(l.closed)
		for _, ln := range l.lns {
			errs = append(errs, ln.Close())
		}
		l.wg.Wait()
		for {
			select {
			case f := <-l.flows:
				f.Conn.Close()
			default:
				return
			}
		}
	})
	return errors.Join(errs...)
}
