package postgres_test

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// unread lets everything be, read or not.
const unread = `
rules:
  - name: migration
    effect: allow
    identity: {workload: agent}
    resource: clinic
    commands: ["*", function_call, replication, undecoded]
    relations: "*"
`

// way is the way past of a test's passage, and what became of it.
type way struct {
	dialled, failed atomic.Int32
	unwanted, over  atomic.Bool
}

func (w *way) to(addr netip.AddrPort) *protocols.Undecoded {
	return &protocols.Undecoded{
		Dial: func(ctx context.Context) (net.Conn, error) {
			w.dialled.Add(1)
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr.String())
		},
		Named:  func(name string) bool { return name == "db" || name == "db.test" },
		Wanted: func() bool { return !w.unwanted.Load() },
		Still:  func() bool { return !w.over.Load() },
		Failed: func() { w.failed.Add(1) },
		Tell:   time.Minute,
	}
}

// mutualServer starts a server that knows the role "billing" by its certificate
// and "scram" by its password; roots is the file of who vouches for it, shown is
// libpq's settings of the certificate.
func mutualServer(t testing.TB) (s *postgrestest.Server, roots, shown string) {
	t.Helper()
	s, err := postgrestest.Start("SET password_encryption = 'scram-sha-256'; CREATE ROLE scram LOGIN PASSWORD 'correct horse'; CREATE ROLE billing LOGIN; CREATE TABLE t (a int)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	shown = shownBy(t, clientCertificate(t, s, "billing"))
	a := newAuthority(t)
	crt, key := a.leaf(t, "db")
	if err := s.UseTLS(crt, key, "hostssl all billing 127.0.0.1/32 cert clientcert=verify-full\nhostssl all scram 127.0.0.1/32 scram-sha-256"); err != nil {
		t.Fatal(err)
	}
	roots = filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, a.pem, 0o644); err != nil {
		t.Fatal(err)
	}
	return s, roots, shown
}

// pinned runs psql with a client that trusts the server's authority alone.
func pinned(t testing.TB, p *proxy, roots, settings, sql string) string {
	t.Helper()
	_, port, _ := net.SplitHostPort(p.Addr)
	return secured(t, &proxy{Passage: &protocoltest.Passage{Addr: "db:" + port}}, "hostaddr=127.0.0.1 sslmode=verify-full sslrootcert="+roots+" "+settings, sql)
}

