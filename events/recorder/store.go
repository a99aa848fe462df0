package recorder

import (
	"context"
	"database/sql"
	"fmt"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

// DB is the Store in a database. Several processes may have it open.
type DB struct {
	db     *sql.DB
	kind   *dialect
	glance ocsf.Glancer
	hosts  events.HostKeys // nil: see Trust
	vouch  Voucher         // nil: see Vouch
	apart  *Transcripts    // nil: transcripts are in blocks
}

// dialect is what kinds of databases do each in their own way. All other SQL is the
// same for all: placeholders are ? or ?1, ?2 and so on, the column "user" has quotes,
// and a transaction asks for nothing while it reads rows.
type dialect struct {
	// embedded: it is in this process, so no statement waits for long, and each is
	// prepared once for a transaction; else the connection does that.
	embedded bool
	write    sql.TxOptions // of a transaction that writes
	snapshot sql.TxOptions // of one that sees one moment
	// lock has a transaction that writes wait for the others, until it ends.
	lock func(context.Context, *sql.Tx) error
	// layout returns ErrLayout for another schema than that of the migrations.
	layout func(context.Context, *sql.Tx) error
	// sound says what is wrong of the indexes and what is below the tables, "" for nothing.
	sound func(context.Context, *sql.Tx) (string, error)
	// copyTo writes what a transaction sees, in which nobody else writes, into a
	// folder, as a store in a file.
	copyTo func(ctx context.Context, db *sql.DB, tx *sql.Tx, to string) error
}

// Open opens a store for writing, making it where there is none: in a folder (0700,
// its file 0600), or in a PostgreSQL database that a postgres:// URL names (schema
// sallyport, or that of the URL's search_path).
func Open(store string) (*DB, error) {
	if IsURL(store) {
		return openPostgres(context.Background(), store)
	}
	return openSQLite(store)
}

// OpenReader opens an existing store to read it. Transcripts that are kept apart it
// looks for in TranscriptsFolder of a store in a folder, unless KeepTranscripts says
// otherwise.
func OpenReader(store string) (*DB, error) {
	if IsURL(store) {
		return openPostgresReader(store, true)
	}
	return openSQLiteReader(store)
}

// Close closes the store.
func (s *DB) Close() error { return s.db.Close() }

// read begins a transaction that sees one moment.
func (s *DB) read(ctx context.Context) (*sql.Tx, error) { return s.db.BeginTx(ctx, &s.kind.snapshot) }

// Heads implements Store.
func (s *DB) Heads(ctx context.Context) ([]Head, error) { return s.heads(ctx, "proved") }

// heads returns a place that is noted of each chain: "proved", or "head", the newest
// record.
func (s *DB) heads(ctx context.Context, what string) ([]Head, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT host, chain, `+what+`_seq, `+what+`_hash FROM chains WHERE `+what+`_seq > 0 ORDER BY host, chain`)
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
