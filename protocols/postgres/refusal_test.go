package postgres_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/events"
)

// skeleton is what was answered, without the words: types, SQLSTATEs,
// transaction states.
func skeleton(out string) string {
	var b strings.Builder
	for l := range strings.Lines(out) {
		switch typ := l[0]; {
		case typ == 'Z':
			b.WriteString(l[:3])
		case typ == 'E' && strings.Contains(l, "C25P02"):
			b.WriteString("E:25P02")
		default:
			b.WriteByte(typ)
		}
		b.WriteByte(' ')
	}
	return strings.TrimSpace(b.String())
}

// A refusal is to order, pipelines and transactions what a syntax error is to
// the server: each script is held against the server's own answers to one that
// has an error in the same place.
func TestRefusalIsAnError(t *testing.T) {
	const no = "DELETE FROM clinic.patients"
	p := start(t, maskPolicy)
	for _, c := range []struct {
		name  string
		ready int
		say   func(bad string) []message
	}{
		{"simple", 2, func(bad string) []message { return []message{q(bad), q("SELECT 1")} }},
		{"one of several in a text", 2, func(bad string) []message { return []message{q("SELECT 1; " + bad + "; SELECT 2"), q("SELECT 3")} }},
		{"in a transaction", 5, func(bad string) []message {
			return []message{q("BEGIN"), q("SELECT 1"), q(bad), q("SELECT 2"), q("ROLLBACK")}
		}},
		{"behind a savepoint", 6, func(bad string) []message {
			return []message{q("BEGIN"), q("SAVEPOINT a"), q(bad), q("ROLLBACK TO a"), q("SELECT 2"), q("COMMIT")}
		}},
		{"extended", 2, func(bad string) []message { return append(extended(bad), extended("SELECT 1")...) }},
		{"in the middle of a batch", 2, func(bad string) []message {
			return []message{parse("", "SELECT 1"), bind("", ""), execute(""), parse("", bad), bind("", ""), execute(""), q("SELECT 2"), parse("", "SELECT 3"), sync_, q("SELECT 4")}
		}},
		{"batches behind it", 4, func(bad string) []message {
			return append(append(append(extended("SELECT 1"), extended(bad)...), extended("SELECT 2")...), extended("SELECT 3")...)
		}},
		{"a batch in a transaction", 5, func(bad string) []message {
			return append(append(append([]message{q("BEGIN")}, extended("SELECT 1")...), extended(bad)...), append(extended("SELECT 2"), q("ROLLBACK"))...)
		}},
		{"Flush shows it at once", 1, func(bad string) []message {
			return []message{parse("", bad), flush, flush, bind("", ""), sync_}
		}},
		{"many in one pipeline", 41, func(bad string) (ms []message) {
			for range 20 {
				ms = append(append(ms, extended(bad)...), extended("SELECT 1")...)
			}
			return append(ms, q("SELECT 2"))
		}},
	} {
		for _, stepwise := range []bool{false, true} {
			run := func(r *raw, bad string) string {
				if !stepwise {
					return r.ask(c.ready, c.say(bad)...)
				}
				for _, m := range c.say(bad) {
					r.send(enc(m))
					time.Sleep(2 * time.Millisecond)
				}
				return r.until('Z', c.ready)
			}
			if stepwise && c.ready > 10 {
				continue
			}
			p.Journal.Forget()
			want := run(dial(t, server.Addr.String()), "SELEC")
			r := p.raw()
			got := run(r, no)
			if skeleton(got) != skeleton(want) {
				t.Errorf("%s: got\n%s\nwant\n%s", c.name, skeleton(got), skeleton(want))
			}
			refused := strings.Count(got, "Mrule \"no-deletes\"") + strings.Count(got, "no-deletes")
			if blocks := p.Journal.Events(events.Block); refused == 0 || len(blocks) == 0 {
				t.Errorf("%s: %d refusals, %d records\n%s", c.name, refused, len(blocks), got)
			}
			for _, e := range p.settled().Events(events.Response) {
				if e.Status == "skipped" && c.name != "a batch in a transaction" { // there the server stops it
					t.Errorf("%s: statement %d is recorded as allowed, behind a refusal that stops it", c.name, e.Number)
				}
			}
			if strings.Contains(got, "sallyport_refused") || strings.Contains(got, "syntax error") {
				t.Errorf("%s: the decoy shows: %s", c.name, got)
			}
			if out := r.ask(1, q("SELECT count(*) FROM clinic.patients")); !strings.Contains(out, "5") {
				t.Errorf("%s: %s", c.name, out)
			}
			r.Close()
			_ = p.End()
		}
	}
	if !strings.Contains(server.Log(), "sallyport_refused session session-") {
		t.Error("the server's log does not tell which session was refused")
	}
}

