package catalog

const settingsSQL = `SELECT current_setting('server_version_num'), current_setting('standard_conforming_strings'), current_setting('server_encoding')`

// Where a transaction that is still open is read, {of X} stands for: X is of what
// it has changed; else for nothing.

const relationsSQL = `SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence = 't', c.relrowsecurity, c.reltype
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r','v','m','f','p','S') AND n.nspname <> 'pg_toast' {of c.oid}`

// columnsSQL has the collation's name by a sub-select, since few columns have one.
const columnsSQL = `SELECT a.attrelid, a.attnum, a.attname, a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod),
 CASE WHEN a.attcollation IN (0, 100) THEN '' ELSE (SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(o.collname)
  FROM pg_catalog.pg_collation o JOIN pg_catalog.pg_namespace n ON n.oid = o.collnamespace WHERE o.oid = a.attcollation) END,
 a.attcollation >= 16384 AND EXISTS (SELECT FROM pg_catalog.pg_collation o WHERE o.oid = a.attcollation AND NOT o.collisdeterministic),
 a.attnotnull, a.attgenerated <> '', a.attgenerated = 'v', a.attidentity <> ''
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r','v','m','f','p','S') {of a.attrelid}`

const defaultsSQL = `SELECT adrelid, adnum, coalesce(pg_catalog.pg_get_expr(adbin, adrelid), '') FROM pg_catalog.pg_attrdef WHERE adrelid >= 16384 {of adrelid}`

const inheritsSQL = `SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits WHERE true {of inhrelid inhparent} ORDER BY inhrelid, inhseqno`

const viewsSQL = `SELECT c.oid, pg_catalog.pg_get_viewdef(c.oid)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v','m') AND n.nspname NOT IN ('pg_catalog', 'information_schema') {of c.oid}`

const rulesSQL = `SELECT ev_class, rulename::text FROM pg_catalog.pg_rewrite WHERE (rulename <> '_RETURN' OR ev_type <> '1') {of ev_class} ORDER BY oid`

const triggersSQL = `SELECT t.tgrelid, p.oid, n.nspname::text, p.proname::text, CASE WHEN t.tgqual IS NULL THEN '' ELSE pg_catalog.pg_get_triggerdef(t.oid) END
FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE NOT t.tgisinternal {of t.tgrelid} ORDER BY t.oid`

const policiesSQL = `SELECT polrelid, coalesce(pg_catalog.pg_get_expr(polqual, polrelid), ''), coalesce(pg_catalog.pg_get_expr(polwithcheck, polrelid), '')
FROM pg_catalog.pg_policy WHERE true {of polrelid} ORDER BY oid`

// functionsSQL has lists as texts, whose parts a control character or a space divides.
const functionsSQL = `SELECT p.oid, n.nspname::text, p.proname::text,
 EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'),
 p.prokind::text, l.lanname::text, CASE WHEN l.lanname IN ('sql', 'plpgsql') AND p.prosqlbody IS NULL THEN p.prosrc ELSE '' END,
 CASE WHEN p.prosqlbody IS NULL THEN '' ELSE pg_catalog.pg_get_function_sqlbody(p.oid) END,
 coalesce(array_to_string(p.proconfig, chr(1)), ''), p.prosupport <> 0, coalesce(pg_catalog.pg_get_expr(p.proargdefaults, 0), ''),
 array_to_string(coalesce(p.proallargtypes, p.proargtypes::oid[]) || p.prorettype || p.provariadic || coalesce(a.aggtranstype, 0) || coalesce(a.aggmtranstype, 0), ' '),
 array_to_string(ARRAY(SELECT x.oid || ':' || x.proname FROM pg_catalog.pg_proc x WHERE x.oid = ANY (ARRAY[a.aggtransfn, a.aggfinalfn, a.aggcombinefn,
  a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn]::oid[]) ORDER BY x.oid), chr(1)),
 coalesce(a.agginitval, '') || coalesce(a.aggminitval, '')
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_language l ON l.oid = p.prolang
LEFT JOIN pg_catalog.pg_aggregate a ON a.aggfnoid = p.oid
WHERE (n.nspname NOT IN ('pg_catalog', 'information_schema') OR p.oid >= 16384) {of p.oid}`

const builtinSQL = `SELECT DISTINCT proname::text FROM pg_catalog.pg_proc WHERE pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND oid < 16384 {of oid}`

const operatorsSQL = `SELECT o.oid, n.nspname::text, o.oprname::text,
 EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_operator'::regclass AND d.objid = o.oid AND d.deptype = 'e')
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
WHERE o.oid >= 16384 {of o.oid}`

const builtinOpSQL = `SELECT DISTINCT oprname::text FROM pg_catalog.pg_operator WHERE oid < 16384 {of oid}`

const typesSQL = `SELECT t.oid, n.nspname::text, t.typname::text, t.typtype::text, t.typcategory::text, CASE WHEN t.typlen = -1 THEN t.typelem ELSE 0 END,
 CASE t.typtype WHEN 'r' THEN (SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid)
  WHEN 'm' THEN (SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE (to_jsonb(r) ->> 'rngmultitypid')::oid = t.oid) ELSE t.typbasetype END,
 CASE WHEN t.typtype = 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod) ELSE '' END, t.typdefault IS NOT NULL,
 t.oid >= 16384 AND EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname <> 'pg_toast' {of t.oid}`

