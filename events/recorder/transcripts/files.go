package transcripts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sallyport.dev/sallyport/events/internal/whole"
)

// Files is a Store in a folder: each body a file (mode 0600) of its name, in a
// folder of its name's first two digits.
type Files struct{ dir string }

// OpenFiles returns the store in a folder, which is made (0700) with its first body.
func OpenFiles(dir string) *Files { return &Files{dir} }

// unfinished begins the names of files that a Put has not finished.
const unfinished = ".unfinished-"

func (f *Files) path(name string) string { return filepath.Join(f.dir, name[:2], name) }

// Put implements Store. A crash leaves the file as it was, or not there, or whole;
// and perhaps an unfinished one, which List removes.
func (f *Files) Put(_ context.Context, name string, body []byte) error {
	if err := checkPut(name, body); err != nil {
		return err
	}
	to := f.path(name)
	if err := f.makeDir(filepath.Dir(to)); err != nil {
		return fmt.Errorf("transcripts: %w", err)
	}
	if err := whole.Write(to, unfinished, body); err != nil {
		return fmt.Errorf("transcripts: %w", err)
	}
	return nil
}

// makeDir makes a folder of the store, and its name last.
func (f *Files) makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := whole.SyncDir(f.dir); err != nil {
		return err
	}
	return whole.SyncDir(filepath.Dir(f.dir))
}

// Get implements Store.
func (f *Files) Get(_ context.Context, name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if _, err := os.Stat(f.dir); err != nil { // else all would be missing that is not mounted
		return nil, fmt.Errorf("transcripts: %w", err)
	}
	st, err := os.Lstat(f.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %s", ErrNone, f.path(name))
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrOdd, err)
	case !st.Mode().IsRegular() || st.Size() > MaxBody:
		return nil, fmt.Errorf("%w: %s is not a file, or too large", ErrOdd, f.path(name))
	}
	b, err := os.ReadFile(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNone, f.path(name))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOdd, err)
	}
	return b, nil
}

// Delete implements Store.
func (f *Files) Delete(_ context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if _, err := os.Stat(f.dir); err != nil { // it is not mounted, or another was meant
		return fmt.Errorf("transcripts: %w", err)
	}
	err := os.Remove(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = whole.SyncDir(filepath.Dir(f.path(name)))
	}
	if err != nil {
		return fmt.Errorf("transcripts: %w", err)
	}
	return nil
}

// List implements Lister.
func (f *Files) List(ctx context.Context) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		err := filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil {
				err = ctx.Err()
			}
			name := filepath.Base(path)
			if err != nil || !d.Type().IsRegular() || !isName(name) && !strings.HasPrefix(name, unfinished) {
				return err
			}
			st, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && !isName(name) {
				return removeOld(path, st)
			}
			if err == nil && !yield(Item{name, st.ModTime()}, nil) {
				return fs.SkipAll
			}
			return err
		})
		if err != nil {
			yield(Item{}, fmt.Errorf("transcripts: %w", err))
		}
	}
}

// removeOld removes what a Put did not finish, once nobody can be at it any more.
func removeOld(path string, st fs.FileInfo) error {
	if time.Since(st.ModTime()) < 24*time.Hour {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
