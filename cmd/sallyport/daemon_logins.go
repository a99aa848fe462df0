package main

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"sallyport.dev/sallyport/intercept/identity/saml"
)

// maxKept is the size of the file of logins, in bytes: their most, with room.
const maxKept = 16 << 20

// keptLogins are the logins by SAML on the disk, in the daemon's own folder, so
// that a restart logs nobody out. Where they can't be read nobody is known.
type keptLogins struct {
	path string
	mu   sync.Mutex // one at a time writes
}

func (k *keptLogins) restore(state string, l *saml.Logins) error {
	k.path = filepath.Join(state, "logins.json")
	b, err := readFile(k.path, maxKept)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return l.Restore(b)
}

// save replaces the file as a whole.
func (k *keptLogins) save(l *saml.Logins) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	b, err := l.Save()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(k.path), ".logins-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already, unless something failed
	_, err = f.Write(b)
	if err = cmp.Or(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), k.path)
}
