package redirect

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept"
)

// longest looks an address up as the kernel's trie does.
func longest(keys map[bpf.GuardPrefix]bpf.GuardPorts, a netip.Addr) (ports bpf.GuardPorts, ok bool) {
	want := a.As16()
	best := -1
	for k, p := range keys {
		var have [16]byte
		for i, w := range k.Addr {
			binary.NativeEndian.PutUint32(have[4*i:], w)
		}
		same := true
		for bit := range int(k.Bits) {
			if (want[bit/8]^have[bit/8])>>(7-bit%8)&1 != 0 {
				same = false
				break
			}
		}
		if same && int(k.Bits) > best {
			best, ports, ok = int(k.Bits), p, true
		}
	}
	return ports, ok
}

// What the trie says of an endpoint is what the destinations say one by one.
func TestTrieSaysWhatTheDestinationsSay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	addr := func() netip.Addr {
		// Few bits, so that prefixes lie in each other.
		if r.IntN(3) == 0 {
			return netip.AddrFrom16([16]byte{0x20, 0x01, 0, byte(r.IntN(4)), 15: byte(r.IntN(4))})
		}
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(3)), byte(r.IntN(8))})
	}
	for round := range 300 {
		var dst []intercept.Destination
		for range 1 + r.IntN(12) {
			a := addr()
			bits := a.BitLen() - r.IntN(a.BitLen()+1)*r.IntN(2)
			p := netip.PrefixFrom(a, bits).Masked()
			first := uint16(1 + r.IntN(60))
			dst = append(dst, intercept.Destination{Prefix: p, First: first, Last: first + uint16(r.IntN(20))})
			if dst[len(dst)-1].Check() != nil {
				dst = dst[:len(dst)-1]
			}
		}
		keys, err := destinationKeys(dst, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 300 {
			e := netip.AddrPortFrom(addr(), uint16(1+r.IntN(90)))
			want := false
			for _, d := range dst {
				want = want || d.Contains(e)
			}
			ports, ok := longest(keys, e.Addr())
			if got := ok && hasPort(&ports, e.Port()); got != want {
				t.Fatalf("round %d: %s protected: %t, want %t, by %v", round, e, got, want, dst)
			}
		}
	}
}

func TestTooManyRanges(t *testing.T) {
	var dst []intercept.Destination
	for i := range 33 {
		p := uint16(100 + 2*i)
		dst = append(dst, intercept.Destination{Prefix: netip.MustParsePrefix("10.0.0.1/32"), First: p, Last: p})
	}
	if _, err := destinationKeys(dst[:32], nil); err != nil {
		t.Error(err)
	}
	if _, err := destinationKeys(dst, nil); err == nil || !strings.Contains(err.Error(), "10.0.0.1/32") {
		t.Errorf("33 ranges: %v", err)
	}
}

func TestLocalPorts(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("192.0.2.5")}
	for dst, want := range map[string]bool{
		"192.0.2.0/24:5432": true, "192.0.2.6:5432": false, "127.0.0.3:5432": true, "[::1]:5432": true, "0.0.0.0/0:5432": true,
	} {
		d, err := intercept.ParseDestination(dst)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := destinationKeys([]intercept.Destination{d}, own)
		if err != nil {
			t.Fatal(err)
		}
		local := keys[localKey]
		if got := hasPort(&local, 5432); got != want {
			t.Errorf("%s is local: %t, want %t", dst, got, want)
		}
	}
}

// While the trie's content is replaced, what is protected before and after is
// protected at every step between.
func TestReplacingOpensNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	content := func() map[bpf.GuardPrefix]bpf.GuardPorts {
		var dst []intercept.Destination
		for range 1 + r.IntN(6) {
			a := netip.AddrFrom4([4]byte{10, 1, byte(r.IntN(2)), byte(r.IntN(4))})
			p := netip.PrefixFrom(a, 16+r.IntN(17)).Masked()
			dst = append(dst, intercept.Destination{Prefix: p, First: uint16(1 + r.IntN(2)), Last: 2})
		}
		keys, err := destinationKeys(dst, nil)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	for range 300 {
		old, want := content(), content()
		now := maps.Clone(old)
		protected := func(keys map[bpf.GuardPrefix]bpf.GuardPorts, e netip.AddrPort) bool {
			p, ok := longest(keys, e.Addr())
			return ok && hasPort(&p, e.Port())
		}
		check := func(step string) {
			for i := range 8 {
				for port := range uint16(2) {
					e := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i / 4), byte(i % 4)}), port+1)
					if protected(old, e) && protected(want, e) && !protected(now, e) {
						t.Fatalf("%s is free after %s", e, step)
					}
				}
			}
		}
		for _, k := range slices.SortedFunc(maps.Keys(want), longestFirst(prefixBits)) {
			now[k] = want[k]
			check("a put")
		}
		gone := slices.SortedFunc(maps.Keys(old), longestFirst(prefixBits))
		slices.Reverse(gone)
		for _, k := range gone {
			if _, stays := want[k]; !stays {
				delete(now, k)
				check("a delete")
			}
		}
	}
}