// A client that has pinned the server's certificate, and one that the server knows
// by its own, get in where rules let a session go unread, each event with the
// mark, and without a statement; and nowhere else.
func TestUndecoded(t *testing.T) {
	s, roots, shown := mutualServer(t)
	host := newAuthority(t)
	const who = "SELECT current_user, (SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid())"
	logins := map[string]string{
		"pinned": "user=scram password='correct horse' channel_binding=require",
		"mutual": "user=billing" + shown,
	}
	want := map[string]string{"pinned": "scram|\n", "mutual": "billing|/CN=billing\n"}
	for name, settings := range logins {
		var w way
		p := open(t, unread, protocoltest.Options{TLS: host.config(t, "127.0.0.1"), Undecoded: w.to(s.Addr)})
		if out := pinned(t, p, roots, settings, who); out != want[name] {
			t.Errorf("%s: %q", name, out)
		}
		if err := p.End(); err != nil {
			t.Error(err)
		}
		var kinds []string
		for _, e := range p.Journal.All() {
			kinds = append(kinds, e.Kind.String())
			if !e.Session.Undecoded || e.Session.ClientTLS.Name != "db" || e.Session.User != "" {
				t.Errorf("%s: %s without the mark: %+v", name, e.Kind, e.Session)
			}
			switch e.Kind {
			case events.Login:
				if e.Verdict != events.Allow || e.Rules[0] != "migration" || e.Command != "undecoded" {
					t.Errorf("%+v", e)
				}
			case events.SessionClose:
				if e.Bytes < 1000 || e.BytesIn < 300 || e.Duration <= 0 || e.Status != "ok" {
					t.Errorf("%+v", e)
				}
			}
		}
		if got := strings.Join(kinds, " "); got != "session.login session.open session.close" && got != "login session.open session.close" {
			t.Errorf("%s: events %s", name, got)
		}

		// Refused by default, and remembered.
		p = open(t, unread, protocoltest.Options{TLS: host.config(t, "127.0.0.1")})
		if out := pinned(t, p, roots, settings, who); strings.Contains(out, want[name]) {
			t.Errorf("%s, by default: %q", name, out)
		}
		w.unwanted.Store(true)
		p = open(t, unread, protocoltest.Options{TLS: host.config(t, "127.0.0.1"), Undecoded: w.to(s.Addr)})
		out := pinned(t, p, roots, settings, who)
		if _ = p.End(); strings.Contains(out, want[name]) || w.failed.Load() != 1 {
			t.Errorf("%s, not wanted: %q, %d failed", name, out, w.failed.Load())
		}
		if e := p.Journal.Events(events.Login); len(e) != 1 || e[0].Verdict != events.Blocked || e[0].Rules[0] != "tls" || e[0].Session.Undecoded {
			t.Errorf("%s: %+v", name, e)
		}
	}

	// A client that shows its certificate to the passage is remembered too.
	var w way
	w.unwanted.Store(true)
	p := open(t, unread, protocoltest.Options{TLS: host.config(t, "127.0.0.1"), Undecoded: w.to(s.Addr)})
	if out := secured(t, p, "user=billing sslmode=require"+shown, who); !strings.Contains(out, "a client certificate ends here") || w.failed.Load() != 1 {
		t.Errorf("%q, %d failed", out, w.failed.Load())
	}

	// In clear it is read as any other.
	w.unwanted.Store(false)
	p = open(t, unread, protocoltest.Options{Undecoded: w.to(s.Addr)})
	if out := secured(t, p, "user=agent sslmode=disable", "SELECT 'clear'"); out != "clear\n" || w.dialled.Load() != 0 {
		t.Errorf("%q", out)
	}
	if e := p.settled().Events(events.Statement); len(e) != 1 || e[0].Session.Undecoded || e[0].Normalized != "SELECT ?" {
		t.Errorf("%+v", e)
	}
}

