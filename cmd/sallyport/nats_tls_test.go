package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events/jetstream/natstest"
)

// A host ships over TLS with files that are root's alone, a subscriber reads there, and
// both go on with a certificate that was renewed while the host ran.
func TestNATSOverTLS(t *testing.T) {
	h := newHost(t, "")
	dir := filepath.Join(h.dir, "certificates")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	a := natstest.NewAuthority(t, dir)
	s := a.Start(t, -1)
	url, port := natstest.URL(s), natstest.Port(s)
	host, siem := a.Client(t, "host"), a.Client(t, "siem")
	h.replace(h.config, `nats: {listen: "127.0.0.1:0"}`, fmt.Sprintf("heartbeat: 1s\n  nats:\n    url: %s\n    tls:\n      ca_file: %s\n      cert_file: %s\n      key_file: %s",
		url, host.CA, host.Cert, host.Key))
	tail := func(more ...string) (string, error) {
		return h.sallyport(append([]string{"events", "tail", "--nkey", "", "--subject", "sallyport.audit.test.>", "--json", "--count", "1", "--timeout", "20s", "--nats", url}, more...)...)
	}
	known := []string{"--nats-ca", siem.CA, "--nats-cert", siem.Cert, "--nats-key", siem.Key}
	follows := func(what string) {
		t.Helper()
		within(t, what, func() bool {
			out, err := tail(known...)
			return err == nil && strings.Contains(out, `"test"`)
		})
	}

	if err := os.Chmod(host.Key, 0o604); err != nil {
		t.Fatal(err)
	}
	h.start()
	if code := h.wait(); code != 2 || !strings.Contains(h.log.String(), host.Key+": anybody may read or write it: chmod o= it") || !strings.Contains(h.log.String(), "sallyport.yaml:") {
		t.Fatalf("with a key that anybody may read: exit code %d\n%s", code, h.log)
	}
	if err := os.Chmod(host.Key, 0o600); err != nil {
		t.Fatal(err)
	}
	h.serve()
	follows("a subscriber has what the host says")
	for want, more := range map[string][]string{
		"name the certificate of who does":                            nil,
		"--nats-cert and --nats-key)":                                 {"--nats-ca", siem.CA},
		"--nats-cert and --nats-key: a client certificate needs both": {"--nats-ca", siem.CA, "--nats-cert", siem.Cert},
		"write tls://": append([]string{"--nats", strings.Replace(url, "tls:", "nats:", 1)}, known...),
	} {
		if out, err := tail(more...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%v: %v: %s, want %q", more, err, out, want)
		}
	}

	s.Shutdown()
	s.WaitForShutdown()
	b := natstest.NewAuthority(t, dir)
	b.Start(t, port)
	within(t, "the host says that its certificate is not taken", func() bool {
		return strings.Contains(h.log.String(), "does not take the client's certificate")
	})
	b.Client(t, "host")
	b.Client(t, "siem")
	follows("a subscriber has what the host says with its new certificate")
	h.stop()
}
