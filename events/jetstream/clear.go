package jetstream

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"sallyport.dev/sallyport/internal/loopback"
)

// CheckURL refuses an address of NATS at which statements and tokens would go over a
// network in clear. It may be a list with commas, as for Connect.
func CheckURL(list string) error {
	for s := range strings.SplitSeq(list, ",") {
		s = strings.TrimSpace(s)
		if !strings.Contains(s, "://") {
			s = "nats://" + s
		}
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" {
			return errors.New("must be one like tls://nats.example.com:4222")
		}
		switch u.Scheme {
		case "tls", "wss":
		case "nats", "ws":
			if !loopback.Host(u.Hostname()) {
				return fmt.Errorf("%s://%s: in clear it must be on loopback: use tls://", u.Scheme, u.Host)
			}
		default:
			return fmt.Errorf("scheme %q: must be tls (nats on loopback)", u.Scheme)
		}
	}
	return nil
}
