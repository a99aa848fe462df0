package journal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
)

func on(t testing.TB, d *disk, o journal.Options) (*journal.Journal, error) {
	t.Helper()
	o.FS = d
	return journal.Open("memory", options(o))
}

// work appends statements and notes which were promised to be durable. It
// ends with the first refusal.
func work(j *journal.Journal, life, n int) (promised []string, err error) {
	s := session(fmt.Sprintf("life-%d", life))
	if _, err := j.Append(event(events.SessionOpen, s, 0)); err != nil {
		return nil, err
	}
	for i := range n {
		text := fmt.Sprintf("life %d statement %d", life, i)
		st := statement(s, uint64(i+1), text)
		st.Later = true // which only a journal with Together minds
		tk, err := j.Append(st)
		if err != nil {
			return promised, err
		}
		if i%3 == 0 {
			if err := record(j, &events.Chunk{Session: s, Number: uint64(i + 1), Kind: events.ChunkResult, Data: []byte("rows")}); err != nil {
				return promised, err
			}
		}
		answered := i%5 < 3 && i < n-3 // before anybody waits
		if answered {
			if _, err := j.Append(event(events.Response, s, uint64(i+1))); err != nil {
				return promised, err
			}
		}
		if i%2 == 0 {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			err = tk.Wait(ctx)
			cancel()
			if err != nil {
				return promised, err
			}
			promised = append(promised, text)
		}
		if i < n-3 && !answered {
			if _, err := j.Append(event(events.Response, s, uint64(i+1))); err != nil {
				return promised, err
			}
		}
	}
	return promised, nil
}

