package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	js "github.com/nats-io/nats.go/jetstream"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/jetstream/natstest"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
)

// A NATS of the user's own that asks for certificates: the host ships, the recorder
// stores, transcripts have their bucket, and a sink hands on.
func TestOverTLS(t *testing.T) {
	dir := t.TempDir()
	a := natstest.NewAuthority(t, dir)
	url := natstest.URL(a.Start(t, -1))
	nc, err := jetstream.Connect(url, "", a.Client(t, "host").Option())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if err := jetstream.Ensure(t.Context(), nc, jetstream.Needs{}, time.Second, "archive"); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(filepath.Join(dir, "journal"), journal.Options{Host: "h1", Encode: ocsf.Append, Revive: ocsf.Revive})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	for range 20 {
		if _, err := j.Append(&events.Event{Kind: events.Alarm, Time: time.Now(), Message: "full"}); err != nil {
			t.Fatal(err)
		}
	}
	sh := &jetstream.Shipper{Host: "h1", Conn: nc, Source: jetstream.Source{
		Chain: j.Chain(), First: j.First, Last: j.Last, Release: j.Release,
		Open: func(from uint64) (jetstream.Reader, error) { return j.Reader(from), nil },
	}}
	background(t, func(ctx context.Context) error { return sh.Run(ctx) })

	mine := a.Client(t, "recorder")
	members := fmt.Sprintf("nats_tls: {ca_file: %s, cert_file: %s, key_file: %s}", mine.CA, mine.Cert, mine.Key)
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	keep := write("recorder.yaml", fmt.Sprintf("transcripts:\n  store: jetstream\n  jetstream:\n    nats: %s\n    bucket: bodies\n    %s\n", url, members))
	sinks := write("sinks.yaml", fmt.Sprintf("nats: %s\n%s\nstate: state\nsinks:\n- name: archive\n  file: {path: events.jsonl}\n", url, members))
	store := filepath.Join(dir, "store")
	recording := []string{"run", "--store", store, "--config", keep, "--nats", url, "--nats-ca", mine.CA, "--nats-key", mine.Key}
	if code := run(t.Context(), recording); code != 2 {
		t.Errorf("a key without its certificate: exit code %d", code)
	}
	for _, args := range [][]string{append(recording, "--nats-cert", mine.Cert), {"sink", "run", "--config", sinks}} {
		background(t, func(ctx context.Context) error {
			if code := run(ctx, args); code != 0 {
				return fmt.Errorf("%s: exit code %d", args[0], code)
			}
			return nil
		})
	}
	until(t, func() bool { return strings.Count(read(filepath.Join(dir, "events.jsonl")), "\n") == 20 })
	until(t, func() bool {
		db, err := recorder.OpenReader(store)
		if err != nil {
			return false
		}
		defer db.Close()
		n := 0
		for r, err := range db.Records(t.Context()) {
			if err == nil && r.Record.Kind == events.Alarm {
				n++
			}
		}
		return n == 20
	})
	api, err := js.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.ObjectStore(t.Context(), "bodies"); err != nil {
		t.Error(err)
	}
}
