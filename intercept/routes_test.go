package intercept_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"sallyport.dev/sallyport/intercept"
)

// linear is what Routes.Find means.
func linear(all []intercept.Route[int], a netip.AddrPort) (to int, ok bool) {
	bits := -1
	for _, r := range all {
		if r.Contains(a) && r.Prefix.Bits() > bits {
			to, ok, bits = r.To, true, r.Prefix.Bits()
		}
	}
	return to, ok
}

// someAddr returns one of few addresses, so that prefixes meet.
func someAddr(r *rand.Rand) netip.Addr {
	if r.IntN(3) == 0 {
		b := [16]byte{0x20, 1, 15: byte(r.IntN(4))}
		b[r.IntN(16)] |= byte(r.IntN(2)) << r.IntN(8)
		return netip.AddrFrom16(b)
	}
	b := [4]byte{10, 0, 0, byte(r.IntN(8))}
	b[r.IntN(4)] ^= byte(r.IntN(2)) << r.IntN(8)
	return netip.AddrFrom4(b)
}

func someDestination(r *rand.Rand) intercept.Destination {
	a := someAddr(r)
	bits := a.BitLen() - r.IntN(4)*r.IntN(9)
	p, err := a.Prefix(bits)
	if err != nil {
		panic(err)
	}
	first := uint16(1 + r.IntN(20))
	return intercept.Destination{Prefix: p, First: first, Last: first + uint16(r.IntN(3)*r.IntN(8))}
}

// Of any destinations, what is found is what the definition says.
func checkRoutes(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	var all []intercept.Route[int]
	var plain []intercept.Destination
	for i := range r.IntN(60) {
		d := someDestination(r)
		if d.Check() != nil {
			continue
		}
		if len(intercept.Overlaps(append(plain[:len(plain):len(plain)], d))) > 0 {
			// Overlaps means: the same prefix and a port in common.
			common := false
			for _, o := range plain {
				common = common || o.Prefix == d.Prefix && o.First <= d.Last && d.First <= o.Last
			}
			if !common {
				t.Fatalf("seed %d: %s is said to overlap one of %v", seed, d, plain)
			}
			if _, err := intercept.NewRoutes(append(all[:len(all):len(all)], intercept.Route[int]{Destination: d})); err == nil {
				t.Fatalf("seed %d: %s was taken besides %v", seed, d, plain)
			}
			continue
		}
		for _, o := range plain {
			if o.Prefix == d.Prefix && o.First <= d.Last && d.First <= o.Last {
				t.Fatalf("seed %d: %s overlaps %s unseen", seed, d, o)
			}
		}
		plain = append(plain, d)
		all = append(all, intercept.Route[int]{Destination: d, To: i})
	}
	routes, err := intercept.NewRoutes(all)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	for range 200 {
		addr := someAddr(r)
		if addr.Is4() && r.IntN(4) == 0 {
			addr = netip.AddrFrom16(addr.As16())
		}
		a := netip.AddrPortFrom(addr, uint16(r.IntN(40)))
		got, ok := routes.Find(a)
		if want, wok := linear(all, a); got != want || ok != wok {
			t.Fatalf("seed %d: %s leads to %d (%t), want %d (%t) of %v", seed, a, got, ok, want, wok, all)
		}
	}
}

func TestRoutes(t *testing.T) {
	for seed := range uint64(2000) {
		checkRoutes(t, seed)
	}
	if _, ok := new(intercept.Routes[int]).Find(netip.MustParseAddrPort("10.0.0.1:1")); ok {
		t.Error("the zero Routes finds something")
	}
	r, err := intercept.NewRoutes([]intercept.Route[int]{{Destination: intercept.Endpoint(netip.MustParseAddrPort("10.0.0.1:1")), To: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Find(netip.AddrPort{}); ok {
		t.Error("no address leads somewhere")
	}
}

func FuzzRoutes(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(checkRoutes)
}

func TestOverlapsTellsEachPair(t *testing.T) {
	var all []intercept.Destination
	for _, s := range []string{"10.0.0.0/8:1-9", "10.0.0.0/9:1-9", "10.0.0.0/8:9", "10.0.0.0/8:10", "10.0.0.0/8:3"} {
		d, err := intercept.ParseDestination(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	if got := fmt.Sprint(intercept.Overlaps(all)); got != "[[0 2] [0 4]]" {
		t.Error(got)
	}
}

func manyRoutes(n int) []intercept.Route[int] {
	var all []intercept.Route[int]
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		all = append(all, intercept.Route[int]{Destination: intercept.Endpoint(netip.AddrPortFrom(a, 5432)), To: i})
	}
	return all
}

func BenchmarkRoutes(b *testing.B) {
	for _, n := range []int{1, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r, err := intercept.NewRoutes(manyRoutes(n))
			if err != nil {
				b.Fatal(err)
			}
			a := netip.MustParseAddrPort("10.0.0.0:5432")
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := r.Find(a); !ok {
					b.Fatal("not found")
				}
			}
		})
	}
	b.Run("make-5000", func(b *testing.B) {
		all := manyRoutes(5000)
		for b.Loop() {
			if _, err := intercept.NewRoutes(all); err != nil {
				b.Fatal(err)
			}
		}
	})
}
