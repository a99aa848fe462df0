package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/events/internal/whole"
)

// File of a sink of JSON lines. Path is required.
type File struct {
	Path     string `yaml:"path"`
	MaxBytes int64  `yaml:"max_bytes"` // then the file is moved aside; default 256 MiB
	Keep     int    `yaml:"keep"`      // files that were moved aside; 0: all
	Format   string `yaml:"format"`    // "ocsf" (default), "cloudevents" or "ecs"
}

// lines appends to a file, synced before Send returns.
type lines struct {
	File
	f    *os.File
	size int64
}

func newFile(o File) (*lines, error) {
	l := &lines{File: o}
	return l, l.open()
}

// openLines opens a file to append lines, which nobody else then does: two that
// cut, move and append at once lose each other's. A last line without its end is what
// a crash left of a write that was never acknowledged: it is cut, and comes again.
func openLines(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if err = lock(f, path); err == nil {
		err = cutTail(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// lock takes the file that stands at path for as long as f is open.
func lock(f *os.File, path string) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return errors.New("another sink, run or backfill writes it: stop that first")
		}
		return fmt.Errorf("lock: %w", err)
	}
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(path); err != nil || !os.SameFile(mine, there) {
		return errors.New("it was moved aside meanwhile")
	}
	return nil
}

func cutTail(f *os.File) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	b := make([]byte, 64<<10)
	for at := end; at > 0; {
		n := min(at, int64(len(b)))
		if _, err := f.ReadAt(b[:n], at-n); err != nil {
			return err
		}
		if i := bytes.LastIndexByte(b[:n], '\n'); i >= 0 {
			if keep := at - n + int64(i) + 1; keep < end {
				return f.Truncate(keep)
			}
			return nil
		}
		at -= n
	}
	if end == 0 {
		return nil
	}
	return f.Truncate(0)
}

func (l *lines) open() error {
	if l.f != nil {
		return nil
	}
	f, err := openLines(l.Path)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err == nil {
		err = whole.SyncDir(filepath.Dir(l.Path))
	}
	if err != nil {
		f.Close()
		return err
	}
	l.f, l.size = f, fi.Size()
	return nil
}

// Send implements Target.
func (l *lines) Send(_ context.Context, batch []Event) Answer {
	var b bytes.Buffer
	for i := range batch {
		line, err := l.line(&batch[i])
		if err != nil {
			return failed(batch, 0, err)
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	if err := l.write(b.Bytes()); err != nil {
		return failed(batch, 0, fmt.Errorf("%s: %w", l.Path, err))
	}
	return Answer{}
}

func (l *lines) line(e *Event) ([]byte, error) {
	switch l.Format {
	case "cloudevents":
		return CloudEvent(e)
	case "ecs":
		return ECS(e)
	}
	return e.JSON, nil
}

func (l *lines) write(b []byte) error {
	if err := l.open(); err != nil {
		return err
	}
	if l.size > 0 && l.size+int64(len(b)) > l.MaxBytes {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	_, err := l.f.Write(b)
	if err == nil {
		err = l.f.Sync()
	}
	if err != nil {
		// What was written of it goes: it is written again. If that fails too, it
		// is there twice, or the next open cuts it.
		err = errors.Join(err, l.f.Truncate(l.size), l.f.Close())
		l.f = nil
		return err
	}
	l.size += int64(len(b))
	return nil
}

// rotate moves the file aside under the time, and begins another.
func (l *lines) rotate() error {
	aside := l.Path + "." + time.Now().UTC().Format("20060102T150405.000000000Z")
	if err := os.Rename(l.Path, aside); err != nil { // while the lock is held
		return err
	}
	err := l.f.Close()
	l.f = nil
	if err != nil {
		return err
	}
	if err := l.open(); err != nil {
		return err
	}
	if l.Keep <= 0 {
		return nil
	}
	old, err := filepath.Glob(globEscape(l.Path) + ".*T*Z")
	if err != nil {
		return err
	}
	slices.Sort(old)
	for _, f := range old[:max(len(old)-l.Keep, 0)] {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}

func globEscape(path string) string {
	var b []byte
	for i := range len(path) {
		if bytes.IndexByte([]byte(`*?[\`), path[i]) >= 0 {
			b = append(b, '\\')
		}
		b = append(b, path[i])
	}
	return string(b)
}

// Close implements Target.
func (l *lines) Close() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}
