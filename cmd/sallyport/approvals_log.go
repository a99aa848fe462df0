package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"sallyport.dev/sallyport/policy/approval"
)

// approvalsLog is what is approved, in the daemon's own folder: one record a line,
// with its checksum, synced before it counts.
type approvalsLog struct {
	path   string
	f      *os.File
	size   atomic.Int64
	broken error // what was written last may be there or not
}

const (
	approvalsFile  = "approvals.log"
	approvalsHead  = "sallyport approvals 1\n"
	maxApprovals   = 1 << 30 // bytes
	checksumLength = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openApprovals reads the records of a state folder. What was cut short at the end
// was never taken for written.
func openApprovals(state string) (*approvalsLog, [][]byte, error) {
	l := &approvalsLog{path: filepath.Join(state, approvalsFile)}
	b, err := readFile(l.path, maxApprovals)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil, nil
	}
	if err != nil {
		return l, nil, err
	}
	records, err := parseApprovals(b)
	return l, records, err
}

func parseApprovals(b []byte) (records [][]byte, err error) {
	rest, ok := bytes.CutPrefix(b, []byte(approvalsHead))
	if !ok {
		return nil, fmt.Errorf("%w: it is none", approval.ErrDamaged)
	}
	for n := 1; len(rest) > 0; n++ {
		line, more, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			return records, nil
		}
		bad := len(line) < checksumLength+1 || line[checksumLength] != ' ' || string(line[:checksumLength]) != checksum(line[checksumLength+1:])
		switch {
		case bad && len(more) == 0:
			return records, nil // torn when the power went: nobody was told that it is kept
		case bad:
			return nil, fmt.Errorf("%w: record %d does not have its checksum", approval.ErrDamaged, n)
		}
		records = append(records, line[checksumLength+1:])
		rest = more
	}
	return records, nil
}

func checksum(record []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(record, castagnoli)) }

func appendRecord(b, record []byte) []byte {
	return append(append(append(append(b, checksum(record)...), ' '), record...), '\n')
}

// Append implements approval.Log.
func (l *approvalsLog) Append(record []byte) error {
	if l.broken != nil {
		return l.broken
	}
	b := appendRecord(nil, record)
	_, err := l.f.Write(b)
	if err == nil {
		err = l.f.Sync()
	}
	if err != nil {
		l.broken = fmt.Errorf("nothing more is kept of approvals until sallyport starts again: %w", err)
		return l.broken
	}
	l.size.Add(int64(len(b)))
	return nil
}

// Replace implements approval.Log.
func (l *approvalsLog) Replace(records [][]byte) error {
	if l.broken != nil {
		return l.broken
	}
	b := []byte(approvalsHead)
	for _, r := range records {
		b = appendRecord(b, r)
	}
	f, err := os.CreateTemp(filepath.Dir(l.path), ".approvals-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already, unless something failed
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), l.path)
	}
	if err != nil {
		f.Close()
		return err
	}
	// From here on the old file is not the one that counts.
	if l.f != nil {
		l.f.Close()
	}
	l.f = f
	l.size.Store(int64(len(b)))
	if err := syncFolder(filepath.Dir(l.path)); err != nil {
		l.broken = err
		return err
	}
	return nil
}

// Size implements approval.Log.
func (l *approvalsLog) Size() int64 { return l.size.Load() }

func (l *approvalsLog) close() {
	if l != nil && l.f != nil {
		l.f.Close()
	}
}

// setAside keeps a log that can't be read for whoever looks into it.
func (l *approvalsLog) setAside() error {
	return os.Rename(l.path, fmt.Sprintf("%s.damaged-%d", l.path, time.Now().UnixNano()))
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
