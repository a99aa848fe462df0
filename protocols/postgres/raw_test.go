package postgres_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/events"
)

// raw is a client that speaks the protocol by hand.
type raw struct {
	t testing.TB
	net.Conn
	key []byte // BackendKeyData's body
}

// dial connects and logs in. address is the server's own or the proxy's.
func dial(t testing.TB, address string, params ...string) *raw {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	r := &raw{t: t, Conn: c}
	m := pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber, Parameters: map[string]string{"user": "agent", "database": "postgres"}}
	for i := 0; i+1 < len(params); i += 2 {
		m.Parameters[params[i]] = params[i+1]
	}
	b, _ := m.Encode(nil)
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	for {
		typ, body := r.next()
		switch typ {
		case 'K':
			r.key = body
		case 'E':
			t.Fatalf("login: %s", printable(body))
		case 'Z':
			return r
		}
	}
}

func (p *proxy) raw(params ...string) *raw { return dial(p.t, p.Addr, params...) }

// next reads a message; type 0 is the end of the stream.
func (r *raw) next() (byte, []byte) {
	r.t.Helper()
	var h [5]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "reset") {
			return 0, nil
		}
		r.t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(h[1:])-4)
	if _, err := io.ReadFull(r, b); err != nil {
		r.t.Fatal(err)
	}
	return h[0], b
}

// until reads up to n messages of type end, and returns all as text, one a
// line.
func (r *raw) until(end byte, n int) string {
	r.t.Helper()
	var b strings.Builder
	for n > 0 {
		typ, body := r.next()
		if typ == 0 {
			b.WriteString("EOF\n")
			break
		}
		fmt.Fprintf(&b, "%c %s\n", typ, printable(body))
		if typ == end {
			n--
		}
	}
	return b.String()
}

func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r == 0 {
			return '|'
		}
		return r
	}, string(b))
}

