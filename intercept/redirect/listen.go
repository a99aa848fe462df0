package redirect

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
)

// passagePrefix begins the abstract unix addresses that the passage listens at;
// 32 hexadecimal digits follow. Each is new: nobody can have taken it before.
const passagePrefix = "@sallyport.passage."

// Listeners are the listening sockets of one network namespace. The loader hands
// them to the daemon and closes its own copies, so that they die with it.
type Listeners struct {
	Netns uint64             // cookie
	TCP   []*net.TCPListener // 127.0.0.1 and, where there is IPv6, ::1
	Unix  *net.UnixListener  // nil unless unix sockets are protected
}

// Listen opens the passage in the caller's network namespace, and then lets
// connections be turned to it.
func (g *Guard) Listen() (*Listeners, error) { return g.ListenIn(nil) }

// ListenIn is Listen for the network namespace that a file names. It works
// before the namespace's loopback is up. ErrPortRange: clients in it may get
// the passage's port as their own.
//
// The listeners are not MPTCP, where an accepted socket would lose its record.
func (g *Guard) ListenIn(ns *os.File) (*Listeners, error) {
	p := &Listeners{}
	err := inNetns(ns, func() error {
		if err := g.cfg.Host.CheckPort(g.cfg.Port); err != nil { // each namespace has a range of its own
			return err
		}
		return p.open(g.cfg.Port, g.unixPassage(), nil)
	})
	known := passages{}
	if err == nil {
		err = g.addAll(known, p)
	}
	if err == nil {
		err = g.enter(known)
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("passage: %w", err)
	}
	return p, nil
}

// passages are what the programs know of listeners, by the cookie of their
// network namespace.
type passages map[uint64]*bpf.GuardListener

func (g *Guard) addAll(all passages, p *Listeners) error {
	for _, l := range p.all() {
		rc, err := l.SyscallConn()
		if err != nil {
			return err
		}
		cerr := rc.Control(func(fd uintptr) { err = g.add(all, int(fd)) })
		if err := errors.Join(cerr, err); err != nil {
			return err
		}
	}
	return nil
}

func (g *Guard) add(all passages, fd int) error {
	p, err := LookAtListener(fd, g.cfg.Port)
	if err != nil {
		return err
	}
	e := all[p.Netns]
	if e == nil {
		e = &bpf.GuardListener{Port: g.cfg.Port}
		all[p.Netns] = e
	}
	switch p.Family {
	case unix.AF_INET:
		e.V4 = 1
		e.Witness, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	case unix.AF_INET6:
		e.V6 = 1
	case unix.AF_UNIX:
		var at unix.Sockaddr
		if at, err = unix.Getsockname(fd); err == nil {
			copy(e.Local[1:], at.(*unix.SockaddrUnix).Name[1:])
			err = g.ownListener(fd)
		}
	}
	if err != nil {
		return fmt.Errorf("passage %s: %w", p, err)
	}
	return nil
}

// enter gives each namespace its share of the hand-over, and then lets its
// connections be turned. What waits there already keeps its place.
func (g *Guard) enter(all passages) error {
	for cookie, e := range all {
		err := g.maps.Shares.Update(cookie, int64(0), ebpf.UpdateNoExist)
		if err == nil || errors.Is(err, ebpf.ErrKeyExist) {
			err = g.maps.Listeners.Put(cookie, *e)
		}
		if err != nil {
			return fmt.Errorf("network namespace %d: register: %w", cookie, err)
		}
	}
	return nil
}

var loopbacks = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}

// open opens the listeners of the thread's network namespace that are not there
// yet; there may be nil.
func (p *Listeners) open(port uint16, local bool, there *bpf.GuardListener) error {
	if there == nil {
		there = &bpf.GuardListener{}
	}
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
	if local && there.Local[1] == 0 {
		var err error
		if p.Unix, err = listenUnix(); err != nil {
			return err
		}
	}
	for i, a := range loopbacks {
		if []uint8{there.V4, there.V6}[i] != 0 {
			continue
		}
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
	var err error
	p.Netns, err = thisNetns()
	return err
}

func listenUnix() (*net.UnixListener, error) {
	var fresh [16]byte
	_, _ = rand.Read(fresh[:]) // never fails
	return net.ListenUnix("unix", &net.UnixAddr{Name: passagePrefix + hex.EncodeToString(fresh[:]), Net: "unix"})
}

// opened is what listeners of both kinds have.
type opened interface {
	io.Closer
	syscall.Conn
	File() (*os.File, error)
}

func (p *Listeners) all() (all []opened) {
	for _, l := range p.TCP {
		all = append(all, l)
	}
	if p.Unix != nil {
		all = append(all, p.Unix)
	}
	return all
}

// Files returns duplicates of the sockets, to be handed over.
func (p *Listeners) Files() (files []*os.File, err error) {
	for _, l := range p.all() {
		f, ferr := l.File()
		if ferr == nil {
			files = append(files, f)
		}
		err = errors.Join(err, ferr)
	}
	return files, err
}

// Close closes the caller's copies.
func (p *Listeners) Close() error {
	var errs []error
	for _, l := range p.all() {
		errs = append(errs, l.Close())
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
	for _, m := range []*ebpf.Map{g.maps.Listeners, g.maps.Shares} {
		if err := m.Delete(cookie); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("withdraw: %w", err)
		}
	}
	return nil
}
