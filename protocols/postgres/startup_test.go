package postgres_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// startup is a StartupMessage of a version, with strings as they are.
func startup(version uint32, strs ...string) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 4), version)
	for _, s := range strs {
		b = append(append(b, s...), 0)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

func lie(b []byte, length uint32) []byte {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint32(b, length)
	return b
}

var (
	sslRequest = []byte{0, 0, 0, 8, 4, 210, 22, 47}
	gssRequest = []byte{0, 0, 0, 8, 4, 210, 22, 48}
)

// counted dials the server and counts.
func counted(n *atomic.Int32) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		n.Add(1)
		return dialServer(ctx)
	}
}

// A greeting that is none ends the connection; the server never hears of it.
func TestGreetingsThatAreNone(t *testing.T) {
	var dials atomic.Int32
	p := open(t, maskPolicy, protocoltest.Options{Dial: counted(&dials)})
	good := startup(3<<16, "user", "agent", "database", "postgres")
	for name, b := range map[string][]byte{
		"no length": {0, 0, 0, 0, 0, 3, 0, 0}, "too short": lie(good, 7), "shorter than it is": lie(good, uint32(len(good)-3)), "only a head": lie(good, 8),
		"negative": lie(good, 0xffffffff), "too long": append(lie(good, 10001), make([]byte, 10000)...),
		"not terminated": good[:0:0], "version 2": startup(2<<16, "user", "agent"), "version 4": startup(4<<16, "user", "agent"),
		"a name without a value": startup(3<<16, "user"), "twice": startup(3<<16, "user", "agent", "user", "postgres"),
		"bytes behind the end": lie(append(bytes.Clone(good), "user\x00postgres\x00\x00"...), uint32(len(good)+15)),
		"SSL twice":            append(append(bytes.Clone(sslRequest), sslRequest...), good...), "GSS twice": append(append(bytes.Clone(gssRequest), gssRequest...), good...),
		"SSL with a body": append(lie(sslRequest, 12), 0, 0, 0, 0), "TLS": []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), "HTTP": []byte("GET / HTTP/1.1\r\n\r\n"),
		"a cancel that is too long": append(lie([]byte{0, 0, 0, 0, 4, 210, 22, 46, 0, 0, 0, 1}, 8+4+257), make([]byte, 257)...),
	} {
		if name == "not terminated" {
			b = lie(good, uint32(len(good)-1))[:len(good)-1]
		}
		c := p.Dial()
		_, _ = c.Write(b)
		out, _ := io.ReadAll(c)
		if got := bytes.TrimLeft(out, "N"); len(got) > 0 {
			t.Errorf("%s: the client gets %q", name, out)
		}
		if err := p.End(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if n := dials.Load(); n > 0 {
		t.Errorf("the server was dialled %d times", n)
	}
	if ev := p.Journal.All(); len(ev) > 0 {
		t.Errorf("recorded: %+v", ev)
	}
	// A length that promises more than comes waits, and no longer than others
	// would: the client leaves.
	c := p.Dial()
	_, _ = c.Write(lie(good, 9999))
	_ = c.(*net.TCPConn).CloseWrite()
	if out, _ := io.ReadAll(c); len(out) > 0 {
		t.Errorf("%q", out)
	}
	_ = p.End()
}

// Encryption is answered N, each kind once. What is stuffed behind the request
// is nothing but what follows it: there is no encryption that it could be taken
// for.
func TestEncryptionRequests(t *testing.T) {
	p := start(t, allowAll)
	good := startup(3<<16, "user", "agent", "database", "postgres")
	for _, asks := range [][][]byte{{sslRequest}, {gssRequest}, {gssRequest, sslRequest}, {sslRequest, gssRequest}} {
		for _, stuffed := range []bool{false, true} {
			c := p.Dial()
			if stuffed {
				_, _ = c.Write(append(append(bytes.Join(asks, nil), good...), enc(q("SELECT 'in'"))...))
			}
			for _, ask := range asks {
				if !stuffed {
					_, _ = c.Write(ask)
				}
				if n := make([]byte, 1); true {
					if _, err := io.ReadFull(c, n); err != nil || n[0] != 'N' {
						t.Fatalf("%q, %v", n, err)
					}
				}
			}
			if !stuffed {
				_, _ = c.Write(append(bytes.Clone(good), enc(q("SELECT 'in'"))...))
			}
			if out := (&raw{t: t, Conn: c}).until('Z', 2); !strings.Contains(out, "in\n") {
				t.Error(out)
			}
		}
	}
	out := psql(t, p, "-At", "-c", "SELECT 'psql'")
	if out != "psql\n" {
		t.Error(out)
	}
}

// What a client may ask for at the start, and what is refused and recorded.
func TestStartupParameters(t *testing.T) {
	for _, c := range []struct {
		params []string
		want   string // SQLSTATE of the refusal when analysed, "" when let in
		relay  string // ... when relayed: the server's own
	}{
		{params: []string{"options", "-c statement_timeout=5s -c TimeZone=UTC"}},
		{params: []string{"options", "--statement-timeout=5s"}},
		{params: []string{"options", `-c application_name=a\ b`}},
		{params: []string{"DateStyle", "ISO", "extra_float_digits", "3", "client_encoding", "UTF8"}},
		{params: []string{"options", "-c search_path=evil"}, want: "0A000"},
		{params: []string{"options", "-csearch_path=evil"}, want: "0A000"},
		{params: []string{"options", "-c role=postgres"}, want: "0A000"},
		{params: []string{"options", "-c Search_Path=evil"}, want: "0A000"},
		{params: []string{"search_path", "evil"}, want: "0A000"},
		{params: []string{"SEARCH_PATH", "evil"}, want: "0A000"},
		{params: []string{"standard_conforming_strings", "off"}, want: "0A000"},
		{params: []string{"options", "-c standard_conforming_strings=off"}, want: "0A000"},
		{params: []string{"options", "--standard-conforming-strings=off"}, want: "0A000"},
		{params: []string{"client_encoding", "LATIN1"}, want: "0A000"},
		{params: []string{"session_preload_libraries", "x"}, want: "0A000", relay: "58P01"},
		{params: []string{"options", "-d 5"}, want: "0A000"},
		{params: []string{"options", "-c"}, want: "0A000", relay: "42601"},
		{params: []string{"options", "-c novalue"}, want: "0A000", relay: "42601"},
		{params: []string{"_pq_.x", "y"}, want: "0A000"},
		{params: []string{"replication", "database"}, want: "0A000", relay: "0A000"},
		{params: []string{"replication", "true"}, want: "0A000", relay: "0A000"},
		{params: []string{"replication", "off"}},
	} {
		for _, pol := range []struct{ text, want string }{{maskPolicy, c.want}, {allowAll, c.relay}} {
			var dials atomic.Int32
			p := open(t, pol.text, protocoltest.Options{Dial: counted(&dials)})
			r := &raw{t: t, Conn: p.Dial()}
			r.send(append(startup(3<<16, append([]string{"user", "agent", "database", "postgres"}, c.params...)...), enc(q("SELECT 'in'"))...))
			out := r.until('Z', 2)
			ours := strings.Contains(out, "sallyport")
			ev := p.Journal.Events(events.Login, events.Block)
			switch {
			case pol.want == "" && !strings.Contains(out, "in\n"):
				t.Errorf("%q: %s", c.params, out)
			case pol.want != "" && (!strings.Contains(out, "E SFATAL") || !strings.Contains(out, "|C"+pol.want)):
				t.Errorf("%q: %s", c.params, out)
			case ours && dials.Load() > 0:
				t.Errorf("%q: the server was dialled", c.params)
			case len(ev) != 1 || ev[0].Verdict.Runs() == ours || ev[0].Number != 0 || ours && ev[0].Reason == "":
				t.Errorf("%q: recorded: %+v", c.params, ev)
			case pol.want != "" && pol.text == maskPolicy && !ours:
				t.Errorf("%q is the server's to refuse: %s", c.params, out)
			}
			r.Close()
		}
	}
}

// The server's log and views show the session; the client gets its own name
// back.
func TestApplicationName(t *testing.T) {
	p := start(t, maskPolicy)
	for _, params := range [][]string{
		{"application_name", "mine"},
		{"Application_Name", "mine"},
		{"APPLICATION_NAME", "other", "application_name", "mine"},
		{"application_name", "other", "APPLICATION_NAME", "mine"},
		{"options", "-c application_name=other", "application_name", "mine"},
	} {
		r := &raw{t: t, Conn: p.Dial()}
		r.send(startup(3<<16, append([]string{"user", "agent", "database", "postgres"}, params...)...))
		if out := r.until('Z', 1); !strings.Contains(out, "S application_name|mine|") || strings.Contains(out, "sallyport") {
			t.Errorf("%q: %s", params, out)
		}
		e := p.Journal.Events(events.Login)
		id := e[len(e)-1].Session
		if id.Application != "mine" || id.User != "agent" || id.Database != "postgres" {
			t.Errorf("%q: recorded %+v", params, id)
		}
		d := dial(t, server.Addr.String())
		if out := d.ask(1, q("SELECT application_name FROM pg_stat_activity WHERE application_name LIKE '%"+id.ID+"%'")); !strings.Contains(out, "sallyport:"+id.ID+" mine") {
			t.Errorf("%q: the server shows %s", params, out)
		}
		d.Close()
		// Set again, it is the client's.
		if out := r.ask(1, q("SET application_name = 'later'")); !strings.Contains(out, "S application_name|later|") {
			t.Error(out)
		}
		r.Close()
	}
	long := strings.Repeat("ü", 50)
	r := p.raw("application_name", long)
	if out := r.ask(1, q("SELECT 1")); !strings.Contains(out, "C SELECT 1") {
		t.Error(out)
	}
}

// Passwords pass through: SCRAM, MD5, in clear, right and wrong.
func TestAuthentication(t *testing.T) {
	if err := server.Exec(t.Context(), `SET password_encryption = 'scram-sha-256'; CREATE ROLE scram SUPERUSER LOGIN PASSWORD 'geheim';
		SET password_encryption = 'md5'; CREATE ROLE md5 SUPERUSER LOGIN PASSWORD 'geheim'; CREATE ROLE clear SUPERUSER LOGIN PASSWORD 'geheim'`); err != nil {
		t.Fatal(err)
	}
	done, err := server.Authenticate("host all scram 127.0.0.1/32 scram-sha-256\nhost all md5 127.0.0.1/32 md5\nhost all clear 127.0.0.1/32 password\n")
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	p := start(t, maskPolicy)
	for _, role := range []string{"scram", "md5", "clear"} {
		for pass, want := range map[string]string{"geheim": "1\n", "falsch": "password authentication failed"} {
			cmd := exec.Command("psql", strings.Replace(p.dsn(""), "user=agent", "user="+role, 1), "-XAt", "-c", "SELECT 1")
			cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "PGPASSWORD=" + pass}
			if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), want) {
				t.Errorf("%s, %s: %s", role, pass, out)
			}
		}
	}
	for _, c := range p.Journal.Chunks() {
		if bytes.Contains(c.Data, []byte("geheim")) || bytes.Contains(c.Data, []byte("falsch")) {
			t.Errorf("a password is recorded: %q", c.Data)
		}
	}
	if n := len(p.Journal.Events(events.SessionClose)); n < 3 {
		time.Sleep(100 * time.Millisecond)
	}
	for _, e := range p.Journal.Events(events.SessionClose) {
		if e.Status == "" {
			t.Errorf("%+v", e)
		}
	}
}
