package postgres_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/postgres"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// An agent's client proves its own password to the passage, by SCRAM and bound
// to TLS where there is TLS, and the server hears nothing of it.
func TestAgentVerifier(t *testing.T) {
	s, _ := brokerServer(t)
	if err := s.Exec(t.Context(), "SET password_encryption = 'scram-sha-256'; CREATE ROLE like_the_agent PASSWORD '"+agentSecret+"'"); err != nil {
		t.Fatal(err)
	}
	db, err := pgconn.Connect(t.Context(), s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	rs, err := db.Exec(t.Context(), "SELECT rolpassword FROM pg_authid WHERE rolname = 'like_the_agent'").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	db.Close(t.Context())
	verifier := string(rs[0].Rows[0][0])
	host := newAuthority(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, host.pem, 0o644); err != nil {
		t.Fatal(err)
	}
	const in, failed = "scram\n", "password authentication failed for user"
	strip := func(b []byte) []byte {
		with, without := "R\x00\x00\x00\x2a\x00\x00\x00\x0aSCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00", "R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"
		return bytes.Replace(b, []byte(with), []byte(without), 1)
	}
	for _, c := range []struct {
		name, user, password, settings string
		want                           string
	}{
		{"bound", claimed, agentSecret, "sslmode=verify-full channel_binding=require", in},
		{"TLS", claimed, agentSecret, "sslmode=verify-full", in},
		{"TLS, not bound", claimed, agentSecret, "sslmode=verify-full channel_binding=disable", in},
		{"clear", claimed, agentSecret, "sslmode=disable", in},
		{"clear, to be bound", claimed, agentSecret, "sslmode=disable channel_binding=require", "SSL not in use"},
		{"wrong password", claimed, agentSecret + "x", "sslmode=disable", failed},
		{"wrong password, bound", claimed, "x", "sslmode=verify-full channel_binding=require", failed},
		{"no password", claimed, "", "sslmode=disable", "no password supplied"},
		{"another user", "scram", agentSecret, "sslmode=disable", failed},
		{"another user's", "scram", upstream, "sslmode=disable", failed},
	} {
		v := &vaultOf{user: "scram", password: upstream}
		a := v.account(protocols.Bound)
		a.Agents = map[string]string{claimed: verifier}
		to := &tap{}
		p := open(t, allowAll, protocoltest.Options{Dial: to.dial(dialTLS(s.Addr, nil)), Account: a, TLS: host.config(t, "127.0.0.1")})
		out := secured(t, p, "user="+c.user+" password='"+c.password+"' sslrootcert="+ca+" "+c.settings, "SELECT session_user")
		if c.want == in && out != in || !strings.Contains(out, c.want) {
			t.Errorf("%s: %q", c.name, out)
		}
		if said := to.String(); strings.Contains(said, claimed) || strings.Contains(said, agentSecret) || c.want != in && said != "" {
			t.Errorf("%s: the server was told %q", c.name, said)
		}
		if c.want == failed {
			if err := p.End(); err == nil {
				t.Errorf("%s: it ended as if nothing was wrong", c.name)
			}
			if e := p.Journal.Events(events.Login); len(e) != 1 || e[0].Verdict != events.Blocked || e[0].Rules[0] != "agent" || e[0].Session.User != c.user {
				t.Errorf("%s: %+v", c.name, e)
			}
			if len(v.asked) != 0 {
				t.Errorf("%s: the account was asked for", c.name)
			}
		}
	}

	// Somebody between who takes the offer of channel binding out is found out,
	// by the client's word that it could have bound its login.
	v := &vaultOf{user: "scram", password: upstream}
	a := v.account(protocols.Bound)
	a.Agents = map[string]string{claimed: verifier}
	p := open(t, allowAll, protocoltest.Options{Dial: dialTLS(s.Addr, nil), Account: a, TLS: host.config(t, "127.0.0.1")})
	cfg, err := pgconn.ParseConfig(strings.Replace(p.dsn("password="+agentSecret+" sslrootcert="+ca), "user=agent", "user="+claimed, 1))
	if err != nil {
		t.Fatal(err)
	}
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		secure, err := postgres.Secure(ctx, c, &tls.Config{RootCAs: host.pool(), ServerName: "127.0.0.1"})
		if err != nil {
			return nil, err
		}
		return &tappedTLS{tapped{secure, &tap{edit: strip}}, secure}, nil
	}
	// pgx sees no TLS of its own there, so that it asks for no binding either: the
	// passage lets that in. A client that says that it could have is refused.
	c, err := pgconn.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Close(context.Background())
	conn, err := cfg.DialFunc(t.Context(), "tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := &raw{t: t, Conn: conn}
	r.send(startup(3<<16, "user", claimed, "database", "postgres"))
	first := "y,,n=,r=abcdefghijklmnop"
	r.until('R', 1)
	r.send(msg('p', fmt.Sprintf("SCRAM-SHA-256\x00\x00\x00\x00%c%s", len(first), first)))
	if out := r.until(0, 1); !strings.Contains(out, failed) {
		t.Error(out)
	}
}

// What is no exchange ends the session before the server's door opens.
func TestAgentExchangeThatIsNone(t *testing.T) {
	good := "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$" + strings.Repeat("A", 43) + "=:" + strings.Repeat("A", 43) + "="
	if err := postgres.CheckVerifier(good); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "md5abc", agentSecret, strings.Replace(good, "4096", "1", 1), strings.Replace(good, "4096", "x", 1), good + ":", good + "A", strings.Replace(good, "$4096", "$$4096", 1),
		strings.Replace(good, "SCRAM-SHA-256", "SCRAM-SHA-1", 1), good[:len(good)-4],
	} {
		if err := postgres.CheckVerifier(bad); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	sasl := func(mechanism, first string) []byte {
		return msg('p', fmt.Sprintf("%s\x00\x00\x00\x00%c%s", mechanism, len(first), first))
	}
	const first = "n,,n=,r=abcdefghijklmnop"
	for name, say := range map[string][]byte{
		"another mechanism":       sasl("PLAIN", first),
		"bound without TLS":       sasl("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=abcdefghijklmnop"),
		"bound as if it were not": sasl("SCRAM-SHA-256", "p=tls-server-end-point,,n=,r=abcdefghijklmnop"),
		"somebody else's name":    sasl("SCRAM-SHA-256", "n,a=root,n=,r=abcdefghijklmnop"),
		"no nonce":                sasl("SCRAM-SHA-256", "n,,n=,r="),
		"an extension":            sasl("SCRAM-SHA-256", "n,,m=must,n=,r=abcdefghijklmnop"),
		"something behind it":     sasl("SCRAM-SHA-256", first+",x=y"),
		"not a message":           msg('p', "SCRAM-SHA-256\x00\x00\x00\x00\xff"),
		"nothing":                 msg('p', ""),
		"a password":              msg('p', agentSecret+"\x00"),
		"a statement":             enc(q("SELECT 'ran'")),
		"a proof of nothing":      append(sasl("SCRAM-SHA-256", first), msg('p', "c=biws,r=abcdefghijklmnop,p=")...),
		"a proof of another":      append(sasl("SCRAM-SHA-256", first), msg('p', "c=biws,r=abcdefghijklmnop,p="+strings.Repeat("A", 43)+"=")...),
	} {
		a := (&vaultOf{user: "scram", password: upstream}).account(protocols.Bound)
		a.Agents = map[string]string{claimed: good}
		p := open(t, allowAll, protocoltest.Options{Account: a, Dial: func(context.Context) (net.Conn, error) {
			t.Errorf("%s: the server's door opens", name)
			return nil, net.ErrClosed
		}})
		r := &raw{t: t, Conn: p.Dial()}
		r.send(append(startup(3<<16, "user", claimed, "database", "postgres"), say...))
		if out := r.until(0, 1); strings.Count(out, "E SFATAL") != 1 || !strings.HasSuffix(out, "EOF\n") || strings.Contains(out, "ran") {
			t.Errorf("%s: %s", name, out)
		}
		if err := p.End(); err == nil {
			t.Errorf("%s: it ended as if nothing was wrong", name)
		}
	}
}
