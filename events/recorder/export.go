package recorder

import (
	"context"
	"database/sql"
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
// at a moment when the log has all of it. home is the folder that has the log. Until
// it is done recorders wait; the messages stay where they are. One that fails leaves
// nothing. keys are those of the log; from is where transcripts are kept apart, nil for
// nowhere: they are copied as they are, encrypted or not. Of a store in PostgreSQL,
// too, the copy is a folder.
func Export(ctx context.Context, store, home, to string, keys tlog.Keys, wait time.Duration, from transcripts.Store) error {
	if err := export(ctx, store, home, to, keys, wait, from); err != nil {
		return fmt.Errorf("recorder: export: %w", err)
	}
	return nil
}

func export(ctx context.Context, store, home, to string, keys tlog.Keys, wait time.Duration, from transcripts.Store) (err error) {
	s, err := openWhole(store)
	if err != nil {
		return err
	}
	defer s.Close()
	tx, err := s.db.BeginTx(ctx, &s.kind.write)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := s.kind.lock(ctx, tx); err != nil { // nobody stores anything meanwhile
		return err
	}
	var leaves uint64
	if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(leaf), 0) FROM leaves`).Scan(&leaves); err != nil {
		return err
	}
	if err := AwaitLog(ctx, LogFolder(home), keys, leaves, wait); err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(to))
		}
	}()
	if err := tlog.Copy(LogFolder(home), LogFolder(to)); err != nil {
		return err
	}
	if err := s.kind.copyTo(ctx, s.db, tx, to); err != nil || from == nil {
		return err
	}
	return copyBodies(ctx, to, from) // while none is deleted
}

// openWhole opens an existing store to copy it.
func openWhole(store string) (*DB, error) {
	if IsURL(store) {
		return openPostgresReader(store, false)
	}
	db, err := connect(storeFile(store), "mode=rw&_txlock=immediate")
	return &DB{db: db, kind: &sqlite}, err
}

// sqliteCopy copies a store in a file as a whole.
func sqliteCopy(ctx context.Context, db *sql.DB, _ *sql.Tx, to string) error {
	abs, err := filepath.Abs(storeFile(to))
	if err != nil {
		return err
	}
	// Empty files are taken for none.
	f, err := os.OpenFile(abs, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, abs)
	return err
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
