package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
)

// TestKeepEncryptHoldPrune runs the program as an operator does: records come from
// NATS, transcripts are encrypted, one is held and one deleted.
func TestKeepEncryptHoldPrune(t *testing.T) {
	const planted = "Quagmire-Giggity-7731"
	dir := t.TempDir()
	store := filepath.Join(dir, "store")
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("recipients.txt", "# the auditor\n"+id.Recipient().String()+"\n")
	config := write("recorder.yaml", "transcripts: {recipients_file: recipients.txt}\nretention: {keep: 1d}\n")
	s, err := jetstream.StartServer(jetstream.Options{Dir: filepath.Join(dir, "nats"), Listen: "127.0.0.1:0", Host: "h1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	c, err := journal.Open(filepath.Join(dir, "journal"), journal.Options{Host: "h1", Encode: ocsf.Append, Revive: ocsf.Revive})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	n, old := 0, time.Now().Add(-10*24*time.Hour)
	for _, session := range []string{"s-1", "s-2"} {
		x := &events.Session{ID: session, Host: "h1", Protocol: "postgres", Resource: "clinic", Actor: "agent-a"}
		tell := func(ev events.Event) {
			t.Helper()
			n++
			ev.Session, ev.Time = x, old.Add(time.Duration(n)*time.Second)
			if _, err := c.Append(&ev); err != nil {
				t.Fatal(err)
			}
		}
		tell(events.Event{Kind: events.SessionOpen})
		if _, err := c.Record(&events.Chunk{Session: x, Kind: events.ChunkStatement, Number: 1, Time: old, Data: []byte("SELECT '" + planted + "'")}); err != nil {
			t.Fatal(err)
		}
		tell(events.Event{Kind: events.SessionClose, Status: "closed"})
	}
	sh := &jetstream.Shipper{Host: "h1", Conn: nc, Source: jetstream.Source{
		Chain: c.Chain(), First: c.First, Last: c.Last, Release: c.Release,
		Open: func(from uint64) (jetstream.Reader, error) { return c.Reader(from), nil },
	}}
	background(t, func(ctx context.Context) error { return sh.Run(ctx) })
	stop := background(t, func(ctx context.Context) error {
		if code := run(ctx, []string{"run", "--store", store, "--config", config, "--nats", s.URL(), "--nkey", s.SeedFile(jetstream.RoleRecorder)}); code != 0 {
			return fmt.Errorf("exit code %d", code)
		}
		return nil
	})
	until(t, func() bool {
		r, err := recorder.OpenReader(store)
		if err != nil {
			return false
		}
		defer r.Close()
		hs, err := r.Heads(t.Context())
		return err == nil && len(hs) == 1 && hs[0].Seq == c.Last()
	})
	stop()
	if err := filepath.WalkDir(store, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(read(path), planted) {
			t.Errorf("the planted word stands in %s", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}

	// The bodies are new: the clock of a host that says otherwise deletes nothing.
	tell := func(to any, args ...string) {
		t.Helper()
		cmd := rootCmd()
		var out strings.Builder
		cmd.SetOut(&out)
		cmd.SetArgs(append(args, "--store", store))
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			t.Fatal(args, err)
		}
		if to != nil {
			if err := json.Unmarshal([]byte(out.String()), to); err != nil {
				t.Fatal(out.String(), err)
			}
		}
	}
	var rep recorder.PruneReport
	tell(&rep, "prune", "--config", config, "--dry-run", "--json")
	if !rep.Dry || len(rep.Deleted) != 0 {
		t.Fatalf("%+v", rep)
	}
	tell(nil, "hold", "add", "--session", "s-2", "--reason", "case 7")
	var list []recorder.Hold
	tell(&list, "hold", "ls", "--json")
	if len(list) != 1 || list[0].Session != "s-2" || list[0].Reason != "case 7" || list[0].By == "" {
		t.Fatalf("%+v", list)
	}
	for _, args := range [][]string{
		{"hold", "add", "--reason", "everything?"}, {"hold", "add", "--session", "s-1"}, {"hold", "rm", "99", "--reason", "x"}, {"hold", "rm", fmt.Sprint(list[0].ID)},
	} {
		if code := run(t.Context(), append(args, "--store", store)); code == 0 {
			t.Errorf("%v is taken", args)
		}
	}
	if code := run(t.Context(), []string{"prune", "--store", filepath.Join(dir, "none")}); code != 2 {
		t.Errorf("no store: exit code %d", code)
	}
	db, err := recorder.OpenReader(store)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	v, err := recorder.Verify(t.Context(), db, recorder.Noted{})
	if err != nil || len(v.Faults) > 0 || v.Transcripts.Sealed != v.Transcripts.Bodies || v.Transcripts.Bodies == 0 || v.Acts != 1 {
		t.Errorf("%+v %v", v, err)
	}
	tell(nil, "hold", "rm", fmt.Sprint(list[0].ID), "--reason", "case closed")
	list = nil
	tell(&list, "hold", "ls", "--json")
	if len(list) != 0 {
		t.Errorf("%+v", list)
	}
}
