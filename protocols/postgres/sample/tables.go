package sample

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Table is one that holds data of its own: views show what tables hold, and
// rules follow them.
type Table struct {
	Schema, Name string
	Kind         byte  // pg_class.relkind: r, p or f
	Rows         int64 // by the server's estimate; negative where there is none
	Columns      []Column
}

// Column is one of a table.
type Column struct {
	Name     string
	Type     string // built-in type that it is made of, domains resolved: text, date, jsonb, text[]
	Category byte   // pg_type.typcategory of that
	Unread   string // why its values cannot be looked at; "" if they can
}

// Why a column is not read.
const (
	Denied  = "the role may not read it"
	Foreign = "it is in another server"
	Opaque  = "its type has no text form that is known"
)

// tablesSQL: a partition is read through its table. Types that are not built in
// would have their own code run by the cast to text.
const tablesSQL = `WITH RECURSIVE base(oid, at) AS (
  SELECT t.oid, t.oid FROM pg_catalog.pg_type t
  UNION ALL SELECT b.oid, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.at WHERE t.typtype = 'd')
SELECT n.nspname::text, c.relname::text, c.relkind::text, c.reltuples::bigint, a.attname::text,
  pg_catalog.format_type(t.oid, NULL), t.typcategory::text,
  pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT'),
  t.oid < 16384 AND t.typtype = 'b' AND (t.typelem = 0 OR t.typelem < 16384)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN base b ON b.oid = a.atttypid
JOIN pg_catalog.pg_type t ON t.oid = b.at AND t.typtype <> 'd'
WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
ORDER BY 1, 2, a.attnum`

// Tables lists the tables of the database.
func Tables(ctx context.Context, c *pgx.Conn) ([]*Table, error) {
	rows, err := c.Query(ctx, tablesSQL)
	if err != nil {
		return nil, err
	}
	var out []*Table
	var t Table
	var col Column
	var kind, category string
	var may, plain bool
	_, err = pgx.ForEachRow(rows, []any{&t.Schema, &t.Name, &kind, &t.Rows, &col.Name, &col.Type, &category, &may, &plain}, func() error {
		if n := len(out); n == 0 || out[n-1].Schema != t.Schema || out[n-1].Name != t.Name {
			out = append(out, &Table{Schema: t.Schema, Name: t.Name, Kind: kind[0], Rows: t.Rows})
		}
		x := col
		x.Category = category[0]
		switch {
		case kind == "f":
			x.Unread = Foreign
		case !may:
			x.Unread = Denied
		case !plain:
			x.Unread = Opaque
		}
		last := out[len(out)-1]
		last.Columns = append(last.Columns, x)
		return nil
	})
	return out, err
}
