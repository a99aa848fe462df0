// Package follow writes the recorder's transparency log: what the store has
// committed becomes entries of a tile log (Tessera, in files), in the store's
// own order, with checkpoints that are signed and, where asked for, witnessed.
package follow

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"sallyport.dev/sallyport/events/recorder/tlog"
)

// Source gives the entries of a log from an index on, at most so many. The same
// index is always the same entry.
type Source interface {
	Entries(ctx context.Context, from uint64, most int) ([][]byte, error)
}

// Options say how a log is kept.
type Options struct {
	Dir    string             // folder of its files
	Key    ed25519.PrivateKey // signs checkpoints
	Origin string             // the log's name; "": made of the key
	// Witnesses is a policy in Sigsum's form with C2SP verifier keys, whose
	// quorum must sign a checkpoint before it is published; nil for none.
	Witnesses []byte
	Every     time.Duration // between checkpoints; default and least 1 s
	Log       *slog.Logger
	Logged    func(entries uint64) // for metrics; nil for none
}

// batch is how many entries are written at once. One batch is under way at a
// time: an entry must not get the place of one that failed before it.
const batch = 1024

func init() { klog.StopFlushDaemon() } // nothing is buffered: see SetSlogLogger

// said sets where Tessera's lines go, once: what ends slowly may still write some.
var said sync.Once

// Run writes what the source has until ctx ends, and returns nil then. Of
// several processes with one folder one writes, the others wait for it to end. A
// crash at any point leaves a log that goes on where it was: an entry's place is
// that of the source, and what is written is written with the tree that has it.
func Run(ctx context.Context, src Source, o Options) error {
	if o.Every < time.Second {
		o.Every = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	said.Do(func() { klog.SetSlogLogger(o.Log) })
	unlock, err := lock(ctx, o.Dir)
	if err != nil || unlock == nil {
		return err
	}
	defer unlock()
	signer, key, err := tlog.Signer(o.Key, o.Origin)
	if err != nil {
		return err
	}
	published, err := published(ctx, o.Dir, key)
	if err != nil {
		return err
	}
	opts := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(o.Every).
		WithCheckpointRepublishInterval(0).
		WithBatching(2*batch, 5*time.Millisecond)
	if o.Witnesses != nil {
		g, err := tessera.NewWitnessGroupFromPolicy(o.Witnesses)
		if err != nil {
			return fmt.Errorf("follow: the witnesses' policy: %w", err)
		}
		opts = opts.WithWitnesses(g, nil)
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	driver, err := posix.New(work, posix.Config{Path: o.Dir})
	if err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	app, shutdown, reader, err := tessera.NewAppender(work, driver, opts)
	if err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	if err = write(ctx, src, app, reader, &o, published); ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // it was stopped while it began
	}
	// The last entries get a checkpoint yet, unless a witness is away.
	end, cancel := context.WithTimeout(work, 5*time.Second)
	defer cancel()
	if err2 := shutdown(end); err == nil && err2 != nil {
		o.Log.Warn("the newest entries of the log have no checkpoint yet; the next start makes it", "error", err2)
	}
	return err
}

func write(ctx context.Context, src Source, app *tessera.Appender, reader tessera.LogReader, o *Options, published uint64) error {
	size, err := reader.IntegratedSize(ctx)
	if err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	if size < published {
		return fmt.Errorf("follow: the log in %s has %d entries, and %d were published: it was put back to an earlier state", o.Dir, size, published)
	}
	if err := same(ctx, src, o.Dir, size); err != nil {
		return err
	}
	tick := time.NewTicker(o.Every / 4)
	defer tick.Stop()
	for {
		entries, err := src.Entries(ctx, size, batch)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("follow: %w", err)
		}
		if err := add(context.WithoutCancel(ctx), app, size, entries); err != nil {
			return err
		}
		size += uint64(len(entries))
		if o.Logged != nil {
			o.Logged(size)
		}
		if len(entries) == batch {
			continue // there is more
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// published returns how many entries the log's checkpoint signs, 0 where it was
// never there.
func published(ctx context.Context, dir, key string) (uint64, error) {
	_, err := os.Stat(filepath.Join(dir, "checkpoint"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	cp, _, err := tlog.Open(dir).Checkpoint(ctx, tlog.Keys{Log: key})
	if err != nil {
		return 0, fmt.Errorf("follow: the log in %s is of another key, or damaged: %w", dir, err)
	}
	// Without its state Tessera would begin the log anew.
	if _, err := os.Stat(filepath.Join(dir, ".state")); err != nil {
		return 0, fmt.Errorf("follow: the log in %s is a copy without its state, or was put back to an earlier state in part: %w", dir, err)
	}
	return cp.Size, nil
}

// same checks that the store's entry at the log's end is the log's.
func same(ctx context.Context, src Source, dir string, size uint64) error {
	if size == 0 {
		return nil
	}
	have, err := src.Entries(ctx, size-1, 1)
	if err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	logged, err := tlog.Open(dir).Entry(ctx, size-1, size)
	if err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	if len(have) == 0 || string(have[0]) != string(logged) {
		return fmt.Errorf("follow: the log in %s has %d entries, and the store does not have the last of them: one was put back to an earlier state, or is another's. Keep both, and see what sallyport verify names", dir, size)
	}
	return nil
}

func add(ctx context.Context, app *tessera.Appender, from uint64, entries [][]byte) error {
	futures := make([]tessera.IndexFuture, len(entries))
	for i, e := range entries {
		futures[i] = app.Add(ctx, tessera.NewEntry(e))
	}
	var errs []error
	for i, f := range futures {
		at, err := f()
		if err == nil && at.Index != from+uint64(i) {
			err = fmt.Errorf("entry %d became %d: somebody else writes this log", from+uint64(i), at.Index)
		}
		if err != nil {
			errs = append(errs, err)
			break
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	return nil
}

// lock waits until no other process writes the log. It returns nil when ctx ends
// before that.
func lock(ctx context.Context, dir string) (func(), error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("follow: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, ".writer"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("follow: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("follow: lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, nil
		case <-time.After(time.Second):
		}
	}
}
