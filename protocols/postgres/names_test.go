package postgres_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
)

// recorded tells what the record says ran, one line a statement: its text, its
// commands' first, what it touches, its outcome.
func recorded(p *proxy) string {
	var b strings.Builder
	j := p.settled()
	chunks, all := j.Chunks(), j.All()
	for _, e := range all {
		if e.Kind != events.Statement && e.Kind != events.Block {
			continue
		}
		text, status := "", "none"
		for _, c := range chunks {
			if c.Kind == events.ChunkStatement && c.Number == e.Number {
				text = string(c.Data)
			}
		}
		for _, r := range all {
			if r.Kind == events.Response && r.Number == e.Number {
				status = r.Status
			}
		}
		fmt.Fprintf(&b, "%s | %s %v %s\n", text, e.Command, e.Objects, status)
	}
	return b.String()
}

// What is decided and recorded is what the server runs, whatever became of the
// names that stand for it.
func TestNames(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, c := range []struct {
		name, policy string
		say          []message
		ready        int
		want         string
	}{
		{"a failure does not bring an old statement back", allowAll, []message{
			parse("", "SELECT 'old'"), sync_, parse("", "SELEC"), sync_, parse("", "SELECT 'new'"), sync_,
			parse("w", "SELECT pg_sleep(0.1)"), bind("w", "w"), execute("w"), sync_, bind("", ""), execute(""), sync_,
		}, 5, "SELECT pg_sleep(0.1) | select [] ok\nSELECT 'new' | select [] ok\n"},
		{"a failure does not bring an old portal back", allowAll, []message{
			q("BEGIN"), parse("s", "SELECT $1::int, 1"), bind("", "s", "1"), sync_, parse("u", "SELECT 2"), sync_, q("SAVEPOINT a"),
			bind("", "s", "x"), sync_, q("ROLLBACK TO a"), bind("", "u"), execute(""), sync_, q("COMMIT"),
		}, 8, "BEGIN | begin [] ok\nSELECT $1::int, 1 | select [] none\nSAVEPOINT a | savepoint [] ok\nSELECT $1::int, 1 | select [] error\n" +
			"ROLLBACK TO a | rollback [] ok\nSELECT 2 | select [] ok\nCOMMIT | commit [] ok\n"},
		{"the server looks at 63 bytes of a name", maskPolicy, []message{
			parse(long+"1", "SELECT a FROM m0"), closing('S', long+"2"), parse(long+"2", "SELECT a FROM m1"), bind("", long+"1"), execute(""), sync_,
		}, 1, "SELECT a FROM m1 | select [public.m1] ok\n"},
		{"... of SQL's names too", maskPolicy, []message{
			parse(long, "SELECT a FROM m0"), sync_, q("DEALLOCATE " + long + "x"), q("PREPARE " + long + "y AS SELECT a FROM m1"), bind("", long+"z"), execute(""), sync_,
		}, 4, "DEALLOCATE " + long + "x | deallocate [] ok\nPREPARE " + long + "y AS SELECT a FROM m1 | prepare [public.m1] ok\n | select [public.m1] ok\n"},
		{"... up to a whole character", maskPolicy, []message{
			q("PREPARE " + long[1:] + "é AS SELECT a FROM m0"), closing('S', long[1:]), parse(long[1:], "SELECT a FROM m1"), sync_, q("EXECUTE " + long[1:] + "é"),
		}, 3, "PREPARE " + long[1:] + "é AS SELECT a FROM m0 | prepare [public.m0] ok\nEXECUTE " + long[1:] + "é | select [public.m1] ok\n"},
		{"EXECUTE runs what its name stands for by then", maskPolicy, []message{
			parse("s", "SELECT a FROM m0"), parse("x", "EXECUTE s"), closing('S', "s"), parse("s", "SELECT a FROM m1"), bind("x", "x"), execute("x"), sync_,
		}, 1, "EXECUTE s | select [public.m1] ok\n"},
		{"... and is a write if that is one", maskPolicy, []message{
			parse("s", "SELECT a FROM m0"), parse("x", "EXECUTE s"), closing('S', "s"), parse("s", "INSERT INTO t3 VALUES (77)"), bind("x", "x"), execute("x"), sync_,
		}, 1, "EXECUTE s | insert [public.t3] ok\n"},
		{"FETCH too", maskPolicy, []message{
			q("BEGIN; DECLARE c CURSOR FOR SELECT a FROM m0"), parse("f", "FETCH ALL FROM c"), sync_, q("CLOSE c; DECLARE c CURSOR FOR SELECT a FROM m1"), bind("", "f"), execute(""), sync_,
		}, 4, "BEGIN; DECLARE c CURSOR FOR SELECT a FROM m0 | begin [public.m0] ok\n" +
			"CLOSE c; DECLARE c CURSOR FOR SELECT a FROM m1 | close [public.m1] ok\nFETCH ALL FROM c | fetch [public.m1] ok\n"},
		{"relayed, a name of SQL is not taken for one of the protocol", allowAll, []message{
			parse("s", "SELECT 'old'"), sync_, q("DEALLOCATE s"), q("PREPARE s AS SELECT 'new'"), bind("", "s"), execute(""), sync_,
		}, 4, "DEALLOCATE s | deallocate [] ok\nPREPARE s AS SELECT 'new' | prepare [] ok\n | unknown [] ok\n"},
		{"relayed, nor behind other statements", allowAll, []message{
			parse("s", "SELECT 'old'"), sync_, q("SELECT 1;/* */DEALLOCATE s; PREPARE s AS SELECT 'new'"), bind("", "s"), execute(""), sync_,
		}, 3, "SELECT 1;/* */DEALLOCATE s; PREPARE s AS SELECT 'new' | select [] ok\n | unknown [] ok\n"},
		{"relayed, names of SQL are served", allowAll, []message{
			q("PREPARE s AS SELECT 1"), q("BEGIN; DECLARE c CURSOR FOR SELECT 2"), bind("", "s"), execute(""), describe('P', "c"), execute("c"), sync_, q("COMMIT"),
		}, 4, "PREPARE s AS SELECT 1 | prepare [] ok\nBEGIN; DECLARE c CURSOR FOR SELECT 2 | begin [] ok\n | unknown [] ok\n | unknown [] ok\nCOMMIT | commit [] ok\n"},
		{"closing cursors leaves statements", maskPolicy, []message{
			parse("s", "SELECT a FROM m0"), sync_, q("CLOSE ALL"), bind("", "s"), execute(""), sync_,
		}, 3, "CLOSE ALL | close [] ok\nSELECT a FROM m0 | select [public.m0] ok\n"},
		{"a batch that fails at Parse leaves the next", allowAll, []message{
			parse("", "SELEC"), bind("", ""), execute(""), sync_, parse("", "SELECT 2"), bind("", ""), execute(""), sync_, bind("", ""), execute(""), sync_,
		}, 3, "SELEC | selec [] skipped\nSELECT 2 | select [] ok\nSELECT 2 | select [] ok\n"},
		{"an error of one statement changes no name", maskPolicy, []message{
			q("PREPARE s AS SELECT a FROM m0"), q("PREPARE s AS SELECT a FROM m1"), q("EXECUTE s"), q("DEALLOCATE nope"), q("EXECUTE s"),
		}, 5, "PREPARE s AS SELECT a FROM m0 | prepare [public.m0] ok\nPREPARE s AS SELECT a FROM m1 | prepare [public.m1] error\n" +
			"EXECUTE s | select [public.m0] ok\nDEALLOCATE nope | deallocate [] error\nEXECUTE s | select [public.m0] ok\n"},
		{"one Bind, several Executes", allowAll, []message{
			q("BEGIN"), parse("s", "SELECT generate_series(1, 3)"), bind("p", "s"), &pgExecute{Portal: "p", MaxRows: 1}, &pgExecute{Portal: "p", MaxRows: 1}, execute("p"), sync_, q("COMMIT"),
		}, 3, "BEGIN | begin [] ok\nSELECT generate_series(1, 3) | select [] ok\nSELECT generate_series(1, 3) | select [] ok\nSELECT generate_series(1, 3) | select [] ok\nCOMMIT | commit [] ok\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, c.policy)
			run := func(r *raw) string {
				r.send(enc(c.say...))
				return r.until('Z', c.ready)
			}
			got, want := run(p.raw()), run(dial(t, server.Addr.String()))
			if c.policy != allowAll {
				got, want = ownPlaces.ReplaceAllString(got, ""), ownPlaces.ReplaceAllString(want, "")
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if rec := recorded(p); rec != c.want {
				t.Errorf("recorded\n%s\nwant\n%s", rec, c.want)
			}
		})
	}
}