// check opens what is left and requires that each promise is there once, that
// the chain holds, and that nothing is left open. It returns what is there.
func check(t *testing.T, d *disk, promised []string) (found []string) {
	t.Helper()
	j, err := on(t, d, journal.Options{SegmentBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	seen, open := map[string]int{}, map[string]int{}
	for _, r := range all(t, j, j.First()) {
		if r.Kind == 0 {
			continue
		}
		l := decode(t, r)
		key := fmt.Sprint(l.Session, " ", l.Number)
		switch r.Kind {
		case events.Statement:
			seen[l.Text]++
			if l.Status == "" { // else it tells its outcome
				open[key]++
			}
		case events.Response:
			open[key]--
		case events.SessionOpen:
			open[l.Session]++
		case events.SessionClose:
			open[l.Session]--
		}
	}
	for _, p := range promised {
		if seen[p] != 1 {
			t.Fatalf("%q stands %d times", p, seen[p])
		}
	}
	for k, n := range open {
		if n > 0 || n < 0 && j.First() == 1 {
			t.Fatalf("%q lacks %d ends", k, n)
		}
	}
	if st := j.Stats(); st.Reserved != 0 {
		t.Fatalf("%d bytes are still reserved", st.Reserved)
	}
	for s := range seen {
		found = append(found, s)
	}
	return found
}

var errBroken = errors.New("the disk broke")

// Every write, sync, creation, rename and removal is broken once, twice over:
// the operation lost, and done despite the error.
func TestEveryOperationBroken(t *testing.T) {
	for name, together := range map[string]int{"one by one": 0, "with their outcomes": -1} {
		t.Run(name, func(t *testing.T) {
			everyOperationBroken(t, journal.Options{SegmentBytes: 4 << 10, Together: together})
		})
	}
}

func everyOperationBroken(t *testing.T, o journal.Options) {
	d := newDisk()
	j, err := on(t, d, o)
	if err != nil {
		t.Fatal(err)
	}
	work(j, 0, 60)
	j.Close()
	total := d.ops
	if total < 40 {
		t.Fatalf("only %d operations", total)
	}
	for _, kept := range []bool{false, true} {
		for at := 1; at <= total; at++ {
			d := newDisk()
			broken := ""
			d.fail = func(op string, n int) (bool, error) {
				if n == at {
					broken = op
					return kept, &broke{op}
				}
				return true, nil
			}
			var promised []string
			j, err := on(t, d, o)
			if err == nil {
				promised, err = work(j, 0, 60)
				if err != nil && !errors.Is(err, events.ErrFull) {
					t.Fatalf("operation %d (%s): %v", at, broken, err)
				}
				if err != nil {
					if _, again := j.Append(statement(session("x"), 1, "later")); !errors.Is(again, events.ErrFull) {
						t.Fatalf("operation %d (%s): taken after a failure: %v", at, broken, again)
					}
				}
				j.Close()
			} else if !errors.Is(err, errBroken) {
				t.Fatalf("operation %d (%s): %v", at, broken, err)
			}
			d.fail = nil
			r := rand.New(rand.NewPCG(uint64(at), 1))
			check(t, d.cut(r), promised)
			// What is read after the restart is told to the world: a power cut
			// must not take it back, even if a sync had lost it before.
			restarted := d.kill()
			found := check(t, restarted, promised)
			check(t, restarted.cut(r), found)
		}
	}
}

type broke struct{ op string }

func (b *broke) Error() string { return b.op + ": " + errBroken.Error() }
func (b *broke) Unwrap() error { return errBroken }

// A failed sync is not made again: the second would succeed and lie.
func TestFailedSyncIsFinal(t *testing.T) {
	d := newDisk()
	j, err := on(t, d, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	var once sync.Once
	syncs := 0
	d.mu.Lock()
	d.fail = func(op string, _ int) (kept bool, err error) {
		kept = true
		if op == "sync" {
			syncs++
			once.Do(func() { kept, err = false, syscall.EIO })
		}
		return kept, err
	}
	d.mu.Unlock()
	tk := must(t)(j.Append(statement(session("s"), 1, "lost")))
	if err := tk.Wait(t.Context()); !errors.Is(err, events.ErrFull) || !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := j.Append(event(events.Response, session("s"), 1)); !errors.Is(err, events.ErrFull) {
			t.Fatal(err)
		}
		if err := record(j, &events.Chunk{Session: session("s"), Kind: events.ChunkBinds}); !errors.Is(err, events.ErrFull) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if tk.Done() || syncs != 1 {
		t.Fatalf("durable %v after %d syncs", tk.Done(), syncs)
	}
	if _, err := j.Reader(1).Next(t.Context()); !errors.Is(err, events.ErrFull) {
		t.Fatal(err)
	}
}

func TestPowerCuts(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		d := newDisk()
		var promised []string
		for life := range 4 {
			j, err := on(t, d, journal.Options{SegmentBytes: 4 << 10, Together: -int(seed % 2)})
			if err != nil {
				t.Fatalf("seed %d, life %d: %v", seed, life, err)
			}
			p, err := work(j, life, r.IntN(80))
			if err != nil {
				t.Fatal(err)
			}
			promised = append(promised, p...)
			if r.IntN(3) == 0 {
				if err := j.Release(j.Durable() / 2); err != nil {
					t.Fatal(err)
				}
				promised = nil // some of them are the recorder's now
			}
			next := d.cut(r)
			j.Close()
			d = next
		}
		check(t, d, promised)
	}
}

func TestDiskFullAndBack(t *testing.T) {
	d := newDisk()
	j, err := on(t, d, journal.Options{SegmentBytes: 4 << 10, AheadBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	s := session("s")
	must(t)(j.Append(event(events.SessionOpen, s, 0)))
	wait(t, must(t)(j.Append(statement(s, 1, "before"))))
	d.mu.Lock()
	d.limit, d.space = true, 100
	d.mu.Unlock()
	tk := must(t)(j.Append(statement(s, 2, "finds no room")))
	if err := tk.Wait(t.Context()); !errors.Is(err, events.ErrFull) {
		t.Fatal(err)
	}
	if _, err := j.Append(statement(s, 3, "refused")); !errors.Is(err, events.ErrFull) {
		t.Fatal(err)
	}
	if err := record(j, &events.Chunk{Session: s, Number: 2, Kind: events.ChunkResult, Data: []byte("x")}); !errors.Is(err, events.ErrFull) {
		t.Fatal(err)
	}
	must(t)(j.Append(event(events.Response, s, 1))) // what happened is still told
	d.mu.Lock()
	d.limit = false
	d.mu.Unlock()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		if _, err = j.Append(statement(s, 4, "after")); err == nil || time.Now().After(deadline) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	wait(t, must(t)(j.Append(event(events.SessionClose, s, 0))))
	if !tk.Done() {
		t.Fatal("what waited was not written")
	}
	j.Close()
	var texts []string
	j, err = on(t, d, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for _, r := range all(t, j, 1) {
		if l := decode(t, r); l.Text != "" {
			texts = append(texts, l.Text)
		}
	}
	if fmt.Sprint(texts) != "[before finds no room after]" {
		t.Fatal(texts)
	}
}

func TestDiskFullAtANewSegment(t *testing.T) {
	d := newDisk()
	j, err := on(t, d, journal.Options{SegmentBytes: 2 << 10})
	if err != nil {
		t.Fatal(err)
	}
	for j.Stats().Used < 2<<10 {
		wait(t, must(t)(j.Append(event(events.Drift, nil, 0))))
	}
	d.mu.Lock()
	d.limit, d.space = true, 50
	d.mu.Unlock()
	tk := must(t)(j.Append(event(events.Drift, nil, 0)))
	if err := tk.Wait(t.Context()); !errors.Is(err, events.ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.limit = false
	d.mu.Unlock()
	for end := time.Now().Add(2 * time.Minute); !tk.Done() && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	last := must(t)(j.Append(event(events.Drift, nil, 0)))
	wait(t, last)
	if st := j.Stats(); st.Segments != 2 || st.Err != nil {
		t.Fatalf("%+v", st)
	}
	j.Close()
	if j, err = on(t, d, journal.Options{}); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if n := len(all(t, j, 1)); uint64(n) != last.Seq() {
		t.Fatal(n)
	}
}

func TestRecoveryClosesWhatWasOpen(t *testing.T) {
	d := newDisk()
	j, err := on(t, d, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := session("s")
	must(t)(j.Append(event(events.SessionOpen, s, 0)))
	must(t)(j.Append(statement(s, 1, "done")))
	must(t)(j.Append(event(events.Response, s, 1)))
	must(t)(j.Append(statement(s, 2, "open")))
	for range 3 {
		if err := record(j, &events.Chunk{Session: s, Number: 2, Kind: events.ChunkResult, Data: []byte("0123456789")}); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, must(t)(j.Append(statement(s, 3, "open too"))))
	left := d.kill()
	j.Close()
	var revived []byte
	j, err = on(t, left, journal.Options{Revive: func(p []byte) (*events.Session, error) {
		revived = append([]byte(nil), p...)
		return &events.Session{Actor: "agent-a"}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	var got []string
	for _, r := range all(t, j, 9) {
		l := decode(t, r)
		got = append(got, fmt.Sprint(l.Kind, " ", l.Session, " ", l.Number, " ", l.Status, " ", l.Recorded))
	}
	want := "[response s 2 interrupted 30 response s 3 interrupted 0 session.close s 0 interrupted 0]"
	if fmt.Sprint(got) != want {
		t.Fatalf("%v\nwant %s", got, want)
	}
	// It can't know how much of a result its transcript was to hold.
	for i, n := range []int{30, 0} {
		if l, want := decode(t, all(t, j, 9)[i]), fmt.Sprintf("how much of the result was shown is unknown: the transcript holds %d bytes of it", n); l.Message != want {
			t.Errorf("%q, want %q", l.Message, want)
		}
	}
	if l := decode(t, events.Record{Payload: revived}); l.Kind != "session.open" {
		t.Fatalf("revived from %s", revived)
	}
}

func TestReleaseKeepsWhatIsOpen(t *testing.T) {
	d := newDisk()
	j, err := on(t, d, journal.Options{SegmentBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	long := session("long")
	must(t)(j.Append(event(events.SessionOpen, long, 0)))
	must(t)(j.Append(statement(long, 1, "runs for a day")))
	if _, err := work(j, 1, 100); err != nil {
		t.Fatal(err)
	}
	wait(t, must(t)(j.Append(event(events.Alarm, nil, 0))))
	if err := j.Release(j.Last() + 1); err == nil {
		t.Fatal("released what does not exist")
	}
	used := j.Stats().Used
	if err := j.Release(j.Last()); err != nil {
		t.Fatal(err)
	}
	first := j.First()
	if first < 50 || j.Stats().Used >= used {
		t.Fatalf("first %d, %d bytes of %d", first, j.Stats().Used, used)
	}
	if _, err := j.Reader(1).Next(t.Context()); !errors.Is(err, journal.ErrReleased) {
		t.Fatal(err)
	}
	all(t, j, first)
	left := d.kill()
	j.Close()
	revived := 0
	j, err = on(t, left, journal.Options{Revive: func(p []byte) (*events.Session, error) {
		if l := decode(t, events.Record{Payload: p}); l.Session == "long" {
			revived++
		}
		return nil, io.EOF
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	n := 0
	for _, r := range all(t, j, first) {
		if r.Session == "long" && r.Kind != 0 {
			if l := decode(t, r); l.Status == "interrupted" {
				n++
			}
		}
	}
	if n != 2 || revived != 1 {
		t.Fatalf("%d ends of the long session, revived %d times", n, revived)
	}
}

// What the transcript holds of a result counts once: in segments that were
// released, in those that were not, and after the release.
func TestReleaseCountsAResultOnce(t *testing.T) {
	d := newDisk()
	j, err := on(t, d, journal.Options{SegmentBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	s := session("long")
	want := int64(0)
	add := func() {
		text := strings.Repeat("x", 100)
		if err := record(j, now(s, 1, text)); err != nil {
			t.Fatal(err)
		}
		want += int64(len(text))
	}
	wait(t, must(t)(j.Append(statement(s, 1, "runs for a day"))))
	for range 2 {
		for range 100 {
			add()
		}
		wait(t, must(t)(j.Append(event(events.Alarm, nil, 0))))
		for range 5 { // in the segment that stays
			add()
		}
		wait(t, must(t)(j.Append(event(events.Alarm, nil, 0))))
		first := j.First()
		if err := j.Release(j.Last()); err != nil {
			t.Fatal(err)
		}
		if j.First() == first {
			t.Fatalf("nothing was released: it begins with %d", first)
		}
	}
	add()
	wait(t, must(t)(j.Append(event(events.Alarm, nil, 0))))
	left := d.kill()
	j.Close()
	if j, err = on(t, left, journal.Options{}); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	rs := all(t, j, j.First())
	if l := decode(t, rs[len(rs)-1]); l.Status != "interrupted" || l.Recorded != want {
		t.Errorf("%+v, want %d bytes", l, want)
	}
}

// A crash between the snapshot and the removals: what both tell of is closed
// once.
func TestReleaseCutShort(t *testing.T) {
	d := newDisk()
	j, err := on(t, d, journal.Options{SegmentBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	long := session("long")
	must(t)(j.Append(event(events.SessionOpen, long, 0)))
	must(t)(j.Append(statement(long, 1, "runs for a day")))
	if _, err := work(j, 1, 100); err != nil {
		t.Fatal(err)
	}
	wait(t, must(t)(j.Append(event(events.Alarm, nil, 0))))
	d.mu.Lock()
	d.fail = func(op string, _ int) (bool, error) {
		if op == "remove" {
			return false, errBroken
		}
		return true, nil
	}
	d.mu.Unlock()
	if err := j.Release(j.Last()); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	wait(t, must(t)(j.Append(event(events.Alarm, nil, 0)))) // the journal itself is well
	left := d.kill()
	j.Close()
	if j, err = on(t, left, journal.Options{}); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if j.First() != 1 {
		t.Fatal(j.First())
	}
	n := 0
	for _, r := range all(t, j, 1) {
		if r.Session == "long" && decode(t, r).Status == "interrupted" {
			n++
		}
	}
	if n != 2 {
		t.Fatalf("%d ends of the long session", n)
	}
	if err := j.Release(j.Last()); err != nil {
		t.Fatal(err)
	}
}