// Where anything could be decided about what it says, a session is never unread.
func TestUndecodedIsNeverSilent(t *testing.T) {
	s, roots, shown := mutualServer(t)
	host := newAuthority(t)
	const all = `commands: ["*", function_call, replication], relations: "*"}`
	rule := func(more string) string { return unread + "  - " + more + "\n" }
	for name, c := range map[string]struct {
		policy string
		o      protocoltest.Options
	}{
		"not named":              {policy: strings.Replace(unread, ", undecoded", "", 1)},
		"named for another":      {policy: strings.Replace(unread, "workload: agent", "workload: other", 1) + `  - {name: all, effect: allow, identity: "*", resource: "*", ` + all + "\n"},
		"a mask":                 {policy: rule(`{name: m, effect: mask, identity: "*", resource: "*", fields: {public.t.a: "null"}}`)},
		"a mask of another user": {policy: rule(`{name: m, effect: mask, identity: "*", resource: "*", condition: session.user == "billing", fields: {public.t.a: "null"}}`)},
		"a mask elsewhere":       {policy: rule(`{name: m, effect: mask, identity: "*", resource: {database: other}, fields: {public.t.a: "null"}}`)},
		"a mask at night":        {policy: rule(`{name: m, effect: mask, identity: "*", resource: "*", condition: "now.getHours() > 24", fields: {public.t.a: "null"}}`)},
		"a mask but for one":     {policy: rule(`{name: m, effect: mask, identity: "*", resource: "*", except: {condition: 'session.user == ""'}, fields: {public.t.a: "null"}}`)},
		"a block":                {policy: rule(`{name: b, effect: block, identity: "*", resource: "*", commands: truncate}`)},
		"a block of a user":      {policy: rule(`{name: b, effect: block, identity: "*", resource: "*", condition: session.user != ""}`)},
		"many people":            {policy: unread, o: protocoltest.Options{Identity: func(_ int, id *intercept.Identity) { id.SpeaksFor = true }}},
		"an account":             {policy: unread, o: protocoltest.Options{Account: &protocols.Account{User: "billing"}}},
		"a token in band": {policy: unread, o: protocoltest.Options{Present: func(context.Context, []byte) (intercept.Identity, *protocols.Account, error) {
			return intercept.Identity{}, nil, errors.New("no token")
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			var w way
			c.o.TLS, c.o.Undecoded = host.config(t, "127.0.0.1"), w.to(s.Addr)
			p := open(t, c.policy, c.o)
			out := pinned(t, p, roots, "user=billing"+shown, "SELECT 'in'")
			if strings.Contains(out, "in\n") || w.dialled.Load() != 0 {
				t.Errorf("%q, dialled %d times", out, w.dialled.Load())
			}
			_ = p.End()
			if e := p.Journal.Events(events.Login); len(e) != 1 || e[0].Verdict != events.Blocked || e[0].Rules[0] != "tls" {
				t.Errorf("%+v", e)
			}
		})
	}
}

// That it might have gone unread takes no mask away from who is read: what holds is
// asked anew once the client has named its user.
func TestUndecodedIsAskedAnew(t *testing.T) {
	var w way
	p := open(t, unread+`  - {name: m, effect: mask, identity: "*", resource: "*", condition: session.user == "agent", fields: {clinic.patients.ssn: {mask: partial, last: 4}}}`+"\n",
		protocoltest.Options{Undecoded: w.to(server.Addr)})
	if out := secured(t, p, "user=agent sslmode=disable", "SELECT ssn FROM clinic.patients WHERE id = 1"); out != "***-**-0001\n" {
		t.Error(out)
	}
}

// unreadConn connects as "scram", unread.
func unreadConn(t testing.TB, p *proxy, roots string) *pgconn.PgConn {
	t.Helper()
	host, port, _ := net.SplitHostPort(p.Addr)
	cfg, err := pgconn.ParseConfig(fmt.Sprintf("host=db port=%s user=scram password='correct horse' dbname=postgres sslmode=verify-full sslrootcert=%s", port, roots))
	if err != nil {
		t.Fatal(err)
	}
	cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{host}, nil }
	c, err := pgconn.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// What no longer may be unread ends before another byte goes on, at rest too; and
// says so on the record.
func TestUndecodedEnds(t *testing.T) {
	s, roots, _ := mutualServer(t)
	masked := unread + `  - {name: m, effect: mask, identity: "*", resource: "*", fields: {public.t.a: "null"}}` + "\n"
	for name, c := range map[string]struct {
		end    func(p *proxy, w *way)
		lives  time.Duration // of the identity
		rule   string
		status string
	}{
		"a mask":                {end: func(p *proxy, _ *way) { p.Gate.SetEngine(engine(t, masked)) }, rule: "changed", status: "error"},
		"no rule":               {end: func(p *proxy, _ *way) { p.Gate.SetEngine(engine(t, allowAll)) }, rule: "changed", status: "error"},
		"the resource":          {end: func(_ *proxy, w *way) { w.over.Store(true) }, rule: "changed", status: "error"},
		"an expired token":      {end: func(*proxy, *way) { time.Sleep(2 * time.Second) }, lives: 2 * time.Second, rule: "identity", status: "error"},
		"the passage's own end": {end: func(p *proxy, _ *way) { p.Drain() }, status: "ok"},
	} {
		for _, busy := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, busy %v", name, busy), func(t *testing.T) {
				t.Parallel()
				var w way
				o := protocoltest.Options{Undecoded: w.to(s.Addr)}
				if c.lives > 0 {
					o.Identity = func(_ int, id *intercept.Identity) { id.Expires = time.Now().Add(c.lives) }
				}
				p := open(t, unread, o)
				conn := unreadConn(t, p, roots)
				if err := conn.Exec(t.Context(), "SELECT 1").Close(); err != nil {
					t.Fatal(err)
				}
				c.end(p, &w)
				if busy && c.rule != "" {
					r := conn.ExecParams(t.Context(), "SELECT 1", nil, nil, nil, nil).Read()
					if r.Err == nil {
						t.Errorf("a statement went through: %v", r.Rows)
					}
				}
				_ = p.End()
				blocks, closes := p.Journal.Events(events.Block), p.Journal.Events(events.SessionClose)
				if len(closes) != 1 || closes[0].Status != c.status || !closes[0].Session.Undecoded {
					t.Errorf("%+v", closes)
				}
				if c.rule != "" && (len(blocks) != 1 || blocks[0].Rules[0] != c.rule || !blocks[0].Session.Undecoded) {
					t.Errorf("%+v", blocks)
				}
			})
		}
	}
}

