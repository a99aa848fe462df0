package rewrite

import (
	"context"
	"errors"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// mask returns the expression that stands in place of a column, nil for NULL.
func (a *Analyzer) mask(ctx context.Context, m policy.Mask, c *catalog.Column, base *catalog.Type) (*pg.Node, bool, error) {
	if base == nil || base.Schema != "pg_catalog" {
		return nil, false, nil // nothing is known of its values
	}
	sql, constant, err := maskSQL(m, c.Name, base.Name)
	if err != nil || sql == "" {
		return nil, false, err
	}
	n, err := a.expression(ctx, sql)
	if err != nil {
		return nil, false, err
	}
	return n, constant, nil
}

func quoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func quoteLiteral(s string) (string, error) {
	if strings.ContainsAny(s, "\\\x00") {
		return "", errors.New("a constant may not hold a backslash")
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'", nil
}

// maskSQL is the SQL form of a mask over a column of a built-in type, "" for
// NULL.
func maskSQL(m policy.Mask, col, typ string) (sql string, constant bool, err error) {
	q := quoteIdent(col)
	text := typ == "text" || typ == "varchar" || typ == "bpchar"
	switch m.Kind {
	case "null":
		return "", false, nil
	case "redact":
		if !text {
			return "", false, nil
		}
		k := m.Constant
		if k == "" {
			k = "[redacted]"
		}
		lit, err := quoteLiteral(k)
		return "CASE WHEN " + q + " IS NULL THEN NULL ELSE " + lit + " END::pg_catalog." + typ, true, err
	case "partial":
		if !text {
			return "", false, nil
		}
		f, l := strconv.Itoa(m.First), strconv.Itoa(m.Last)
		n := strconv.Itoa(m.First + m.Last)
		return "CASE WHEN pg_catalog.length(" + q + "::pg_catalog.text) OPERATOR(pg_catalog.>) " + n + " THEN pg_catalog.concat(pg_catalog.left(" + q + "::pg_catalog.text, " + f + "), pg_catalog.regexp_replace(pg_catalog.substr(" + q + "::pg_catalog.text, " + f + " OPERATOR(pg_catalog.+) 1, pg_catalog.length(" + q + "::pg_catalog.text) OPERATOR(pg_catalog.-) " + n + "), '[[:alnum:]]', '*', 'g'), pg_catalog.right(" + q + "::pg_catalog.text, " + l + ")) WHEN " + q + " IS NULL THEN NULL ELSE '***' END::pg_catalog." + typ, false, nil
	case "year":
		switch typ {
		case "date", "timestamp", "timestamptz":
			return "pg_catalog.date_trunc('year', " + q + ")::pg_catalog." + typ, false, nil
		}
		return "", false, nil
	}
	return "", false, errors.New("unknown mask")
}
