package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
)

// A record that is full is set aside whole, and the next one goes on where it ends: what
// was told is on the one or the other, once, whoever wrote it at that moment.
func TestToldRecordGoesOn(t *testing.T) {
	state := t.TempDir()
	r, err := openTold(state, 64<<10, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	id := func(n int) string { return fmt.Sprintf("ap-%020d", n) }
	const writers, each = 8, 100
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for n := range each {
				if err := r.write(t.Context(), &events.Event{
					Kind: events.ApprovalRequest, Time: time.Now(), Status: "notified", Session: &events.Session{Host: "h1"},
					Approval: &events.Approval{ID: id(w*each + n), Step: "notified", Rule: "deletes", Workload: "billing", Resource: "clinic", Why: strings.Repeat("x", 100)},
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob(filepath.Join(state, "record*"))
	if err != nil || len(folders) < 3 {
		t.Fatal(folders, err)
	}
	heads, told, links := map[string]bool{}, map[string]int{}, []string{}
	for _, f := range folders {
		v, err := journal.Verify(f, journal.Expect{})
		if err != nil || v.Fault != nil || v.Torn > 0 {
			t.Fatalf("%s: %+v %v", f, v, err)
		}
		heads[fmt.Sprintf("chain %s, which was full and ends with record %d, %x", v.Chain, v.Last, v.Hash)] = true
		j, err := (&toldRecord{max: 1 << 30}).open(f)
		if err != nil {
			t.Fatal(err)
		}
		rd := j.Reader(1)
		for range v.Last {
			rec, err := rd.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			e, err := ocsf.Decode(rec.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if after, is := strings.CutPrefix(e.Message, "record: it goes on behind "); is {
				links = append(links, after)
			} else if e.Approval != nil {
				told[e.Approval.ID]++
			}
		}
		rd.Close()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(links) != len(folders)-1 {
		t.Errorf("%d of %d follow another", len(links), len(folders))
	}
	for _, l := range links {
		if !heads[l] {
			t.Errorf("it goes on behind none that is there: %s", l)
		}
	}
	for n := range writers * each {
		if told[id(n)] != 1 {
			t.Errorf("%s is on the record %d times", id(n), told[id(n)])
		}
	}
}

// Whatever ends it as it sets a chain aside, the next one says behind which it goes on.
func TestToldRecordEndsAsItIsSetAside(t *testing.T) {
	state := t.TempDir()
	record, begun := filepath.Join(state, "record"), filepath.Join(state, "record.next")
	// One was begun before, and the chain was not set aside.
	if err := os.MkdirAll(filepath.Join(begun, "old"), 0o700); err != nil {
		t.Fatal(err)
	}
	fill := func(folders int) {
		t.Helper()
		r, err := openTold(state, 64<<10, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for {
			if err := r.write(t.Context(), &events.Event{Kind: events.Alarm, Time: time.Now(), Message: strings.Repeat("x", 1000)}); err != nil {
				t.Fatal(err)
			}
			if all, err := filepath.Glob(record + "-*"); err != nil || len(all) == folders {
				break
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	fill(1)
	if _, err := os.Stat(begun); err == nil {
		t.Error("what was begun before is still there")
	}
	if err := os.Rename(record, begun); err != nil { // so far it came
		t.Fatal(err)
	}
	v, err := journal.Verify(begun, journal.Expect{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := openTold(state, 64<<10, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if got := r.j.Chain(); got != v.Chain {
		t.Errorf("another chain, %s, is behind none", got)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	fill(2)
}

// Where the disk is the fault, no other one is begun.
func TestToldRecordOfABadDisk(t *testing.T) {
	state := t.TempDir()
	r, err := openTold(state, 64<<10, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.j.Close(); err != nil { // it takes nothing any more
		t.Fatal(err)
	}
	if err := r.write(t.Context(), &events.Event{Kind: events.Alarm, Time: time.Now(), Message: "x"}); err == nil {
		t.Error("it is on no record")
	}
	if all, err := os.ReadDir(state); err != nil || len(all) != 1 {
		t.Error(all, err)
	}
}