// told reports whether a program can read from DETAIL which rule refused what.
func told(detail string) bool {
	var f struct {
		Refused   string
		Rules     []string
		Remedy    string
		Session   string
		Statement uint64
	}
	return json.Unmarshal([]byte(detail), &f) == nil && f.Refused == "rule" && len(f.Rules) == 1 && f.Rules[0] == "no-deletes" &&
		f.Remedy == "ask the clinic's administrator" && f.Session == "session-1" && f.Statement > 0
}

// Each kind of refusal that a statement can meet is told by its name.
func TestKinds(t *testing.T) {
	p := start(t, maskPolicy)
	c := connect(t, p, "")
	for sql, kind := range map[string]string{
		"DELETE FROM clinic.patients":             "rule",
		"DO 'BEGIN NULL; END'":                    "not-understood",
		"SELECT pg_read_file('/etc/hostname')":    "not-understood",
		"SELECT lo_export(1, '/tmp/sallyport-x')": "not-understood",
	} {
		_, err := c.Exec(t.Context(), sql)
		var e *pgconn.PgError
		if !errors.As(err, &e) {
			t.Fatalf("%s: %v", sql, err)
		}
		var f struct{ Refused string }
		if err := json.Unmarshal([]byte(e.Detail), &f); err != nil || f.Refused != kind {
			t.Errorf("%s: %+v, %v", sql, e, err)
		}
	}
	// What the server would say itself is in its words: there is nothing to add.
	// Tools ask in this way whether there is such a table.
	for sql, want := range map[string][2]string{
		"SELEC 1":                       {"42601", `syntax error at or near "SELEC"`},
		"SELECT 1 FROM alembic_version": {"42P01", `relation "alembic_version" does not exist`},
		"SELECT 1 FROM clinic.nobody":   {"42P01", `relation "clinic.nobody" does not exist`},
	} {
		var e *pgconn.PgError
		if _, err := c.Exec(t.Context(), sql); !errors.As(err, &e) || e.Detail != "" || e.Code != want[0] || e.Message != want[1] {
			t.Errorf("%s: %+v", sql, e)
		}
	}
}

// A syntax error is the server's to the byte, its place included.
func TestSyntaxErrors(t *testing.T) {
	p := start(t, maskPolicy)
	for _, sql := range []string{"SELEC 1", "SELECT 'äöü', 'x' FRUM t", "SELECT (1", "SELECT 1 WHERE x = 'open", "", "SELECT 1;;; nothing", "SELECT 'a' /* ü */ , , 7"} {
		var said [2]pgproto3.ErrorResponse
		for i, r := range []*raw{dial(t, server.Addr.String()), p.raw()} {
			r.send(enc(q(sql)))
			for {
				typ, body := r.next()
				if typ == 'E' {
					if err := said[i].Decode(body); err != nil {
						t.Fatal(err)
					}
				}
				if typ == 'Z' {
					break
				}
			}
		}
		a, b := said[0], said[1]
		if a.Code != b.Code || a.Message != b.Message || a.Position != b.Position {
			t.Errorf("%s:\n%s: %s at %d\n%s: %s at %d", sql, a.Code, a.Message, a.Position, b.Code, b.Message, b.Position)
		}
	}
}

