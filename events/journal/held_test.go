package journal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
)

func later(s *events.Session, n uint64, k events.ChunkKind, text string) *events.Chunk {
	return &events.Chunk{Session: s, Number: n, Kind: k, Time: time.Now(), Data: []byte(text), Later: true}
}

func now(s *events.Session, n uint64, text string) *events.Chunk {
	return &events.Chunk{Session: s, Number: n, Kind: events.ChunkResult, Time: time.Now(), Data: []byte(text)}
}

// record adds a chunk and waits until it is written.
func record(j *journal.Journal, c *events.Chunk) error {
	tk, err := j.Record(c)
	if err == nil && !tk.Zero() {
		err = tk.Written()
	}
	return err
}

// shape tells records by their kinds, and pieces of transcripts by their texts.
func shape(t *testing.T, rs []events.Record) string {
	t.Helper()
	var b strings.Builder
	for _, r := range rs {
		if r.Kind != 0 {
			fmt.Fprintf(&b, "%v %s; ", r.Kind, r.Session)
			continue
		}
		cs, err := events.ParseChunks(nil, r.Payload)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cs {
			fmt.Fprintf(&b, "%d%d%.9q ", c.Number, c.Kind, c.Data)
		}
		fmt.Fprintf(&b, "%s; ", r.Session)
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// A statement's text, its binds and its result are one record, in the session's
// order, whatever other sessions do meanwhile.
func TestPiecesShareARecord(t *testing.T) {
	want := `statement a; statement b; 11"text" 12"binds" 13"rows" a; 13"more" a; response a; 11"other" b; response b; ` +
		`21"short" a; 22"longxxxxx" a; 31"short" a; 33"rowsxxxxx" a; session.close a`
	var got string
	for range 100 { // a machine that stands still for 20 ms has them apart
		if got = piecesOf(t); got == want {
			return
		}
	}
	t.Errorf("%s\nwant\n%s", got, want)
}

func piecesOf(t *testing.T) string {
	j := open(t, t.TempDir(), journal.Options{})
	a, b := session("a"), session("b")
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(t)(j.Append(statement(a, 1, "x")))
	ok(record(j, later(a, 1, events.ChunkStatement, "text")))
	ok(record(j, later(a, 1, events.ChunkBinds, "binds")))
	must(t)(j.Append(statement(b, 1, "y")))
	ok(record(j, later(b, 1, events.ChunkStatement, "other")))
	ok(record(j, now(a, 1, "rows")))
	ok(record(j, now(a, 1, "more")))
	must(t)(j.Append(event(events.Response, a, 1)))
	must(t)(j.Append(event(events.Response, b, 1))) // it had no result
	// What is long stands alone, and behind what came before it.
	ok(record(j, later(a, 2, events.ChunkStatement, "short")))
	ok(record(j, later(a, 2, events.ChunkBinds, "long"+strings.Repeat("x", 100<<10))))
	ok(record(j, later(a, 3, events.ChunkStatement, "short")))
	ok(record(j, now(a, 3, "rows"+strings.Repeat("x", 256<<10-20))))
	wait(t, must(t)(j.Append(event(events.SessionClose, a, 0))))
	if st := j.Stats(); st.Buffered != 0 {
		t.Errorf("%+v", st)
	}
	return shape(t, all(t, j, 1))
}

// What waits for more is not forgotten: neither when nothing comes, nor when the
// journal is closed.
func TestPiecesDoNotWaitForever(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := record(j, later(session("a"), 1, events.ChunkStatement, "alone")); err != nil {
		t.Fatal(err)
	}
	r := j.Reader(1)
	defer r.Close()
	rec, err := r.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := shape(t, []events.Record{rec}); got != `11"alone" a` {
		t.Error(got)
	}
	if err := record(j, later(session("a"), 2, events.ChunkStatement, "last")); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := shape(t, all(t, open(t, dir, journal.Options{}), 2)); got != `21"last" a` {
		t.Error(got)
	}
}

// What waits has its room, and never takes that of outcomes.
func TestPiecesThatWaitKeepTheirRoom(t *testing.T) {
	j := open(t, t.TempDir(), journal.Options{MaxBytes: 256 << 10})
	s := session("s")
	must(t)(j.Append(statement(s, 1, "x")))
	n, err := 0, error(nil)
	for ; err == nil && n < 10000; n++ {
		err = record(j, later(session(fmt.Sprint(n)), 1, events.ChunkStatement, strings.Repeat("y", 1000)))
	}
	if !errors.Is(err, events.ErrFull) {
		t.Fatalf("after %d: %v", n, err)
	}
	must(t)(j.Append(event(events.Response, s, 1)))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if st := j.Stats(); st.Used > st.Max || st.Buffered != 0 || st.Appended != uint64(n-1+2) {
		t.Errorf("%d pieces: %+v", n-1, st)
	}
}

// A death loses what was never promised, and what was shown counts as shown.
func TestPiecesAndDeath(t *testing.T) {
	d := newDisk()
	j, err := on(t, d, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := session("s")
	must(t)(j.Append(statement(s, 1, "x")))
	if err := errors.Join(record(j, later(s, 1, events.ChunkStatement, "text")), record(j, now(s, 1, "0123456789"))); err != nil {
		t.Fatal(err)
	}
	left := d.kill()
	j.Close()
	j, err = on(t, left, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	rs := all(t, j, 1)
	got := strings.Replace(shape(t, rs), `"text" s; 13`, `"text" 13`, 1)
	if got != `statement s; 11"text" 13"012345678" s; response s` {
		t.Fatal(got)
	}
	if l := decode(t, rs[len(rs)-1]); l.Status != "interrupted" || l.Recorded != 10 {
		t.Errorf("%+v", l)
	}
}
