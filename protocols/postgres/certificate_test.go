package postgres_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// shownBy writes a certificate and its key for libpq, and returns the settings.
func shownBy(t testing.TB, c tls.Certificate) string {
	t.Helper()
	pk, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	crt, key := filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key")
	for name, b := range map[string]*pem.Block{crt: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: pk}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return " sslcert=" + crt + " sslkey=" + key
}

// A client that shows a certificate is refused, or let in with a mark in every
// event; the certificate is never who it is. One that has none goes on.
func TestClientCertificate(t *testing.T) {
	host := newAuthority(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, host.pem, 0o644); err != nil {
		t.Fatal(err)
	}
	billing := madeCertificate(t, "billing")
	sum := sha256.Sum256(billing.Certificate[0])
	shown := shownBy(t, billing)
	for name, c := range map[string]struct {
		shown, ignored bool
		version        string
	}{
		"refused":          {shown: true},
		"refused, TLS 1.2": {shown: true, version: " ssl_max_protocol_version=TLSv1.2"},
		"ignored":          {shown: true, ignored: true},
		"none":             {},
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t, allowAll, protocoltest.Options{TLS: host.config(t, "127.0.0.1"), IgnoreCertificates: c.ignored})
			settings := "user=agent sslmode=verify-full sslrootcert=" + ca + c.version
			if c.shown {
				settings += shown
			}
			out := secured(t, p, settings, "SELECT 'in'")
			_ = p.End()
			all := p.Journal.All()
			for _, e := range all {
				s := e.Session
				want := events.Certificate{}
				if c.shown {
					want = events.Certificate{Subject: "CN=billing", Issuer: "CN=billing", SHA256: hex.EncodeToString(sum[:])}
				}
				if s.ClientCertificate != want || s.Workload != "agent" || s.Actor != "agent" || s.Undecoded {
					t.Errorf("%s: %+v", e.Kind, s)
				}
			}
			if !c.shown || c.ignored {
				if out != "in\n" || len(all) == 0 {
					t.Errorf("%q, %d events", out, len(all))
				}
				return
			}
			if !strings.Contains(out, "a client certificate ends here") || !strings.Contains(out, "tls.client_certificates") || strings.Contains(out, "in\n") {
				t.Error(out)
			}
			if len(all) != 1 || all[0].Kind != events.Login || all[0].Verdict != events.Blocked || all[0].Rules[0] != "tls" || all[0].Remedy == "" {
				t.Errorf("%+v", all)
			}
		})
	}
}
