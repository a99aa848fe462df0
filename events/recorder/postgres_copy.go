package recorder

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// pgCopy writes a store in PostgreSQL into a file: tables and columns of the two
// have the same names.
func pgCopy(ctx context.Context, _ *sql.DB, tx *sql.Tx, dir string) (err error) {
	s, err := openSQLite(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	to, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer to.Rollback()
	tables, err := texts(ctx, to, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'migrations' ORDER BY name`)
	if err != nil {
		return err
	}
	for _, table := range tables {
		if err := copyTable(ctx, tx, to, table); err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
	}
	if err := to.Commit(); err != nil {
		return err
	}
	// Else a reader would have to write beside it.
	_, err = s.db.ExecContext(ctx, `PRAGMA journal_mode = DELETE`)
	return err
}

func copyTable(ctx context.Context, from, to *sql.Tx, table string) error {
	columns, err := texts(ctx, to, `SELECT name FROM pragma_table_info(?) ORDER BY cid`, table)
	if err != nil {
		return err
	}
	for i, c := range columns {
		columns[i] = pgx.Identifier{c}.Sanitize()
	}
	list := strings.Join(columns, ", ")
	name := pgx.Identifier{table}.Sanitize()
	if _, err := to.ExecContext(ctx, `DELETE FROM `+name); err != nil { // what the migrations began it with
		return err
	}
	st, err := to.PrepareContext(ctx, `INSERT INTO `+name+` (`+list+`) VALUES (?`+strings.Repeat(", ?", len(columns)-1)+`)`)
	if err != nil {
		return err
	}
	defer st.Close()
	rows, err := from.QueryContext(ctx, `SELECT `+list+` FROM `+name)
	if err != nil {
		return err
	}
	defer rows.Close()
	row, at := make([]any, len(columns)), make([]any, len(columns))
	for i := range row {
		at[i] = &row[i]
	}
	for rows.Next() {
		if err := rows.Scan(at...); err != nil {
			return err
		}
		if _, err := st.ExecContext(ctx, row...); err != nil {
			return err
		}
	}
	return rows.Err()
}

func texts(ctx context.Context, tx *sql.Tx, query string, args ...any) (out []string, err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}
