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
// synced before it counts, behind a checksum of all records up to it: none can be
// changed, missing or elsewhere without the next one telling.
type approvalsLog struct {
	path   string
	f      *os.File
	size   atomic.Int64
	sum    uint32 // of all records
	broken error  // what was written last may be there or not
}

const (
	approvalsFile  = "approvals.log"
	approvalsHead  = "sallyport approvals 2\n"
	approvalsHead1 = "sallyport approvals 1\n" // each record had a checksum of its own
	maxApprovals   = 1 << 30                   // bytes
	checksumLength = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openApprovals reads the records of a state folder. torn: there is more at the end,
// which is no whole record. It may have been cut short as it was written, and nobody was
// told that it is kept; or it was kept, and what it says is lost.
func openApprovals(state string) (l *approvalsLog, records [][]byte, torn bool, err error) {
	l = &approvalsLog{path: filepath.Join(state, approvalsFile)}
	b, err := readFile(l.path, maxApprovals)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil, false, nil
	}
	if err != nil {
		return l, nil, false, err
	}
	records, torn, err = parseApprovals(b)
	return l, records, torn, err
}

func parseApprovals(b []byte) (records [][]byte, torn bool, err error) {
	rest, chained := bytes.CutPrefix(b, []byte(approvalsHead))
	if !chained {
		var ok bool
		if rest, ok = bytes.CutPrefix(b, []byte(approvalsHead1)); !ok {
			return nil, false, fmt.Errorf("%w: it is none", approval.ErrDamaged)
		}
	}
	sum := uint32(0)
	for n := 1; len(rest) > 0; n++ {
		line, more, whole := bytes.Cut(rest, []byte("\n"))
		bad := !whole || len(line) < checksumLength+1 || line[checksumLength] != ' '
		if !bad {
			if !chained {
				sum = 0
			}
			sum = crc32.Update(sum, castagnoli, line[checksumLength+1:])
			bad = string(line[:checksumLength]) != fmt.Sprintf("%08x", sum)
		}
		switch {
		case bad && len(more) == 0:
			return records, true, nil
		case bad:
			return nil, false, fmt.Errorf("%w: record %d does not have its checksum", approval.ErrDamaged, n)
		}
		records = append(records, line[checksumLength+1:])
		rest = more
	}
	return records, false, nil
}

// appendRecord appends a record behind others that have the checksum sum, and returns
// that of all.
func appendRecord(b, record []byte, sum uint32) ([]byte, uint32) {
	sum = crc32.Update(sum, castagnoli, record)
	return append(append(fmt.Appendf(b, "%08x ", sum), record...), '\n'), sum
}

// Append implements approval.Log: once it has failed, until a Replace has not.
func (l *approvalsLog) Append(record []byte) error {
	if l.broken != nil {
		return l.broken
	}
	b, sum := appendRecord(nil, record, l.sum)
	_, err := l.f.Write(b)
	if err == nil {
		err = l.f.Sync()
	}
	if err != nil {
		l.broken = fmt.Errorf("make room for %s, or mend its disk: %w", l.path, err)
		return l.broken
	}
	l.sum = sum
	l.size.Add(int64(len(b)))
	return nil
}

// Replace implements approval.Log.
func (l *approvalsLog) Replace(records [][]byte) error {
	b, sum := []byte(approvalsHead), uint32(0)
	for _, r := range records {
		b, sum = appendRecord(b, r, sum)
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
	l.f, l.sum, l.broken = f, sum, nil
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
