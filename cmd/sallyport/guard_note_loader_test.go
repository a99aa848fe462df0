package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/rootfile"
)

// noteTaker is a loader whose daemon takes what notes can be read from orders.
func noteTaker(t *testing.T, refuse string) (l *loader, taken func() []note) {
	t.Helper()
	ours, file, err := newLine()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := lineOf(file)
	if err != nil {
		t.Fatal(err)
	}
	l = &loader{
		line: ours, verdicts: make(chan verdict), log: slog.New(slog.DiscardHandler),
		cfg: &config.Config{State: filepath.Join(t.TempDir(), "state")},
	}
	var all []note
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			o, _, err := theirs.next()
			if err != nil {
				return
			}
			var n note
			if err = json.Unmarshal([]byte(o.Text), &n); err == nil && n.What == refuse {
				err = errors.New("no room")
			}
			if err == nil {
				all = append(all, n)
			}
			if o.Do == doNote {
				_ = theirs.answer(verdictOf(doNote, err))
			}
		}
	}()
	go func() {
		for {
			v, err := ours.verdict()
			if err != nil {
				return
			}
			l.verdicts <- v
		}
	}()
	return l, func() []note {
		ours.close()
		<-done
		theirs.close()
		return all
	}
}

// One note that can't be sent or read holds up no other, and what could not be
// read is told and kept.
func TestNotesDoNotHoldUpEachOther(t *testing.T) {
	l, taken := noteTaker(t, "refused")
	if err := guardFolder(l.cfg.State); err != nil {
		t.Fatal(err)
	}
	dir := noteFolder(l.cfg.State)
	long := strings.Repeat("\x01", 20<<10)
	raw, err := json.Marshal(note{What: guardUp, PID: 1, Error: strings.Repeat("x", 20<<10)}) // of an older version
	if err != nil {
		t.Fatal(err)
	}
	refused, _ := json.Marshal(note{What: "refused"})
	for name, b := range map[string][]byte{"1.json": raw, "2.json": []byte("{"), "4.json": make([]byte, 70<<10), "5.json": refused, ".new-6": raw} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "3.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "theirs")
	if err := errors.Join(os.WriteFile(other, []byte(`{"What":"forged"}`), 0o600), os.Symlink(other, filepath.Join(dir, "3b.json"))); err != nil {
		t.Fatal(err)
	}
	last := note{What: guardDown, Time: time.Now(), PID: 9, Error: long, Exe: "/sbin/" + long}
	if err := last.leave(l.cfg.State); err != nil {
		t.Fatal(err)
	}
	l.recordNotes()
	l.recordNotes()
	var did []string
	for _, n := range taken() {
		did = append(did, fmt.Sprintf("%s %d %t", n.What, n.PID, strings.Contains(n.Error, "can't be read")))
	}
	want := []string{"guard up 1 false", "guard down 9 false", "guard 0 true", "guard 0 true", "guard 0 true", "guard 0 true"}
	if !slices.Equal(did, want) {
		t.Errorf("on the record: %q, want %q", did, want)
	}
	left, err := rootfile.List(dir)
	slices.Sort(left)
	if err != nil || !slices.Equal(left, []string{".new-6", "2.json.unread", "3.json.unread", "3b.json.unread", "4.json.unread", "5.json"}) {
		t.Errorf("left: %q, %v", left, err)
	}
}

// In a folder that others may write to nothing is read.
func TestNotesOfAnUnsafeFolder(t *testing.T) {
	l, taken := noteTaker(t, "")
	n := note{What: guardDown, Time: time.Now()}
	if err := n.leave(l.cfg.State); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(noteFolder(l.cfg.State), 0o770); err != nil {
		t.Fatal(err)
	}
	l.recordNotes()
	if all := taken(); len(all) != 0 || !strings.Contains(l.notesTold, "mode 0700") {
		t.Errorf("%+v, told: %q", all, l.notesTold)
	}
}
