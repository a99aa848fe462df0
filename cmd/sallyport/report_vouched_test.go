package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
)

// A report is of evidence that is sound where the host's identity vouched for the key
// that signed it, and says so where it did not.
func TestReportOfVouchedKeys(t *testing.T) {
	issue := func(c, by *x509.Certificate, with *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if by == nil {
			by, with = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), with)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	authority := func() (*x509.Certificate, *ecdsa.PrivateKey, string) {
		c, key := issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, URIs: []*url.URL{{Scheme: "spiffe", Host: "one.test"}}}, nil, nil)
		return c, key, written(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
	}
	ca, with, bundle := authority()
	_, _, foreign := authority()
	svid, key := issue(&x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, URIs: []*url.URL{{Scheme: "spiffe", Host: "one.test", Path: "/host/h1"}}}, ca, with)
	vouched, _ := reportStoreVouched(t, "h1", 100*time.Millisecond, func(note string) string {
		s, err := events.Vouch(note, []*x509.Certificate{svid}, key)
		if err != nil {
			t.Error(err)
		}
		return s
	})
	bare, _ := reportStoreSigned(t, "h1", 100*time.Millisecond)
	for name, c := range map[string]struct {
		store, ids, bundle string
		exit               int
		fault              string
	}{
		"vouched":           {vouched, "spiffe://one.test/host/{host}", bundle, 0, ""},
		"another identity":  {vouched, "spiffe://one.test/{host}", bundle, 1, "unvouched"},
		"another authority": {vouched, "spiffe://one.test/host/{host}", foreign, 1, "unvouched"},
		"not vouched":       {bare, "spiffe://one.test/host/{host}", bundle, 1, "unvouched"},
		"no authorities":    {vouched, "spiffe://one.test/host/{host}", "", 2, ""},
		"no identity":       {vouched, "", bundle, 2, ""},
	} {
		out := filepath.Join(t.TempDir(), "b.zip")
		args := []string{"report", "--no-log", "--store", c.store, "--from", "2026-11-10", "--to", "2026-11-11", "-o", out}
		if c.ids != "" {
			args = append(args, "--host-ids", c.ids)
		}
		if c.bundle != "" {
			args = append(args, "--bundle", c.bundle)
		}
		if code := run(args); code != c.exit {
			t.Errorf("%s: exit code %d, want %d", name, code, c.exit)
			continue
		}
		if c.exit == 2 {
			continue
		}
		got := ""
		for _, f := range reportOf(t, unzip(t, out)).Faults {
			got += f.What
		}
		if got != c.fault {
			t.Errorf("%s: faults %q, want %q", name, got, c.fault)
		}
	}
}
