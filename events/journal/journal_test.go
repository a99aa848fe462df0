package journal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// line is the tests' own encoding of an event.
type line struct {
	UID, Kind, Session, Status, Message, Text string
	Number                                    uint64
	Recorded                                  int64
}

func encode(dst []byte, uid string, e *events.Event) []byte {
	b, _ := json.Marshal(line{uid, e.Kind.String(), e.Session.ID, e.Status, e.Message, e.Normalized, e.Number, e.Recorded})
	return append(dst, b...)
}

func options(o journal.Options) journal.Options {
	o.Host, o.Sync, o.Encode = "h1", true, encode
	if o.CheckpointEvery == 0 {
		o.CheckpointEvery = -1
	}
	return o
}

func open(t testing.TB, dir string, o journal.Options) *journal.Journal {
	t.Helper()
	j, err := journal.Open(dir, options(o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func session(id string) *events.Session {
	return &events.Session{ID: id, Host: "h1", Protocol: "postgres"}
}

func statement(s *events.Session, n uint64, text string) *events.Event {
	return &events.Event{Kind: events.Statement, Time: time.Unix(1, 0), Session: s, Number: n, Normalized: text}
}

func event(k events.Kind, s *events.Session, n uint64) *events.Event {
	return &events.Event{Kind: k, Time: time.Unix(1, 0), Session: s, Number: n, Status: "ok"}
}

// all returns the durable records from first on.
func all(t testing.TB, j *journal.Journal, from uint64) []events.Record {
	t.Helper()
	r := j.Reader(from)
	defer r.Close()
	var out []events.Record
	for seq := from; seq <= j.Last(); seq++ {
		rec, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if rec.Seq != seq || !rec.Intact() || rec.Chain != j.Chain() {
			t.Fatalf("record %d came as %d, intact %v", seq, rec.Seq, rec.Intact())
		}
		if n := len(out); n > 0 && rec.Prev != out[n-1].Hash {
			t.Fatalf("record %d does not follow %d", seq, seq-1)
		}
		rec.Payload = append([]byte(nil), rec.Payload...)
		out = append(out, rec)
	}
	return out
}

func decode(t testing.TB, r events.Record) line {
	t.Helper()
	var l line
	if err := json.Unmarshal(r.Payload, &l); err != nil {
		t.Fatal(err)
	}
	return l
}

func must(t testing.TB) func(events.Ticket, error) events.Ticket {
	return func(tk events.Ticket, err error) events.Ticket {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return tk
	}
}

func wait(t testing.TB, tk events.Ticket) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := tk.Wait(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestChainGoesOnOverRestarts(t *testing.T) {
	dir := t.TempDir()
	chain := ""
	for life := range 3 {
		j := open(t, dir, journal.Options{SegmentBytes: 16 << 10})
		if chain == "" {
			chain = j.Chain()
		}
		if j.Chain() != chain {
			t.Fatalf("life %d: chain %s, was %s", life, j.Chain(), chain)
		}
		s := session(fmt.Sprint("s", life))
		must(t)(j.Append(event(events.SessionOpen, s, 0)))
		for n := range uint64(100) {
			must(t)(j.Append(statement(s, n+1, "select $1")))
			if err := record(j, &events.Chunk{Session: s, Number: n + 1, Kind: events.ChunkResult, Data: []byte("row")}); err != nil {
				t.Fatal(err)
			}
			must(t)(j.Append(event(events.Response, s, n+1)))
		}
		wait(t, must(t)(j.Append(event(events.SessionClose, s, 0))))
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	j := open(t, dir, journal.Options{})
	recs := all(t, j, 1)
	if len(recs) != 3*302 {
		t.Fatalf("%d records", len(recs))
	}
	for i, r := range recs {
		if r.Seq != uint64(i)+1 {
			t.Fatalf("record %d at %d", r.Seq, i)
		}
		if want := fmt.Sprint("s", i/302); r.Session != want || r.Protocol != "postgres" {
			t.Fatalf("record %d of session %q", r.Seq, r.Session)
		}
	}
	if st := j.Stats(); st.Reserved != 0 || st.Segments < 2 {
		t.Fatalf("%+v", st)
	}
	rep, err := journal.Verify(dir, journal.Expect{})
	if err != nil || rep.Fault != nil || rep.Records != 906 || rep.Last != 906 || rep.Chain != chain {
		t.Fatalf("%+v %v", rep, err)
	}
}

func TestTwoProcessesRefuse(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, journal.Options{})
	if _, err := journal.Open(dir, options(journal.Options{})); err == nil {
		t.Fatal("opened twice")
	}
}

func TestClosedRefuses(t *testing.T) {
	j := open(t, t.TempDir(), journal.Options{})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(statement(session("s"), 1, "x")); !errors.Is(err, events.ErrFull) {
		t.Fatal(err)
	}
	if err := record(j, &events.Chunk{Session: session("s")}); !errors.Is(err, events.ErrFull) {
		t.Fatal(err)
	}
	if _, err := j.Reader(1).Next(t.Context()); !errors.Is(err, journal.ErrClosed) {
		t.Fatal(err)
	}
}

func TestUnknownKindIsRefused(t *testing.T) {
	j := open(t, t.TempDir(), journal.Options{})
	for _, k := range []events.Kind{0, 200} {
		if _, err := j.Append(&events.Event{Kind: k}); err == nil {
			t.Fatal("taken")
		}
	}
}

func TestConcurrentAppendsKeepOrder(t *testing.T) {
	j := open(t, t.TempDir(), journal.Options{SegmentBytes: 64 << 10})
	var wg sync.WaitGroup
	const each = 200
	for g := range 16 {
		wg.Go(func() {
			s := session(fmt.Sprint(g))
			for n := range uint64(each) {
				tk, err := j.Append(statement(s, n+1, "x"))
				if err == nil && n%10 == 0 {
					err = tk.Wait(context.Background())
				}
				if err == nil {
					err = record(j, &events.Chunk{Session: s, Number: n + 1, Kind: events.ChunkStatement, Data: []byte("exact")})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	wait(t, must(t)(j.Append(event(events.Alarm, nil, 0))))
	next := map[string]uint64{}
	for _, r := range all(t, j, 1) {
		switch {
		case r.Kind == events.Statement:
			next[r.Session]++
			if l := decode(t, r); l.Number != next[r.Session] || l.UID != fmt.Sprintf("%s-%d", j.Chain(), r.Seq) {
				t.Fatalf("session %s: %+v after %d", r.Session, l, next[r.Session]-1)
			}
		case r.Kind == 0:
			if cs, err := events.ParseChunks(nil, r.Payload); err != nil || len(cs) != 1 || cs[0].Number != next[r.Session] {
				t.Fatalf("chunks %+v after statement %d: %v", cs, next[r.Session], err)
			}
		}
	}
	if len(next) != 16 || next["3"] != each {
		t.Fatalf("%v", next)
	}
}

func TestReaderWaitsForDurable(t *testing.T) {
	j := open(t, t.TempDir(), journal.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := j.Reader(1).Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	got := make(chan events.Record)
	go func() {
		r := j.Reader(1)
		defer r.Close()
		for range 3 {
			rec, _ := r.Next(context.Background())
			if rec.Seq > j.Durable() {
				t.Error("given out before it was durable")
			}
			got <- rec
		}
	}()
	for i := range uint64(3) {
		must(t)(j.Append(statement(session("s"), i+1, "x")))
		if r := <-got; r.Seq != i+1 {
			t.Fatal(r.Seq)
		}
	}
}

func TestLongChunksAreSplit(t *testing.T) {
	j := open(t, t.TempDir(), journal.Options{})
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i * 7)
	}
	s := session("s")
	if err := record(j, &events.Chunk{Session: s, Number: 1, Kind: events.ChunkResult, Data: data}); err != nil {
		t.Fatal(err)
	}
	wait(t, must(t)(j.Append(event(events.Response, s, 1))))
	var back []byte
	for _, r := range all(t, j, 1) {
		if r.Kind == 0 {
			cs, err := events.ParseChunks(nil, r.Payload)
			if err != nil || len(cs) != 1 || len(cs[0].Data) > 256<<10 {
				t.Fatal(len(cs), err)
			}
			back = append(back, cs[0].Data...)
		}
	}
	if string(back) != string(data) {
		t.Fatal("the chunk changed")
	}
}
