package tlsport_test

import (
	"crypto/tls"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/tlsport"
)

// What a certificate permits is read back from it, and compared as clients do.
func TestMissing(t *testing.T) {
	p := tlsport.PermittedBy(authority(t, permitted, time.Now()).Root())
	if !slices.Equal(p.Names, permitted.Names) || !slices.Equal(p.Prefixes, permitted.Prefixes) {
		t.Errorf("%+v", p)
	}
	want := tlsport.Permitted{
		Names:    []string{"db", "DB", "sub.db", "a.clinic.example", "clinic.example", "xdb", "other"},
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.1/32"), netip.MustParsePrefix("::1/128")},
	}
	if got := p.Missing(want); !slices.Equal(got, []string{"clinic.example", "xdb", "other", "10.0.0.0/8", "::1/128"}) {
		t.Errorf("%q", got)
	}
	none := tlsport.PermittedBy(authority(t, tlsport.Permitted{}, time.Now()).Root())
	if len(none.Names)+len(none.Prefixes) > 0 || len(none.Missing(want)) != len(want.Names)+len(want.Prefixes) {
		t.Errorf("of nothing: %+v", none)
	}
}

// A client that asks for no name, as Java does where it has no dot, finds the
// resource's names and its address in one leaf, and nothing else.
func TestUnasked(t *testing.T) {
	a := authority(t, permitted, time.Now())
	daemon, signer := pair(t)
	s := tlsport.NewSigner(a, time.Now)
	s.Allow(tlsport.Permitted{Names: []string{"db", "elsewhere"}, Prefixes: permitted.Prefixes})
	go func() { _ = s.Serve(signer) }()
	l := tlsport.NewLeaves(daemon, time.Now)
	// The signer was not told of the one, and the authority does not permit the other.
	names := []string{"db", "pg.clinic.example", "elsewhere"}
	for address, want := range map[string]int{"10.1.2.3": 1, "10.2.0.1": 0} {
		cfg := l.Config(func(n string) bool { return slices.Contains(names, n) }, address, names...)
		c := &tls.Config{RootCAs: roots(a), InsecureSkipVerify: true} //nolint:gosec // the leaf is looked at
		c.VerifyConnection = func(s tls.ConnectionState) error {
			leaf := s.PeerCertificates[0]
			if !slices.Equal(leaf.DNSNames, []string{"db"}) || len(leaf.IPAddresses) != want {
				t.Errorf("%s: %v, %v", address, leaf.DNSNames, leaf.IPAddresses)
			}
			return leaf.VerifyHostname("db")
		}
		if err := handshake(t, cfg, c); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	cfg := l.Config(func(string) bool { return false }, "10.2.0.1", "elsewhere")
	if err := handshake(t, cfg, &tls.Config{RootCAs: roots(a), InsecureSkipVerify: true}); err == nil { //nolint:gosec // there is nothing to verify
		t.Error("a leaf for nothing")
	}
}

// What trust install puts among the system's roots is for agents: it makes no
// server believed.
func TestOwnAuthorityVouchesForNoServer(t *testing.T) {
	f := files(t, permitted, time.Now())
	a, err := tlsport.LoadAuthority(f)
	if err != nil {
		t.Fatal(err)
	}
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, f.Root, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", roots)
	t.Setenv("SSL_CERT_DIR", t.TempDir())
	k := key(t)
	chain, err := a.Sign(k.Public(), "db", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: k}}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			c.Close()
		}
	}()
	for name, c := range map[string]struct {
		trust tlsport.Trust
		want  string
	}{
		"the system's roots": {tlsport.Trust{Name: "db"}, "only the authority of a host with sallyport"},
		"named":              {tlsport.Trust{Name: "db", Roots: string(f.Root)}, ""},
	} {
		cfg, err := c.trust.Config()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := tls.Dial("tcp", l.Addr().String(), cfg)
		if err == nil {
			conn.Close()
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
