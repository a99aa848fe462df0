package redirect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
)

// passageName is the abstract unix address that the passage listens at, as
// unix.c has it.
const passageName = "@sallyport.passage"

// Listeners are the listening sockets of one network namespace. The loader hands
// them to the daemon and closes its own copies, so that they die with it.
type Listeners struct {
	Netns uint64             // cookie
	TCP   []*net.TCPListener // 127.0.0.1 and, where there is IPv6, ::1
	Unix  *net.UnixListener  // nil unless unix sockets are protected
	Taken error              // why it is nil though they are
}

// Listen opens the passage in the caller's network namespace, and then lets
// connections be turned to it.
func (g *Guard) Listen() (*Listeners, error) { return g.ListenIn(nil) }

// ListenIn is Listen for the network namespace that a file names. It works
// before the namespace's loopback is up.
//
// The listeners are not MPTCP, where an accepted socket would lose its record.
func (g *Guard) ListenIn(ns *os.File) (*Listeners, error) {
	p := &Listeners{}
	err := inNetns(ns, func() error { return p.open(g.cfg.Port, g.unixPassage()) })
	if err == nil {
		err = g.register(p)
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("passage: %w", err)
	}
	return p, nil
}

// register lets connections of the namespace be turned to p.
func (g *Guard) register(p *Listeners) error {
	entry := bpf.GuardListener{Port: g.cfg.Port, V4: 1}
	if len(p.TCP) > 1 {
		entry.V6 = 1
	}
	if p.Unix != nil {
		entry.Local = 1
	}
	if err := g.maps.Listeners.Put(p.Netns, entry); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	return nil
}

var loopbacks = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}

func (p *Listeners) open(port uint16, local bool) error {
	// Free to bind: a namespace is born with its loopback down.
	lc := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			if network == "tcp6" {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
			} else {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
			}
		})
		return errors.Join(cerr, err)
	}}
	lc.SetMultipathTCP(false)
	for _, a := range loopbacks {
		l, err := lc.Listen(context.Background(), "tcp", netip.AddrPortFrom(a, port).String())
		switch {
		case err == nil:
			p.TCP = append(p.TCP, l.(*net.TCPListener))
		case a.Is6() && (errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)):
			// No IPv6 here: connections to IPv6 destinations are refused.
		case errors.Is(err, unix.EADDRINUSE):
			return fmt.Errorf("%w (%v)", ErrPort, err)
		default:
			return err
		}
	}
	if local {
		// Somebody else may have taken the address: then connections to unix
		// sockets are refused here, and nothing else.
		p.Unix, p.Taken = listenUnix()
	}
	var err error
	p.Netns, err = thisNetns()
	return err
}

func listenUnix() (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: passageName, Net: "unix"})
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("the passage's unix address %s can't be opened: another process holds it; end that process (ss -xlp)", passageName)
	}
	return l, err
}

// Files returns duplicates of the sockets, to be handed over.
func (p *Listeners) Files() (files []*os.File, err error) {
	add := func(f *os.File, ferr error) {
		if ferr == nil {
			files = append(files, f)
		}
		err = errors.Join(err, ferr)
	}
	for _, l := range p.TCP {
		add(l.File())
	}
	if p.Unix != nil {
		add(p.Unix.File())
	}
	return files, err
}

// Close closes the caller's copies.
func (p *Listeners) Close() error {
	var errs []error
	for _, l := range p.TCP {
		errs = append(errs, l.Close())
	}
	if p.Unix != nil {
		errs = append(errs, p.Unix.Close())
	}
	return errors.Join(errs...)
}

// Withdraw takes the passages of all network namespaces out of use: covered
// connections to protected destinations are refused from then on.
func (g *Guard) Withdraw() error {
	all, err := content[uint64, bpf.GuardListener](g.maps.Listeners)
	if err != nil {
		return fmt.Errorf("withdraw: %w", err)
	}
	for cookie := range all {
		if err := g.Unlisten(cookie); err != nil {
			return err
		}
	}
	return nil
}

// Unlisten takes the passage of one network namespace out of use.
func (g *Guard) Unlisten(cookie uint64) error {
	if err := g.maps.Listeners.Delete(cookie); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("withdraw: %w", err)
	}
	return nil
}
