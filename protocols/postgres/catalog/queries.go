package catalog

// fingerprintSQL sums up the row versions of all catalogs that load reads.
const fingerprintSQL = `SELECT md5(string_agg(n || ':' || coalesce(h, 0), ',' ORDER BY n)) FROM (
          SELECT 'ns', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_namespace
UNION ALL SELECT 'cl', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_class
UNION ALL SELECT 'at', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_attribute
UNION ALL SELECT 'ad', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_attrdef
UNION ALL SELECT 'in', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_inherits
UNION ALL SELECT 'rw', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_rewrite
UNION ALL SELECT 'pr', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_proc
UNION ALL SELECT 'op', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_operator
UNION ALL SELECT 'ca', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_cast
UNION ALL SELECT 'ty', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_type
UNION ALL SELECT 'en', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_enum
UNION ALL SELECT 'ol', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_collation
UNION ALL SELECT 'co', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_constraint
UNION ALL SELECT 'tg', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_trigger
UNION ALL SELECT 'po', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_policy
UNION ALL SELECT 'ix', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_index
UNION ALL SELECT 'ex', count(*) + sum(hashtextextended(xmin::text || ctid::text, 0)) FROM pg_catalog.pg_extension
) t(n, h)`

const settingsSQL = `SELECT current_setting('server_version_num')::int, current_setting('standard_conforming_strings'), current_setting('server_encoding')`

const relationsSQL = `SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence = 't', c.relrowsecurity, c.reltype
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r','v','m','f','p','S') AND n.nspname <> 'pg_toast'`

const columnsSQL = `SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod),
 coalesce(pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(o.collname), ''),
 a.attnotnull, a.attgenerated <> '', a.attidentity <> '', coalesce(CASE WHEN a.attrelid >= 16384 THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END, '')
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_catalog.pg_collation o ON o.oid = a.attcollation AND o.oid <> 100 LEFT JOIN pg_catalog.pg_namespace n ON n.oid = o.collnamespace
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r','v','m','f','p','S')
ORDER BY a.attrelid, a.attnum`

const inheritsSQL = `SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits`

const viewsSQL = `SELECT c.oid, pg_catalog.pg_get_viewdef(c.oid)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v','m') AND n.nspname NOT IN ('pg_catalog', 'information_schema')`

const rulesSQL = `SELECT ev_class, rulename::text FROM pg_catalog.pg_rewrite WHERE rulename <> '_RETURN' OR ev_type <> '1'`

const triggersSQL = `SELECT t.tgrelid, n.nspname::text, p.proname::text
FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE NOT t.tgisinternal`

const policiesSQL = `SELECT polrelid, coalesce(pg_catalog.pg_get_expr(polqual, polrelid), ''), coalesce(pg_catalog.pg_get_expr(polwithcheck, polrelid), '')
FROM pg_catalog.pg_policy`

const functionsSQL = `SELECT n.nspname::text, p.proname::text,
 bool_and(EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'))
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') OR p.oid >= 16384 GROUP BY 1, 2`

const builtinSQL = `SELECT DISTINCT proname::text FROM pg_catalog.pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND oid < 16384`

const operatorsSQL = `SELECT n.nspname::text, o.oprname::text,
 bool_and(EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_operator'::regclass AND d.objid = o.oid AND d.deptype = 'e'))
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
WHERE o.oid >= 16384 GROUP BY 1, 2`

const builtinOpSQL = `SELECT DISTINCT oprname::text FROM pg_catalog.pg_operator WHERE oid < 16384`

const typesSQL = `SELECT t.oid, n.nspname::text, t.typname::text, t.typtype::text, t.typcategory::text, CASE WHEN t.typlen = -1 THEN t.typelem ELSE 0 END, t.typbasetype,
 CASE WHEN t.typtype = 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod) ELSE '' END, t.typdefault IS NOT NULL,
 t.oid >= 16384 AND EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname <> 'pg_toast'`

const labelsSQL = `SELECT enumtypid, enumlabel::text FROM pg_catalog.pg_enum ORDER BY enumtypid, enumsortorder`

const castsSQL = `SELECT c.castsource, c.casttarget, c.castcontext::text, coalesce(n.nspname::text, ''), coalesce(p.proname::text, ''),
 EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_cast'::regclass AND d.objid = c.oid AND d.deptype = 'e')
FROM pg_catalog.pg_cast c LEFT JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc LEFT JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE c.oid >= 16384`

const constraintsSQL = `SELECT c.conrelid, c.contypid, c.confrelid, c.contype::text,
 CASE WHEN c.contype = 'c' THEN coalesce(pg_catalog.pg_get_expr(c.conbin, c.conrelid), '') ELSE '' END,
 ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k(n, i) JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n ORDER BY k.i),
 ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY k(n, i) JOIN pg_catalog.pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.n ORDER BY k.i)
FROM pg_catalog.pg_constraint c WHERE c.oid >= 16384`

const indexesSQL = `SELECT i.indrelid, i.indisunique OR i.indisexclusion,
 ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) k(n) JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n),
 coalesce(pg_catalog.pg_get_expr(i.indexprs, i.indrelid), ''), coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), '')
FROM pg_catalog.pg_index i WHERE i.indrelid >= 16384 AND (i.indisunique OR i.indisexclusion OR i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)`
