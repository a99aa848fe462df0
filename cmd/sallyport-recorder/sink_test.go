package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/reads"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
)

// From a host's chain to a SIEM's file, and from the recorder's store to it
// again, by the program as it is run.
func TestSink(t *testing.T) {
	dir := t.TempDir()
	s, err := jetstream.StartServer(jetstream.Options{Dir: filepath.Join(dir, "nats"), Listen: "127.0.0.1:0", Host: "h1", Sinks: []string{"archive"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	j, err := journal.Open(filepath.Join(dir, "journal"), journal.Options{Host: "h1", Encode: ocsf.Append, Revive: ocsf.Revive})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	at := time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)
	var batch []recorder.Message
	for i := range 20 {
		if _, err := j.Append(&events.Event{Kind: events.Alarm, Time: at.Add(time.Duration(i) * time.Minute), Message: "full"}); err != nil {
			t.Fatal(err)
		}
	}
	for r := j.Reader(1); len(batch) < 20; {
		rec, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rec.Payload = bytes.Clone(rec.Payload)
		batch = append(batch, recorder.Message{Host: "h1", Record: rec})
	}
	sh := &jetstream.Shipper{Host: "h1", Conn: nc, Source: jetstream.Source{
		Chain: j.Chain(), First: j.First, Last: j.Last, Release: j.Release,
		Open: func(from uint64) (jetstream.Reader, error) { return j.Reader(from), nil },
	}}
	background(t, func(ctx context.Context) error { return sh.Run(ctx) })

	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	metrics := l.Addr().String()
	l.Close()
	config := write("sinks.yaml", fmt.Sprintf("nats: %s\nnkey: %s\nstate: state\nmetrics: %s\nsinks:\n- name: archive\n  file: {path: events.jsonl}\n",
		s.URL(), s.SeedFile(jetstream.RoleSink), metrics))
	if code := run(t.Context(), []string{"sink", "check", "--config", config}); code != 0 {
		t.Fatal(code)
	}
	if code := run(t.Context(), []string{"sink", "run", "--config", write("bad.yaml", "sinks: []\n")}); code != 2 {
		t.Errorf("a wrong configuration: exit code %d", code)
	}
	stop := background(t, func(ctx context.Context) error {
		if code := run(ctx, []string{"sink", "run", "--config", config}); code != 0 {
			return fmt.Errorf("exit code %d", code)
		}
		return nil
	})
	out := filepath.Join(dir, "events.jsonl")
	until(t, func() bool { return strings.Count(read(out), "\n") == 20 })
	until(t, func() bool { // the file has them first
		res, err := http.Get("http://" + metrics + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return strings.Contains(string(b), `sallyport_sink_events_total{sink="archive"} 20`)
	})
	stop()

	store := filepath.Join(dir, "store")
	db, err := recorder.Open(store)
	if err != nil {
		t.Fatal(err)
	}
	if _, alarms, err := db.Add(t.Context(), batch, time.Now()); err != nil || len(alarms) > 0 {
		t.Fatal(alarms, err)
	}
	db.Close()
	before := read(out)
	if err := os.Remove(out); err != nil {
		t.Fatal(err)
	}
	args := []string{"sink", "backfill", "--config", config, "--store", store, "--sink", "archive", "--from", "2026-11-27T10:05:00Z", "--to", "2026-11-27T10:15:00Z"}
	if code := run(t.Context(), args); code != 0 {
		t.Fatal(code)
	}
	if lines := strings.SplitAfter(before, "\n"); read(out) != strings.Join(lines[5:15], "") {
		t.Errorf("%s", read(out))
	}
	record, err := reads.Open(t.Context(), store, "")
	if err != nil {
		t.Fatal(err)
	}
	defer record.Close()
	if who, err := record.Between(t.Context(), time.Time{}, time.Now().Add(time.Hour)); err != nil || len(who) != 1 || !strings.Contains(who[0].Text, "from 2026-11-27T10:05:00Z to 2026-11-27T10:15:00Z for the sink archive") {
		t.Errorf("on the record of who read: %v %v", who, err)
	}
	if code := run(t.Context(), append(args[:len(args)-1], "2026-11-27T10:00:00Z")); code != 2 {
		t.Errorf("an end before its start: exit code %d", code)
	}
}

func background(t *testing.T, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

func read(file string) string { b, _ := os.ReadFile(file); return string(b) }

func until(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come to be")
		}
	}
}
