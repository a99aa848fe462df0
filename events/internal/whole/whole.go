// Package whole writes small files so that a crash leaves the old one or the new one.
package whole

import (
	"errors"
	"os"
	"path/filepath"
)

// Write replaces the file at a path (mode 0600), and returns once that is durable.
// A crash may leave a file beside it whose name begins as unfinished says.
func Write(path, unfinished string, b []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, unfinished) // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already, unless something failed
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir) // else the name could be lost
}

// SyncDir makes what was named, renamed and removed in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
