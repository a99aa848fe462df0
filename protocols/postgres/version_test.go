package postgres_test

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// A server of protocol 3.2 (PostgreSQL 18) gives cancel keys that are longer:
// they work, whole. TestProtocol32 has them of a real one.
func TestLongCancelKeys(t *testing.T) {
	key := "\x00\x00\x00\x01" + strings.Repeat("k", 256)
	asked := make(chan string, 1)
	p := against(t, maskPolicy, func(s net.Conn) {
		if b := startupOf(s); len(b) > 8 && binary.BigEndian.Uint32(b[4:]) == 80877102 {
			asked <- string(b[8:])
			return
		}
		_, _ = s.Write(join(admission(""), msg('K', key), postgrestest.Ready()))
		_, _ = io.Copy(io.Discard, s)
	})
	c, out := p.greet(3<<16|2, 'Z')
	defer c.Close()
	if !strings.Contains(out, "K "+printable([]byte(key))) {
		t.Fatal(out)
	}
	cancelRequest(p.Dial(), []byte(key)[:len(key)-1])
	cancelRequest(p.Dial(), []byte(key))
	select {
	case got := <-asked:
		if got != key {
			t.Errorf("%q", got)
		}
	case <-time.After(2 * time.Minute):
		t.Error("the server got no cancel request")
	}
}

// A real server, asked for protocol 3.2: 18 speaks it, and gives a long cancel
// key, with which a statement is cancelled; older ones settle on 3.0.
func TestProtocol32(t *testing.T) {
	for _, pol := range []string{maskPolicy, allowAll} {
		p := start(t, pol)
		r := &raw{t: t, Conn: p.Dial()}
		_ = r.SetDeadline(time.Now().Add(time.Minute))
		r.send(startup(3<<16|2, "user", "agent", "database", "postgres"))
		settled := false
		for typ, body := r.next(); typ != 'Z'; typ, body = r.next() {
			switch typ {
			case 'K':
				r.key = body
			case 'v':
				settled = true
			case 'E', 0:
				t.Fatalf("%s", body)
			}
		}
		if long := postgrestest.Major() >= 18; settled == long || (len(r.key) > 8) != long {
			t.Errorf("settled on less: %v, a key of %d bytes", settled, len(r.key))
		}
		r.send(enc(q("SELECT pg_sleep(60)")))
		ended := make(chan string)
		go func() { ended <- r.until('Z', 1) }()
		for again := true; again; { // it may not have begun
			cancelRequest(p.Dial(), r.key)
			select {
			case out := <-ended:
				if again = false; !strings.Contains(out, "C57014") {
					t.Error(out)
				}
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

// What client and server settle on must be understood here too.
func TestProtocolVersions(t *testing.T) {
	for _, c := range []struct {
		name  string
		asks  uint32
		tells string
		want  string
	}{
		{"3.2, and the server knows it", 3<<16 | 2, "", "Z I\n"},
		{"3.9, and the server has 3.2", 3<<16 | 9, string(msg('v', "\x00\x03\x00\x02\x00\x00\x00\x00")), "Z I\n"},
		{"3.9, and the server has 3.0", 3<<16 | 9, string(msg('v', "\x00\x00\x00\x00\x00\x00\x00\x00")), "Z I\n"},
		{"3.9, and the server knows it", 3<<16 | 9, "", "C0A000"},
		{"3.9, and the server has 3.3", 3<<16 | 9, string(msg('v', "\x00\x03\x00\x03\x00\x00\x00\x00")), "C0A000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := against(t, maskPolicy, func(s net.Conn) {
				startupOf(s)
				_, _ = s.Write(join(admission(c.tells), postgrestest.Ready()))
				_, _ = io.Copy(io.Discard, s)
			})
			conn, out := p.greet(c.asks, 'Z')
			defer conn.Close()
			if !strings.Contains(out, c.want) || c.want != "Z I\n" && strings.Contains(out, "Z I") {
				t.Error(out)
			}
		})
	}
}

// A server of a major that nobody knows: nothing is understood for it where
// something is protected, whatever the catalog's own connection was told. Without
// rules on what a statement means, it is relayed.
func TestServerMajors(t *testing.T) {
	for version, understood := range map[string]bool{
		"12.22": false, "13.1": true, "15.8 (Debian 15.8-0+deb12u1)": true, "18.4": true, "18devel": true,
		"19beta1": false, "9.6.24": false, "soon": false, "99999999999999999999.1": false,
	} {
		t.Run(version, func(t *testing.T) {
			serve := func(s net.Conn) {
				startupOf(s)
				_, _ = s.Write(join(admission(string(msg('S', "server_version\x00"+version+"\x00"))), postgrestest.Ready()))
				answer := join(msg('E', "SERROR\x00C42601\x00M\x00\x00"), postgrestest.Ready())
				if _, b, _ := postgrestest.Read(s); strings.Contains(string(b), "m0") {
					answer = join(columns(0, 0), row, complete, postgrestest.Ready())
				}
				_, _ = s.Write(answer)
				_, _ = io.Copy(io.Discard, s)
			}
			for _, pol := range []string{maskPolicy, allowAll} {
				p := against(t, pol, serve)
				r := p.raw()
				r.send(enc(q("SELECT a FROM m0")))
				out := r.until('Z', 1)
				if want := understood || pol == allowAll; strings.Contains(out, "CANARY") != want || !strings.Contains(out, "Z I") {
					t.Error(out)
				}
			}
		})
	}
}

// startupOf reads what a client begins with.
func startupOf(s net.Conn) []byte {
	var h [4]byte
	if _, err := io.ReadFull(s, h[:]); err != nil {
		return nil
	}
	b := make([]byte, binary.BigEndian.Uint32(h[:]))
	copy(b, h[:])
	if _, err := io.ReadFull(s, b[4:]); err != nil {
		return nil
	}
	return b
}

func admission(first string) []byte {
	return join([]byte(first), msg('R', "\x00\x00\x00\x00"), msg('S', "client_encoding\x00UTF8\x00"),
		msg('S', "server_encoding\x00UTF8\x00"), msg('S', "standard_conforming_strings\x00on\x00"))
}

// greet begins a session of a version, and returns what is said up to a message
// of type end, or to the end.
func (p *proxy) greet(version uint32, end byte) (net.Conn, string) {
	p.t.Helper()
	c := p.Dial()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	m := pgproto3.StartupMessage{ProtocolVersion: version, Parameters: map[string]string{"user": "agent", "database": "postgres"}}
	b, _ := m.Encode(nil)
	if _, err := c.Write(b); err != nil {
		p.t.Fatal(err)
	}
	r := &raw{t: p.t, Conn: c}
	return c, r.until(end, 1)
}
