package render

import (
	"bytes"
	"context"
	"iter"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/events"
)

func frames(ms ...pgproto3.BackendMessage) (b []byte) {
	for _, m := range ms {
		var err error
		if b, err = m.Encode(b); err != nil {
			panic(err)
		}
	}
	return b
}

var patients = frames(
	&pgproto3.ParseComplete{},
	&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{
		{Name: []byte("id"), DataTypeOID: 23, Format: 1}, {Name: []byte("name"), DataTypeOID: 25}, {Name: []byte("ssn"), DataTypeOID: 25},
	}},
	&pgproto3.DataRow{Values: [][]byte{{0, 0, 0, 7}, []byte("Ann"), []byte("***-**-1234")}},
	&pgproto3.DataRow{Values: [][]byte{{0, 0, 1, 0}, []byte("Bo\x1b]0;owned\x07 \u202egnp"), nil}},
	&pgproto3.CommandComplete{CommandTag: []byte("SELECT 2")},
	&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42501", Message: "blocked by rule no-delete\r\x1b[2J", Hint: "ask"},
	&pgproto3.ReadyForQuery{TxStatus: 'I'})

const want = `[1] => select *
from patients\x1b[31m
 id  | name                        | ssn
-----+-----------------------------+-------------
 7   | Ann                         | ***-**-1234
 256 | Bo\x1b]0;owned\x07 \u{202e}gnp | NULL
     SELECT 2
     ERROR: 42501: blocked by rule no-delete\r\x1b[2J
     HINT: ask
`

func squeeze(s string) string { return strings.NewReplacer(" ", "", "-", "").Replace(s) }

func TestPostgresAtEveryCut(t *testing.T) {
	for size := 1; size <= len(patients); size++ {
		var w bytes.Buffer
		r := For("postgres")
		render := func(c events.Chunk) {
			if err := r.Render(&w, c); err != nil {
				t.Fatal(err)
			}
		}
		render(events.Chunk{Number: 1, Kind: events.ChunkStatement, Data: []byte("select *\nfrom patients\x1b[31m")})
		for b := patients; len(b) > 0; b = b[min(size, len(b)):] {
			render(events.Chunk{Number: 1, Kind: events.ChunkResult, Data: b[:min(size, len(b))]})
		}
		// Columns are as wide as what was seen so far: only the spaces differ.
		if squeeze(w.String()) != squeeze(want) {
			t.Fatalf("in pieces of %d:\n%s", size, w.String())
		}
	}
}

func TestPostgresCutResult(t *testing.T) {
	var w bytes.Buffer
	r := For("postgres")
	for _, c := range []events.Chunk{
		{Number: 1, Kind: events.ChunkResult, Data: patients[:len(patients)-8]},
		{Number: 2, Kind: events.ChunkStatement, Data: []byte("select 1")},
		{Number: 2, Kind: events.ChunkResult, Data: frames(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 0")})},
		{Number: 3, Kind: events.ChunkResult, Data: []byte{'D', 0x7f, 0xff, 0xff, 0xff, 1, 2}},
		{Number: 3, Kind: events.ChunkResult, Data: make([]byte, 100)},
		{Number: 4, Kind: events.ChunkResult, Data: []byte{'D', 0, 0, 0, 0, 1, 2}},
		{Number: 5, Kind: events.ChunkInput, Data: []byte("1\tx\n")},
	} {
		if err := r.Render(&w, c); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []string{"recording of this result ends here", "[2] => select 1\n     SELECT 0\n", `"D" of 2147483648 bytes`, "not a message of PostgreSQL", "input: 1\tx\n"} {
		if !strings.Contains(w.String(), s) {
			t.Errorf("no %q in:\n%s", s, w.String())
		}
	}
}

func TestReplayKeepsTheTiming(t *testing.T) {
	at := time.Unix(1000, 0)
	chunks := iter.Seq2[events.Chunk, error](func(yield func(events.Chunk, error) bool) {
		_ = yield(events.Chunk{Kind: events.ChunkStatement, Data: []byte("a"), Time: at}, nil) &&
			yield(events.Chunk{Kind: events.ChunkStatement, Data: []byte("b"), Time: at.Add(time.Hour)}, nil)
	})
	var w bytes.Buffer
	start := time.Now()
	if err := Replay(context.Background(), &w, For("nothing known"), chunks, Timing{Speed: 2, MaxIdle: 100 * time.Millisecond}); err != nil || w.String() != "> a\n> b\n" {
		t.Fatalf("%q %v", w.String(), err)
	}
	if d := time.Since(start); d < 50*time.Millisecond {
		t.Errorf("took %v: want at least 50ms", d)
	}
	w.Reset()
	if err := Replay(context.Background(), &w, For("nothing known"), chunks, Timing{Speed: 1, Seek: time.Minute}); err != nil || w.String() != "> b\n" {
		t.Errorf("from a minute on: %q %v", w.String(), err)
	}
	if d := (Timing{Speed: 1}).pause(at, at.Add(time.Hour)); d != time.Hour {
		t.Errorf("original timing: %v", d)
	}
}

// What is sought in the middle of a result has the names of its columns.
func TestReplaySeeksIntoAResult(t *testing.T) {
	at := time.Unix(1000, 0)
	row := func(s string) []byte {
		return frames(&pgproto3.DataRow{Values: [][]byte{[]byte(s)}}, &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
	}
	chunks := iter.Seq2[events.Chunk, error](func(yield func(events.Chunk, error) bool) {
		described := frames(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("word"), DataTypeOID: 25}}})
		_ = yield(events.Chunk{Kind: events.ChunkResult, Number: 1, Data: append(described, row("early")...), Time: at}, nil) &&
			yield(events.Chunk{Kind: events.ChunkResult, Number: 1, Data: row("late"), Time: at.Add(time.Hour)}, nil)
	})
	var w bytes.Buffer
	if err := Replay(context.Background(), &w, For("postgres"), chunks, Timing{Seek: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if got := w.String(); !strings.Contains(got, "late") || strings.Contains(got, "early") {
		t.Errorf("%q", got)
	}
}

// FuzzPostgres: whatever a server or an agent made the transcript hold, only
// printable characters and line ends reach the terminal.
func FuzzPostgres(f *testing.F) {
	f.Add(patients, uint16(3))
	f.Add([]byte("A\x00\x00\x00\x0600"), uint16(43)) // pgproto3 panics
	f.Add([]byte("D\x00\x00\x00\x06\x00\x01"), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, size uint16) {
		var w bytes.Buffer
		r := For("postgres")
		for n := uint64(0); len(b) > 0 && n < 1000; n++ {
			k := min(int(size)+1, len(b))
			for kind := events.ChunkStatement; kind <= events.ChunkInput; kind++ {
				if err := r.Render(&w, events.Chunk{Number: n / 3, Kind: kind, Data: b[:k]}); err != nil {
					t.Fatal(err)
				}
			}
			b = b[k:]
		}
		for _, c := range w.String() {
			if c != '\n' && c != '\t' && !unicode.IsPrint(c) {
				t.Fatalf("%U reached the terminal", c)
			}
		}
	})
}
