package redirect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"sallyport.dev/sallyport/bpf"
)

// endpoint gives an address in the maps' form: IPv4 as ::ffff:a.b.c.d.
func endpoint(a netip.AddrPort) bpf.GuardEndpoint {
	e := bpf.GuardEndpoint{Port: a.Port()}
	b := a.Addr().As16()
	for i := range e.Addr {
		e.Addr[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return e
}

// addrPort is the inverse of endpoint.
func addrPort(e bpf.GuardEndpoint) netip.AddrPort {
	var b [16]byte
	for i, w := range e.Addr {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(b).Unmap(), e.Port)
}

// replace gives m exactly the content of want. What is new enters before what is
// old leaves: there is no moment with less than both have in common.
func replace[K comparable, V any](m *ebpf.Map, want map[K]V) error {
	return replaceBy(m, want, func(_, _ K) int { return 0 })
}

// replaceTrie is replace for a map whose longest match alone counts: the
// longest keys enter first and leave last, so that every address goes from what
// held for it straight to what will.
func replaceTrie[K comparable, V any](m *ebpf.Map, want map[K]V, bits func(K) uint32) error {
	return replaceBy(m, want, longestFirst(bits))
}

func longestFirst[K any](bits func(K) uint32) func(a, b K) int {
	return func(a, b K) int { return int(bits(b)) - int(bits(a)) }
}

// replaceBy puts keys in an order, and deletes them in its reverse.
func replaceBy[K comparable, V any](m *ebpf.Map, want map[K]V, order func(a, b K) int) error {
	for _, k := range slices.SortedFunc(maps.Keys(want), order) {
		if err := m.Put(k, want[k]); err != nil {
			return fmt.Errorf("fill map: %w", err)
		}
	}
	var old []K
	var k K
	var v V
	it := m.Iterate()
	for it.Next(&k, &v) {
		if _, ok := want[k]; !ok {
			old = append(old, k)
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read map: %w", err)
	}
	slices.SortFunc(old, func(a, b K) int { return order(b, a) })
	for _, k := range old {
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("clear map: %w", err)
		}
	}
	return nil
}

func content[K comparable, V any](m *ebpf.Map) (map[K]V, error) {
	all := map[K]V{}
	var k K
	var v V
	it := m.Iterate()
	for it.Next(&k, &v) {
		all[k] = v
	}
	return all, it.Err()
}
