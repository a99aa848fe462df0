package journal_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
)

func production(o journal.Options) journal.Options {
	o.Host, o.Sync, o.Encode, o.Revive = "db-gate-1", true, ocsf.Append, ocsf.Revive
	return o
}

func identified(id string) *events.Session {
	return &events.Session{
		ID: id, Host: "db-gate-1", Protocol: "postgres", Resource: "clinic",
		Destination: netip.MustParseAddrPort("10.0.0.5:5432"), Workload: "triage-bot", Actor: "agent-a", Principal: "dr.grey",
		Actors: []string{"agent-a"}, Issuer: "https://id.example.org", Proof: "oidc+pidfd", Opened: time.UnixMilli(1),
		Process: events.Process{PID: 4711, Start: 1, UID: 1001, Exe: "/usr/bin/psql", Comm: "psql"}, Database: "clinic", User: "clinic",
	}
}

// With the real encoder: what recovery writes names the same agent as what
// was written before, and the journal verifies with its checkpoints.
func TestRecoveredEventsNameTheAgent(t *testing.T) {
	d := newDisk()
	o := production(journal.Options{FS: d, CheckpointEvery: time.Millisecond})
	j, err := journal.Open("memory", o)
	if err != nil {
		t.Fatal(err)
	}
	s := identified("s-1")
	must(t)(j.Append(event(events.SessionOpen, s, 0)))
	wait(t, must(t)(j.Append(statement(s, 1, "select $1"))))
	left := d.kill()
	j.Close()
	o.FS = left
	if j, err = journal.Open("memory", o); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	kinds := map[string]int{}
	for _, r := range all(t, j, 1) {
		v, err := ocsf.Decode(r.Payload)
		if err != nil || v.Seq != r.Seq || v.UID != fmt.Sprintf("%s-%d", j.Chain(), r.Seq) || v.Host != "db-gate-1" {
			t.Fatalf("%+v %v", v, err)
		}
		if v.Status == "interrupted" {
			kinds[v.Kind]++
			if v.Actor != "agent-a" || v.Principal != "dr.grey" || v.Session != "s-1" || v.Resource != "clinic" || v.Process.PID != 4711 {
				t.Fatalf("%+v", v)
			}
		}
	}
	if kinds["response"] != 1 || kinds["session.close"] != 1 {
		t.Fatal(kinds)
	}
}

// Appends, transcripts, two readers and releases at once.
func TestTogether(t *testing.T) {
	dir := t.TempDir()
	j, err := journal.Open(dir, production(journal.Options{SegmentBytes: 64 << 10, CheckpointEvery: time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var readers, writers sync.WaitGroup
	var at [2]atomic.Uint64 // how far each reader is
	for i := range at {
		readers.Go(func() {
			r := j.Reader(1)
			defer r.Close()
			var prev [32]byte
			for n := uint64(1); ; n++ {
				rec, err := r.Next(ctx)
				if ctx.Err() != nil {
					return
				}
				if err != nil || rec.Seq != n || rec.Prev != prev || !rec.Intact() {
					t.Errorf("record %d: %d %v", n, rec.Seq, err)
					return
				}
				prev = rec.Hash
				at[i].Store(n)
				if n%500 == 0 {
					if err := j.Release(min(at[0].Load(), at[1].Load())); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for g := range 8 {
		writers.Go(func() {
			s := identified(fmt.Sprint("s-", g))
			j.Append(event(events.SessionOpen, s, 0))
			for n := range uint64(200) {
				tk, err := j.Append(statement(s, n+1, "select $1"))
				if err == nil {
					err = record(j, &events.Chunk{Session: s, Number: n + 1, Kind: events.ChunkResult, Time: time.Now(), Data: []byte("a row")})
				}
				if err == nil {
					err = tk.Wait(ctx)
				}
				if err == nil {
					_, err = j.Append(event(events.Response, s, n+1))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
			j.Append(event(events.SessionClose, s, 0))
		})
	}
	writers.Wait()
	wait(t, must(t)(j.Append(event(events.Alarm, nil, 0))))
	head := journal.Head{Chain: j.Chain()}
	head.Seq, head.Hash = j.Head()
	time.Sleep(20 * time.Millisecond)
	cancel()
	readers.Wait()
	rep, err := journal.Verify(dir, journal.Expect{
		HostKey: j.HostKey(), Heads: []journal.Head{head},
		Message: func(p []byte) (string, error) { v, err := ocsf.Decode(p); return v.Message, err },
	})
	if err != nil || rep.Fault != nil || rep.Last < 8*602+1 {
		t.Fatalf("%+v %v", rep, err)
	}
	if st := j.Stats(); st.Reserved != 0 || st.Err != nil {
		t.Fatalf("%+v", st)
	}
}

func BenchmarkOCSFWait32(b *testing.B) {
	j, err := journal.Open(b.TempDir(), production(journal.Options{MaxBytes: 64 << 30}))
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	start := cpu()
	b.ResetTimer()
	var wg sync.WaitGroup
	for g := range 32 {
		wg.Go(func() {
			s := identified(fmt.Sprint("s-", g))
			st := statement(s, 0, "SELECT abalance FROM pgbench_accounts WHERE aid = $1")
			st.Verdict, st.Rules, st.Command = events.Allow, []string{"bench"}, "select"
			re := event(events.Response, s, 0)
			re.Rows, re.Bytes = 1, 60
			for i := g; i < b.N; i += 32 {
				st.Number++
				tk, err := j.Append(st)
				if err == nil {
					err = tk.Wait(context.Background())
				}
				if err == nil {
					re.Number = st.Number
					_, err = j.Append(re)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "statements/s")
	b.ReportMetric(float64((cpu()-start).Microseconds())/float64(2*b.N), "µs-cpu/event")
	st := j.Stats()
	b.ReportMetric(float64(st.Used)/float64(st.Appended), "bytes/event")
}
