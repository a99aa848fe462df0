package recorder

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
)

// An index that leaves rows out, a trigger that drops what is stored, or a view in
// the place of a table would make the store say other than what it holds. So its
// tables, indexes, triggers and views must be what the migrations make, to the
// letter, and its indexes must agree with its tables.

// layoutText is all of a database's schema but where its pages are. It reads no
// index: sqlite_schema has none.
const layoutText = `SELECT coalesce(group_concat(x, char(10) ORDER BY x), '') FROM (SELECT json_array(type, name, tbl_name, sql) x FROM sqlite_schema)`

// ErrLayout says that a store's schema is not what the migrations make.
var ErrLayout = errors.New("its tables, indexes, triggers or views are not what this program made: somebody edited the store (keep the file, and restore an export)")

// madeLayout is what the migrations make of an empty database.
var madeLayout = sync.OnceValues(func() (string, error) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return "", err
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // each has a database of its own
	if err := migrate(db, nil); err != nil {
		return "", err
	}
	var text string
	return text, db.QueryRow(layoutText).Scan(&text)
})

// checkLayout returns ErrLayout for another schema than that of the migrations.
func checkLayout(ctx context.Context, tx *sql.Tx) error {
	want, err := madeLayout()
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	var text string
	if err := tx.QueryRowContext(ctx, layoutText).Scan(&text); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if text != want {
		return ErrLayout
	}
	return nil
}

// integrity holds the file against itself, and the indexes against the tables.
func integrity(ctx context.Context, tx *sql.Tx) (string, error) {
	var said string
	err := tx.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&said)
	if said == "ok" {
		said = ""
	}
	return said, err
}

// verifyFile holds the schema against the migrations, and the indexes against
// the tables.
func (s *DB) verifyFile(ctx context.Context, tx *sql.Tx) (*Fault, error) {
	switch err := s.kind.layout(ctx, tx); {
	case errors.Is(err, ErrLayout):
		return &Fault{What: "altered", Detail: "the store: " + err.Error()}, nil
	case err != nil:
		return nil, err
	}
	said, err := s.kind.sound(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("integrity: %w", err)
	}
	if said != "" {
		return &Fault{What: "altered", Detail: "the store's file is not sound in itself: " + said}, nil
	}
	return nil, nil
}
