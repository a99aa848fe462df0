package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
)

// Passage names one of the passage's listeners: there is one for each network
// namespace and family.
type Passage struct {
	Netns  uint64 // cookie of the network namespace (SO_NETNS_COOKIE)
	Family int    // AF_INET, AF_INET6 or AF_UNIX
}

// String returns COOKIE/4, COOKIE/6 or COOKIE/unix.
func (p Passage) String() string {
	family := map[int]string{unix.AF_INET: "4", unix.AF_INET6: "6", unix.AF_UNIX: "unix"}[p.Family]
	return fmt.Sprintf("%d/%s", p.Netns, family)
}

// LookAtListener says which of the passage's listeners fd is, or why it can't
// be one: it must be a TCP (not MPTCP) listener on loopback at port, or the one
// for unix sockets.
func LookAtListener(fd int, port uint16) (Passage, error) { return lookAt(fd, port, 1) }

// LookAtFlow is nil where fd is a connection to the passage.
func LookAtFlow(fd int, port uint16) error {
	_, err := lookAt(fd, port, 0)
	return err
}

func lookAt(fd int, port uint16, listens int) (p Passage, err error) {
	option := func(name int) (v int) {
		if err == nil {
			v, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, name)
		}
		return v
	}
	accepts, kind, protocol := option(unix.SO_ACCEPTCONN), option(unix.SO_TYPE), option(unix.SO_PROTOCOL)
	p.Family = option(unix.SO_DOMAIN)
	if err == nil {
		p.Netns, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	}
	if err != nil {
		return p, fmt.Errorf("passage: %w", err)
	}
	switch {
	case accepts != listens && listens == 1:
		return p, errors.New("passage: the socket does not listen")
	case accepts != listens:
		return p, errors.New("passage: the socket is no connection")
	case kind != unix.SOCK_STREAM || p.Family != unix.AF_UNIX && protocol != unix.IPPROTO_TCP:
		return p, fmt.Errorf("passage: a socket of type %d, protocol %d is not plain TCP (MPTCP loses the kernel's record)", kind, protocol)
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
	case *unix.SockaddrUnix:
		if !strings.HasPrefix(a.Name, passagePrefix) || len(a.Name) != len(bpf.GuardListener{}.Local) {
			return p, errors.New("passage: a unix socket with another name")
		}
		return p, nil
	}
	if !slices.Contains(loopbacks, at.Addr()) || at.Port() != port {
		return p, fmt.Errorf("passage: a socket at %s is not at 127.0.0.1 or ::1, port %d (interception.port)", at, port)
	}
	return p, nil
}

// Adopt lets connections be turned to listeners that were opened before, by
// another loader or by the service manager, and opens those of the caller's
// network namespace that are not among them; nil when none is missing. The
// backlog of those that were there becomes as long as the kernel allows.
func (g *Guard) Adopt(fds []int) (missing *Listeners, err error) {
	cookie, err := thisNetns()
	if err != nil {
		return nil, err
	}
	known := passages{}
	for _, fd := range fds {
		if err := g.add(known, fd); err != nil {
			return nil, err
		}
		// net.core.somaxconn of its namespace is the bound.
		if err := unix.Listen(fd, 1<<16-1); err != nil {
			return nil, fmt.Errorf("passage: %w", err)
		}
	}
	// A unit's socket may name one family alone.
	missing = &Listeners{}
	err = missing.open(g.cfg.Port, g.unixPassage(), known[cookie])
	if err == nil {
		err = g.addAll(known, missing)
	}
	if err == nil {
		err = g.enter(known)
	}
	if err != nil {
		_ = missing.Close()
		return nil, fmt.Errorf("passage: %w", err)
	}
	if len(missing.all()) == 0 {
		return nil, nil
	}
	return missing, nil
}

func thisNetns() (uint64, error) {
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
