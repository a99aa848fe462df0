package recorder_test

import (
	"fmt"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

// small is the chain of a host with short statements of many sessions.
func small(records int) []recorder.Message {
	h := newHost("c1")
	for i := 0; h.Last() < uint64(records); i++ {
		s := newSession(fmt.Sprintf("%08d-7a31-7c00-8000-000000000000", i))
		h.tell(events.Event{Kind: events.SessionOpen, Session: s})
		for n := uint64(1); n <= 40; n++ {
			h.pieces(s, events.Chunk{Number: n, Kind: events.ChunkStatement, Data: []byte("SELECT abalance FROM pgbench_accounts WHERE aid = 4711")},
				events.Chunk{Number: n, Kind: events.ChunkResult, Data: []byte("T\x00\x00\x00\x21\x00\x01abalance\x00D\x00\x00\x00\x0b\x00\x01\x00\x00\x00\x010")})
			h.tell(events.Event{
				Kind: events.Statement, Session: s, Number: n, Command: "SELECT", Normalized: "SELECT abalance FROM pgbench_accounts WHERE aid = $1",
				Verdict: events.Allow, Rules: []string{"read"}, Objects: []string{"public.pgbench_accounts"}, Literals: []events.Digest{{1, 2, 3}},
			})
			h.tell(events.Event{Kind: events.Response, Session: s, Number: n, Status: "ok", Rows: 1, Bytes: 60, Duration: 200 * time.Microsecond})
		}
		h.tell(events.Event{Kind: events.SessionClose, Session: s, Status: "ok", Rows: 40})
	}
	return messages("h1", h.All())
}

func BenchmarkAdd(b *testing.B) { benchAdd(b, b.TempDir) }

func BenchmarkAddPostgreSQL(b *testing.B) {
	server := onDisk(b)
	benchAdd(b, func() string { return pgStore(b, server) })
}

func benchAdd(b *testing.B, store func() string) {
	ms := small(100_000)
	n := 0
	for b.Loop() {
		s, err := recorder.Open(store())
		if err != nil {
			b.Fatal(err)
		}
		for i := 0; i < len(ms); i += 8192 {
			if _, _, err := s.Add(b.Context(), ms[i:min(i+8192, len(ms))], time.Now()); err != nil {
				b.Fatal(err)
			}
		}
		s.Close()
		n += len(ms)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkVerify(b *testing.B) {
	ms := small(100_000)
	s, err := recorder.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for i := 0; i < len(ms); i += 8192 {
		if _, _, err := s.Add(b.Context(), ms[i:min(i+8192, len(ms))], time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	n := 0
	for b.Loop() {
		rep, err := recorder.Verify(b.Context(), s, recorder.Noted{})
		if err != nil || len(rep.Faults) > 0 {
			b.Fatal(rep.Faults, err)
		}
		n += len(ms)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}