// script makes random use of names.
type script struct{ *rand.Rand }

func (s script) pick(of ...string) string { return of[s.IntN(len(of))] }

var longName = strings.Repeat("n", 62)

// name: some agree in the bytes that the server looks at.
func (s script) name() string { return s.pick("", "x", "x", "y", longName+"1a", longName+"1b") }

func (s script) sqlName() string { return s.pick("x", "x", "y", longName+"1a", longName+"1b") }

func (s script) table() string { return s.pick("m0", "m1", "m2") }

func (s script) reading() string { return "SELECT a FROM " + s.table() }

// sql is a text that does something with names.
func (s script) sql() string {
	n := s.sqlName()
	switch s.IntN(20) {
	case 0, 1:
		return "PREPARE " + n + " AS " + s.reading()
	case 2, 3:
		return "EXECUTE " + n
	case 4:
		return "DEALLOCATE " + s.pick(n, n, "ALL")
	case 5, 6:
		return "DECLARE " + n + " CURSOR " + s.pick("", "WITH HOLD ") + "FOR " + s.reading()
	case 7, 8:
		return "FETCH " + s.pick("1", "ALL") + " FROM " + n
	case 9:
		return "CLOSE " + s.pick(n, n, "ALL")
	case 10:
		return "BEGIN"
	case 11, 12:
		return s.pick("COMMIT", "ROLLBACK")
	case 13:
		return s.pick("SAVEPOINT a", "ROLLBACK TO a")
	case 14:
		return "DISCARD ALL"
	case 15:
		return s.pick("SELECT 1/0", "SELEC")
	}
	return s.reading()
}

