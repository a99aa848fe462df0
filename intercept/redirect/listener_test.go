package redirect_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/redirect"
)

// starved is a listener that has no descriptors left, for a while.
type starved struct {
	net.Listener
	failures atomic.Int32
}

func (l *starved) Accept() (net.Conn, error) {
	if l.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: unix.EMFILE}
	}
	return l.Listener.Accept()
}

func TestListenerOutlivesErrorsOfAccept(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := &starved{Listener: inner}
	ln.failures.Store(5)
	strays := make(chan netip.AddrPort, 1)
	l := redirect.NewListener([]net.Listener{ln}, func(_, remote netip.AddrPort) { strays <- remote })
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	select {
	case got := <-strays:
		if got.String() != c.LocalAddr().String() {
			t.Errorf("stray %s, want %s", got, c.LocalAddr())
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("accept ended with its first error")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if f, err := l.Accept(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v, %v", f, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error("closed twice:", err)
	}
}
