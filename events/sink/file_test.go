package sink_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/sink"
)

// fileUIDs reads what a sink of files wrote, in its order.
func fileUIDs(t *testing.T, path string) (out []string, files int) {
	t.Helper()
	all, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b string) int { // the one in use is last
		if a == path || b == path {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	for _, name := range all {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewScanner(f)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			v, err := ocsf.Decode(in.Bytes())
			if err != nil {
				t.Fatalf("%s: %v: %s", name, err, in.Bytes())
			}
			out = append(out, v.UID)
		}
		f.Close()
	}
	return out, len(all)
}

func untilFile(t *testing.T, path string, want []string) int {
	t.Helper()
	for end := time.Now().Add(wait); ; time.Sleep(10 * time.Millisecond) {
		got, n := fileUIDs(t, path)
		if slices.Equal(got, want) {
			return n
		}
		if time.Now().After(end) {
			t.Fatalf("%d lines, want %d: %v", len(got), len(want), got)
		}
	}
}

func TestFileRotatesAndLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "it")
	s := load(t, "  file: {path: out/events.jsonl, max_bytes: 65536}\n")
	path := s.Sinks[0].File.Path
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	// What a power cut left of a write.
	if err := os.WriteFile(path, []byte(`{"half":`), 0o600); err != nil {
		t.Fatal(err)
	}
	stop := w.runSink(t, s, sink.Hooks{})
	w.add(100)
	n := untilFile(t, path, uids(100))
	if n < 2 {
		t.Errorf("%d files", n)
	}
	w.acknowledged(t)
	stop()
	w.runSink(t, s, sink.Hooks{})
	w.add(100)
	untilFile(t, path, uids(200))
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 || fi.Size() > 65536 {
		t.Errorf("%v %v", fi, err)
	}
}

func TestFileKeepsSome(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "it")
	s := load(t, "  file: {path: events.jsonl, max_bytes: 65536, keep: 2, format: ecs}\n")
	all := make(chan bool)
	n := 0
	w.runSink(t, s, sink.Hooks{Sent: func(k int) {
		if n += k; n == 400 {
			close(all)
		}
	}})
	w.add(400)
	select {
	case <-all:
	case <-time.After(wait):
		t.Fatal("not all of it came")
	}
	files, err := filepath.Glob(s.Sinks[0].File.Path + "*")
	if err != nil || len(files) != 3 {
		t.Errorf("%v %v", files, err)
	}
	b, err := os.ReadFile(s.Sinks[0].File.Path)
	line, _, _ := strings.Cut(string(b), "\n")
	var doc map[string]any
	if json.Unmarshal([]byte(line), &doc) != nil || doc["ecs"] == nil || err != nil {
		t.Errorf("%v: %s", err, line)
	}
}

// A disk that is full holds the sink up; nothing is acknowledged, and nothing
// of what did not fit is left. /dev/full is a disk that always is.
func TestFileOnAFullDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "it")
	s := load(t, "  file: {path: events.jsonl}\n")
	path := s.Sinks[0].File.Path
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	w.runSink(t, s, sink.Hooks{Retry: func(err error) {
		select {
		case failed <- err:
		default:
		}
	}})
	w.add(20)
	select {
	case err := <-failed:
		if !strings.Contains(err.Error(), "no space left") {
			t.Error(err)
		}
	case <-time.After(wait):
		t.Fatal("nothing failed")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	untilFile(t, path, uids(20))
	w.acknowledged(t)
}

func TestKindsAndSince(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "it")
	s := load(t, "  kinds: [block]\n  since: 2026-11-27T10:00:20Z\n  file: {path: events.jsonl}\n")
	w.runSink(t, s, sink.Hooks{})
	w.chain.Add(events.Alarm, "", "", ocsf.Append(nil, "c1-1", &events.Event{Kind: events.Alarm, Time: start.Add(time.Hour), Message: "full"}))
	for range 15 {
		w.add(1) // numbers 2, 4, ...: the second is the number
	}
	var want []string
	for n := 20; n <= 30; n += 2 {
		want = append(want, "c1-"+itoa(n))
	}
	untilFile(t, s.Sinks[0].File.Path, want)
	w.acknowledged(t)
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// What is no event of this program is written down, and holds nothing up.
func TestWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "it")
	s := load(t, "  file: {path: events.jsonl}\n")
	w.runSink(t, s, sink.Hooks{})
	w.chain.Add(events.Statement, "postgres", "s-1", []byte(`{"metadata":{"product":{"name":"sallyport"},"event_code":"block"}}`))
	w.chain.Add(events.Statement, "postgres", "s-1", []byte("\x00no json"))
	w.add(1)
	untilFile(t, s.Sinks[0].File.Path, []string{"c1-3"})
	w.acknowledged(t)
	b, err := os.ReadFile(filepath.Join(s.State, "it.rejected.jsonl"))
	if err != nil || strings.Count(string(b), "\n") != 2 || !strings.Contains(string(b), `"uid":"c1-1"`) || !strings.Contains(string(b), `"raw":"AG5vIGpzb24="`) {
		t.Errorf("%v: %s", err, b)
	}
}

func TestBackfill(t *testing.T) {
	t.Parallel()
	w := &world{chain: newWorld(t).chain}
	w.add(60)
	s := load(t, "  since: 2026-11-27T23:00:00Z\n  file: {path: events.jsonl}\n")
	target, err := sink.Open(&s.Sinks[0])
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	records := func(yield func(sink.Stored, error) bool) {
		for _, r := range w.chain.All() {
			if !yield(sink.Stored{Host: "h1", Record: r}, nil) {
				return
			}
		}
	}
	from, to := start.Add(21*time.Second), start.Add(81*time.Second)
	n, err := sink.Backfill(context.Background(), &s.Sinks[0], target, s.State, records, from, to, nil)
	if err != nil || n != 30 {
		t.Fatal(n, err)
	}
	untilFile(t, s.Sinks[0].File.Path, uids(60)[10:40])
}

// Two that write one file would lose each other's lines: the second is refused,
// also after the file was moved aside, and when the first is gone it goes on.
func TestAFileHasOneWriter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "it")
	s := load(t, "  file: {path: events.jsonl, max_bytes: 65536}\n")
	stop := w.runSink(t, s, sink.Hooks{})
	refused := func() {
		t.Helper()
		target, err := sink.Open(&s.Sinks[0])
		if err == nil {
			target.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "another sink, run or backfill writes it") {
			t.Errorf("a second writer: %v", err)
		}
	}
	refused()
	w.add(100)
	if n := untilFile(t, s.Sinks[0].File.Path, uids(100)); n < 2 {
		t.Errorf("%d files", n)
	}
	refused()
	stop()
	target, err := sink.Open(&s.Sinks[0])
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	// The file of refused events has one, too.
	backfill := func(records func(func(sink.Stored, error) bool)) error {
		_, err := sink.Backfill(t.Context(), &s.Sinks[0], target, s.State, records, start, start.Add(time.Hour), nil)
		return err
	}
	none := func(func(sink.Stored, error) bool) {}
	if err := backfill(func(func(sink.Stored, error) bool) {
		if err := backfill(none); err == nil || !strings.Contains(err.Error(), "writes it") {
			t.Errorf("a second backfill: %v", err)
		}
	}); err != nil {
		t.Error(err)
	}
}
