package postgres_test

import (
	"bytes"
	"context"
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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// What a client says of itself in these tests, and what only the passage knows.
const (
	claimed     = "claims-to-be-somebody"
	agentSecret = "AGENT-SECRET"
	upstream    = "UPSTREAM-SECRET"
)

// vaultOf is a source of one account, whose password may be changed.
type vaultOf struct {
	mu       sync.Mutex
	user     string
	password string
	next     string // what it has when it is asked again; "" for the same
	err      error
	asked    []bool
	given    []*protocols.Login
}

func (v *vaultOf) account(weakest protocols.Method) *protocols.Account {
	return &protocols.Account{User: v.user, Login: func(_ context.Context, again bool) (*protocols.Login, error) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.asked = append(v.asked, again)
		if v.err != nil {
			return nil, v.err
		}
		if again && v.next != "" {
			v.password = v.next
		}
		l := &protocols.Login{User: v.user, Weakest: weakest}
		if v.password != "" {
			l.Password = []byte(v.password)
			v.given = append(v.given, &protocols.Login{Password: l.Password})
		}
		return l, nil
	}}
}

// wiped holds that every secret that was given has been overwritten.
func (v *vaultOf) wiped(t testing.TB) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, l := range v.given {
		if len(bytes.Trim(l.Password, "\x00")) != 0 {
			t.Error("a secret was left in memory")
		}
	}
}

// tap is a server's door that keeps what is said through it.
type tap struct {
	mu   sync.Mutex
	said bytes.Buffer
	edit func([]byte) []byte // of what the server says, nil for none
}

func (p *tap) dial(dial func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		if s, ok := c.(*tls.Conn); ok {
			return &tappedTLS{tapped{c, p}, s}, nil
		}
		return &tapped{c, p}, nil
	}
}

func (p *tap) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

type tapped struct {
	net.Conn

	to *tap
}

func (c *tapped) Write(b []byte) (int, error) {
	c.to.mu.Lock()
	c.to.said.Write(b)
	c.to.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *tapped) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

func (c *tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.to.edit != nil {
		n = copy(b, c.to.edit(b[:n]))
	}
	return n, err
}

type tappedTLS struct {
	tapped

	tls *tls.Conn
}

func (c *tappedTLS) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

// brokerServer is a server whose roles must prove who they are, each in its way.
func brokerServer(t testing.TB) (*postgrestest.Server, authority) {
	t.Helper()
	s, err := postgrestest.Start(`
		CREATE ROLE reader;
		CREATE ROLE "dr.grey"; GRANT reader TO "dr.grey";
		SET password_encryption = 'scram-sha-256';
		CREATE ROLE scram LOGIN NOINHERIT PASSWORD '` + upstream + `'; GRANT reader, "dr.grey" TO scram;
		CREATE ROLE uni LOGIN PASSWORD E'\u00e5\u2126 \u00a0x';
		CREATE ROLE plain LOGIN PASSWORD '` + upstream + `'; CREATE ROLE free LOGIN; CREATE ROLE certified LOGIN;
		SET password_encryption = 'md5'; CREATE ROLE hashed LOGIN PASSWORD '` + upstream + `';`)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	a := newAuthority(t)
	crt, key := a.leaf(t, "db")
	if err := s.UseTLS(crt, key, `
host all scram,uni 127.0.0.1/32 scram-sha-256
host all hashed 127.0.0.1/32 md5
host all plain 127.0.0.1/32 password
host all free 127.0.0.1/32 trust
hostssl all certified 127.0.0.1/32 cert
host all all 127.0.0.1/32 reject`); err != nil {
		t.Fatal(err)
	}
	return s, a
}

