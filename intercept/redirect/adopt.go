package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
)

// Passage names one of the passage's listeners: there is one for each network
// namespace and family.
type Passage struct {
	Netns uint64 // cookie of the network namespace (SO_NETNS_COOKIE)
	V6    bool
}

// String returns COOKIE/4 or COOKIE/6.
func (p Passage) String() string {
	family := 4
	if p.V6 {
		family = 6
	}
	return fmt.Sprintf("%d/%d", p.Netns, family)
}

// LookAtListener says which of the passage's listeners fd is, or why it can't
// be one: it must be a TCP (not MPTCP) listener on loopback at port.
func LookAtListener(fd int, port uint16) (p Passage, err error) {
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return p, fmt.Errorf("listener: %w", err)
	}
	if listens == 0 {
		return p, errors.New("listener: the socket does not listen")
	}
	return passageSocket(fd, port)
}

// LookAtFlow is nil where fd is a TCP connection at the passage's port.
func LookAtFlow(fd int, port uint16) error {
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return fmt.Errorf("connection: %w", err)
	}
	if listens != 0 {
		return errors.New("connection: the socket listens")
	}
	_, err = passageSocket(fd, port)
	return err
}

func passageSocket(fd int, port uint16) (p Passage, err error) {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return p, fmt.Errorf("passage: %w", err)
	}
	if protocol != unix.IPPROTO_TCP {
		return p, fmt.Errorf("passage: a socket of protocol %d is not plain TCP (MPTCP loses the kernel's record)", protocol)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return p, fmt.Errorf("passage: %w", err)
	}
	var at netip.AddrPort
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		at = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		at = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
		p.V6 = true
	}
	if !slices.Contains([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, at.Addr()) || at.Port() != port {
		return p, fmt.Errorf("passage: a socket at %s is not at 127.0.0.1 or ::1, port %d (interception.port)", at, port)
	}
	if p.Netns, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil {
		return p, fmt.Errorf("passage: network namespace: %w", err)
	}
	return p, nil
}

// Adopt lets connections be turned to listeners that were opened before, by
// another loader or by the service manager. Their backlog becomes as long as
// the kernel allows.
func (g *Guard) Adopt(fds []int) error {
	entries := map[uint64]bpf.GuardListener{}
	for _, fd := range fds {
		p, err := LookAtListener(fd, g.cfg.Port)
		if err != nil {
			return err
		}
		// net.core.somaxconn of its namespace is the bound.
		if err := unix.Listen(fd, 1<<16-1); err != nil {
			return fmt.Errorf("passage %s: %w", p, err)
		}
		e := entries[p.Netns]
		e.Port = g.cfg.Port
		if p.V6 {
			e.V6 = 1
		} else {
			e.V4 = 1
		}
		entries[p.Netns] = e
	}
	for cookie, e := range entries {
		if err := g.maps.Listeners.Put(cookie, e); err != nil {
			return fmt.Errorf("passage of network namespace %d: register: %w", cookie, err)
		}
	}
	return nil
}

// ThisNetns returns the cookie of the calling thread's network namespace.
func ThisNetns() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("network namespace: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("network namespace: %w", err)
	}
	return cookie, nil
}
