package catalog

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// source is where rows come from: the side connection, or a session's own.
type source interface {
	// each runs a query and calls row for each row, after scanning into dst.
	each(ctx context.Context, sql string, row func(), dst ...any) error
}

// part is what a query is limited to.
var part = regexp.MustCompile(`\{of ([^}]*)\}`)

// limited returns a query for some objects only; for all where oids is "".
func limited(sql, oids string) string {
	return part.ReplaceAllStringFunc(sql, func(m string) string {
		if oids == "" {
			return ""
		}
		var or []string
		for _, col := range strings.Fields(part.FindStringSubmatch(m)[1]) {
			or = append(or, fmt.Sprintf("%s = ANY (%s)", col, oids))
		}
		return "AND (" + strings.Join(or, " OR ") + ")"
	})
}

// list collects the queries that a reading makes, so that they can be sent at once.
type list struct {
	oids string // "": all objects
	sql  []string
}

func (l *list) each(_ context.Context, sql string, _ func(), _ ...any) error {
	l.sql = append(l.sql, limited(sql, l.oids))
	return nil
}

// side is the side connection: its queries go one by one.
type side struct{ conn *pgconn.PgConn }

func (s side) each(ctx context.Context, sql string, row func(), dst ...any) error {
	r := &stream{s.conn.Exec(ctx, limited(sql, "")), words{}}
	return errors.Join(r.each(ctx, sql, row, dst...), r.results.Close())
}

func (s side) do(ctx context.Context, sql string) error {
	_, err := s.conn.Exec(ctx, sql).ReadAll()
	return err
}

// together runs a reading over the side connection with its queries sent at once.
func (s side) together(ctx context.Context, oids string, read func(context.Context, source) error) error {
	l := &list{oids: oids}
	if err := read(ctx, l); err != nil {
		return err
	}
	r := &stream{s.conn.Exec(ctx, strings.Join(l.sql, ";")), words{}}
	return errors.Join(read(ctx, r), r.results.Close())
}

// stream are results in the order of their queries, as they come. Values are
// borrowed until the next row.
type stream struct {
	results *pgconn.MultiResultReader
	words   words
}

func (s *stream) each(_ context.Context, _ string, row func(), dst ...any) error {
	if !s.results.NextResult() {
		return errors.New("a query has no result")
	}
	rows := s.results.ResultReader()
	for rows.NextRow() {
		if err := s.words.scan(rows.Values(), dst); err != nil {
			return err
		}
		row()
	}
	_, err := rows.Close()
	return err
}

// replies are results that are there, in the same order.
type replies struct {
	results []Rows
	words   words
}

func (r *replies) each(_ context.Context, _ string, row func(), dst ...any) error {
	if len(r.results) == 0 {
		return errors.New("a query has no result")
	}
	rows := r.results[0]
	r.results = r.results[1:]
	for _, values := range rows {
		if err := r.words.scan(values, dst); err != nil {
			return err
		}
		row()
	}
	return nil
}

// words keeps one copy of each text of a reading: most names are there often.
type words map[string]string

func (w words) keep(b []byte) string {
	if s, ok := w[string(b)]; ok {
		return s
	}
	s := string(b)
	w[s] = s
	return s
}

// numbers are where an array or a vector of small integers is scanned to:
// {1,2} or 1 2.
type numbers []int16

func (n *numbers) scan(v []byte) error {
	*n = (*n)[:0]
	for f := range strings.FieldsFuncSeq(string(v), func(r rune) bool { return strings.ContainsRune("{}, ", r) }) {
		i, err := strconv.ParseInt(f, 10, 16)
		if err != nil {
			return err
		}
		*n = append(*n, int16(i))
	}
	return nil
}

// scan reads values in the text format.
func (w words) scan(values [][]byte, dst []any) error {
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
			*d = w.keep(v)
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
		case *numbers:
			err = d.scan(v)
		default:
			err = fmt.Errorf("%T is not read", d)
		}
		if err != nil {
			return fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	return nil
}