// What a driver makes of a refusal.
func TestRefusalInPgx(t *testing.T) {
	p := start(t, maskPolicy)
	c := connect(t, p, "")
	ctx := t.Context()
	tx, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var e *pgconn.PgError
	if _, err := tx.Exec(ctx, "DELETE FROM clinic.patients WHERE id = $1", 1); !errors.As(err, &e) {
		t.Fatal(err)
	}
	if e.Code != "42501" || !strings.Contains(e.Message, "never deleted") || e.Hint != "ask the clinic's administrator" || !told(e.Detail) {
		t.Errorf("%+v", e)
	}
	if c.PgConn().TxStatus() != 'E' {
		t.Errorf("transaction state %c", c.PgConn().TxStatus())
	}
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	// In the middle of a pipeline of batches.
	b := &pgx.Batch{}
	b.Queue("SELECT 1")
	b.Queue("DELETE FROM clinic.patients WHERE id = $1", 1)
	b.Queue("SELECT 2")
	if err := c.SendBatch(ctx, b).Close(); !errors.As(err, &e) || e.Code != "42501" {
		t.Error(err)
	}
	pl := c.PgConn().StartPipeline(ctx)
	for _, sql := range []string{"SELECT 1", "DELETE FROM clinic.patients", "SELECT 3"} {
		pl.SendQueryParams(sql, nil, nil, nil, nil)
		if err := pl.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for len(got) < 3 {
		res, err := pl.GetResults()
		switch x := res.(type) {
		case *pgconn.ResultReader:
			r := x.Read()
			got = append(got, string(r.Rows[0][0]))
		default:
			if errors.As(err, &e) {
				got = append(got, e.Code)
			}
		}
	}
	if err := pl.Close(); err != nil {
		t.Error(err)
	}
	if strings.Join(got, " ") != "1 42501 3" {
		t.Errorf("%q", got)
	}
	var n int
	if err := c.QueryRow(ctx, "SELECT count(*) FROM clinic.patients").Scan(&n); err != nil || n != 5 {
		t.Error(n, err)
	}
}

// Ten thousand messages at once, of any kind, in one write: all are answered,
// in order.
func TestLongPipelines(t *testing.T) {
	const n = 10_000
	for _, pol := range []struct{ name, text string }{{"relayed", allowAll}, {"analysed", maskPolicy}} {
		p := start(t, pol.text)
		for _, c := range []struct {
			name, want string
			say        []message
			end        []message
		}{
			{"Sync", "Z I", []message{sync_}, nil},
			{"Query", "T D C Z I", []message{q("SELECT 1")}, nil},
			{"batches", "1 2 T D C Z I", extended("SELECT 1"), nil},
			{"one batch", "1 2 D C", []message{parse("", "SELECT 1"), bind("", ""), execute("")}, []message{sync_}},
			{"Close", "3", []message{closing('S', "")}, []message{sync_}},
			{"refusals", "E Z I", []message{q("SELECT pg_read_file('x')")}, nil},
		} {
			if c.name == "refusals" && pol.text == allowAll {
				continue
			}
			t.Run(pol.name+"/"+c.name, func(t *testing.T) {
				r := p.raw()
				_ = r.SetDeadline(time.Now().Add(2 * time.Minute))
				go r.Write(append(bytes.Repeat(enc(c.say...), n), enc(c.end...)...))
				want := strings.Fields(strings.ReplaceAll(c.want, "Z I", "Z"))
				for i := range n {
					for _, w := range want {
						if typ, body := r.next(); typ != w[0] {
							t.Fatalf("%d: a message of type %c, want %s: %s", i, typ, w, printable(body))
						}
					}
				}
				p.Journal.Forget()
			})
		}
	}
}

// A message that is larger than what is looked at is refused like any other,
// and costs no memory.
func TestOversize(t *testing.T) {
	const size = 17 << 20
	large := func(typ byte, head string) []byte {
		b := append([]byte{typ}, binary.BigEndian.AppendUint32(nil, size+4)...)
		b = append(b, head...)
		return append(b, make([]byte, size-len(head))...)
	}
	for _, pol := range []struct{ name, text string }{{"relayed", allowAll}, {"analysed", maskPolicy}} {
		p := start(t, pol.text)
		for _, c := range []struct {
			name, want string
			say        [][]byte
			ready      int
		}{
			{"Query", "E Z I T D C Z I", [][]byte{large('Q', "SELECT '"), enc(q("SELECT 1"))}, 2},
			{"Parse", "E Z I T D C Z I", [][]byte{large('P', ""), enc(bind("", ""), execute(""), sync_, q("SELECT 1"))}, 2},
			{"Bind in a batch", "1 E Z I T D C Z I", [][]byte{enc(parse("", "SELECT $1::text")), large('B', ""), enc(execute(""), sync_, q("SELECT 1"))}, 2},
			{"behind an error", "E Z I T D C Z I", [][]byte{enc(bind("", "nope")), large('P', ""), large('Q', ""), enc(sync_, q("SELECT 1"))}, 2},
			{"FunctionCall", "E Z I", [][]byte{large('F', "")}, 1},
			{"Describe", "E EOF", [][]byte{large('D', "")}, 1},
			{"CopyFail", "E EOF", [][]byte{large('f', "")}, 1},
		} {
			t.Run(pol.name+"/"+c.name, func(t *testing.T) {
				p.Journal.Forget()
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				r := p.raw()
				go func() {
					for _, b := range c.say {
						_, _ = r.Write(b)
					}
				}()
				out := r.until('Z', c.ready)
				runtime.GC()
				runtime.ReadMemStats(&after)
				if got := skeleton(strings.ReplaceAll(out, "EOF\n", "X\n")); got != strings.ReplaceAll(c.want, "EOF", "X") {
					t.Errorf("got %s, want %s\n%s", got, c.want, out)
				}
				if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); held > 8<<20 {
					t.Errorf("%d bytes of memory are held", held)
				}
				if c.name == "Query" && len(p.Journal.Events(events.Block, events.Statement)) != 2 {
					t.Errorf("recorded: %+v", p.Journal.All())
				}
			})
		}
	}
}

