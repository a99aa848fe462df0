package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
)

// maxTold is the size of a record of who was told what, in bytes: one that is full is
// set aside, whole, and the next begins.
const maxTold = 4 << 30

// toldRecord is the record of who was told what: chains like a host's, of which the
// last one is written. Each but the first begins with what the one before ends with.
type toldRecord struct {
	folder string // of the last one
	max    int64
	log    *slog.Logger

	mu sync.RWMutex // held to write it, and alone to begin another
	j  *journal.Journal
}

func openTold(state string, most int64, log *slog.Logger) (*toldRecord, error) {
	r := &toldRecord{folder: filepath.Join(state, "record"), max: most, log: log}
	_, err := os.Lstat(r.folder)
	if errors.Is(err, fs.ErrNotExist) {
		// What ended as it set a chain aside has begun the next one.
		if err = os.Rename(r.begun(), r.folder); errors.Is(err, fs.ErrNotExist) {
			err = nil // it is the first
		}
	}
	if err != nil {
		return nil, err
	}
	r.j, err = r.open(r.folder)
	return r, err
}

// begun is where a chain is begun, until it takes the place of one that is full.
func (r *toldRecord) begun() string { return r.folder + ".next" }

func (r *toldRecord) open(folder string) (*journal.Journal, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	j, err := journal.Open(folder, journal.Options{
		Host: host, MaxBytes: r.max, SegmentBytes: 16 << 20, AheadBytes: -1, Sync: true, Encode: ocsf.Append, Revive: ocsf.Revive,
	})
	if err != nil {
		return nil, fmt.Errorf("the record of what was told: %w", err)
	}
	return j, nil
}

// Close ends it.
func (r *toldRecord) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.j == nil { // the next could not be begun
		return nil
	}
	return r.j.Close()
}

// write puts an event on the record: it is durable when that returns nil.
func (r *toldRecord) write(ctx context.Context, e *events.Event) error {
	for {
		j, err := r.append(ctx, e)
		if !errors.Is(err, events.ErrFull) || j == nil {
			return err
		}
		if next := r.next(j); next != nil {
			return errors.Join(err, next)
		}
	}
}

// append returns the chain that it tried.
func (r *toldRecord) append(ctx context.Context, e *events.Event) (*journal.Journal, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.j == nil {
		return nil, fmt.Errorf("the record of what was told is closed: %w", events.ErrFull)
	}
	t, err := r.j.Append(e)
	if err == nil {
		err = t.Wait(ctx)
	}
	return r.j, err
}

var errNotLarge = errors.New("it is not large: the disk is full, or failing")

// next sets a chain that is full aside, and begins another, unless somebody has.
func (r *toldRecord) next(full *journal.Journal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.j != full {
		return nil
	}
	if size, err := sizeOf(r.folder); err != nil || size < r.max/2 {
		return errors.Join(errNotLarge, err) // another one would be no better
	}
	r.j = nil
	if err := full.Close(); err != nil {
		return err
	}
	chain := full.Chain()
	seq, hash := full.Head()
	if err := r.begin(fmt.Sprintf("record: it goes on behind chain %s, which was full and ends with record %d, %x", chain, seq, hash)); err != nil {
		return err
	}
	aside := fmt.Sprintf("%s-%s-%.8s", r.folder, time.Now().UTC().Format("20060102T150405Z"), chain)
	if err := os.Rename(r.folder, aside); err != nil {
		return err
	}
	if err := os.Rename(r.begun(), r.folder); err != nil {
		return err
	}
	j, err := r.open(r.folder)
	if err != nil {
		return err
	}
	r.j = j
	r.log.Warn("the record of what was told was full, and another one begins: keep it, or move it elsewhere", "aside", aside, "records", seq)
	return nil
}

// begin begins a chain with what the one before ends with, before that is set aside: no
// chain is in its place that does not say whose it is.
func (r *toldRecord) begin(text string) error {
	if err := os.RemoveAll(r.begun()); err != nil { // which did not come so far
		return err
	}
	j, err := r.open(r.begun())
	if err != nil {
		return err
	}
	t, err := j.Append(&events.Event{Kind: events.Alarm, Time: time.Now(), Message: text})
	if err == nil {
		err = t.Wait(context.Background())
	}
	return errors.Join(err, j.Close())
}

// sizeOf is the size of the files of a folder, in bytes.
func sizeOf(folder string) (n int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		i, err := d.Info()
		if err == nil {
			n += i.Size()
		}
		return err
	})
	return n, err
}