// runsSQL has what runs on values of a type without being named: what puts them in
// order, holds them to be equal, or hashes them, by an operator class or family; what makes
// a range canonical or measures one; and what makes JSON or text of them. What a class or
// a family has for types of the server's is of these, also where nothing is to use it yet.
const runsSQL = `WITH own(family, l, r, f) AS MATERIALIZED (
SELECT amprocfamily, amproclefttype, amprocrighttype, amproc FROM pg_catalog.pg_amproc WHERE oid >= 16384
UNION SELECT m.amopfamily, m.amoplefttype, m.amoprighttype, o.oprcode FROM pg_catalog.pg_amop m JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr WHERE m.oid >= 16384
), c(t, f) AS (
SELECT l, f FROM own WHERE l >= 16384 OR r < 16384 UNION SELECT r, f FROM own WHERE r >= 16384 OR l < 16384
UNION SELECT o.opcintype, f FROM own JOIN pg_catalog.pg_opclass o ON o.opcfamily = family WHERE o.oid >= 16384
UNION SELECT g.rngtypid, f FROM own JOIN pg_catalog.pg_opclass o ON o.opcfamily = family JOIN pg_catalog.pg_range g ON g.rngsubopc = o.oid WHERE g.rngtypid >= 16384
UNION SELECT rngtypid, rngcanonical FROM pg_catalog.pg_range UNION SELECT rngtypid, rngsubdiff FROM pg_catalog.pg_range
UNION SELECT castsource, castfunc FROM pg_catalog.pg_cast WHERE casttarget IN ('pg_catalog.json'::regtype, 'pg_catalog.text'::regtype)
)
SELECT t, f::oid FROM c WHERE f >= 16384 {of t} ORDER BY 1, 2`

const labelsSQL = `SELECT enumtypid, enumlabel::text FROM pg_catalog.pg_enum WHERE true {of enumtypid} ORDER BY enumtypid, enumsortorder`

// castsSQL names no function of the cast that comes with a range type, to its
// multirange: it is the server's own (12 is the language internal).
const castsSQL = `SELECT c.oid, c.castsource, c.casttarget, c.castcontext::text, coalesce(n.nspname::text, ''),
 CASE WHEN p.prolang = 12 AND p.prosrc = 'multirange_constructor1' THEN '' ELSE coalesce(p.proname::text, '') END,
 EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_cast'::regclass AND d.objid = c.oid AND d.deptype = 'e')
FROM pg_catalog.pg_cast c LEFT JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc LEFT JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE c.oid >= 16384 {of c.oid}`

// constraintsSQL, indexesSQL and partitionsSQL name columns by their numbers.
const constraintsSQL = `SELECT c.conrelid, c.contypid, c.confrelid, c.contype,
 CASE WHEN c.contype = 'c' THEN coalesce(pg_catalog.pg_get_expr(c.conbin, c.conrelid), '') ELSE '' END,
 c.contype = 'f' AND c.confdeltype IN ('c', 'n', 'd'), c.contype = 'f' AND c.confdeltype = 'c', c.contype = 'f' AND c.confupdtype IN ('c', 'n', 'd'),
 coalesce(c.conkey, '{}'), coalesce(c.confkey, '{}')
FROM pg_catalog.pg_constraint c WHERE c.oid >= 16384 {of c.conrelid c.confrelid c.contypid} ORDER BY c.oid`

const indexesSQL = `SELECT i.indrelid, i.indisunique OR i.indisexclusion, i.indkey,
 coalesce(pg_catalog.pg_get_expr(i.indexprs, i.indrelid), ''), coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), ''),
 n.nspname::text || '.' || c.relname::text, am.amname NOT IN ('hash', 'gin', 'brin'), i.indisclustered
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_am am ON am.oid = c.relam
WHERE i.indrelid >= 16384 {of i.indrelid} ORDER BY i.indexrelid`

const partitionsSQL = `SELECT p.partrelid, p.partattrs, coalesce(pg_catalog.pg_get_expr(p.partexprs, p.partrelid), '')
FROM pg_catalog.pg_partitioned_table p WHERE true {of p.partrelid}`

// insideSQL is run before search_path is set: it has no operator, and no name
// without its schema.
const insideSQL = `SELECT pg_catalog.current_setting('search_path'), pg_catalog.current_setting('transaction_isolation'), pg_catalog.pg_current_snapshot()`

// momentSQL says "" where moments have no order.
const momentSQL = `SELECT CASE WHEN pg_is_in_recovery() THEN '' ELSE pg_current_snapshot()::text END`

// existsSQL lists the relations.
const existsSQL = `SELECT oid FROM pg_catalog.pg_class WHERE relkind IN ('r','v','m','f','p','S')`

