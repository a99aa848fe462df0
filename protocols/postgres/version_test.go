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

// A server of protocol 3.2 (PostgreSQL 18, which is not to be had here) gives
// cancel keys that are longer: they work, whole.
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
	case <-time.After(10 * time.Second):
		t.Error("the server got no cancel request")
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
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	m := pgproto3.StartupMessage{ProtocolVersion: version, Parameters: map[string]string{"user": "agent", "database": "postgres"}}
	b, _ := m.Encode(nil)
	if _, err := c.Write(b); err != nil {
		p.t.Fatal(err)
	}
	r := &raw{t: p.t, Conn: c}
	return c, r.until(end, 1)
}