func (r *raw) send(b []byte) {
	r.t.Helper()
	_ = r.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := r.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

func enc(ms ...pgproto3.FrontendMessage) []byte {
	var b []byte
	for _, m := range ms {
		b, _ = m.Encode(b)
	}
	return b
}

func q(s string) *pgproto3.Query { return &pgproto3.Query{String: s} }

func parse(name, sql string) *pgproto3.Parse { return &pgproto3.Parse{Name: name, Query: sql} }

func bind(portal, name string, values ...string) *pgproto3.Bind {
	b := &pgproto3.Bind{DestinationPortal: portal, PreparedStatement: name}
	for _, v := range values {
		b.Parameters = append(b.Parameters, []byte(v))
	}
	return b
}

func execute(portal string) *pgproto3.Execute { return &pgproto3.Execute{Portal: portal} }

func describe(kind byte, name string) *pgproto3.Describe {
	return &pgproto3.Describe{ObjectType: kind, Name: name}
}

func closing(kind byte, name string) *pgproto3.Close {
	return &pgproto3.Close{ObjectType: kind, Name: name}
}

func data(s string) *pgproto3.CopyData { return &pgproto3.CopyData{Data: []byte(s)} }

var (
	sync_    = &pgproto3.Sync{}
	flush    = &pgproto3.Flush{}
	copyDone = &pgproto3.CopyDone{}
)

type (
	message   = pgproto3.FrontendMessage
	pgExecute = pgproto3.Execute
)

// conversations are what a client sends, with how many ReadyForQuery it gets.
var conversations = []struct {
	name string
	send [][]byte
	z    []int
}{
	{"select", [][]byte{enc(q("SELECT 1 AS a, 'x' AS b, NULL::int"))}, []int{1}},
	{"several in one query", [][]byte{enc(q("SELECT 1; SELECT 2; BEGIN; SELECT 1/0; SELECT 3")), enc(q("SELECT 4")), enc(q("ROLLBACK"))}, []int{1, 1, 1}},
	{"empty", [][]byte{enc(q("")), enc(q(" ; -- nothing\n"))}, []int{1, 1}},
	{"syntax error", [][]byte{enc(q("SELEC 1"))}, []int{1}},
	{"notice", [][]byte{enc(q("DROP TABLE IF EXISTS nowhere_to_be_seen"))}, []int{1}},
	{"copy out", [][]byte{enc(q("COPY (SELECT generate_series(1, 5)) TO STDOUT"))}, []int{1}},
	{"copy in", [][]byte{
		enc(q("TRUNCATE t")),
		enc(q("COPY t FROM STDIN"), &pgproto3.CopyData{Data: []byte("1\tx\n2\ty\n")}, &pgproto3.CopyDone{}),
		enc(q("SELECT * FROM t ORDER BY a")),
		enc(q("COPY t FROM STDIN"), &pgproto3.CopyData{Data: []byte("bad\n")}, &pgproto3.CopyDone{}),
		enc(q("COPY t FROM STDIN"), &pgproto3.CopyFail{Message: "no more"}),
		enc(q("SELECT count(*) FROM t")),
	}, []int{1, 1, 1, 1, 1, 1}},
	{"copy in, twice in one query", [][]byte{
		enc(q("TRUNCATE t2")),
		enc(q("COPY t2 FROM STDIN; COPY t2 FROM STDIN; SELECT count(*) FROM t2"),
			&pgproto3.CopyData{Data: []byte("1\n")}, &pgproto3.CopyDone{}, &pgproto3.CopyData{Data: []byte("2\n")}, &pgproto3.CopyDone{}),
	}, []int{1, 1}},
	{"copy in, extended, as libpq does it", [][]byte{
		enc(q("TRUNCATE t3")),
		enc(&pgproto3.Parse{Query: "COPY t3 FROM STDIN"}, &pgproto3.Bind{}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{},
			&pgproto3.CopyData{Data: []byte("1\n2\n")}, &pgproto3.CopyDone{}, &pgproto3.Sync{}),
		enc(&pgproto3.Parse{Query: "COPY t3 FROM STDIN"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{},
			&pgproto3.CopyData{Data: []byte("bad\n")}, &pgproto3.CopyDone{}, &pgproto3.Sync{}),
		enc(q("SELECT count(*) FROM t3")),
	}, []int{1, 1, 1, 1}},
	{"extended", [][]byte{enc(
		&pgproto3.Parse{Name: "s1", Query: "SELECT $1::int + 1, $2::text", ParameterOIDs: []uint32{23, 25}},
		&pgproto3.Describe{ObjectType: 'S', Name: "s1"},
		&pgproto3.Bind{PreparedStatement: "s1", Parameters: [][]byte{[]byte("41"), nil}},
		&pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Close{ObjectType: 'S', Name: "s1"}, &pgproto3.Sync{})}, []int{1}},
	{"binary", [][]byte{enc(
		&pgproto3.Parse{Query: "SELECT $1, 1.5::numeric, now() - now(), '{1,2}'::int[]", ParameterOIDs: []uint32{23}},
		&pgproto3.Bind{ParameterFormatCodes: []int16{1}, Parameters: [][]byte{{0, 0, 0, 7}}, ResultFormatCodes: []int16{1}},
		&pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{})}, []int{1}},
	{"portals in pieces", [][]byte{enc(
		q("BEGIN"),
		&pgproto3.Parse{Query: "SELECT generate_series(1, 5)"}, &pgproto3.Bind{DestinationPortal: "p"},
		&pgproto3.Execute{Portal: "p", MaxRows: 2}, &pgproto3.Execute{Portal: "p", MaxRows: 2}, &pgproto3.Execute{Portal: "p"}, &pgproto3.Sync{},
		q("FETCH 1 FROM p"), q("COMMIT"))}, []int{4}},
	{"an error skips to Sync", [][]byte{enc(
		&pgproto3.Parse{Query: "SELECT 1/0"}, &pgproto3.Bind{}, &pgproto3.Execute{},
		&pgproto3.Parse{Query: "SELECT 2"}, &pgproto3.Bind{}, &pgproto3.Execute{}, q("SELECT 3"), &pgproto3.Sync{}, q("SELECT 4"))}, []int{2}},
	{"a pipeline of batches", [][]byte{enc(
		&pgproto3.Parse{Query: "SELECT 1"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{},
		&pgproto3.Parse{Query: "SELECT 1/0"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{},
		&pgproto3.Parse{Query: "SELECT 3"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})}, []int{3}},
	{"names that do not exist", [][]byte{
		enc(&pgproto3.Bind{PreparedStatement: "nope"}, &pgproto3.Execute{}, &pgproto3.Sync{}),
		enc(&pgproto3.Execute{Portal: "nope"}, &pgproto3.Sync{}),
		enc(&pgproto3.Describe{ObjectType: 'S', Name: "nope"}, &pgproto3.Sync{}),
		enc(&pgproto3.Close{ObjectType: 'P', Name: "nope"}, &pgproto3.Sync{}),
	}, []int{1, 1, 1, 1}},
	{"SQL's names", [][]byte{
		enc(q("PREPARE s AS SELECT 7")), enc(q("EXECUTE s")), enc(q("DEALLOCATE s")),
		enc(q("BEGIN; DECLARE c CURSOR FOR SELECT generate_series(1, 3)")), enc(q("FETCH 2 FROM c")), enc(q("CLOSE c; COMMIT")),
	}, []int{1, 1, 1, 1, 1, 1}},
	{"parameters", [][]byte{enc(q("SET TimeZone = 'UTC'")), enc(q("SET application_name = 'other'")), enc(q("SHOW TimeZone"))}, []int{1, 1, 1}},
	{"rows that do not fit into a buffer", [][]byte{enc(q("SELECT repeat('x', 300000), repeat('y', 10) FROM generate_series(1, 4)"))}, []int{1}},
	{"many rows", [][]byte{enc(q("SELECT g, repeat('z', g % 50) FROM generate_series(1, 20000) g"))}, []int{1}},
}

// TestIndistinguishable holds what a client gets under allow-all, and under
// rules that this conversation does not touch, against what the server gives.
func TestIndistinguishable(t *testing.T) {
	for _, pol := range []struct{ name, text string }{{"relayed", allowAll}, {"analysed", strings.Replace(maskPolicy, "[read, session, write]", "[read, session, write, ddl]", 1)}} {
		p := start(t, pol.text)
		for _, bytewise := range []bool{false, true} {
			for _, conv := range conversations {
				t.Run(fmt.Sprintf("%s/%s/%v", pol.name, conv.name, bytewise), func(t *testing.T) {
					run := func(r *raw, slow bool) string {
						var out strings.Builder
						for i, b := range conv.send {
							if slow {
								for k := range b {
									r.send(b[k : k+1])
								}
							} else {
								r.send(b)
							}
							out.WriteString(r.until('Z', conv.z[i]))
						}
						return out.String()
					}
					want := run(dial(t, server.Addr.String()), false)
					got := run(p.raw(), bytewise)
					if pol.name == "analysed" && (strings.HasPrefix(conv.name, "names") || conv.name == "syntax error") {
						// Said in the server's name: without its source lines, and only the
						// grammar tells where in the text.
						want = ownPlaces.ReplaceAllString(want, "")
						if conv.name != "syntax error" {
							want = positions.ReplaceAllString(want, "")
						}
					}
					if got != want {
						t.Errorf("got\n%s\nwant\n%s", clip(got), clip(want))
					}
				})
			}
		}
	}
}

var (
	ownPlaces = regexp.MustCompile(`\|F[a-z.]+\|L\d+\|R\w+`)
	positions = regexp.MustCompile(`\|P\d+`)
)

func clip(s string) string { return s[:min(len(s), 3000)] }

// TestEveryStatementHasOneOutcome holds the record of all conversations: each
// statement that was sent has exactly one response, in order.
func TestEveryStatementHasOneOutcome(t *testing.T) {
	p := start(t, allowAll)
	for _, conv := range conversations {
		r := p.raw()
		for i, b := range conv.send {
			r.send(b)
			r.until('Z', conv.z[i])
		}
		r.send(enc(&pgproto3.Terminate{}))
		if err := p.End(); err != nil {
			t.Errorf("%s: %v", conv.name, err)
		}
		var open []uint64
		for _, e := range p.Journal.All() {
			switch e.Kind {
			case events.Statement:
				open = append(open, e.Number)
			case events.Response:
				if len(open) == 0 || open[0] != e.Number {
					t.Fatalf("%s: a response to %d while %v are open", conv.name, e.Number, open)
				}
				open = open[1:]
			}
		}
		if len(open) > 0 {
			t.Errorf("%s: no outcome of %v", conv.name, open)
		}
		p.Journal.Forget()
	}
}

func TestUnknownMessagesEndTheSession(t *testing.T) {
	p := start(t, allowAll)
	for typ := range 256 {
		if bytes.IndexByte([]byte("QFPBDECSHXdcf"), byte(typ)) >= 0 {
			continue
		}
		r := p.raw()
		r.send([]byte{byte(typ), 0, 0, 0, 4})
		if out := r.until('Z', 1); !strings.HasPrefix(out, "E SFATAL") || !strings.HasSuffix(out, "EOF\n") {
			t.Fatalf("type %d: %s", typ, out)
		}
		if err := p.End(); err == nil {
			t.Fatalf("type %d: the session ended as if nothing was wrong", typ)
		}
	}
}
