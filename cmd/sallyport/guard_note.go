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

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/privsep"
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

// record has the daemon put a note on the record.
func (l *loader) record(n *note) error {
	text, err := json.Marshal(n)
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
// recorded now waits on.
func (l *loader) recordNotes() {
	dir := noteFolder(l.cfg.State)
	names, err := waitingNotes(dir)
	for _, name := range names {
		if err != nil {
			break
		}
		err = l.recordFile(filepath.Join(dir, name))
	}
	if err != nil {
		l.log.Error("a change of the guard by hand is not on the record yet", "error", err)
	}
}

func (l *loader) recordFile(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var n note
	if err := json.Unmarshal(b, &n); err != nil {
		// Never lost in silence: the record says that there was something.
		fi, serr := os.Stat(path)
		if serr != nil {
			return serr
		}
		n = note{What: "guard", Time: fi.ModTime(), Error: "the note " + filepath.Base(path) + " can't be read: " + err.Error()}
	}
	if err := l.record(&n); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// noteFolder is beside the state, which is the daemon's.
func noteFolder(state string) string { return filepath.Clean(state) + ".guard" }

const noteSuffix = ".json"

// waitingNotes returns the names of the notes, oldest first.
func waitingNotes(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), noteSuffix) && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, err
}

// leave writes a note durably into the folder for state's.
func (n *note) leave(state string) error {
	if err := n.write(noteFolder(state)); err != nil {
		return fmt.Errorf("the note about it can't be left for the record: %w", err)
	}
	return nil
}

func (n *note) write(dir string) error {
	if err := rootFolder(dir); err != nil {
		return err
	}
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	// Names sort by time.
	name := fmt.Sprintf("%019d-%d%s", n.Time.UnixNano(), n.PID, noteSuffix)
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncFolder(dir)
}

// rootFolder makes a folder that nobody but root may look into.
func rootFolder(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err == nil {
		return syncFolder(filepath.Dir(dir))
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != 0 || st.Mode&0o077 != 0 {
		return fmt.Errorf("%s: must be a folder of root's with mode 0700", dir)
	}
	return nil
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
