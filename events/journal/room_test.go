package journal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
)

func TestFullRefusesStatementsAndTakesOutcomes(t *testing.T) {
	j := open(t, t.TempDir(), journal.Options{MaxBytes: 256 << 10})
	s := session("s")
	must(t)(j.Append(event(events.SessionOpen, s, 0)))
	var n uint64
	var err error
	for err == nil && n < 10000 {
		_, err = j.Append(statement(s, n+1, strings.Repeat("x", 200)))
		if err == nil {
			n++
		}
	}
	if !errors.Is(err, events.ErrFull) || !strings.Contains(err.Error(), "max_bytes") {
		t.Fatalf("after %d statements: %v", n, err)
	}
	if err := record(j, &events.Chunk{Session: s, Number: n, Kind: events.ChunkResult, Data: make([]byte, 200<<10)}); !errors.Is(err, events.ErrFull) {
		t.Fatal(err)
	}
	// There is room for alarms, but it is not that of outcomes.
	alarms := 0
	for err = nil; err == nil && alarms < 10000; alarms++ {
		_, err = j.Append(event(events.Alarm, nil, 0))
	}
	if alarms < 10 || !errors.Is(err, events.ErrFull) {
		t.Fatalf("%d alarms: %v", alarms, err)
	}
	// Each outcome may be larger than its intent by what was kept for it.
	for i := range n {
		r := event(events.Response, s, i+1)
		r.Normalized, r.Message = strings.Repeat("x", 200), strings.Repeat("y", 1500)
		must(t)(j.Append(r))
	}
	must(t)(j.Append(event(events.SessionClose, s, 0)))
	wait(t, must(t)(j.Append(event(events.Alarm, nil, 0))))
	st := j.Stats()
	if st.Reserved != 0 || st.Used > st.Max {
		t.Fatalf("%+v", st)
	}
	if err := j.Release(j.Last()); err != nil {
		t.Fatal(err)
	}
}

func TestFullComesBackByRelease(t *testing.T) {
	j := open(t, t.TempDir(), journal.Options{MaxBytes: 256 << 10})
	fill := func() (n int) {
		for ; n < 10000; n++ {
			tk, err := j.Append(event(events.Drift, session("s"), 0))
			if errors.Is(err, events.ErrFull) {
				return n
			}
			wait(t, must(t)(tk, err))
		}
		return n
	}
	n := fill()
	if n == 0 || n == 10000 {
		t.Fatal(n)
	}
	if err := j.Release(j.Last()); err != nil {
		t.Fatal(err)
	}
	if m := fill(); m < n/2 {
		t.Fatalf("%d events after the release, %d before", m, n)
	}
}

func TestBufferIsBounded(t *testing.T) {
	d := newDisk()
	j, err := on(t, d, journal.Options{BufferBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	d.mu.Lock() // the disk stands still
	n := 0
	for ; n < 100000; n++ {
		if _, err = j.Append(statement(session("s"), uint64(n+1), "x")); err != nil {
			break
		}
	}
	buffered := j.Stats().Buffered
	d.mu.Unlock()
	if !errors.Is(err, events.ErrFull) || buffered > 64<<10 {
		t.Fatalf("%v after %d with %d bytes", err, n, buffered)
	}
	deadline := time.Now().Add(2 * time.Minute)
	for err != nil && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
		_, err = j.Append(statement(session("s"), uint64(n+1), "x"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	d := newDisk()
	j, err := on(t, d, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	tk := must(t)(j.Append(statement(session("s"), 1, "x")))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := tk.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	j, err := journal.Open(t.TempDir(), journal.Options{
		Host: "h1", Sync: true, CheckpointEvery: -1, BufferBytes: 64 << 20,
		Encode: func(dst []byte, uid string, e *events.Event) []byte {
			return append(append(dst, uid...), e.Normalized...)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	s := session("s")
	st, re := statement(s, 1, "select $1"), event(events.Response, s, 1)
	must(t)(j.Append(event(events.SessionOpen, s, 0)))
	both := func() {
		st.Number++
		re.Number = st.Number
		if _, err := j.Append(st); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Append(re); err != nil {
			t.Fatal(err)
		}
	}
	for range 20000 {
		both()
	}
	// The committer's own channel, once a group, is all there is.
	if n := testing.AllocsPerRun(20000, both); n > 0.5 {
		t.Fatalf("%v allocations for two events", n)
	}
}

func benchmark(b *testing.B, goroutines int, wait bool) {
	j, err := journal.Open(b.TempDir(), journal.Options{
		Host: "h1", Sync: true, MaxBytes: 64 << 30, CheckpointEvery: -1,
		Encode: func(dst []byte, uid string, e *events.Event) []byte {
			return append(append(dst, uid...), e.Normalized...)
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	text := strings.Repeat("x", 1400) // as long as an event is
	start := cpu()
	b.ResetTimer()
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			s := session(fmt.Sprint(g))
			e := statement(s, 0, text)
			r := event(events.Response, s, 0)
			r.Normalized = text
			for i := g; i < b.N; i += goroutines {
				e.Number++
				tk, err := j.Append(e)
				if err == nil && wait {
					err = tk.Wait(context.Background())
				}
				for errors.Is(err, events.ErrFull) {
					time.Sleep(50 * time.Microsecond)
					_, err = j.Append(e)
				}
				if err == nil && e.Number%64 == 0 {
					r.Number = e.Number
					_, err = j.Append(r)
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
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64((cpu()-start).Microseconds())/float64(b.N), "µs-cpu/event")
}

func cpu() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func BenchmarkAppend(b *testing.B)        { benchmark(b, 1, false) }
func BenchmarkAppendWait1(b *testing.B)   { benchmark(b, 1, true) }
func BenchmarkAppendWait8(b *testing.B)   { benchmark(b, 8, true) }
func BenchmarkAppendWait32(b *testing.B)  { benchmark(b, 32, true) }
func BenchmarkAppendWait256(b *testing.B) { benchmark(b, 256, true) }

// BenchmarkRecord32 writes transcripts: each Record is in the operating
// system when it returns.
func BenchmarkRecord32(b *testing.B) {
	j, err := journal.Open(b.TempDir(), journal.Options{
		Host: "h1", Sync: true, MaxBytes: 64 << 30, CheckpointEvery: -1,
		Encode: func(dst []byte, uid string, e *events.Event) []byte { return append(dst, uid...) },
	})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	data := make([]byte, 4096)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for g := range 32 {
		wg.Go(func() {
			c := &events.Chunk{Session: session(fmt.Sprint(g)), Number: 1, Kind: events.ChunkResult, Data: data}
			for i := g; i < b.N; i += 32 {
				if err := record(j, c); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
