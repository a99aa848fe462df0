package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sallyport.dev/sallyport/policy"
)

const (
	// countsEvery is how much of what was counted a sudden end forgets.
	countsEvery = 2 * time.Second
	// maxCounts is the size of their file, in bytes.
	maxCounts = 256 << 20
)

// keptCounts are the counts of limits on the disk, in the daemon's own folder.
type keptCounts struct {
	path   string
	mu     sync.Mutex // one at a time writes
	latest []byte     // that was written
}

// restore goes on with them. An error means that nothing is known of them, and
// that the limits are taken for reached.
func (k *keptCounts) restore(state string, g *policy.Gate) error {
	k.path = filepath.Join(state, "limits.json")
	b, err := readFile(k.path, maxCounts)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = g.RestoreCounts(b)
	}
	if err != nil {
		g.LoseCounts()
	}
	return err
}

// save replaces the file as a whole, where anything was counted since.
func (k *keptCounts) save(g *policy.Gate) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	b, err := g.SaveCounts()
	if err != nil || bytes.Equal(b, k.latest) {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(k.path), ".limits-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already, unless something failed
	_, err = f.Write(b)
	if err = cmp.Or(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), k.path)
	}
	if err == nil {
		k.latest = b
	}
	return err
}

// keepCounts saves them again and again.
func (d *daemon) keepCounts(ctx context.Context) {
	for pause(ctx, countsEvery) {
		d.saveCounts()
	}
}

func (d *daemon) saveCounts() {
	if err := d.counts.save(d.gate); err != nil {
		d.alarms.raise("limits", "what counts for limits can't be kept, and a restart would forget it: "+err.Error())
	}
}

// restoreCounts goes on with what was counted before the start.
func (d *daemon) restoreCounts(state string) {
	if err := d.counts.restore(state, d.gate); err != nil {
		d.alarms.raise("limits", "what was counted for limits before can't be read: limits of a minute and of an hour are taken for reached, for so long: "+err.Error())
	}
}
