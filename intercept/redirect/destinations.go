package redirect

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept"
)

// mappedBits is the length of ::ffff:0:0/96, which IPv4 prefixes stand below.
const mappedBits = 96

// prefixKey gives a prefix in the maps' form.
func prefixKey(p netip.Prefix) bpf.GuardPrefix {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += mappedBits
	}
	return bpf.GuardPrefix{Bits: uint32(bits), Addr: endpoint(netip.AddrPortFrom(p.Addr(), 0)).Addr}
}

// prefixOf is the inverse of prefixKey.
func prefixOf(k bpf.GuardPrefix) netip.Prefix {
	a := addrPort(bpf.GuardEndpoint{Addr: k.Addr}).Addr()
	bits := int(k.Bits)
	if a.Is4() && bits >= mappedBits {
		bits -= mappedBits
	} else {
		var b [16]byte
		for i, w := range k.Addr {
			binary.NativeEndian.PutUint32(b[4*i:], w)
		}
		a = netip.AddrFrom16(b)
	}
	return netip.PrefixFrom(a, bits)
}

// localKey is ::/128, which no connection has for its destination: it holds
// the ports that some address of this host is protected at.
var localKey = bpf.GuardPrefix{Bits: 128}

// destinationKeys returns the trie's whole content: each prefix with all its
// ports, those of the prefixes around it included, so that the longest match
// says everything.
func destinationKeys(dst []intercept.Destination, own []netip.Addr) (map[bpf.GuardPrefix]bpf.GuardPorts, error) {
	ranges := map[netip.Prefix][]portRange{}
	var local []portRange
	for _, d := range slices.Concat(dst, canaryDestinations()) {
		if err := d.Check(); err != nil {
			return nil, err
		}
		r := portRange{d.First, d.Last}
		ranges[d.Prefix] = append(ranges[d.Prefix], r)
		if isLocal(d.Prefix, own) {
			local = append(local, r)
		}
	}
	prefixes := make([]netip.Prefix, 0, len(ranges))
	for p := range ranges {
		prefixes = append(prefixes, p)
	}
	// IPv4 lies within IPv6 in the trie: an IPv6 prefix as short as that says
	// nothing of it.
	if all4 := netip.MustParsePrefix("0.0.0.0/0"); ranges[all4] == nil {
		prefixes = append(prefixes, all4)
	}
	// What contains another stands before it.
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	keys := make(map[bpf.GuardPrefix]bpf.GuardPorts, len(prefixes)+1)
	var around []netip.Prefix
	for _, p := range prefixes {
		for len(around) > 0 && !around[len(around)-1].Overlaps(p) {
			around = around[:len(around)-1]
		}
		if len(around) > 0 {
			ranges[p] = append(ranges[p], ranges[around[len(around)-1]]...)
		}
		around = append(around, p)
		ranges[p] = merge(ranges[p])
		ports, err := portsOf(ranges[p])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		keys[prefixKey(p)] = ports
	}
	ports, err := portsOf(merge(local))
	if err != nil {
		return nil, fmt.Errorf("this host's own addresses: %w", err)
	}
	keys[localKey] = ports
	return keys, nil
}

type portRange struct{ first, last uint16 }

// merge sorts ranges and joins those that touch.
func merge(rs []portRange) []portRange {
	slices.SortFunc(rs, func(a, b portRange) int { return int(a.first) - int(b.first) })
	var out []portRange
	for _, r := range rs {
		if n := len(out); n > 0 && int(r.first) <= int(out[n-1].last)+1 {
			out[n-1].last = max(out[n-1].last, r.last)
			continue
		}
		out = append(out, r)
	}
	return out
}

func portsOf(rs []portRange) (p bpf.GuardPorts, err error) {
	if len(rs) > len(p.At) {
		return p, fmt.Errorf("%d ranges of ports are protected there, the kernel's table holds %d: join them to wider ranges", len(rs), len(p.At))
	}
	for i, r := range rs {
		p.At[i].First, p.At[i].Last = r.first, r.last
	}
	p.N = uint32(len(rs))
	return p, nil
}

func hasPort(p *bpf.GuardPorts, port uint16) bool {
	for _, r := range p.At[:min(int(p.N), len(p.At))] {
		if r.First <= port && port <= r.Last {
			return true
		}
	}
	return false
}

// isLocal reports whether a connection to the prefix can end on this host.
func isLocal(p netip.Prefix, own []netip.Addr) bool {
	if p.Overlaps(netip.MustParsePrefix("127.0.0.0/8")) || p.Contains(netip.IPv6Loopback()) {
		return true
	}
	return slices.ContainsFunc(own, p.Contains)
}

// ownAddresses are those of this network namespace.
func ownAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("own addresses: %w", err)
	}
	var own []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p.Addr().Unmap())
		}
	}
	return own, nil
}

// destinationsOf lists the trie's content but the canaries, ports of wider
// prefixes included.
func destinationsOf(keys map[bpf.GuardPrefix]bpf.GuardPorts) []intercept.Destination {
	list := []intercept.Destination{}
	for k, ports := range keys {
		if k == localKey {
			continue
		}
		for _, r := range ports.At[:min(int(ports.N), len(ports.At))] {
			d := intercept.Destination{Prefix: prefixOf(k), First: r.First, Last: r.Last}
			if e, ok := d.Single(); !ok || !IsCanary(e) {
				list = append(list, d)
			}
		}
	}
	slices.SortFunc(list, func(a, b intercept.Destination) int {
		if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
			return c
		}
		if c := a.Prefix.Bits() - b.Prefix.Bits(); c != 0 {
			return c
		}
		return int(a.First) - int(b.First)
	})
	return list
}

// replaceDestinations gives the trie a new content.
func replaceDestinations(m *ebpf.Map, want map[bpf.GuardPrefix]bpf.GuardPorts) error {
	return replaceTrie(m, want, prefixBits)
}

func prefixBits(k bpf.GuardPrefix) uint32 { return k.Bits }