// fullJournal is one that takes nothing more from some moment on.
type fullJournal struct {
	*protocoltest.Journal

	full atomic.Bool
}

func (j *fullJournal) Append(e *events.Event) (events.Ticket, error) {
	if j.full.Load() {
		return events.Ticket{}, events.ErrFull
	}
	return j.Journal.Append(e)
}

// A session in which something moves is told of again and again, and ends when it
// can't be.
func TestUndecodedIsToldOf(t *testing.T) {
	s, roots, _ := mutualServer(t)
	var w way
	to := w.to(s.Addr)
	to.Tell = 100 * time.Millisecond
	j := &fullJournal{Journal: protocoltest.NewJournal()}
	p := open(t, unread, protocoltest.Options{Undecoded: to, Journal: j})
	conn := unreadConn(t, p, roots)
	told := func() (n int) {
		for _, e := range j.Events(events.Lifecycle) {
			if e.Status == "undecoded" && e.Session.Undecoded && strings.Contains(e.Message, "bytes from the client and") {
				n++
			}
		}
		return n
	}
	for range 3 {
		before := told()
		if err := conn.Exec(t.Context(), "SELECT 1").Close(); err != nil {
			t.Fatal(err)
		}
		for i := 0; told() == before; i++ {
			if i == 100 {
				t.Fatal("it is not told of")
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	time.Sleep(500 * time.Millisecond)
	n := told()
	if time.Sleep(500 * time.Millisecond); told() != n {
		t.Error("it is told of though nothing moves")
	}
	j.full.Store(true)
	for range 3000 {
		if err := conn.Exec(t.Context(), "SELECT 1").Close(); err != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := p.End(); !errors.Is(err, policy.ErrUnrecorded) {
		t.Error(err)
	}
}

// An expired token that is renewed does not end it.
func TestUndecodedIsRenewed(t *testing.T) {
	s, roots, _ := mutualServer(t)
	var w way
	var id intercept.Identity
	p := open(t, unread, protocoltest.Options{
		Undecoded: w.to(s.Addr),
		Identity: func(_ int, i *intercept.Identity) {
			i.Expires = time.Now().Add(time.Second)
			id = *i
		},
		Renew: func(context.Context) (intercept.Identity, error) {
			again := id
			again.Expires = time.Now().Add(time.Hour)
			return again, nil
		},
	})
	conn := unreadConn(t, p, roots)
	time.Sleep(1200 * time.Millisecond)
	if err := conn.Exec(t.Context(), "SELECT 1").Close(); err != nil {
		t.Error(err)
	}
	conn.Close(t.Context())
	if err := p.End(); err != nil {
		t.Error(err)
	}
}

// hidden is what a client needs to ask for another name in secret, and for "db.test"
// in the open.
func hidden(t *testing.T) []byte {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := append([]byte{1, 0, 0x20, 0, 32}, k.PublicKey().Bytes()...)      // an id, X25519
	c = append(append(c, 0, 4, 0, 1, 0, 1, 32, 7), "db.test\x00\x00"...)  // HKDF-SHA256, AES-128-GCM; the name in the open
	c = append([]byte{0xfe, 0x0d, byte(len(c) >> 8), byte(len(c))}, c...) // one
	return append([]byte{byte(len(c) >> 8), byte(len(c))}, c...)
}

// Only TLS goes unread: nothing in clear, stuffed behind the request or in the
// place of a handshake, reaches a server, nor does a direct handshake that does not
// name the protocol; and a server that offers none gets nothing.
func TestUndecodedIsTLS(t *testing.T) {
	clear := append(startup(3<<16, "user", "agent", "database", "postgres"), enc(q("SELECT 'stuffed'"))...)
	for name, say := range map[string]func(c net.Conn){
		"stuffed": func(c net.Conn) { _, _ = c.Write(append(append([]byte(nil), sslRequest...), clear...)) },
		"in clear": func(c net.Conn) {
			_, _ = c.Write(sslRequest)
			_, _ = io.ReadFull(c, make([]byte, 1))
			_, _ = c.Write(clear)
		},
		"no handshake": func(c net.Conn) { _, _ = c.Write(append([]byte{0x16, 3, 1, 0, 4, 1, 0, 0, 0}, clear...)) },
		"another's": func(c net.Conn) {
			_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).Handshake()
		}, //nolint:gosec // it gets nowhere
		"nothing named": func(c net.Conn) { _ = tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake() }, //nolint:gosec // it gets nowhere
		"another name": func(c net.Conn) {
			_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: "payroll", NextProtos: []string{"postgresql"}}).Handshake() //nolint:gosec // it gets nowhere
		},
		"a hidden name": func(c net.Conn) {
			_ = tls.Client(c, &tls.Config{ServerName: "payroll", NextProtos: []string{"postgresql"}, EncryptedClientHelloConfigList: hidden(t)}).Handshake()
		},
		"twice": func(c net.Conn) {
			_, _ = c.Write(sslRequest)
			_, _ = io.ReadFull(c, make([]byte, 1))
			_, _ = c.Write(sslRequest)
		},
	} {
		var w way
		p := open(t, unread, protocoltest.Options{Undecoded: w.to(server.Addr)})
		c := p.Dial()
		say(c)
		_ = c.(*net.TCPConn).CloseWrite()
		if out, _ := io.ReadAll(c); strings.Contains(string(out), "stuffed") || w.dialled.Load() != 0 {
			t.Errorf("%s: %q, dialled %d times", name, out, w.dialled.Load())
		}
	}

	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	got := make(chan []byte, 1)
	go func() {
		c, err := plain.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.ReadFull(c, make([]byte, len(sslRequest)))
		_, _ = c.Write([]byte{'N'})
		b, _ := io.ReadAll(c)
		got <- b
	}()
	var w way
	p := open(t, unread, protocoltest.Options{Undecoded: w.to(plain.Addr().(*net.TCPAddr).AddrPort())})
	if out := secured(t, p, "user=agent sslmode=require", "SELECT 1"); !strings.Contains(out, "alert") {
		t.Error(out)
	}
	if err := p.End(); !errors.Is(err, protocols.ErrUntrusted) {
		t.Error(err)
	}
	if b := <-got; len(b) != 0 {
		t.Errorf("the server got %q", b)
	}
}

// Direct TLS goes to the server as it came.
func TestUndecodedDirect(t *testing.T) {
	a := newAuthority(t)
	cfg := a.config(t, "db")
	cfg.NextProtos = []string{"postgresql"}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	var w way
	p := open(t, unread, protocoltest.Options{Undecoded: w.to(ln.Addr().(*net.TCPAddr).AddrPort())})
	c := tls.Client(p.Dial(), &tls.Config{RootCAs: a.pool(), ServerName: "db", NextProtos: []string{"postgresql"}})
	large := strings.Repeat("x", 1<<20)
	go func() { _, _ = io.WriteString(c, large); _ = c.CloseWrite() }()
	if b, err := io.ReadAll(c); string(b) != large || err != nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	c.Close()
	if err := p.End(); err != nil {
		t.Error(err)
	}
	if e := p.Journal.Events(events.SessionClose); len(e) != 1 || e[0].BytesIn < 1<<20 || e[0].Bytes < 1<<20 {
		t.Errorf("%+v", e)
	}
}
