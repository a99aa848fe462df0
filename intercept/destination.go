package intercept

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Destination is a set of protected endpoints: the addresses of a prefix at
// the ports from First to Last, both included. The zero Destination is none.
type Destination struct {
	Prefix      netip.Prefix // IPv4 as such, never mapped into IPv6
	First, Last uint16
}

// Endpoint is the destination that holds one address and port.
func Endpoint(a netip.AddrPort) Destination {
	addr := a.Addr().Unmap().WithZone("")
	return Destination{netip.PrefixFrom(addr, addr.BitLen()), a.Port(), a.Port()}
}

// ParseDestination reads ADDRESS:PORTS, where ADDRESS is an IP address or a
// prefix (10.0.0.0/8, [2001:db8::]/32) and PORTS one port or a range
// (5432-5440). Names are not looked up.
func ParseDestination(s string) (d Destination, err error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return d, fmt.Errorf("destination %q: give ADDRESS:PORT", s)
	}
	host, ports := s[:i], s[i+1:]
	if rest, ok := strings.CutPrefix(host, "["); ok {
		addr, bits, ok := strings.Cut(rest, "]")
		if !ok {
			return d, fmt.Errorf("destination %q: ] is missing", s)
		}
		host = addr + bits
	} else if strings.Contains(host, ":") {
		return d, fmt.Errorf("destination %q: write an IPv6 address in brackets", s)
	}
	if strings.Contains(host, "/") {
		d.Prefix, err = netip.ParsePrefix(host)
	} else {
		var a netip.Addr
		a, err = netip.ParseAddr(host)
		if err == nil && a.Zone() != "" {
			err = errors.New("an address with a zone")
		}
		if err == nil {
			a = a.Unmap()
			d.Prefix = netip.PrefixFrom(a, a.BitLen())
		}
	}
	if err != nil {
		return d, fmt.Errorf("destination %q: %w", s, err)
	}
	if d.First, d.Last, err = ParsePorts(ports); err != nil {
		return d, fmt.Errorf("destination %q: %w", s, err)
	}
	return d, d.Check()
}

// ParsePorts reads one port, or a range of them (5432-5440).
func ParsePorts(s string) (first, last uint16, err error) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	f, err1 := strconv.ParseUint(from, 10, 16)
	l, err2 := strconv.ParseUint(to, 10, 16)
	switch err := errors.Join(err1, err2); {
	case err != nil:
		return 0, 0, fmt.Errorf("port: %w", err)
	case f == 0 || l < f:
		return 0, 0, fmt.Errorf("ports %q: they run from 1 to 65535, the first before the last", s)
	}
	return uint16(f), uint16(l), nil
}

// Check returns why d can't be protected, nil where it can.
func (d Destination) Check() error {
	a := d.Prefix.Addr()
	switch {
	case !d.Prefix.IsValid():
		return fmt.Errorf("destination %s: no address or prefix", d)
	case a.Is4In6():
		return fmt.Errorf("destination %s: write it as IPv4", d)
	case d.Prefix != d.Prefix.Masked():
		return fmt.Errorf("destination %s: bits are set beyond the prefix: write %s", d, d.Prefix.Masked())
	case d.Prefix.IsSingleIP() && a.IsUnspecified() || a.IsMulticast():
		return fmt.Errorf("destination %s: not an address that can be dialled", d)
	case d.First == 0 || d.Last < d.First:
		return fmt.Errorf("destination %s: ports run from 1 to 65535, the first before the last", d)
	}
	return nil
}

// Contains reports whether an endpoint is one of d's. IPv4 may come mapped
// into IPv6; a zone is not looked at.
func (d Destination) Contains(a netip.AddrPort) bool {
	return d.First <= a.Port() && a.Port() <= d.Last && d.Prefix.Contains(a.Addr().Unmap().WithZone(""))
}

// Single returns the one endpoint that d holds.
func (d Destination) Single() (netip.AddrPort, bool) {
	return netip.AddrPortFrom(d.Prefix.Addr(), d.First), d.Prefix.IsSingleIP() && d.First == d.Last
}

// String writes d as ParseDestination reads it.
func (d Destination) String() string {
	s := d.Prefix.Addr().String()
	if d.Prefix.Addr().Is6() {
		s = "[" + s + "]"
	}
	if !d.Prefix.IsSingleIP() {
		s += "/" + strconv.Itoa(d.Prefix.Bits())
	}
	s += ":" + strconv.Itoa(int(d.First))
	if d.Last != d.First {
		s += "-" + strconv.Itoa(int(d.Last))
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (d Destination) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Destination) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDestination(string(b))
	return err
}
