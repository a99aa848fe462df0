package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/rootfile"
)

// What a note can be of.
const (
	guardUp   = "guard up"
	guardDown = "guard down"
)

// note is what somebody did to the guard by hand. It waits in a folder of
// root's until a daemon has it durably on the record: at least once, for a note
// can be recorded by a daemon whose loader dies before it removes the note.
type note struct {
	What  string
	Time  time.Time
	PID   int32
	UID   uint32
	Login *uint32 `json:",omitempty"` // who logged in, behind sudo too; nil: nobody did
	Exe   string
	Ended int    `json:",omitempty"` // connections that were older
	Error string `json:",omitempty"`
}

// noteBy is a note about a process of root's.
func noteBy(what string, c privsep.Caller) note {
	n := note{What: what, Time: time.Now(), PID: c.PID, UID: c.UID, Exe: c.Exe}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/loginuid", c.PID))
	if err != nil {
		return n
	}
	if uid, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32); err == nil && uid != 1<<32-1 {
		login := uint32(uid)
		n.Login = &login
	}
	return n
}

func noteBySelf(what string) note {
	exe, _ := os.Executable()
	return noteBy(what, privsep.Caller{PID: int32(os.Getpid()), UID: uint32(os.Getuid()), Exe: exe})
}

func (n *note) String() string {
	var b strings.Builder
	switch n.What {
	case guardUp:
		b.WriteString("the guard was brought up")
	case guardDown:
		b.WriteString("the guard is taken down: what was covered reaches the services directly")
	default:
		b.WriteString(n.What)
	}
	fmt.Fprintf(&b, "; by process %d (%s) of user %d", n.PID, n.Exe, n.UID)
	if n.Login != nil {
		fmt.Fprintf(&b, ", logged in as user %d", *n.Login)
	}
	if n.What == guardUp {
		fmt.Fprintf(&b, "; %d older connections were ended", n.Ended)
	}
	if n.Error != "" {
		b.WriteString("; not wholly: " + n.Error)
	}
	return b.String()
}

// recordNote records a note, and returns when it is durable.
func (d *daemon) recordNote(text string) error {
	var n note
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return fmt.Errorf("order %s: %w", doNote, err)
	}
	e := events.Event{
		Kind: events.Lifecycle, Time: n.Time, Status: strings.TrimPrefix(n.What, "guard "), Message: n.String(),
		Process: &events.Process{PID: uint32(n.PID), UID: n.UID, Exe: n.Exe},
	}
	t, err := d.events.Append(&e)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	return t.Wait(ctx)
}

// text is the note as it travels and is kept: whatever stands in it, one order
// holds it, in which JSON makes a byte six.
func (n *note) text() ([]byte, error) {
	cut := *n
	cut.What, cut.Exe, cut.Error = cutTo(n.What, 64), cutTo(n.Exe, 512), cutTo(n.Error, 1024)
	return json.Marshal(&cut)
}

// record has the daemon put a note on the record.
func (l *loader) record(n *note) error {
	text, err := n.text()
	if err != nil {
		return err
	}
	if err := l.line.order(doNote, string(text)); err != nil {
		return err
	}
	_, err = l.await(nil, doNote, flushTime+2*time.Second)
	return err
}

// recordNotes has those recorded that wait, and removes them. What can't be
// recorded now waits on, and holds up no other unless the record itself does
// not answer.
func (l *loader) recordNotes() {
	dir := noteFolder(l.cfg.State)
	names, err := waitingNotes(dir)
	errs := []error{err}
	for late := time.Now().Add(flushTime); len(names) > 0 && time.Now().Before(late); names = names[1:] {
		if err := l.recordFile(filepath.Join(dir, names[0])); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", names[0], err))
		}
	}
	text := ""
	if err := errors.Join(errs...); err != nil {
		text = err.Error()
		l.log.Error("a change of the guard by hand is not on the record yet", "error", err)
	}
	if text != "" && text != l.notesTold {
		l.tell(doAlarm, "a change of the guard by hand is not on the record yet: "+text)
	}
	l.notesTold = text
}

// recordFile has one note recorded. One that can't be read is never lost in
// silence: the record says that there was something, and it is set aside.
func (l *loader) recordFile(path string) error {
	name := filepath.Base(path)
	b, err := rootfile.Read(path, maxNote)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var n note
	if err == nil {
		err = json.Unmarshal(b, &n)
	}
	done := rootfile.Remove
	if err != nil {
		n = note{What: "guard", Time: time.Now(), Error: fmt.Sprintf("a note can't be read, look at %s%s: %v", path, unreadSuffix, err)}
		done = func(path string) error { return rootfile.Rename(path, name+unreadSuffix) }
	}
	if err := l.record(&n); err != nil {
		return err
	}
	return done(path)
}

// noteFolder is beside the state, which is the daemon's.
func noteFolder(state string) string { return filepath.Clean(state) + ".guard" }

const (
	noteSuffix   = ".json"
	unreadSuffix = ".unread" // of a note that could not be read, for root to look at
	maxNote      = 64 << 10  // of its file
)

// guardFolder makes that folder, or checks it.
func guardFolder(state string) error {
	dir := noteFolder(state)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	return rootfile.Folder(dir)
}

// waitingNotes returns the names of the notes, oldest first.
func waitingNotes(dir string) ([]string, error) {
	names, err := rootfile.List(dir)
	names = slices.DeleteFunc(names, func(n string) bool {
		return !strings.HasSuffix(n, noteSuffix) || strings.HasPrefix(n, ".")
	})
	slices.Sort(names)
	return names, err
}

// leave writes a note durably into the folder for state's.
func (n *note) leave(state string) error {
	err := guardFolder(state)
	if err == nil {
		var b []byte
		if b, err = n.text(); err == nil {
			// Names sort by time.
			name := fmt.Sprintf("%019d-%d%s", n.Time.UnixNano(), n.PID, noteSuffix)
			err = rootfile.Write(filepath.Join(noteFolder(state), name), b)
		}
	}
	if err != nil {
		return fmt.Errorf("the note about it can't be left for the record: %w", err)
	}
	return nil
}
