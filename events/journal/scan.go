package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"sallyport.dev/sallyport/events"
)

// Scan gives the records of a journal's folder, oldest first, without those of
// files that were last written to before since. The folder may be in use and is
// not changed; nothing is verified, as Verify does it. A record is valid until
// each returns; Scan ends early when that is false.
func Scan(folder string, since time.Time, each func(*events.Record) bool) error {
	fs := Dir(folder)
	names, err := segmentNames(fs)
	if err != nil {
		return fmt.Errorf("journal: scan: %w", err)
	}
	for i, name := range names {
		if st, err := os.Stat(filepath.Join(folder, name)); err == nil && st.ModTime().Before(since) {
			continue
		}
		goOn, err := scanSegment(fs, name, i == len(names)-1, each)
		if err != nil {
			return fmt.Errorf("journal: scan %s: %w", name, err)
		}
		if !goOn {
			return nil
		}
	}
	return nil
}

func scanSegment(fs FS, name string, last bool, each func(*events.Record) bool) (bool, error) {
	f, err := fs.Open(name, 0)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil // released meanwhile
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || last && size <= headerSize {
		return true, err
	}
	h, err := readHeader(f)
	if err != nil {
		return false, err
	}
	w := walker{f: f, salt: h.salt, off: headerSize, end: size}
	for {
		fr, err := w.next()
		switch {
		case err == io.EOF, err == errTorn && last: // being written
			return true, nil
		case err != nil:
			return false, err
		case !each(&fr.rec):
			return false, nil
		}
	}
}
