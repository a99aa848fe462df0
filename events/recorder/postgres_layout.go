package recorder

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
)

// pgLayout is what the migrations make, as pgLayoutText tells it.
//
//go:embed postgres_layout.txt
var pgLayout string

// pgLayoutText is all in the catalogue that decides what a statement on the store's
// tables does: the tables, their columns, indexes and constraints, and triggers, rules,
// policies, tables that inherit, functions, operators and types, of which there are none.
// It is the same in every version of PostgreSQL.
const pgLayoutText = `
WITH s AS (SELECT oid, nspname FROM pg_namespace WHERE nspname = current_schema()),
r AS (SELECT c.* FROM pg_class c JOIN s ON c.relnamespace = s.oid)
SELECT coalesce(string_agg(x, chr(10) ORDER BY x COLLATE "C"), '') FROM (
SELECT concat_ws(' ', 'relation', relname, relkind, relpersistence, a.amname, relrowsecurity, relforcerowsecurity, relispartition, reloftype = 0, relreplident) AS x
	FROM r LEFT JOIN pg_am a ON a.oid = r.relam
UNION ALL SELECT concat_ws(' ', 'column', r.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, 'identity', a.attidentity, 'generated', a.attgenerated,
		'inherited', a.attinhcount, c.collname, pg_get_expr(d.adbin, d.adrelid))
	FROM r JOIN pg_attribute a ON a.attrelid = r.oid LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum LEFT JOIN pg_collation c ON c.oid = a.attcollation
	WHERE a.attnum > 0 AND r.relkind NOT IN ('i', 'I', 'S')
UNION ALL SELECT concat_ws(' ', 'index', replace(pg_get_indexdef(i.indexrelid), s.nspname || '.', ''), indisvalid, indisready, indislive, indimmediate)
	FROM pg_index i JOIN r ON r.oid = i.indexrelid CROSS JOIN s
UNION ALL SELECT concat_ws(' ', 'constraint', r.relname, conname, contype, condeferrable, convalidated, pg_get_constraintdef(k.oid))
	FROM pg_constraint k JOIN r ON r.oid = k.conrelid WHERE contype <> 'n'
UNION ALL SELECT concat_ws(' ', 'trigger', r.relname, tgname, tgenabled, tgtype) FROM pg_trigger t JOIN r ON r.oid = t.tgrelid
UNION ALL SELECT concat_ws(' ', 'rule', r.relname, rulename) FROM pg_rewrite w JOIN r ON r.oid = w.ev_class
UNION ALL SELECT concat_ws(' ', 'policy', r.relname, polname) FROM pg_policy p JOIN r ON r.oid = p.polrelid
UNION ALL SELECT concat_ws(' ', 'inherits', inhrelid::regclass, inhparent::regclass) FROM pg_inherits WHERE inhrelid IN (SELECT oid FROM r WHERE relkind <> 'i') OR inhparent IN (SELECT oid FROM r)
UNION ALL SELECT concat_ws(' ', 'function', p.oid::regprocedure) FROM pg_proc p JOIN s ON p.pronamespace = s.oid
UNION ALL SELECT concat_ws(' ', 'operator', o.oid::regoperator) FROM pg_operator o JOIN s ON o.oprnamespace = s.oid
UNION ALL SELECT concat_ws(' ', 'type', t.typname) FROM pg_type t JOIN s ON t.typnamespace = s.oid
	WHERE typrelid = 0 AND NOT EXISTS (SELECT 1 FROM pg_type e WHERE e.typarray = t.oid)
) u`

func pgCheckLayout(ctx context.Context, tx *sql.Tx) error {
	var text string
	if err := tx.QueryRowContext(ctx, pgLayoutText).Scan(&text); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if text != pgLayout {
		return ErrLayout
	}
	return nil
}

func pgSound(ctx context.Context, tx *sql.Tx) (string, error) { return "", nil }