// What a message announces costs nothing until it comes.
func TestAnnouncedSize(t *testing.T) {
	p := start(t, allowAll)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 20 {
		p.raw().send([]byte{'Q', 0, 0xff, 0xff, 0, 'S', 'E', 'L'})
	}
	time.Sleep(100 * time.Millisecond)
	runtime.ReadMemStats(&after)
	if n := int64(after.HeapAlloc) - int64(before.HeapAlloc); n > 10<<20 {
		t.Errorf("%d bytes for 20 sessions", n)
	}
}

// A statement that kills the parser is refused, whatever the protocol, and on
// the record with its text; sessions go on.
func TestUnanalysable(t *testing.T) {
	p := start(t, maskPolicy)
	deep := "SELECT 'CANARY', 1" + strings.Repeat("+1", 40_000)
	r, other := p.raw(), p.raw()
	for _, say := range [][]message{{q(deep)}, extended(deep)} {
		p.Journal.Forget()
		out := r.ask(1, say...)
		if !strings.HasPrefix(out, "E SERROR|VERROR|C08006|Msallyport: refused: the statement could not be analysed") || !strings.HasSuffix(out, "Z I\n") {
			t.Errorf("%s", clip(out))
		}
		if b := p.Journal.Events(events.Block); len(b) != 1 || !strings.HasPrefix(b[0].Normalized, "SELECT ?, ?+?") || strings.Contains(b[0].Normalized, "CANARY") || !b[0].Writes {
			t.Errorf("recorded: %+v", b)
		}
		if text(p.Journal) != deep {
			t.Errorf("the transcript holds %s", clip(text(p.Journal)))
		}
		for _, r := range []*raw{r, other} {
			if out := r.ask(1, q("SELECT 'well'")); !strings.Contains(out, "well") {
				t.Error(out)
			}
		}
	}
}

