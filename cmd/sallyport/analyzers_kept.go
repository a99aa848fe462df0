package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/rewrite"
)

// What relations are and were called outlives the daemon: rules know them by name, and
// one may be renamed while nobody looks. Each database has a file of its own.

const (
	// maxNames is the size of such a file, in bytes.
	maxNames = 256 << 20
	// maxNameFiles is how many there may be.
	maxNameFiles = 1024
)

// keptNames are these files, in the daemon's own folder; "": nothing is kept.
type keptNames struct{ state string }

// keptFile is one of them.
type keptFile struct {
	Version  int    `json:"version"` // 1
	Resource string `json:"resource"`
	Database string `json:"database"`

	catalog.Memory

	Pins rewrite.Pins `json:"pins"` // where protected columns are
}

func (k *keptNames) path(of databaseName) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", of.resource, of.database))
	return filepath.Join(k.state, "names-"+hex.EncodeToString(sum[:16])+".json")
}

// read returns what an earlier process has kept; nothing, where it has not.
func (k *keptNames) read(of databaseName) (m remembered, err error) {
	if k.state == "" {
		return m, nil
	}
	path := k.path(of)
	b, err := readFile(path, maxNames)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	var f keptFile
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err == nil && (f.Version != 1 || f.Resource != of.resource || f.Database != of.database || f.Of == "" || f.Names == nil || f.Pins == nil) {
		err = errors.New("it is not of this database, or not whole")
	}
	if err != nil {
		return m, fmt.Errorf("what relations of database %q of resource %s were called before can't be read, so that nobody knows which rules are about them: "+
			"put %s back, or remove it if none was renamed meanwhile: %w", of.database, of.resource, path, err)
	}
	return remembered{f.Memory, f.Pins, time.Time{}}, nil
}

// write replaces a database's file as a whole, unless it holds that already; latest is
// what it holds.
func (k *keptNames) write(of databaseName, m *remembered, latest []byte) ([]byte, error) {
	if k.state == "" {
		return nil, nil
	}
	b, err := json.Marshal(&keptFile{1, of.resource, of.database, m.Memory, m.pins})
	if err != nil || bytes.Equal(b, latest) {
		return latest, err
	}
	path := k.path(of)
	if latest == nil {
		if err := k.room(path); err != nil {
			return nil, err
		}
	}
	f, err := os.CreateTemp(k.state, ".names-*") // mode 0600
	if err != nil {
		return latest, err
	}
	defer os.Remove(f.Name()) // gone already, unless something failed
	_, err = f.Write(b)
	if err = cmp.Or(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return latest, err
	}
	return b, nil
}

// room reports an error where there are too many files for another.
func (k *keptNames) room(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	all, err := filepath.Glob(filepath.Join(k.state, "names-*.json"))
	if err == nil && len(all) >= maxNameFiles {
		err = fmt.Errorf("there are %d databases already: remove the names-*.json in %s of those that are no more", len(all), k.state)
	}
	return err
}

// keep keeps what an analyzer knows by now.
func (e *analyzer) keep() {
	m := e.knows()
	latest, err := e.all.kept.write(databaseName{e.key.resource, e.key.database}, &m, e.kept)
	e.kept = latest
	if err != nil {
		e.all.alarms.raise("names", fmt.Sprintf("what relations of a database of resource %s are called can't be kept: one that is renamed while the daemon is away would not be known by its rules: %v", e.key.resource, err))
	}
}
