package redirect_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept"
)

func init() {
	// dial-briefly KIND ADDRESS: dials, and does not wait for those who are
	// nowhere.
	roles["dial-briefly"] = func(args []string) any {
		done := make(chan dialled, 1)
		drop()
		go func() { done <- dial(args[0], netip.MustParseAddrPort(args[1])) }()
		select {
		case d := <-done:
			return d
		case <-time.After(100 * time.Millisecond):
			return dialled{}
		}
	}
}

// A prefix and a range are protected at their ends, and not a step beyond;
// among 5,000 other destinations as well as alone.
func TestPrefixesAndRanges(t *testing.T) {
	free := server(t, "127.0.0.1:0")
	inside := []string{"198.51.100.0:5432", "198.51.100.127:5440", "198.51.100.64:5436", "[2001:db8:0:1::]:7", "[2001:db8:0:1:ffff:ffff:ffff:ffff]:7"}
	dst := []intercept.Destination{
		{Prefix: netip.MustParsePrefix("198.51.100.0/25"), First: 5432, Last: 5440},
		{Prefix: netip.MustParsePrefix("198.51.100.64/32"), First: 9000, Last: 9000},
		{Prefix: netip.MustParsePrefix("2001:db8:0:1::/64"), First: 7, Last: 7},
	}
	outside := []string{"198.51.100.128:5432", "198.51.100.0:5431", "198.51.100.127:5441", "198.51.100.65:9000", "[2001:db8:0:2::]:7", "[2001:db8:0:1::]:8"}
	for _, many := range []int{0, 5000} {
		t.Run(fmt.Sprint(many), func(t *testing.T) {
			all := dst
			for i := range many {
				a := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
				all = append(all, intercept.Endpoint(netip.AddrPortFrom(a, 5432)))
			}
			open(t, configOf(t, all...))
			for _, to := range inside {
				d := ask[dialled](t, guarded, "dial", "tcp", to)
				if f, ok := d.facts(); !ok || f.Destination != netip.MustParseAddrPort(to) {
					t.Errorf("%s: %+v", to, d)
				}
			}
			for _, to := range outside {
				if d := ask[dialled](t, guarded, "dial-briefly", "tcp", to); d.Line != "" || d.refused() {
					t.Errorf("%s: %+v", to, d)
				}
			}
			if d := ask[dialled](t, guarded, "dial", "tcp", free.String()); d.Line != "direct" {
				t.Errorf("free: %+v", d)
			}
		})
	}
}
