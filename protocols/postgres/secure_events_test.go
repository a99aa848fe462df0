package postgres_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// The record says what each door was secured with, and who came in clear though
// TLS was there for the asking.
func TestDoorsAreTold(t *testing.T) {
	s, servers := secureServer(t)
	host := newAuthority(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, host.pem, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		offered, asked, server, unverified bool
		clear                              bool
	}{
		"clear":                      {},
		"clear, though offered":      {offered: true, clear: true},
		"the agent's":                {offered: true, asked: true},
		"both":                       {offered: true, asked: true, server: true},
		"the server's, not verified": {server: true, unverified: true},
	} {
		o := protocoltest.Options{Dial: dialTLS(s.Addr, nil)}
		if c.offered {
			o.TLS = host.config(t, "127.0.0.1")
		}
		if c.server {
			o.Dial = dialTLS(s.Addr, &tls.Config{RootCAs: servers.pool(), ServerName: "db", InsecureSkipVerify: c.unverified}) //nolint:gosec // that it is told is the test
		}
		p := open(t, allowAll, o)
		settings := "user=scram password='correct horse' channel_binding=disable sslmode=disable"
		if c.asked {
			settings = strings.Replace(settings, "sslmode=disable", "sslmode=verify-full sslrootcert="+ca, 1)
		}
		if out := secured(t, p, settings, "SELECT 'in'"); out != "in\n" {
			t.Errorf("%s: %q", name, out)
			continue
		}
		if err := p.End(); err != nil {
			t.Error(err)
		}
		e := p.Journal.Events(events.SessionClose)
		if len(e) != 1 {
			t.Fatalf("%s: %+v", name, e)
		}
		client, clear, server := e[0].Session.ClientTLS, e[0].Session.ClientClear, events.TLS{}
		if got := e[0].Session.ServerTLS.Load(); got != nil {
			server = *got
		}
		if clear != c.clear || (client.Version == "1.3") != c.asked || (client.Cipher != "") != c.asked ||
			(server.Version == "1.3") != c.server || server.Verified != (c.server && !c.unverified) || c.server && server.Name != "db" {
			t.Errorf("%s: client %+v, clear %v, server %+v", name, client, clear, server)
		}
	}
}
