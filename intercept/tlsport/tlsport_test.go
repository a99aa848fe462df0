package tlsport_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/tlsport"
)

var permitted = tlsport.Permitted{Names: []string{".clinic.example", "db"}, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}

// authority is one as the signer has it: written, and read again.
func authority(t *testing.T, p tlsport.Permitted, now time.Time) *tlsport.Authority {
	t.Helper()
	a, err := tlsport.LoadAuthority(files(t, p, now))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func files(t *testing.T, p tlsport.Permitted, now time.Time) tlsport.Files {
	t.Helper()
	a, err := tlsport.NewAuthority("host1", p, now)
	if err != nil {
		t.Fatal(err)
	}
	f, err := a.Files()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func roots(a *tlsport.Authority) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Root())
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
		chain, err := a.Sign(key(t).Public(), name, now)
		if (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
		if err != nil {
			continue
		}
		leaf, err := x509.ParseCertificate(chain[0])
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
	chain, err := authority(t, permitted, now).Sign(key(t).Public(), "db", now)
	if err != nil {
		t.Fatal(err)
	}
	intermediate, err := x509.ParseCertificate(chain[1])
	if err != nil {
		t.Fatal(err)
	}
	if p := tlsport.PermittedBy(intermediate); !slices.Equal(p.Names, permitted.Names) || !slices.Equal(p.Prefixes, permitted.Prefixes) || !intermediate.PermittedDNSDomainsCritical {
		t.Errorf("the intermediate permits %+v", p)
	}
	// A list that makes certificates which clients do not take is refused at once.
	var many tlsport.Permitted
	for i := range 1000 {
		many.Names = append(many.Names, fmt.Sprintf("host-%d.clinic.example", i))
	}
	if _, err := tlsport.NewAuthority("h", many, now); err == nil || !strings.Contains(err.Error(), "permit domains") {
		t.Error(err)
	}
}

// Root, intermediate and leaf are what RFC 5280 has, in the words of the standard
// library and of OpenSSL.
func TestCertificatesAreStrict(t *testing.T) {
	now := time.Now()
	a := authority(t, permitted, now)
	chain, err := a.SignAny(key(t).Public(), []string{"db", "10.1.2.3"}, now)
	if err != nil || len(chain) != 2 {
		t.Fatalf("%d certificates, %v", len(chain), err)
	}
	var cs []*x509.Certificate
	dir := t.TempDir()
	for i, der := range [][]byte{chain[0], chain[1], a.Root().Raw} {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leaf, between, root := cs[0], cs[1], cs[2]
	if root.KeyUsage != x509.KeyUsageCertSign || root.MaxPathLen != 1 || !root.IsCA || !root.PermittedDNSDomainsCritical {
		t.Errorf("root: %+v", root)
	}
	if between.KeyUsage != x509.KeyUsageCertSign || !between.MaxPathLenZero || !between.IsCA || between.Subject.String() == root.Subject.String() {
		t.Errorf("intermediate: %+v", between)
	}
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature || leaf.IsCA || !leaf.BasicConstraintsValid || len(leaf.ExtKeyUsage) != 1 {
		t.Errorf("leaf: %+v", leaf)
	}
	for i, c := range cs[:2] {
		by := cs[i+1]
		if len(c.SubjectKeyId) != 20 || !bytes.Equal(c.AuthorityKeyId, by.SubjectKeyId) || c.NotBefore.Before(by.NotBefore) || c.NotAfter.After(by.NotAfter) {
			t.Errorf("%s: by %x, which is %x; %s to %s", c.Subject, c.AuthorityKeyId, by.SubjectKeyId, c.NotBefore, c.NotAfter)
		}
	}
	for _, name := range []string{"-verify_hostname=db", "-verify_ip=10.1.2.3"} {
		flag, value, _ := strings.Cut(name, "=")
		out, err := exec.Command("openssl", "verify", "-x509_strict", "-purpose", "sslserver", flag, value, "-no-CApath", "-no-CAstore",
			"-CAfile", filepath.Join(dir, "2"), "-untrusted", filepath.Join(dir, "1"), filepath.Join(dir, "0")).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// What is not whole is not loaded; an authority of before says so, with a remedy.
func TestLoadAuthorityRefuses(t *testing.T) {
	now := time.Now()
	own, other := files(t, permitted, now), files(t, permitted, now)
	for name, f := range map[string]tlsport.Files{
		"another's key":          {own.Root, own.Intermediate, other.Key},
		"another's intermediate": {own.Root, other.Intermediate, other.Key},
		"another's root":         {other.Root, own.Intermediate, own.Key},
		"no key":                 {own.Root, own.Intermediate, nil},
		"no intermediate":        {own.Root, nil, own.Key},
		"no root":                {nil, own.Intermediate, own.Key},
		"the root twice":         {own.Root, own.Root, own.Key},
		"a key for a root":       {own.Key, own.Intermediate, own.Root},
		"a part":                 {own.Root[:len(own.Root)/2], own.Intermediate, own.Key},
	} {
		if _, err := tlsport.LoadAuthority(f); err == nil || errors.Is(err, tlsport.ErrEarlier) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Its certificate was like an intermediate of now, but signed by itself.
	k := key(t)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.Add(time.Hour), Subject: pkix.Name{CommonName: "sallyport on h"},
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, PermittedDNSDomains: permitted.Names,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	f := tlsport.Files{Root: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})}
	if _, err := tlsport.LoadAuthority(f); !errors.Is(err, tlsport.ErrEarlier) || !strings.Contains(err.Error(), "trust renew") {
		t.Error(err)
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