// changedSQL lists what a transaction has made or changed, and what is printed
// differently for it: rows whose xmin is not older than the transaction, which are
// its own, of its savepoints, or of others that came later. Where it has no ID yet
// no row is.
var changedSQL = `WITH own(oid) AS MATERIALIZED (
          SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE age(c.xmin) <= 0 OR age(n.xmin) <= 0
UNION ALL SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE age(p.xmin) <= 0 OR age(n.xmin) <= 0
UNION ALL SELECT t.oid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE age(t.xmin) <= 0 OR age(n.xmin) <= 0
UNION ALL SELECT o.oid FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace WHERE age(o.xmin) <= 0 OR age(n.xmin) <= 0
UNION ALL SELECT o.oid FROM pg_catalog.pg_collation o JOIN pg_catalog.pg_namespace n ON n.oid = o.collnamespace WHERE age(o.xmin) <= 0 OR age(n.xmin) <= 0
UNION ALL SELECT x FROM pg_catalog.pg_cast, unnest(ARRAY[oid, castsource]) x WHERE age(xmin) <= 0
UNION ALL SELECT x FROM pg_catalog.pg_amop, unnest(ARRAY[amoplefttype, amoprighttype]) x WHERE age(xmin) <= 0
UNION ALL SELECT x FROM pg_catalog.pg_amproc, unnest(ARRAY[amproclefttype, amprocrighttype]) x WHERE age(xmin) <= 0
UNION ALL SELECT x FROM pg_catalog.pg_opclass o LEFT JOIN pg_catalog.pg_range g ON g.rngsubopc = o.oid, unnest(ARRAY[o.opcintype, g.rngtypid]) x
 WHERE age(o.xmin) <= 0 OR o.opcfamily IN (SELECT amopfamily FROM pg_catalog.pg_amop WHERE age(xmin) <= 0 UNION SELECT amprocfamily FROM pg_catalog.pg_amproc WHERE age(xmin) <= 0)
UNION ALL SELECT attrelid FROM pg_catalog.pg_attribute WHERE age(xmin) <= 0
UNION ALL SELECT adrelid FROM pg_catalog.pg_attrdef WHERE age(xmin) <= 0
UNION ALL SELECT x FROM pg_catalog.pg_inherits, unnest(ARRAY[inhrelid, inhparent]) x WHERE age(xmin) <= 0
UNION ALL SELECT ev_class FROM pg_catalog.pg_rewrite WHERE age(xmin) <= 0
UNION ALL SELECT tgrelid FROM pg_catalog.pg_trigger WHERE age(xmin) <= 0
UNION ALL SELECT polrelid FROM pg_catalog.pg_policy WHERE age(xmin) <= 0
UNION ALL SELECT indrelid FROM pg_catalog.pg_index WHERE age(xmin) <= 0
UNION ALL SELECT partrelid FROM pg_catalog.pg_partitioned_table WHERE age(xmin) <= 0
UNION ALL SELECT enumtypid FROM pg_catalog.pg_enum WHERE age(xmin) <= 0
UNION ALL SELECT x FROM pg_catalog.pg_constraint, unnest(ARRAY[conrelid, confrelid, contypid]) x WHERE age(xmin) <= 0
), ` + dependentsOf("ARRAY(SELECT oid FROM own)")

// dependentsOf lists objects, and those that are printed differently when they
// change: the second half of a WITH, and what it is for. own is an expression.
func dependentsOf(own string) string {
	return `dep(class, oid) AS MATERIALIZED (
SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
WHERE d.refclassid = ANY ('{pg_catalog.pg_class,pg_catalog.pg_proc,pg_catalog.pg_type,pg_catalog.pg_operator,pg_catalog.pg_collation,pg_catalog.pg_cast}'::pg_catalog.regclass[]::pg_catalog.oid[])
 AND d.refobjid = ANY (` + own + `)
)
SELECT x FROM unnest(` + own + `) x WHERE x <> 0
UNION SELECT ev_class FROM pg_catalog.pg_rewrite r JOIN dep ON class = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND dep.oid = r.oid
UNION SELECT adrelid FROM pg_catalog.pg_attrdef r JOIN dep ON class = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND dep.oid = r.oid
UNION SELECT polrelid FROM pg_catalog.pg_policy r JOIN dep ON class = 'pg_catalog.pg_policy'::pg_catalog.regclass AND dep.oid = r.oid
UNION SELECT tgrelid FROM pg_catalog.pg_trigger r JOIN dep ON class = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND dep.oid = r.oid
UNION SELECT indrelid FROM pg_catalog.pg_index WHERE indexrelid = ANY (` + own + `)
UNION SELECT indrelid FROM pg_catalog.pg_index r JOIN dep ON class = 'pg_catalog.pg_class'::pg_catalog.regclass AND dep.oid = r.indexrelid
UNION SELECT x FROM pg_catalog.pg_constraint r, unnest(ARRAY[conrelid, confrelid, contypid]) x, dep WHERE class = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND dep.oid = r.oid AND x <> 0
UNION SELECT dep.oid FROM dep WHERE class = ANY ('{pg_catalog.pg_proc,pg_catalog.pg_cast,pg_catalog.pg_operator,pg_catalog.pg_type,pg_catalog.pg_class}'::pg_catalog.regclass[])`
}
