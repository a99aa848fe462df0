package recorder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sallyport.dev/sallyport/events/recorder/tlog"
	"sallyport.dev/sallyport/events/recorder/transcripts"
)

// LogFolder is where a store, and an export of it, has its transparency log.
func LogFolder(dir string) string { return filepath.Join(dir, "log") }

// ErrBehind says that the transparency log does not have all that is stored.
var ErrBehind = errors.New("the transparency log does not have all that is stored yet (is sallyport-recorder running, and are its witnesses there?)")

// Export makes a copy of a store and its log, in a folder that is not there yet,
// at a moment when the log has all of it. Until it is done recorders wait; the
// messages stay where they are. One that fails leaves nothing. keys are those of the
// log; from is where transcripts are kept apart, nil for nowhere: they are copied as
// they are, encrypted or not.
func Export(ctx context.Context, dir, to string, keys tlog.Keys, wait time.Duration, from transcripts.Store) (err error) {
	db, err := connect(storeFile(dir), "mode=rw&_txlock=immediate")
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil) // nobody stores anything meanwhile
	if err != nil {
		return fmt.Errorf("recorder: export: %w", err)
	}
	defer tx.Rollback()
	var leaves uint64
	if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(leaf), 0) FROM leaves`).Scan(&leaves); err != nil {
		return fmt.Errorf("recorder: export: %w", err)
	}
	if err := AwaitLog(ctx, LogFolder(dir), keys, leaves, wait); err != nil {
		return fmt.Errorf("recorder: export: %w", err)
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return fmt.Errorf("recorder: export: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(to))
		}
	}()
	if err := tlog.Copy(LogFolder(dir), LogFolder(to)); err != nil {
		return fmt.Errorf("recorder: export: %w", err)
	}
	abs, err := filepath.Abs(storeFile(to))
	if err != nil {
		return fmt.Errorf("recorder: export: %w", err)
	}
	if f, err := os.OpenFile(abs, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err != nil { // empty files are taken for none
		return fmt.Errorf("recorder: export: %w", err)
	} else if err := f.Close(); err != nil {
		return fmt.Errorf("recorder: export: %w", err)
	}
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, abs); err != nil {
		return fmt.Errorf("recorder: export: %w", err)
	}
	if from == nil {
		return nil
	}
	if err := copyBodies(ctx, to, from); err != nil { // while none is deleted
		return fmt.Errorf("recorder: export: %w", err)
	}
	return nil
}

// AwaitLog waits until a log's checkpoint has so many entries.
func AwaitLog(ctx context.Context, dir string, keys tlog.Keys, entries uint64, wait time.Duration) error {
	l := tlog.Open(dir)
	end := time.Now().Add(wait)
	for {
		cp, _, err := l.Checkpoint(ctx, keys)
		switch {
		case err == nil && cp.Size >= entries:
			return nil
		case time.Now().After(end):
			return errors.Join(ErrBehind, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
