package config_test

import (
	"testing"

	"sallyport.dev/sallyport/cmd/internal/config"
)

// A server on loopback is reached in clear unless the configuration says
// anything of what it must prove, or of what it is shown.
func TestSecured(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1:5432": false, "[::1]:5432": false, "192.0.2.1:5432": true, "localhost:5432": true, "nonsense": true} {
		if r := (config.Resource{}); r.Secured("tcp", address) != want {
			t.Errorf("%s: in TLS: %v", address, !want)
		}
		for _, tls := range []config.TLS{{Server: config.VerifyFull}, {CA: "ca.pem"}, {Name: "db"}, {Certificate: "c.pem", Key: "k.pem"}} {
			if r := (config.Resource{TLS: tls}); !r.Secured("tcp", address) {
				t.Errorf("%s with %+v: in clear", address, tls)
			}
		}
		if r := (config.Resource{TLS: config.TLS{Server: config.Off}}); r.Secured("tcp", address) {
			t.Errorf("%s, off: in TLS", address)
		}
	}
}
