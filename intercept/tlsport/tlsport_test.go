package tlsport_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/tlsport"
)

var permitted = tlsport.Permitted{Names: []string{".clinic.example", "db"}, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}

func authority(t *testing.T, p tlsport.Permitted, now time.Time) *tlsport.Authority {
	t.Helper()
	a, cert, err := tlsport.NewAuthority("host1", p, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := a.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = tlsport.LoadAuthority(cert, key); err != nil {
		t.Fatal(err)
	}
	return a
}

func roots(a *tlsport.Authority) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Certificate())
	return p
}

func key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What an authority signs, for how long, and what it does not.
func TestAuthoritySigns(t *testing.T) {
	now := time.Now()
	a := authority(t, permitted, now)
	for name, ok := range map[string]bool{
		"db": true, "DB": true, "pg.clinic.example": true, "a.b.clinic.example": true, "10.1.2.3": true,
		"other": false, "clinic.example.evil.example": false, "*.clinic.example": false, "": false, "10.2.0.1": false, "::1": false,
		"db\x00.evil": false, "-.clinic.example": false, "127.0.0.1": false, "::ffff:10.2.0.1": false,
	} {
		der, err := a.Sign(key(t).Public(), name, now)
		if (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
		if err != nil {
			continue
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 24*time.Hour || leaf.IsCA || len(leaf.DNSNames)+len(leaf.IPAddresses) != 1 {
			t.Errorf("%q: %+v", name, leaf)
		}
	}
	if _, err := a.Sign(key(t).Public(), "db", now.AddDate(3, 0, 1)); err == nil {
		t.Error("an authority signs after its end")
	}
}

// Whoever got hold of an authority could still not be somebody else with it.
func TestAuthorityIsConstrained(t *testing.T) {
	now := time.Now()
	none := authority(t, tlsport.Permitted{}, now)
	for name, ok := range map[string]bool{"db": false, "10.1.2.3": false, "::1": false, "bank.example": false} {
		if _, err := none.Sign(key(t).Public(), name, now); (err == nil) != ok {
			t.Errorf("without names, %q: %v", name, err)
		}
	}
	c := authority(t, permitted, now).Certificate()
	if !c.PermittedDNSDomainsCritical || !c.MaxPathLenZero || c.KeyUsage != x509.KeyUsageCertSign {
		t.Errorf("%+v", c)
	}
}

func TestLoadAuthorityRefuses(t *testing.T) {
	a, cert, err := tlsport.NewAuthority("h", permitted, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := tlsport.NewAuthority("h", permitted, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := a.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2][]byte{
		"another's key": {other, key}, "no key": {cert, nil}, "no certificate": {nil, key}, "the wrong way round": {key, cert}, "a part": {cert[:len(cert)/2], key},
	} {
		if _, err := tlsport.LoadAuthority(pair[0], pair[1]); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

// pair is a packet socket as between daemon and signer.
func pair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if out[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		t.Cleanup(func() { out[i].Close() })
	}
	return out[0], out[1]
}

// handshake is a client's with Leaves: what it asks for, and what it hears.
func handshake(t *testing.T, cfg *tls.Config, c *tls.Config) error {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	go func() {
		defer b.Close()
		_ = tls.Server(b, cfg).Handshake()
	}()
	return tls.Client(a, c).Handshake()
}

func TestLeaves(t *testing.T) {
	clock := time.Now()
	now := func() time.Time { return clock }
	a := authority(t, permitted, clock)
	daemon, signer := pair(t)
	s := tlsport.NewSigner(a, now)
	served := make(chan error, 1)
	go func() { served <- s.Serve(signer) }()
	l := tlsport.NewLeaves(daemon, now)
	cfg := l.Config(func(n string) bool { return n == "db" || n == "pg.clinic.example" }, "10.1.2.3")
	verify := func(name string) error {
		return handshake(t, cfg, &tls.Config{RootCAs: roots(a), ServerName: name, Time: now})
	}
	if err := verify("db"); err == nil {
		t.Error("a signer that was told no names signs")
	}
	s.Allow(tlsport.Permitted{Names: []string{"db", "elsewhere"}, Prefixes: permitted.Prefixes})
	for name, ok := range map[string]bool{
		"db": true, "10.1.2.3": true, // no SNI for an address
		"pg.clinic.example": false, // the signer was not told
		"elsewhere":         false, // not the resource's
	} {
		if err := verify(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	// One that is old is replaced before its end.
	serial := func() string {
		var got string
		c := &tls.Config{RootCAs: roots(a), ServerName: "db", Time: now}
		c.VerifyConnection = func(s tls.ConnectionState) error {
			got = s.PeerCertificates[0].SerialNumber.String()
			return nil
		}
		if err := handshake(t, cfg, c); err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := serial()
	if serial() != first {
		t.Error("each handshake has a leaf of its own")
	}
	clock = clock.Add(17 * time.Hour)
	if serial() == first {
		t.Error("a leaf is presented that is almost over")
	}
	// Without a signer what was signed holds, and nothing new is.
	daemon.Close()
	serial()
	clock = clock.Add(17 * time.Hour)
	if err := verify("db"); err == nil {
		t.Error("signed without a signer")
	}
	if err := <-served; err == nil {
		t.Error("the signer goes on")
	}
}

// A trust that can't be read secures nothing.
func TestTrust(t *testing.T) {
	for name, tr := range map[string]tlsport.Trust{
		"roots": {Roots: "none"}, "certificate": {Certificate: "none", Key: "none"},
	} {
		if _, err := tr.Config(); err == nil || strings.Contains(err.Error(), "none") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := tlsport.Trust{Name: "db"}.Config()
	if err != nil || c.MinVersion != tls.VersionTLS12 || c.InsecureSkipVerify || c.ServerName != "db" {
		t.Errorf("%+v, %v", c, err)
	}
}
