package redirect_test

import (
	"net/netip"
	"testing"

	"sallyport.dev/sallyport/intercept"
)

// A change of one destination among 5,000, which names make.
func BenchmarkProtect(b *testing.B) {
	var all []intercept.Destination
	for i := range 5000 {
		all = append(all, intercept.Endpoint(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 5432)))
	}
	g := up(b, configOf(b, all...))
	more := append(all[:len(all):len(all)], intercept.Endpoint(netip.MustParseAddrPort("198.51.100.1:5432")))
	for i := 0; b.Loop(); i++ {
		dst := all
		if i%2 == 0 {
			dst = more
		}
		if _, err := g.Protect(dst); err != nil {
			b.Fatal(err)
		}
	}
}
