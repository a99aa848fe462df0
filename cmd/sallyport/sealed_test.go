package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/seal"
)

// Where recipients are configured no file of the host, of its journal and of its NATS, has
// a word of what was said, and a recipient reads all of it.
func TestHostEncryptsTranscripts(t *testing.T) {
	const planted = "Quagmire-Giggity-7731"
	h := newHost(t, startPostgres(t))
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	recipients := filepath.Join(h.dir, "recipients.txt")
	h.more = "  transcripts: {recipients_file: " + recipients + "}\n"
	h.configure()
	h.write(recipients, "nobody\n")
	h.start()
	if code := h.wait(); code != 2 || !has(h.log.String(), h.config+":", "line 1: no recipient") {
		t.Errorf("exit code %d: %s", code, h.log)
	}
	h.write(recipients, id.Recipient().String()+"\n")
	h.serve()
	if out, err := h.psqlWith(h.token("agent-a"), "-c", "select '"+planted+"' || upper('-row')"); err != nil || out != planted+"-ROW\n" {
		t.Fatalf("%q, %v", out, err)
	}
	h.stop()
	if err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(planted)) {
			t.Errorf("the planted word stands in %s", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(filepath.Join(h.dir, "state", "journal"), journal.Options{Encode: ocsf.Append, CheckpointEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	r := j.Reader(j.First())
	defer r.Close()
	var said string
	openers := map[string]*seal.Opener{}
	for range j.Last() - j.First() + 1 {
		rec, err := r.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if rec.Kind != 0 {
			continue
		}
		if openers[rec.Session] == nil {
			openers[rec.Session] = seal.NewOpener("test", rec.Session, []age.Identity{id})
		}
		b, more, err := openers[rec.Session].Payload(rec.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			continue
		}
		cs, err := events.ParseChunks(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cs {
			said += string(c.Data)
		}
	}
	if !strings.Contains(said, "select '"+planted+"'") || !strings.Contains(said, planted+"-ROW") {
		t.Errorf("a recipient reads %d bytes without the statement and its row", len(said))
	}
}
