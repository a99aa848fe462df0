// Package reads puts on a record who reads the evidence: a chain like a host's, in
// the folder reads of the recorder's store or another one, which sallyport verify
// --journal verifies. What can't go on the record is not read.
package reads

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
)

// Flag is the name of the flag that names another folder, and Usage its text.
const (
	Flag  = "reads"
	Usage = "folder of the record of who reads the evidence (default reads in the store); for who may not write that"
)

// LockTime is what one reader waits for another.
var LockTime = 30 * time.Second

// Record is the record, open for one reader at a time.
type Record struct {
	j      *journal.Journal
	folder string
}

// Read is a line of the record.
type Read struct {
	UID, Host, What, Text string
	Time                  time.Time
}

// Open opens the record of a store; folder "": reads in it.
func Open(ctx context.Context, store, folder string) (*Record, error) {
	if folder == "" {
		if strings.Contains(store, "://") {
			return nil, errors.New("the store has no folder: name one with --reads")
		}
		folder = filepath.Join(store, "reads")
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(LockTime); ; {
		j, err := journal.Open(folder, journal.Options{
			Host: host, MaxBytes: 1 << 30, SegmentBytes: 16 << 20, AheadBytes: -1, Sync: true, Encode: ocsf.Append, Revive: ocsf.Revive,
		})
		if err == nil {
			return &Record{j, folder}, nil
		}
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) || time.Now().After(end) || !pause(ctx, 200*time.Millisecond) {
			return nil, fmt.Errorf("that the evidence is read can't go on the record: %w (run it as the account that owns the store, or name a folder of your own with --reads)", err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Note is on stable storage when it returns nil. what is a word: "read".
func (r *Record) Note(ctx context.Context, what, text string) error {
	t, err := r.j.Append(&events.Event{Kind: events.Lifecycle, Time: time.Now(), Status: what, Message: text, Process: self()})
	if err == nil {
		err = t.Wait(ctx)
	}
	if err != nil {
		return fmt.Errorf("that the evidence is read can't go on the record: %w", err)
	}
	return nil
}

// Between returns what was read in a time.
func (r *Record) Between(ctx context.Context, from, to time.Time) (out []Read, err error) {
	in := r.j.Reader(1)
	defer in.Close()
	for last, seq := r.j.Last(), uint64(0); seq < last; {
		rec, err := in.Next(ctx)
		if err != nil {
			return nil, fmt.Errorf("the record of who read the evidence: %w", err)
		}
		seq = rec.Seq
		v, err := ocsf.Decode(rec.Payload)
		if err != nil {
			return nil, fmt.Errorf("the record of who read the evidence: %w", err)
		}
		if rec.Kind == events.Lifecycle && v.Status == "read" && !v.Time.Before(from) && v.Time.Before(to) {
			out = append(out, Read{v.UID, v.Host, v.Status, v.Message, v.Time})
		}
	}
	return out, nil
}

// Close lets the next reader in. What root made belongs to the store's owner, who
// could not write the record otherwise.
func (r *Record) Close() error {
	err := r.j.Close()
	if os.Geteuid() != 0 {
		return err
	}
	fi, err2 := os.Stat(filepath.Dir(r.folder))
	if err2 != nil {
		return errors.Join(err, err2)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return err
	}
	return errors.Join(err, give(r.folder, int(st.Uid), int(st.Gid)))
}

// give makes a folder and its files somebody's who may be hostile: root gives away what
// is root's, has no other name, and stands there, whatever is put in its place meanwhile.
func give(folder string, uid, gid int) error {
	dir, err := os.OpenFile(folder, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) {
			continue // no file of ours
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink == 1 && st.Uid == 0 {
			err = unix.Fchown(fd, uid, gid)
		}
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return dir.Chown(uid, gid)
}

// Note puts one reading of a store on its record: what was asked for.
func Note(ctx context.Context, store, folder, what string) error {
	r, err := Open(ctx, store, folder)
	if err != nil {
		return err
	}
	return errors.Join(r.Note(ctx, "read", Who()+": "+what), r.Close())
}

// Who says which user of the operating system this is, and who logged in as that,
// where the kernel knows another one.
func Who() string {
	who := named(os.Getuid())
	if b, err := os.ReadFile("/proc/self/loginuid"); err == nil {
		if id, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32); err == nil && id != 1<<32-1 && int(id) != os.Getuid() {
			who += ", logged in as " + named(int(id))
		}
	}
	return who
}

func named(id int) string {
	text := "uid " + strconv.Itoa(id)
	if u, err := user.LookupId(strconv.Itoa(id)); err == nil {
		text = u.Username + " (" + text + ")"
	}
	return text
}

func self() *events.Process {
	p := &events.Process{PID: uint32(os.Getpid()), UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	p.Exe, _ = os.Executable() // "": it is not known
	return p
}