// madeCertificate makes a certificate for a client, of its own authority.
func madeCertificate(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// clientCertificate is madeCertificate, which the server believes from now on.
func clientCertificate(t testing.TB, s *postgrestest.Server, name string) tls.Certificate {
	t.Helper()
	c := madeCertificate(t, name)
	ca := filepath.Join(s.Dir, "clients.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"ALTER SYSTEM SET ssl_ca_file = '" + ca + "'", "SELECT pg_reload_conf()"} {
		if err := s.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// agent runs psql as an agent does that believes it has a user and a password.
func agent(t testing.TB, p *proxy, sql ...string) string {
	t.Helper()
	var args []string
	for _, s := range sql {
		args = append(args, "-c", s)
	}
	host, port, _ := net.SplitHostPort(p.Addr)
	dsn := fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=postgres sslmode=disable", host, port, claimed, agentSecret)
	cmd := exec.Command("psql", append([]string{dsn, "-XAtq"}, args...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	return string(out)
}

func TestBroker(t *testing.T) {
	s, servers := brokerServer(t)
	plainDoor := dialTLS(s.Addr, nil)
	tlsDoor := dialTLS(s.Addr, &tls.Config{RootCAs: servers.pool(), ServerName: "db"})

	// Neither the client's user nor its password goes anywhere, and who logs in
	// is the account.
	t.Run("the client's own credentials are for nothing", func(t *testing.T) {
		for name, pol := range map[string]string{"relayed": allowAll, "analysed": maskPolicy} {
			v := &vaultOf{user: "scram", password: upstream}
			to := &tap{}
			p := open(t, pol, protocoltest.Options{Dial: to.dial(plainDoor), Account: v.account(protocols.Bound)})
			if out := agent(t, p, "SELECT session_user"); out != "scram\n" {
				t.Fatalf("%s: %q", name, out)
			}
			if err := p.End(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			c, err := pgx.Connect(t.Context(), strings.Replace(p.dsn("password="+agentSecret), "user=agent", "user="+claimed, 1))
			if err != nil {
				t.Fatal(err)
			}
			var user string
			if err := c.QueryRow(t.Context(), "SELECT session_user").Scan(&user); err != nil || user != "scram" {
				t.Errorf("%s: pgx: %q %v", name, user, err)
			}
			c.Close(context.Background())
			said := to.String()
			for _, never := range []string{claimed, agentSecret, upstream} {
				if strings.Contains(said, never) {
					t.Errorf("%s: the server was told %q", name, never)
				}
			}
			if !strings.Contains(said, "SCRAM-SHA-256") {
				t.Errorf("%s: nothing was proved", name)
			}
			v.wiped(t)
			for _, e := range p.settled().All() {
				if e.Session.Account != "scram" || e.Session.User != claimed {
					t.Errorf("%s: %s: account %q, claimed %q", name, e.Kind, e.Session.Account, e.Session.User)
				}
			}
		}
	})

	// Each way to prove a secret works where the account goes along with it, and
	// is refused natively elsewhere, before anything of the secret is said.
	t.Run("ways to prove it", func(t *testing.T) {
		cert := clientCertificate(t, s, "certified")
		certDoor := dialTLS(s.Addr, &tls.Config{RootCAs: servers.pool(), ServerName: "db", Certificates: []tls.Certificate{cert}})
		const weaker, clear, none = "weaker way than is allowed", "in clear text, outside of TLS", "has none"
		for _, c := range []struct {
			user    string
			door    func(context.Context) (net.Conn, error)
			weakest protocols.Method
			want    string // of the answer; "" where it is let in
			says    string // what the server is told
		}{
			{"scram", plainDoor, protocols.Bound, "", "SCRAM-SHA-256\x00"},
			{"scram", tlsDoor, protocols.Bound, "", "SCRAM-SHA-256-PLUS\x00"},
			{"scram", tlsDoor, protocols.None, "", "SCRAM-SHA-256-PLUS\x00"},
			{"hashed", plainDoor, protocols.Bound, weaker, ""},
			{"hashed", tlsDoor, protocols.Mutual, weaker, ""},
			{"hashed", plainDoor, protocols.Hashed, "", "md5"},
			{"plain", tlsDoor, protocols.Hashed, weaker, ""},
			{"plain", tlsDoor, protocols.Clear, "", upstream},
			{"plain", plainDoor, protocols.Clear, clear, ""},
			{"free", tlsDoor, protocols.Clear, weaker, ""},
			{"free", plainDoor, protocols.None, "", ""},
			{"certified", certDoor, protocols.Bound, "", ""},
			{"certified", tlsDoor, protocols.Bound, "refuses the account", ""},
			{"scram", certDoor, protocols.Bound, none, ""}, // an account without a password
		} {
			v := &vaultOf{user: c.user, password: upstream}
			if c.user == "certified" || c.want == none {
				v.password = ""
			}
			to := &tap{}
			p := open(t, allowAll, protocoltest.Options{Dial: to.dial(c.door), Account: v.account(c.weakest)})
			out := agent(t, p, "SELECT session_user")
			if c.want == "" && out != c.user+"\n" || c.want != "" && (!strings.Contains(out, "FATAL:  sallyport: ") || !strings.Contains(out, c.want) || !strings.Contains(out, "HINT:")) {
				t.Errorf("%s, %d: %q", c.user, c.weakest, out)
			}
			said := to.String()
			if !strings.Contains(said, c.says) || strings.Contains(said, upstream) != (c.says == upstream) || c.want != "" && strings.Contains(said, "p=") {
				t.Errorf("%s, %d: the server was told %q", c.user, c.weakest, said)
			}
			if strings.Contains(out, upstream) {
				t.Error("the secret was shown to the client")
			}
			v.wiped(t)
		}
	})

	// Channel binding can't be taken out of the server's offer: an account that
	// must have it is not proved without, and the server itself refuses one that
	// need not.
	t.Run("channel binding is not stripped", func(t *testing.T) {
		strip := func(b []byte) []byte {
			with, without := "R\x00\x00\x00\x2a\x00\x00\x00\x0aSCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00", "R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"
			return bytes.Replace(b, []byte(with), []byte(without), 1)
		}
		for weakest, want := range map[protocols.Method]string{protocols.Bound: "weaker way than is allowed", protocols.Mutual: "refuses the account"} {
			v := &vaultOf{user: "scram", password: upstream}
			to := &tap{edit: strip}
			p := open(t, allowAll, protocoltest.Options{Dial: to.dial(tlsDoor), Account: v.account(weakest)})
			if out := agent(t, p, "SELECT session_user"); !strings.Contains(out, want) {
				t.Errorf("%d: %q", weakest, out)
			}
			if said := to.String(); strings.Contains(said, "PLUS") || weakest == protocols.Mutual && !strings.Contains(said, "y,,n=,r=") {
				t.Errorf("%d: the server was told %q", weakest, said)
			}
		}
	})

	t.Run("a password that is prepared", func(t *testing.T) {
		v := &vaultOf{user: "uni", password: "\u00e5\u03a9  x"} // as SASLprep makes it of the server's
		p := open(t, allowAll, protocoltest.Options{Dial: plainDoor, Account: v.account(protocols.Bound)})
		if out := agent(t, p, "SELECT session_user"); out != "uni\n" {
			t.Errorf("%q", out)
		}
		v = &vaultOf{user: "uni", password: "\u00e5\u2126 \u00a0x"}
		p = open(t, allowAll, protocoltest.Options{Dial: plainDoor, Account: v.account(protocols.Bound)})
		if out := agent(t, p, "SELECT session_user"); out != "uni\n" {
			t.Errorf("%q", out)
		}
	})

	// A secret that the server does not take is asked for again, once.
	t.Run("wrong secret", func(t *testing.T) {
		v := &vaultOf{user: "scram", password: "WRONG-SECRET"}
		p := open(t, allowAll, protocoltest.Options{Dial: plainDoor, Account: v.account(protocols.Bound)})
		out := agent(t, p, "SELECT 1")
		for _, want := range []string{"FATAL", "sallyport: the server refuses the account", "28P01", "resources[].accounts"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in %q", want, out)
			}
		}
		err := p.End()
		if err == nil || strings.Contains(out+err.Error(), "WRONG-SECRET") {
			t.Errorf("%v", err)
		}
		if len(v.asked) != 2 || v.asked[0] || !v.asked[1] {
			t.Errorf("the source was asked %v", v.asked)
		}
		v.wiped(t)
	})

	t.Run("nothing newer", func(t *testing.T) {
		v := &vaultOf{user: "scram", password: "WRONG-SECRET"}
		a := v.account(protocols.Bound)
		ask := a.Login
		a.Login = func(ctx context.Context, again bool) (*protocols.Login, error) {
			if again {
				return nil, errors.New("nothing newer")
			}
			return ask(ctx, again)
		}
		dialled := 0
		p := open(t, allowAll, protocoltest.Options{Account: a, Dial: func(ctx context.Context) (net.Conn, error) {
			dialled++
			return plainDoor(ctx)
		}})
		if out := agent(t, p, "SELECT 1"); !strings.Contains(out, "the server refuses the account") {
			t.Errorf("%q", out)
		}
		if err := p.End(); err == nil || !strings.Contains(err.Error(), "28P01; nothing newer") || dialled != 1 {
			t.Errorf("%v; dialled %d times", err, dialled)
		}
	})

	t.Run("rotated secret", func(t *testing.T) {
		v := &vaultOf{user: "scram", password: upstream}
		p := open(t, allowAll, protocoltest.Options{Dial: plainDoor, Account: v.account(protocols.Bound)})
		running := p.raw()
		if err := s.Exec(t.Context(), "SET password_encryption = 'scram-sha-256'; ALTER ROLE scram PASSWORD 'ROTATED'"); err != nil {
			t.Fatal(err)
		}
		defer s.Exec(context.Background(), "SET password_encryption = 'scram-sha-256'; ALTER ROLE scram PASSWORD '"+upstream+"'")
		v.mu.Lock()
		v.next = "ROTATED"
		v.mu.Unlock()
		if out := agent(t, p, "SELECT session_user"); out != "scram\n" {
			t.Errorf("%q", out)
		}
		if out := running.ask(1, q("SELECT session_user")); !strings.Contains(out, "scram") {
			t.Errorf("a session that was there: %q", out)
		}
		v.wiped(t)
	})

	t.Run("no secret to be had", func(t *testing.T) {
		v := &vaultOf{user: "scram", err: errors.New("vault: database/creds/x: HTTP 503")}
		p := open(t, allowAll, protocoltest.Options{Dial: plainDoor, Account: v.account(protocols.Bound)})
		if out := agent(t, p, "SELECT 1"); !strings.Contains(out, "FATAL:  sallyport: the account that this connection is given cannot be had") || strings.Contains(out, "503") {
			t.Errorf("%q", out)
		}
		if err := p.End(); err == nil || !strings.Contains(err.Error(), "HTTP 503") {
			t.Errorf("the record says %v", err)
		}
	})

	// The role is where the session starts and comes back to, whatever the client
	// asks for; where a rule protects something, it can't be left.
	t.Run("role", func(t *testing.T) {
		v := &vaultOf{user: "scram", password: upstream}
		a := v.account(protocols.Bound)
		a.Role = "dr.grey"
		for name, pol := range map[string]string{"relayed": allowAll, "analysed": strings.Replace(maskPolicy, "[read, session, write]", `["*"]`, 1)} {
			p := open(t, pol, protocoltest.Options{Dial: plainDoor, Account: a})
			const who = "SELECT current_user"
			out := agent(t, p, who, "RESET ALL", who, "DISCARD ALL", who)
			if strings.Count(out, "dr.grey") != 3 {
				t.Errorf("%s: %q", name, out)
			}
			if name == "relayed" {
				if out := agent(t, p, "SET ROLE NONE", "RESET ROLE", who); !strings.Contains(out, "dr.grey") {
					t.Errorf("%s: %q", name, out)
				}
				for _, params := range [][]string{{"options", "-c role=reader"}, {"role", "reader"}, {"ROLE", "none"}, {"options", "-c role=none", "Role", "none"}} {
					if out := dial(t, p.Addr, params...).ask(1, q(who)); !strings.Contains(out, "dr.grey") {
						t.Errorf("%q: %q", params, out)
					}
				}
				continue
			}
			for _, leave := range []string{
				"RESET ROLE", "SET ROLE NONE", "SET ROLE reader", "SET SESSION AUTHORIZATION DEFAULT", "SET LOCAL ROLE reader", "SELECT set_config('role', 'none', false)",
				"DO $$ BEGIN SET ROLE NONE; END $$",
			} {
				if out := agent(t, p, leave, who); !strings.Contains(out, "ERROR:") || !strings.HasSuffix(out, "dr.grey\n") {
					t.Errorf("%s: %q", leave, out)
				}
			}
		}
		a.Role = "nobody"
		p := open(t, allowAll, protocoltest.Options{Dial: plainDoor, Account: a})
		if out := agent(t, p, "SELECT 1"); !strings.Contains(out, `role "nobody" does not exist`) {
			t.Errorf("%q", out)
		}
		for _, e := range p.settled().All() {
			if e.Session.Role != "nobody" {
				t.Errorf("%s: role %q", e.Kind, e.Session.Role)
			}
		}
	})

	t.Run("cancel", func(t *testing.T) {
		v := &vaultOf{user: "scram", password: upstream}
		p := open(t, allowAll, protocoltest.Options{Dial: plainDoor, Account: v.account(protocols.Bound), Server: s.Addr})
		c := connect(t, p, "")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() {
			<-ctx.Done()
			_ = c.PgConn().CancelRequest(context.Background())
		}()
		if _, err := c.Exec(context.Background(), "SELECT pg_sleep(120)"); !strings.Contains(fmt.Sprint(err), "57014") {
			t.Errorf("%v", err)
		}
	})

	// The database is the one that policy was asked about: never the account's
	// name, which a server takes for a database where none is given.
	t.Run("database", func(t *testing.T) {
		v := &vaultOf{user: "scram", password: upstream}
		p := open(t, allowAll, protocoltest.Options{Dial: plainDoor, Account: v.account(protocols.Bound)})
		r := &raw{t: t, Conn: p.Dial()}
		r.send(startup(3<<16, "user", "postgres"))
		if out := r.until('Z', 1); !strings.Contains(out, "Z I") {
			t.Fatal(out)
		}
		if out := r.ask(1, q("SELECT current_database()")); !strings.Contains(out, "postgres") {
			t.Error(out)
		}
		for _, params := range [][]string{{"client_encoding", "UTF8"}, {"user", ""}} {
			r = &raw{t: t, Conn: p.Dial()}
			r.send(startup(3<<16, params...))
			if out := r.until('Z', 1); !strings.HasPrefix(out, "E SFATAL") {
				t.Errorf("%q: %s", params, out)
			}
		}
	})

	// A name that only the source knew is on the record.
	t.Run("made up user", func(t *testing.T) {
		v := &vaultOf{user: "scram", password: upstream}
		a := v.account(protocols.Bound)
		a.User = "vault:database/creds/x"
		p := open(t, allowAll, protocoltest.Options{Dial: plainDoor, Account: a})
		agent(t, p, "SELECT 1")
		if e := p.settled().Events(events.Lifecycle); len(e) != 1 || !strings.HasSuffix(e[0].Message, " scram") || e[0].Session.Account != a.User {
			t.Errorf("%+v", e)
		}
	})
}
