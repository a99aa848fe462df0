package recorder

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"sallyport.dev/sallyport/events/ocsf"
)

// SQLite is the Store in one file, records.db below a folder. Several
// processes may have it open.
type SQLite struct {
	db     *sql.DB
	glance ocsf.Glancer
}

// Open opens a store for writing, making it (folder 0700, file 0600) where
// there is none.
func Open(dir string) (*SQLite, error) {
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
	return &SQLite{db: db}, nil
}

// OpenReader opens an existing store to read it.
func OpenReader(dir string) (*SQLite, error) {
	file := storeFile(dir)
	if _, err := os.Stat(file); err != nil {
		return nil, fmt.Errorf("recorder: no store in %s: %w (name the folder of sallyport-recorder run --store)", dir, err)
	}
	db, err := connect(file, "mode=ro&_pragma=query_only(ON)")
	if err != nil {
		return nil, err
	}
	var v int
	if err := db.QueryRow(`SELECT max(version) FROM migrations`).Scan(&v); err != nil || v != len(migrations) {
		db.Close()
		return nil, fmt.Errorf("recorder: store %s has schema %d, this program reads %d: start this version's sallyport-recorder once (%v)", file, v, len(migrations), err)
	}
	return &SQLite{db: db}, nil
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

// Close closes the store.
func (s *SQLite) Close() error { return s.db.Close() }

// Heads implements Store.
func (s *SQLite) Heads(ctx context.Context) ([]Head, error) { return s.heads(ctx, "proved") }

// heads returns a place that is noted of each chain: "proved", or "head", the newest
// record.
func (s *SQLite) heads(ctx context.Context, what string) ([]Head, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT host, chain, `+what+`_seq, `+what+`_hash FROM chains WHERE `+what+`_seq > 0 ORDER BY host, first_seen, chain`)
	if err != nil {
		return nil, fmt.Errorf("recorder: heads: %w", err)
	}
	defer rows.Close()
	var out []Head
	for rows.Next() {
		var h Head
		var hash []byte
		if err := rows.Scan(&h.Host, &h.Chain, &h.Seq, &hash); err != nil {
			return nil, fmt.Errorf("recorder: heads: %w", err)
		}
		copy(h.Hash[:], hash)
		out = append(out, h)
	}
	return out, rows.Err()
}
