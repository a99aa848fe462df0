package postgres_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/tlsport"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/postgres"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// authority is one for a test: its certificate in PEM form, and what signs.
type authority struct {
	pem  []byte
	sign *tlsport.Authority
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	a, err := tlsport.NewAuthority("test", tlsport.Permitted{
		Names: []string{"db", "other"}, Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f, err := a.Files()
	if err != nil {
		t.Fatal(err)
	}
	return authority{f.Root, a}
}

// leaf is a server's certificate, with the one that vouches for it, and its key.
func (a authority) leaf(t testing.TB, name string) (certificate, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := a.sign.Sign(k.Public(), name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range chain {
		certificate = append(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk})
}

func (a authority) config(t testing.TB, name string) *tls.Config {
	t.Helper()
	c, err := tls.X509KeyPair(a.leaf(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12}
}

func (a authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(a.pem)
	return p
}

// secureServer starts a server that offers TLS and asks the role "scram" for
// SCRAM, with the authority that signed for it.
func secureServer(t testing.TB) (*postgrestest.Server, authority) {
	t.Helper()
	s, err := postgrestest.Start("SET password_encryption = 'scram-sha-256'; CREATE ROLE scram LOGIN PASSWORD 'correct horse'")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	a := newAuthority(t)
	crt, key := a.leaf(t, "db")
	if err := s.UseTLS(crt, key, "host all scram 127.0.0.1/32 scram-sha-256"); err != nil {
		t.Fatal(err)
	}
	return s, a
}

// dialTLS is what a host's configuration makes of a server with TLS.
func dialTLS(addr netip.AddrPort, cfg *tls.Config) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr.String())
		if err != nil || cfg == nil {
			return c, err
		}
		s, err := postgres.Secure(ctx, c, cfg)
		if err != nil {
			c.Close()
			return nil, err
		}
		return s, nil
	}
}

// What becomes of a login by SCRAM where TLS ends at the passage, for each door
// and for what a client makes of channel binding.
func TestChannelBinding(t *testing.T) {
	s, servers := secureServer(t)
	host := newAuthority(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, host.pem, 0o644); err != nil {
		t.Fatal(err)
	}
	const in, refused, unbound, clear = "scram", "would be bound to the TLS of one door", "channel binding is required", "SSL not in use"
	for _, c := range []struct {
		client, server bool
		binding        string
		want           string
	}{
		{false, false, "prefer", in},
		{false, false, "disable", in},
		{false, false, "require", clear},
		{false, true, "prefer", in},
		{false, true, "disable", in},
		{false, true, "require", clear},
		{true, false, "prefer", in},
		{true, false, "disable", in},
		{true, false, "require", unbound},
		{true, true, "prefer", refused},
		{true, true, "disable", in},
		{true, true, "require", unbound},
	} {
		t.Run(fmt.Sprintf("client %v, server %v, %s", c.client, c.server, c.binding), func(t *testing.T) {
			o := protocoltest.Options{Dial: dialTLS(s.Addr, nil), TLS: host.config(t, "127.0.0.1")}
			if c.server {
				o.Dial = dialTLS(s.Addr, &tls.Config{RootCAs: servers.pool(), ServerName: "db"})
			}
			mode := "disable"
			if c.client {
				mode = "verify-full"
			}
			p := open(t, allowAll, o)
			out := secured(t, p, "user=scram password='correct horse' channel_binding="+c.binding+" sslrootcert="+ca+" sslmode="+mode,
				"SELECT current_user || ' ' || ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
			want := c.want
			if want == in {
				want = fmt.Sprintf("scram %v", c.server)
			}
			if !strings.Contains(out, want) {
				t.Errorf("%q, want %q", out, want)
			}
		})
	}
}

// secured runs psql with its own settings of TLS.
func secured(t testing.TB, p *proxy, settings, sql string) string {
	t.Helper()
	host, port, _ := net.SplitHostPort(p.Addr)
	cmd := exec.Command("psql", fmt.Sprintf("host=%s port=%s dbname=postgres %s", host, port, settings), "-X", "-At", "-c", sql)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	return string(out)
}

// A server that does not prove who it is gets nothing, and its client is told.
func TestServerMustProve(t *testing.T) {
	s, servers := secureServer(t)
	for name, c := range map[string]struct {
		cfg  *tls.Config
		addr netip.AddrPort
	}{
		"another authority": {&tls.Config{RootCAs: newAuthority(t).pool(), ServerName: "db"}, s.Addr},
		"another name":      {&tls.Config{RootCAs: servers.pool(), ServerName: "other"}, s.Addr},
		"no TLS":            {&tls.Config{RootCAs: servers.pool(), ServerName: "db"}, server.Addr},
		"too old":           {&tls.Config{RootCAs: servers.pool(), ServerName: "db", MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS12}, s.Addr},
	} {
		p := open(t, allowAll, protocoltest.Options{Dial: dialTLS(c.addr, c.cfg)})
		out := psql(t, p, "-c", "SELECT 1")
		if !strings.Contains(out, "did not prove who it is") || strings.Contains(out, "1 row") {
			t.Errorf("%s: %q", name, out)
		}
		if err := p.End(); !errors.Is(err, protocols.ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Masks hold, and long results come whole, when both doors are in TLS.
func TestMaskedInTLS(t *testing.T) {
	crt, key := newAuthority(t).leaf(t, "db")
	if err := server.UseTLS(crt, key, ""); err != nil {
		t.Fatal(err)
	}
	p := open(t, maskPolicy, protocoltest.Options{
		Dial: dialTLS(server.Addr, &tls.Config{InsecureSkipVerify: true}), //nolint:gosec // what is verified has its own test
		TLS:  newAuthority(t).config(t, "127.0.0.1"), TLSOnly: true,
	})
	cfg, err := pgconn.ParseConfig(strings.Replace(p.dsn(""), "sslmode=disable", "sslmode=require", 1))
	if err != nil {
		t.Fatal(err)
	}
	c, err := pgconn.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	r := c.ExecParams(t.Context(), "SELECT ssn, repeat('x', 1000) FROM clinic.patients, generate_series(1, 2000) WHERE id = 1", nil, nil, nil, nil).Read()
	if r.Err != nil || len(r.Rows) != 2000 || string(r.Rows[1999][0]) != "***-**-0001" {
		t.Fatalf("%d rows, %v", len(r.Rows), r.Err)
	}
	// A cancel request comes in clear, as those of libpq do.
	wait := make(chan error, 1)
	go func() {
		wait <- c.ExecParams(context.Background(), "SELECT pg_sleep(30)", nil, nil, nil, nil).Read().Err
	}()
	for range 50 {
		if err := c.CancelRequest(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-wait:
			if !strings.Contains(fmt.Sprint(err), "57014") {
				t.Error(err)
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Error("the statement is not cancelled")
}

// A client in clear is refused where TLS is required, natively and on the
// record, before it has sent a password.
func TestTLSOnly(t *testing.T) {
	p := open(t, allowAll, protocoltest.Options{TLS: newAuthority(t).config(t, "127.0.0.1"), TLSOnly: true})
	if out := psql(t, p, "-c", "SELECT 1"); !strings.Contains(out, "by TLS only") {
		t.Error(out)
	}
	if e := p.Journal.Events(events.Login); len(e) != 1 || e[0].Verdict != events.Blocked || e[0].Rules[0] != "tls" {
		t.Errorf("%+v", e)
	}
}

// A client that does not trust the authority goes, which is on the record.
func TestPinned(t *testing.T) {
	host := newAuthority(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, newAuthority(t).pem, 0o644); err != nil {
		t.Fatal(err)
	}
	p := open(t, allowAll, protocoltest.Options{TLS: host.config(t, "127.0.0.1")})
	if out := secured(t, p, "user=agent sslmode=verify-full sslrootcert="+ca, "SELECT 'in'"); strings.Contains(out, "in\n") {
		t.Error(out)
	}
	if err := p.End(); !errors.Is(err, protocols.ErrHandshake) {
		t.Error(err)
	}
	if e := p.Journal.Events(events.Login); len(e) != 1 || e[0].Verdict != events.Blocked || !strings.Contains(e[0].Reason, "TLS with the client failed") {
		t.Errorf("%+v", e)
	}

	// One that only looks at the certificate's name goes without a word.
	if err := os.WriteFile(ca, host.pem, 0o644); err != nil {
		t.Fatal(err)
	}
	p = open(t, allowAll, protocoltest.Options{TLS: host.config(t, "other")})
	if out := secured(t, p, "user=agent sslmode=verify-full sslrootcert="+ca, "SELECT 'in'"); !strings.Contains(out, "does not match host name") {
		t.Error(out)
	}
	if err := p.End(); !errors.Is(err, protocols.ErrHandshake) {
		t.Error(err)
	}
	if e := p.Journal.Events(events.Login); len(e) != 1 || e[0].Verdict != events.Blocked || e[0].Rules[0] != "tls" {
		t.Errorf("%+v", e)
	}
}

// Direct TLS (PostgreSQL 17) must name the protocol, comes once, and nothing is
// asked for inside.
func TestDirectTLS(t *testing.T) {
	host := newAuthority(t)
	p := open(t, allowAll, protocoltest.Options{TLS: host.config(t, "127.0.0.1")})
	good := startup(3<<16, "user", "agent", "database", "postgres")
	client := func(c net.Conn, protos ...string) *tls.Conn {
		return tls.Client(c, &tls.Config{RootCAs: host.pool(), ServerName: "127.0.0.1", NextProtos: protos})
	}
	c := client(p.Dial(), "postgresql")
	_, _ = c.Write(append(good, enc(q("SELECT 'in'"))...))
	if out := (&raw{t: t, Conn: c}).until('Z', 2); !strings.Contains(out, "in\n") {
		t.Error(out)
	}
	for name, begin := range map[string]func() net.Conn{
		"without the protocol": func() net.Conn { return client(p.Dial()) },
		"another protocol":     func() net.Conn { return client(p.Dial(), "h2") },
		"SSLRequest inside": func() net.Conn {
			c := client(p.Dial(), "postgresql")
			_, _ = c.Write(sslRequest)
			return c
		},
		"TLS inside TLS": func() net.Conn { return client(client(p.Dial(), "postgresql"), "postgresql") },
		"GSS inside": func() net.Conn {
			c := client(p.Dial(), "postgresql")
			_, _ = c.Write(gssRequest)
			return c
		},
		"TLS after N": func() net.Conn {
			c := p.Dial()
			_, _ = c.Write(gssRequest)
			_, _ = io.ReadFull(c, make([]byte, 1))
			return client(c, "postgresql")
		},
	} {
		c := begin()
		_, _ = c.Write(append(good[:len(good):len(good)], enc(q("SELECT 'in'"))...))
		if out, _ := io.ReadAll(c); strings.Contains(string(out), "in") {
			t.Errorf("%s: %q", name, out)
		}
	}
}

// What is stuffed behind SSLRequest ends the connection: it would be taken for
// what was encrypted (CVE-2021-23214).
func TestStuffedBehindSSLRequest(t *testing.T) {
	host := newAuthority(t)
	p := open(t, allowAll, protocoltest.Options{TLS: host.config(t, "127.0.0.1")})
	good := append(startup(3<<16, "user", "agent", "database", "postgres"), enc(q("SELECT 'stuffed'"))...)
	for name, late := range map[string]bool{"at once": false, "late": true} {
		c := p.Dial()
		if late {
			_, _ = c.Write(sslRequest)
			if b := make([]byte, 1); true {
				if _, err := io.ReadFull(c, b); err != nil || b[0] != 'S' {
					t.Fatalf("%q, %v", b, err)
				}
			}
			_, _ = c.Write(good)
		} else {
			_, _ = c.Write(append(append([]byte(nil), sslRequest...), good...))
		}
		out, _ := io.ReadAll(bufio.NewReader(c))
		if strings.Contains(string(out), "stuffed") || !late && strings.Contains(string(out), "S") {
			t.Errorf("%s: %q", name, out)
		}
		if err := p.End(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
