package redirect

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"sallyport.dev/sallyport/intercept"
)

// Canaries are endpoints that are always protected and that nobody serves:
// whoever reaches one was turned into the passage, and hears CanarySong there.
// The addresses are set aside, and no router forwards them: the IPv4 dummy
// address (RFC 7600) and the discard-only prefix (RFC 6666).
var Canaries = []netip.AddrPort{netip.MustParseAddrPort("192.0.0.8:1"), netip.MustParseAddrPort("[100::8]:1")}

// CanarySong is what the daemon answers a canary.
const CanarySong = "turned\n"

// IsCanary reports whether a connection was to a canary.
func IsCanary(dst netip.AddrPort) bool { return dst == Canaries[0] || dst == Canaries[1] }

func canaryDestinations() (all []intercept.Destination) {
	for _, c := range Canaries {
		all = append(all, intercept.Endpoint(c))
	}
	return all
}

// Canary connects to a canary as any covered process does. An error says that
// the connection did not get into the passage.
func Canary(to netip.AddrPort, patience time.Duration) error {
	d := net.Dialer{Timeout: patience}
	d.SetMultipathTCP(false)
	c, err := d.Dial("tcp", to.String())
	if err != nil {
		return fmt.Errorf("a connection to %s was not turned: %w", to, err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	song, err := io.ReadAll(io.LimitReader(c, 64))
	if err != nil {
		return fmt.Errorf("a connection to %s was turned and not answered: %w", to, err)
	}
	if string(song) != CanarySong {
		return fmt.Errorf("a connection to %s was answered by somebody else: %q", to, strings.ToValidUTF8(string(song), "?"))
	}
	return nil
}
