package sample

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Limits bound what is read of one table.
type Limits struct {
	Rows  int           // at most
	Bytes int           // characters of a value that are looked at
	Time  time.Duration // of the statement
}

// wide is how many columns are read by one statement.
const wide = 200

// Read reads some rows of a table's columns that can be read, and calls each
// with the column's index in t.Columns and a value that is not NULL. The value
// is the connection's, until each returns. An error of the server's is told by
// its code, since its words may hold values.
func Read(ctx context.Context, c *pgx.Conn, t *Table, l Limits, each func(column int, value []byte)) error {
	var columns []int
	for i := range t.Columns {
		if t.Columns[i].Unread == "" {
			columns = append(columns, i)
		}
	}
	for len(columns) > 0 {
		n := min(len(columns), wide)
		if err := read(ctx, c, t, columns[:n], l, each); err != nil {
			return coded(err)
		}
		columns = columns[n:]
	}
	return nil
}

func read(ctx context.Context, c *pgx.Conn, t *Table, columns []int, l Limits, each func(int, []byte)) error {
	tx, err := c.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	ms := max(l.Time.Milliseconds(), 1)
	if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d; SET LOCAL lock_timeout = %d", ms, min(ms/2+1, 1000))); err != nil {
		return err
	}
	list := make([]string, len(columns))
	for i, k := range columns {
		list[i] = fmt.Sprintf("pg_catalog.left(%s::pg_catalog.text, %d)", pgx.Identifier{t.Columns[k].Name}.Sanitize(), l.Bytes)
	}
	from := " FROM " + pgx.Identifier{t.Schema, t.Name}.Sanitize()
	query := func(how string) (int, error) {
		rows, err := tx.Query(ctx, "SELECT "+strings.Join(list, ", ")+from+how+fmt.Sprintf(" LIMIT %d", l.Rows), pgx.QueryExecModeExec)
		if err != nil {
			return 0, err
		}
		defer rows.Close()
		n := 0
		for ; rows.Next(); n++ {
			for i, v := range rows.RawValues() {
				if v != nil {
					each(columns[i], v)
				}
			}
		}
		return n, rows.Err()
	}
	// Of a large table, blocks here and there: its first rows may all be old.
	if percent := 300 * float64(l.Rows) / float64(t.Rows); t.Rows > 0 && percent < 50 {
		if n, err := query(fmt.Sprintf(" TABLESAMPLE SYSTEM (%g)", max(percent, 1e-4))); err != nil || n > 0 {
			return err
		}
	}
	_, err = query("")
	return err
}

// coded takes the words out of an error of the server's.
func coded(err error) error {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case "57014":
		return errors.New("it took too long")
	case "55P03":
		return errors.New("it is locked")
	}
	return fmt.Errorf("the server refused: SQLSTATE %s", e.Code)
}
