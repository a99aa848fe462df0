package recorder

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/stdlib"
)

// The store's SQL has SQLite's placeholders, and hosts may give names of any bytes,
// which PostgreSQL's text may not have. So what goes to pgx, and what comes from it,
// is translated here.

type pgConnector struct{ driver.Connector }

func (c pgConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &pgConn{conn.(*stdlib.Conn)}, nil
}

type pgConn struct{ *stdlib.Conn }

func (c *pgConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.ExecContext(ctx, numbered(query), args)
}

func (c *pgConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.Conn.QueryContext(ctx, numbered(query), args)
	return plainRows(rows, err)
}

func (c *pgConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	st, err := c.Conn.PrepareContext(ctx, numbered(query))
	if err != nil {
		return nil, err
	}
	return &pgStmt{st.(*stdlib.Stmt)}, nil
}

// CheckNamedValue implements driver.NamedValueChecker.
func (c *pgConn) CheckNamedValue(v *driver.NamedValue) error {
	switch x := v.Value.(type) {
	case string:
		v.Value = pgText(x)
	case uint64:
		if int64(x) < 0 {
			return fmt.Errorf("%d is more than the store can hold", x)
		}
	}
	return c.Conn.CheckNamedValue(v)
}

type pgStmt struct{ *stdlib.Stmt }

func (s *pgStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := s.Stmt.QueryContext(ctx, args)
	return plainRows(rows, err)
}

func plainRows(rows driver.Rows, err error) (driver.Rows, error) {
	if err != nil {
		return nil, err
	}
	return &pgRows{rows.(*stdlib.Rows)}, nil
}

type pgRows struct{ *stdlib.Rows }

func (r *pgRows) Next(to []driver.Value) error {
	if err := r.Rows.Next(to); err != nil {
		return err
	}
	for i, v := range to {
		if s, ok := v.(string); ok {
			to[i] = plainText(s)
		}
	}
	return nil
}

// numbered gives a query PostgreSQL's placeholders, $1 for ?1 or the first ?.
func numbered(query string) string {
	b := make([]byte, 0, len(query)+32)
	n := 0
	for i := range len(query) {
		if query[i] != '?' {
			b = append(b, query[i])
			continue
		}
		b = append(b, '$')
		if i+1 == len(query) || query[i+1] < '0' || query[i+1] > '9' {
			n++
			b = strconv.AppendInt(b, int64(n), 10)
		}
	}
	return string(b)
}

// substitute stands before two hexadecimal digits for a byte that text may not
// have: 0, what is no UTF-8, and itself.
const substitute = 0x1a

// pgText is text as PostgreSQL may have it; mostly as it is.
func pgText(s string) string {
	if utf8.ValidString(s) && !strings.ContainsAny(s, "\x00\x1a") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == 0 || r == substitute || r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, "\x1a%02x", s[i])
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// plainText is the inverse of pgText. What that does not make stays as it is.
func plainText(s string) string {
	head, rest, found := strings.Cut(s, "\x1a")
	if !found {
		return s
	}
	b := []byte(head)
	for found {
		var digits string
		digits, rest = rest[:min(2, len(rest))], rest[min(2, len(rest)):]
		if c, err := strconv.ParseUint(digits, 16, 8); err == nil && len(digits) == 2 {
			b = append(b, byte(c))
		} else {
			b = append(append(b, substitute), digits...)
		}
		head, rest, found = strings.Cut(rest, "\x1a")
		b = append(b, head...)
	}
	return string(b)
}
