package recorder

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"sallyport.dev/sallyport/events/recorder/transcripts"
)

// sqlite is the dialect of a store in one file, records.db below a folder.
var sqlite = dialect{
	embedded: true,
	snapshot: sql.TxOptions{ReadOnly: true},
	lock:     func(context.Context, *sql.Tx) error { return nil }, // its transactions are immediate
	layout:   checkLayout,
	sound:    integrity,
	copyTo:   sqliteCopy,
}

func openSQLite(dir string) (*DB, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("recorder: store: %w", err)
	}
	file := storeFile(dir)
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("recorder: store: %w", err)
	}
	f.Close()
	// FULL: a transaction is on stable storage when Commit returns.
	// A checkpoint is a burst of writes and syncs on a disk that a journal may
	// share: 32 MiB at once.
	db, err := connect(file, "_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=wal_autocheckpoint(8192)&_pragma=cache_size(-16384)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	if err := migrate(db, func(tx *sql.Tx) error { return checkLayout(context.Background(), tx) }); err != nil {
		db.Close()
		return nil, fmt.Errorf("recorder: store %s: %w", file, err)
	}
	return &DB{db: db, kind: &sqlite}, nil
}

func openSQLiteReader(dir string) (*DB, error) {
	file := storeFile(dir)
	if _, err := os.Stat(file); err != nil {
		return nil, fmt.Errorf("recorder: no store in %s: %w (name the folder of sallyport-recorder run --store)", dir, err)
	}
	db, err := connect(file, "mode=ro&_pragma=query_only(ON)")
	if err != nil {
		return nil, err
	}
	if err := current(db); err != nil {
		db.Close()
		return nil, fmt.Errorf("recorder: store %s: %w", file, err)
	}
	return &DB{db: db, kind: &sqlite, apart: &Transcripts{Store: transcripts.OpenFiles(TranscriptsFolder(dir))}}, nil
}

func storeFile(dir string) string { return filepath.Join(dir, "records.db") }

func connect(file, params string) (*sql.DB, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "file", Path: abs, RawQuery: "_pragma=busy_timeout(30000)&" + params}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("recorder: store %s: %w", file, err)
	}
	return db, nil
}
