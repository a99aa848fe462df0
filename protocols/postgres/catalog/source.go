package catalog

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// source is where rows come from: the side connection, or a session's own.
type source interface {
	// each runs a query and calls row for each row, after scanning into dst.
	each(ctx context.Context, sql string, row func(), dst ...any) error
}

// side is the side connection: it reads everything.
type side struct{ conn *pgx.Conn }

func (s side) each(ctx context.Context, sql string, row func(), dst ...any) error {
	rows, err := s.conn.Query(ctx, part.ReplaceAllString(sql, ""))
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, dst, func() error { row(); return nil })
	return err
}

// part is what a query is limited to.
var part = regexp.MustCompile(`\{of ([^}]*)\}`)

// limited returns a query for some objects only.
func limited(sql, oids string) string {
	return part.ReplaceAllStringFunc(sql, func(m string) string {
		var or []string
		for _, col := range strings.Fields(part.FindStringSubmatch(m)[1]) {
			or = append(or, fmt.Sprintf("%s = ANY (%s)", col, oids))
		}
		return "AND (" + strings.Join(or, " OR ") + ")"
	})
}

// list collects the queries that a reading makes, so that they can be sent at once.
type list struct {
	oids string
	sql  []string
}

func (l *list) each(_ context.Context, sql string, _ func(), _ ...any) error {
	l.sql = append(l.sql, limited(sql, l.oids))
	return nil
}

// replies are their results, in the same order.
type replies struct{ results []Rows }

func (r *replies) each(_ context.Context, _ string, row func(), dst ...any) error {
	if len(r.results) == 0 {
		return fmt.Errorf("a query has no result")
	}
	rows := r.results[0]
	r.results = r.results[1:]
	for _, values := range rows {
		if err := scan(values, dst); err != nil {
			return err
		}
		row()
	}
	return nil
}

// scan reads values in the text format.
func scan(values [][]byte, dst []any) error {
	if len(values) != len(dst) {
		return fmt.Errorf("a row has %d columns, and not %d", len(values), len(dst))
	}
	for i, v := range values {
		if v == nil {
			return fmt.Errorf("column %d is NULL", i+1)
		}
		var err error
		switch d := dst[i].(type) {
		case *string:
			*d = string(v)
		case *bool:
			*d = string(v) == "t"
		case *uint32:
			var n uint64
			n, err = strconv.ParseUint(string(v), 10, 32)
			*d = uint32(n)
		case *int16:
			var n int64
			n, err = strconv.ParseInt(string(v), 10, 16)
			*d = int16(n)
		case *[]string:
			err = pgtype.NewMap().Scan(pgtype.TextArrayOID, pgtype.TextFormatCode, v, d)
		default:
			err = fmt.Errorf("%T is not read", d)
		}
		if err != nil {
			return fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	return nil
}