func (s script) batch() []message {
	st, po := s.name(), s.name()
	switch s.IntN(12) {
	case 0:
		return []message{parse(st, s.sql())}
	case 1:
		return []message{parse(st, s.reading())}
	case 2:
		return []message{bind(po, st), execute(po)}
	case 3:
		return []message{&pgExecute{Portal: po, MaxRows: uint32(s.IntN(2))}}
	case 4:
		return []message{closing('S', st)}
	case 5:
		return []message{closing('P', st)}
	case 6:
		return []message{describe(s.pick("S", "P")[0], st)}
	case 7:
		return []message{q(s.sql())}
	case 8:
		return []message{q(s.sql() + "; " + s.sql())}
	case 9:
		return []message{closing('S', st), parse(st, s.sql()), closing('P', po), bind(po, st), execute(po)}
	}
	return []message{closing('S', st), parse(st, s.reading()), closing('P', po), bind(po, st), execute(po)}
}

// say is what a client sends, in pieces.
func (s script) say() (pieces [][]byte) {
	for range 1 + s.IntN(3) {
		var b []byte
		for range 1 + s.IntN(12) {
			b = append(b, enc(s.batch()...)...)
			if s.IntN(3) > 0 {
				b = append(b, enc(sync_)...)
			}
		}
		pieces = append(pieces, b)
	}
	return append(pieces, enc(sync_, q("ROLLBACK"), q("SELECT 'the end'")))
}

func play(r *raw, pieces [][]byte) string {
	var out strings.Builder
	for _, p := range pieces {
		r.send(p)
		time.Sleep(time.Millisecond)
	}
	for !strings.Contains(out.String(), "the end") {
		if s := r.until('Z', 1); s == "EOF\n" {
			return out.String() + s
		} else {
			out.WriteString(s)
		}
	}
	return out.String()
}

// Random pipelines over few names: relayed, nothing differs from the server
// itself; and no row ever comes from another table than the record says.
func TestRandomNames(t *testing.T) {
	for _, pol := range []struct{ name, text string }{{"relayed", allowAll}, {"analysed", maskPolicy}} {
		t.Run(pol.name, func(t *testing.T) {
			p := start(t, pol.text)
			agreed, rows := 0, 0
			const rounds = 200
			for seed := range uint64(rounds) {
				pieces := script{rand.New(rand.NewPCG(seed, 1))}.say()
				r := p.raw()
				got := play(r, pieces)
				r.Close()
				d := dial(t, server.Addr.String())
				want := play(d, pieces)
				d.Close()
				_ = p.End()
				if pol.name == "analysed" {
					got, want = ownPlaces.ReplaceAllString(got, ""), ownPlaces.ReplaceAllString(want, "")
				}
				if got == want {
					agreed++
				} else if pol.name == "relayed" {
					t.Fatalf("seed %d: %q\ngot\n%s\nwant\n%s", seed, pieces, got, want)
				}
				rows += truthful(t, p, pieces)
				p.Journal.Forget()
				if t.Failed() {
					t.FailNow()
				}
			}
			t.Logf("%d of %d scripts as without us, %d rows", agreed, rounds, rows)
			if agreed < rounds/4 || rows < rounds {
				t.Errorf("too little of it ran to tell: %d, %d", agreed, rows)
			}
		})
	}
}

// truthful holds rows against what the record says of their statements.
func truthful(t *testing.T, p *proxy, pieces [][]byte) (rows int) {
	t.Helper()
	texts := map[uint64]string{}
	for _, c := range p.Journal.Chunks() {
		if c.Kind == events.ChunkStatement {
			texts[c.Number] = string(c.Data)
		}
	}
	said := map[uint64]*events.Event{}
	for _, e := range p.Journal.Events(events.Statement) {
		said[e.Number] = &e
	}
	for _, c := range p.Journal.Chunks() {
		if c.Kind != events.ChunkResult {
			continue
		}
		for b := c.Data; len(b) >= 5; {
			msg := b[:min(1+int(binary.BigEndian.Uint32(b[1:])), len(b))]
			b = b[len(msg):]
			i := bytes.LastIndexByte(msg, 'm')
			if msg[0] != 'D' || i < 0 || i+2 != len(msg) {
				continue
			}
			rows++
			e, table := said[c.Number], string(msg[i:])
			switch text := texts[c.Number]; {
			case e == nil:
				t.Errorf("a row of %s without a statement", table)
			case slices.Contains(e.Objects, "public."+table), strings.Contains(text, table):
			case len(e.Objects) == 0 && (e.Command == "unknown" || strings.Contains(text, "EXECUTE") || strings.Contains(text, "FETCH")):
				// relayed: the text says no more
			default:
				t.Errorf("%q\na row of %s is recorded as of %v: %q", pieces, table, e.Objects, text)
			}
		}
	}
	return rows
}
