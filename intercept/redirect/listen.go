package redirect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
)

// Listen opens the passage's listeners in this network namespace, 127.0.0.1
// and, where there is IPv6, ::1, and then lets connections be turned to them.
// The loader hands them to the daemon and closes its own copies, so that they
// die with the daemon.
//
// They are not MPTCP, where an accepted socket would lose its record.
func (g *Guard) Listen() ([]*net.TCPListener, error) {
	var open []*net.TCPListener
	fail := func(err error) ([]*net.TCPListener, error) {
		for _, l := range open {
			l.Close()
		}
		return nil, fmt.Errorf("passage: %w", err)
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	for _, a := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()} {
		l, err := lc.Listen(context.Background(), "tcp", netip.AddrPortFrom(a, g.cfg.Port).String())
		switch {
		case err == nil:
			open = append(open, l.(*net.TCPListener))
		case a.Is6() && (errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)):
			// No IPv6 here: connections to IPv6 destinations are refused.
		case errors.Is(err, unix.EADDRINUSE):
			return fail(fmt.Errorf("%w (%v)", ErrPort, err))
		default:
			return fail(err)
		}
	}
	cookie, err := netnsCookie(open[0])
	if err != nil {
		return fail(err)
	}
	entry := bpf.GuardListener{Port: g.cfg.Port, V4: 1}
	if len(open) > 1 {
		entry.V6 = 1
	}
	if err := g.maps.Listeners.Put(cookie, entry); err != nil {
		return fail(fmt.Errorf("register: %w", err))
	}
	return open, nil
}

// Withdraw takes the passage of this network namespace out of use: covered
// connections to protected destinations are refused from then on.
func (g *Guard) Withdraw() error {
	all, err := content[uint64, bpf.GuardListener](g.maps.Listeners)
	if err != nil {
		return fmt.Errorf("withdraw: %w", err)
	}
	for cookie := range all {
		if err := g.maps.Listeners.Delete(cookie); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("withdraw: %w", err)
		}
	}
	return nil
}

func netnsCookie(l *net.TCPListener) (cookie uint64, err error) {
	rc, err := l.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := rc.Control(func(fd uintptr) {
		cookie, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	})
	if err := errors.Join(cerr, err); err != nil {
		return 0, fmt.Errorf("network namespace: %w", err)
	}
	return cookie, nil
}
