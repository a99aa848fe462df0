package redirect

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
)

// Protect replaces the destinations of a guard that is up. What is new is
// protected before what is old is not any more, and nothing is changed where
// the kernel's table can't hold it. Covered connections that are older are
// destroyed and returned; ErrSweep says that some could not be, and that the
// destinations are protected nevertheless.
func (g *Guard) Protect(dst []intercept.Destination) ([]Bypass, error) {
	cfg := g.cfg
	cfg.Destinations = dst
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	own, err := ownAddresses()
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	keys, err := destinationKeys(dst, own)
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	if most := int(g.maps.Destinations.MaxEntries()); len(keys) > most {
		return nil, fmt.Errorf("guard: %d prefixes are more than the kernel's table holds (%d)", len(keys), most)
	}
	unlock, err := lock(g.dir)
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	defer unlock()
	if err := replaceDestinations(g.maps.Destinations, keys); err != nil {
		return nil, fmt.Errorf("guard: destinations: %w", err)
	}
	g.cfg.Destinations = dst
	swept, err := g.sweep()
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrSweep, err)
	}
	return swept, err
}

// ErrSweep: connections that are older than the guard could not be ended. Their
// packets are dropped.
var ErrSweep = errors.New("older connections could not be ended")

// Remotes visits the other end of each TCP connection of this network
// namespace.
func Remotes(visit func(netip.AddrPort)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fmt.Errorf("list connections: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return fmt.Errorf("list connections: %w", err)
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := diagReq{family: family, protocol: unix.IPPROTO_TCP, states: ^uint32(1<<tcpListen | 1<<tcpClose)}
		err := diag(fd, sockDiagByFamily, unix.NLM_F_DUMP, &req, func(m *diagMsg) {
			visit(sockAddr(m.family, m.id.dst, m.id.dport))
		})
		if err != nil {
			return fmt.Errorf("list connections: %w", err)
		}
	}
	return nil
}