// Settings of the role that change what a text means: nothing is understood,
// so nothing is allowed, whatever it says.
func TestUnsafeSettings(t *testing.T) {
	p := start(t, maskPolicy)
	for _, role := range []string{"backslash", "latin", "ascii_ok"} {
		c, err := pgx.Connect(context.Background(), strings.Replace(p.dsn("default_query_exec_mode=simple_protocol"), "user=agent", "user="+role, 1))
		if err != nil {
			t.Fatal(role, err)
		}
		var e *pgconn.PgError
		_, err = c.PgConn().Exec(t.Context(), `SELECT '\' FROM clinic.patients -- '`).ReadAll()
		if role == "ascii_ok" {
			if err != nil {
				t.Error(role, err)
			}
		} else if !errors.As(err, &e) || e.Code != "0A000" || !strings.Contains(e.Message, "understood") {
			t.Error(role, err)
		}
		c.Close(t.Context())
	}
	r := p.raw()
	for _, set := range []string{
		"SET standard_conforming_strings = off", "SET client_encoding = 'LATIN1'", "SET NAMES 'SJIS'", "SELECT set_config('standard_conforming_strings', 'off', false)",
		"SET LOCAL standard_conforming_strings TO off", "SET search_path = evil, pg_catalog", "SET ROLE postgres", "SET SESSION AUTHORIZATION postgres", "SET log_min_messages = debug5", "SET client_min_messages = log",
	} {
		if out := r.ask(1, q(set)); !strings.HasPrefix(out, "E SERROR") || !strings.Contains(out, "sallyport: refused") {
			t.Errorf("%s: %s", set, out)
		}
	}
	if out := r.ask(1, q("SELECT 'fine'")); !strings.Contains(out, "fine") {
		t.Error(out)
	}
}

// What a session may make the passage keep is bounded: names, and what they
// stand for.
func TestNamesAreBounded(t *testing.T) {
	large := strings.Repeat("x", 1<<20)
	for _, pol := range []struct{ name, text string }{{"relayed", allowAll}, {"analysed", maskPolicy}} {
		t.Run(pol.name, func(t *testing.T) {
			p := start(t, pol.text)
			r := p.raw()
			refused := func(out string) bool { return strings.Contains(out, "C53400") }
			if pol.text == allowAll { // a text is not bounded by what can be analysed
				n := 0
				for ; n < 100; n++ {
					if refused(r.ask(1, parse(fmt.Sprint("s", n), "SELECT '"+large+"'"), sync_)) {
						break
					}
				}
				if n < 50 || n > 70 {
					t.Errorf("%d statements of 1 MiB are kept", n)
				}
				r.ask(1, q("DEALLOCATE ALL"))
				if out := r.ask(1, parse("s0", "SELECT 1"), sync_); refused(out) {
					t.Error(out)
				}
			}
			r.ask(2, q("BEGIN"), parse("s", "SELECT $1::text"), sync_)
			n := 0
			for ; n < 100; n++ {
				if refused(r.ask(1, bind(fmt.Sprint("p", n), "s", large), sync_)) {
					break
				}
			}
			if n < 50 || n > 70 {
				t.Errorf("%d portals of 1 MiB are kept", n)
			}
			if out := r.ask(2, q("ROLLBACK"), bind("", "s", large), execute(""), sync_); refused(out) {
				t.Error("the transaction took its portals with it: ", clip(out))
			}
			// What is replaced is not kept, in a pipeline either.
			var say []message
			for range 70 {
				say = append(say, bind("", "s", large))
			}
			if out := r.ask(1, append(say, execute(""), sync_)...); refused(out) || !strings.Contains(out, "C SELECT 1") {
				t.Error(clip(out))
			}
			if n := p.settled(); len(n.Faults()) > 0 {
				t.Error(n.Faults())
			}
		})
	}
}
