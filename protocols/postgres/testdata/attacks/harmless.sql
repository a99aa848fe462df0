-- What must give exactly what the server gives without the proxy.

-- case: constant
SELECT 1
-- case: constants
SELECT 1 AS a, 'x' AS b, NULL AS c, 1.5, true, E'\n', $$q$$, B'101', '{1,2}'::int[]
-- case: table
SELECT * FROM public.products ORDER BY id
-- case: unqualified
SELECT id, name FROM products ORDER BY id
-- case: open columns of a protected table
SELECT id, city FROM clinic.patients ORDER BY id
-- case: count of a protected table
SELECT count(*) FROM clinic.patients
-- case: group by an open column
SELECT city, count(*) AS n, sum(visits) FROM clinic.patients GROUP BY city ORDER BY city NULLS FIRST
-- case: group by an expression
SELECT lower(city) AS c, count(*) FROM clinic.patients p GROUP BY 1 HAVING count(*) > 0 ORDER BY 1
-- case: filter on an open column
SELECT id FROM clinic.patients WHERE city = 'Boston' AND visits = 0 ORDER BY id DESC LIMIT 2 OFFSET 1
-- case: join of protected and open
SELECT p.id, p.city, e.note, e.severity FROM clinic.patients p JOIN clinic.encounters e ON e.patient_id = p.id ORDER BY e.id
-- case: join USING
SELECT id FROM clinic.encounters JOIN (SELECT id AS patient_id FROM clinic.patients) p USING (patient_id) ORDER BY 1
-- case: left join with coalesce
SELECT p.id, coalesce(sum(r.dose), 0) FROM clinic.patients p LEFT JOIN clinic.encounters e ON e.patient_id = p.id LEFT JOIN clinic.prescriptions r ON r.encounter_id = e.id GROUP BY p.id ORDER BY p.id
-- case: WITH
WITH big AS (SELECT * FROM products WHERE price > 10) SELECT count(*), avg(price) FROM big
-- case: WITH RECURSIVE
WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 10) SELECT sum(n) FROM t
-- case: window
SELECT id, rank() OVER (ORDER BY price DESC), sum(price) OVER (ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM products ORDER BY id
-- case: set operations
SELECT id FROM products WHERE id < 4 UNION SELECT id FROM clinic.encounters EXCEPT SELECT 2 ORDER BY 1
-- case: sub-selects
SELECT id FROM products p WHERE price = (SELECT max(price) FROM products) OR EXISTS (SELECT 1 FROM clinic.encounters e WHERE e.id = p.id) ORDER BY id
-- case: LATERAL
SELECT p.id, t.x FROM products p, LATERAL unnest(p.tags) AS t(x) ORDER BY 1, 2
-- case: arrays and json
SELECT tags[1], data->>'k', data @> '{"k": 3}', jsonb_pretty(data), array_length(tags, 1) FROM products ORDER BY id
-- case: dates
SELECT date_trunc('hour', at), extract(epoch FROM at), at + interval '1 day', at AT TIME ZONE 'UTC', to_char(at, 'YYYY-MM-DD') FROM products ORDER BY id
-- case: text functions
SELECT pg_catalog.upper(name), substring(name from 2 for 3), position('d' in name), trim(both ' ' from name), name ~ 'duct', name ILIKE '%1', format('%s-%s', id, name), md5(name) FROM products ORDER BY id
-- case: case and null
SELECT CASE WHEN id % 2 = 0 THEN 'even' ELSE 'odd' END, nullif(id, 3), greatest(id, 5), id IS DISTINCT FROM 4, id BETWEEN 2 AND 5, id NOT IN (1, 2) FROM products ORDER BY id
-- case: aggregates
SELECT array_agg(id ORDER BY id DESC), string_agg(name, ',' ORDER BY id), json_agg(p ORDER BY id), bool_and(id > 0), count(*) FILTER (WHERE id > 5), percentile_cont(0.5) WITHIN GROUP (ORDER BY price) FROM products p
-- case: grouping sets
SELECT id % 2, id % 3, count(*), grouping(id % 2) FROM products GROUP BY ROLLUP (id % 2, id % 3) ORDER BY 1, 2, 3
-- case: DISTINCT ON
SELECT DISTINCT ON (id % 3) id % 3 AS m, name FROM products ORDER BY id % 3, id
-- case: VALUES
VALUES (1, 'a'), (2, 'b')
-- case: TABLE
TABLE clinic.encounters
-- case: generate_series
SELECT g, random() < 2 FROM generate_series(1, 5) AS g
-- case: whole row of an open table
SELECT e FROM clinic.encounters e ORDER BY e.id
-- case: row_to_json of an open table
SELECT row_to_json(e) FROM clinic.encounters e ORDER BY id
-- case: view on an open table
SELECT * FROM v_products ORDER BY id
-- case: view that reads only open relations
SELECT * FROM clinic.v_by_patient ORDER BY id
-- case: open columns of a view
SELECT id, city FROM clinic.v_patients ORDER BY id
-- case: COPY
COPY products TO STDOUT
-- case: COPY csv
COPY (SELECT id, name FROM products ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER true)
-- case: COPY open columns of a protected table
COPY clinic.patients (id, city) TO STDOUT
-- case: syntax of expressions
SELECT -1, - 1, +2, 2 ^ 3, |/ 16, @ -5, 5 % 3, NOT true, (1, 2) < (1, 3), ARRAY[1, 2] || 3, 'a' || 'b', 1 <> 2, 1 != 2
-- case: casts
SELECT '1'::int, CAST('2020-01-01' AS date), int4 '5', 'low'::clinic.severity, 'x'::clinic.plain, '{}'::jsonb, 1::numeric(5, 2), 'abc'::varchar(2)
-- case: current functions
SELECT current_database(), current_user, current_schema, version(), pg_typeof(1), current_schemas(true)
-- case: error of division
SELECT 1 / 0
-- case: error of a cast
SELECT 'abc'::int
-- case: error of a missing column
SELECT nothing FROM products
-- case: error of a type
SELECT id + name FROM products
-- case: XML
SELECT xmlelement(name a, xmlattributes(id AS i), name) FROM products ORDER BY id LIMIT 2
-- case: transaction
BEGIN
;;
SELECT 1
;;
SAVEPOINT a
;;
ROLLBACK TO a
;;
COMMIT
-- case: transaction modes
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY
;;
SHOW transaction_isolation
;;
ROLLBACK
-- case: settings
SET statement_timeout = 10000
;;
SHOW statement_timeout
;;
RESET statement_timeout
;;
SET extra_float_digits = 3
;;
SET application_name = 'x'
;;
SET TIME ZONE 'UTC'
;;
SET DateStyle TO ISO
;;
SHOW server_version
-- case: cursor
BEGIN
;;
DECLARE c SCROLL CURSOR FOR SELECT id FROM products ORDER BY id
;;
FETCH 3 FROM c
;;
MOVE 1 IN c
;;
FETCH BACKWARD 2 FROM c
;;
CLOSE c
;;
COMMIT
-- case: prepared statement
PREPARE q (int) AS SELECT name FROM products WHERE id = $1
;;
EXECUTE q (3)
;;
DEALLOCATE q
-- case: insert update delete
BEGIN
;;
INSERT INTO products (id, name, price) VALUES (100, 'new', 5) RETURNING *
;;
UPDATE products SET price = price + 1, name = pg_catalog.upper(name) WHERE id = 100 RETURNING id, price
;;
INSERT INTO products (id, name) VALUES (100, 'again') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING name
;;
DELETE FROM products WHERE id = 100 RETURNING id
;;
ROLLBACK
-- case: insert with a default
BEGIN
;;
INSERT INTO log (message) VALUES ('x') RETURNING message
;;
ROLLBACK
-- case: open column of a protected table
BEGIN
;;
UPDATE clinic.patients SET visits = visits + 1 WHERE id = 2
;;
UPDATE clinic.patients SET city = 'Oslo' WHERE id = 2 RETURNING id, city
;;
ROLLBACK
-- case: unique violation on an open table
INSERT INTO products (id, name) VALUES (1, 'again')
-- case: temporary table
CREATE TEMP TABLE work_1 (id int PRIMARY KEY, v text NOT NULL DEFAULT 'x')
;;
INSERT INTO work_1 (id) VALUES (1), (2)
;;
SELECT * FROM work_1 ORDER BY id
;;
DROP TABLE work_1
-- case: temporary table as
CREATE TEMP TABLE work_2 AS SELECT id, name FROM products WHERE id < 3
;;
SELECT count(*) FROM work_2
;;
DROP TABLE work_2
-- case: explain
EXPLAIN (COSTS OFF) SELECT * FROM products WHERE id = 1
-- case: comments
/* leading */ SELECT 1 -- trailing
-- case: FOR UPDATE
SELECT id FROM products WHERE id = 1 FOR UPDATE SKIP LOCKED
-- case: psql \d, the list
SELECT n.nspname as "Schema", c.relname as "Name", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'i' THEN 'index' WHEN 'S' THEN 'sequence' WHEN 't' THEN 'TOAST table' WHEN 'f' THEN 'foreign table' WHEN 'p' THEN 'partitioned table' WHEN 'I' THEN 'partitioned index' END as "Type", pg_catalog.pg_get_userbyid(c.relowner) as "Owner" FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam WHERE c.relkind IN ('r','p','v','m','S','f','') AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast' AND n.nspname <> 'information_schema' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2
-- case: psql \d, the table
SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relname OPERATOR(pg_catalog.~) '^(encounters)$' COLLATE pg_catalog.default ORDER BY 2, 3
-- case: psql \d, the columns
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation) AS attcollation, a.attidentity, a.attgenerated FROM pg_catalog.pg_attribute a WHERE a.attrelid = 'clinic.encounters'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
-- case: psql \d, the references
SELECT true as sametable, conname, c.conrelid::pg_catalog.regclass AS ontable FROM pg_catalog.pg_constraint c, pg_catalog.pg_partition_ancestors(c.conrelid) relid WHERE c.conrelid = 'clinic.encounters'::regclass AND c.contype = 'f' ORDER BY conname
-- case: psql \dn
SELECT n.nspname AS "Name", pg_catalog.pg_get_userbyid(n.nspowner) AS "Owner" FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1
-- case: npm postgres, types
select b.oid, b.typarray from pg_catalog.pg_type a left join pg_catalog.pg_type b on b.oid = a.typelem where a.typcategory = 'A' group by b.oid, b.typarray order by b.oid
-- case: JDBC, tables
SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, c.relname AS TABLE_NAME, d.description AS REMARKS FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_description d ON (c.oid = d.objoid AND d.objsubid = 0 and d.classoid = 'pg_class'::regclass) WHERE c.relnamespace = n.oid AND n.nspname = 'public' AND c.relkind = 'r' ORDER BY 2, 3
-- case: JDBC, primary keys
SELECT result.A_ATTNUM, (result.KEYS).n, result.A_ATTNAME FROM (SELECT a.attname AS A_ATTNAME, (information_schema._pg_expandarray(i.indkey)) AS KEYS, a.attnum AS A_ATTNUM FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid) WHERE i.indisprimary AND ct.relname = 'encounters') result WHERE result.A_ATTNUM = (result.KEYS).x ORDER BY 1
-- case: information_schema
SELECT table_schema, table_name, column_name, data_type, is_nullable FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2, 3
-- case: pgx, a type by name
SELECT t.oid, t.typname, t.typtype, t.typelem FROM pg_type t LEFT JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typname = 'severity'
-- case: enum labels
SELECT enumlabel FROM pg_catalog.pg_enum e JOIN pg_type t ON t.oid = e.enumtypid WHERE t.typname = 'severity' ORDER BY enumsortorder
-- case: object description
SELECT obj_description('public.products'::regclass, 'pg_class'), has_table_privilege('public.products', 'SELECT')
-- case: discard
DISCARD ALL
-- case: several statements
SELECT 1; SELECT id FROM products WHERE id = 2; SELECT 'x'
-- case: empty
;
-- case: group by a key
SELECT m.id, m.city, count(e.id) FROM clinic.members m LEFT JOIN clinic.encounters e ON e.patient_id = m.id GROUP BY m.id ORDER BY m.id
-- case: group by a key without an alias
SELECT id, pg_catalog.upper(city), count(*) FROM clinic.members GROUP BY id HAVING city <> 'x' ORDER BY city
-- case: identifiers of every form
SELECT "id" AS "Id", U&"n\0061me" AS n, PUBLIC.Products.ID FROM public.products ORDER BY 1 LIMIT 2
-- case: string constants of every form
SELECT 'it''s', E'tab\tquote\'', U&'d\0061t\+000061', $$dollar $ $$, $t$ $$ $t$
-- case: numbers of every form
SELECT 0, 1., .5, 1e3, 1.5E-2, 12345678901234567890, -0.0::float8, 'NaN'::numeric, 'Infinity'::float4
-- case: comments in odd places
SELECT /* a /* b */ c */ 1 -- d
 + /* e */ 2 AS three
-- case: unusual blanks and no semicolon
SELECT   1	,
2
-- case: booleans and nulls
SELECT true AND NULL, NULL IS NULL, (1 = 1) IS NOT FALSE, NULL IS UNKNOWN, coalesce(NULL, NULL, 3), 1 IS DISTINCT FROM NULL
-- case: bit strings
-- since: 14
SELECT B'1010' & B'0110', B'1' || B'0', X'FF'::bit(8)::int, bit_count(B'1011')
-- case: binary strings
SELECT '\xdeadbeef'::bytea, encode('abc'::bytea, 'base64'), length('\x00ff'::bytea), sha256('x'::bytea)
-- case: unicode
SELECT 'Grüße, 世界, 🙂', length('世界'), pg_catalog.upper('größe' COLLATE "C"), 'é' = 'e', reverse('abç')
-- case: date constants
SELECT DATE '2024-02-29', TIME '12:00', TIMESTAMP '2024-01-01 10:00', INTERVAL '1 year 2 days', TIMESTAMPTZ '2024-01-01 00:00+02', make_date(2024, 5, 6)
-- case: date arithmetic
-- since: 14
SELECT DATE '2024-03-01' - DATE '2024-02-01', age(TIMESTAMP '2024-01-01', TIMESTAMP '2020-06-01'), justify_days(INTERVAL '40 days'), date_bin('15 min', TIMESTAMP '2024-01-01 10:07', TIMESTAMP '2024-01-01'), (DATE '2024-01-01', DATE '2024-02-01') OVERLAPS (DATE '2024-01-15', DATE '2024-03-01')
-- case: number functions
SELECT round(2.567, 2), trunc(-1.5), mod(7, 3), gcd(12, 18), width_bucket(5.3, 0, 10, 5), to_char(1234.5, 'FM9,999.00'), factorial(5), log(100)
-- case: string functions
SELECT initcap('a b'), lpad('x', 3, '-'), split_part('a,b,c', ',', 2), regexp_replace('abc', 'b', 'X'), overlay('abcdef' placing 'ZZ' from 2 for 2), concat_ws('-', 1, NULL, 2), translate('abc', 'ab', 'xy'), strpos('abc', 'c'), ascii('A'), chr(66), quote_literal('a''b'), quote_ident('A b')
-- case: regular expressions
SELECT 'abc' ~ '^a', 'ABC' ~* 'b', regexp_match('a1b22', '\d+'), regexp_matches('a1b22', '\d+', 'g'), regexp_split_to_array('a,b', ','), 'abc' SIMILAR TO '%(b|d)%'
-- case: arrays
SELECT ARRAY[[1, 2], [3, 4]], (ARRAY[1, 2, 3])[2:3], array_agg(x), 2 = ANY (ARRAY[1, 2]), array_to_string(ARRAY[1, NULL, 3], ',', '*'), unnest(ARRAY['a', 'b']) FROM (VALUES (1), (2)) v (x)
-- case: ranges
SELECT int4range(1, 5) * int4range(3, 9), '[1,3)'::int4range @> 2, daterange('2024-01-01', NULL), isempty('(1,1)'::numrange), pg_catalog.upper(int8range(1, 4))
-- case: json
SELECT '{"a": [1, {"b": 2}]}'::json #>> '{a,1,b}', '{"a": 1}'::jsonb || '{"b": 2}', jsonb_path_query_array('[1, 2, 3]', '$[*] ? (@ > 1)'), json_build_object('k', ARRAY[1]), jsonb_set('{"a": 1}', '{a}', '2'), json_typeof('null')
-- case: json tables
SELECT * FROM jsonb_each('{"a": 1, "b": "x"}'), jsonb_array_elements_text('["p", "q"]') WITH ORDINALITY AS e (v, n)
-- case: records from json
SELECT * FROM jsonb_to_recordset('[{"a": 1, "b": "x"}, {"a": 2}]') AS r (a int, b text)
-- case: networks and identifiers
SELECT inet '10.0.0.1/8', network('10.1.2.3/16'), '08:00:2b:01:02:03'::macaddr, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid
-- case: geometry
SELECT point '(1,2)' <-> point '(4,6)', box '((0,0),(1,1))' @> point '(0.5,0.5)', circle '((0,0),2)'
-- case: text search
SELECT to_tsvector('english', 'The quick foxes') @@ to_tsquery('english', 'fox & quick'), ts_rank(to_tsvector('simple', 'a b'), 'a'), plainto_tsquery('simple', 'a b')
-- case: xml
SELECT xmlelement(name p, xmlattributes(1 AS a), 'x<y'), xmlforest(1 AS a, 'b' AS c), xpath('/a/b/text()', '<a><b>1</b></a>'), '<a/>'::xml IS DOCUMENT
-- case: XMLTABLE
SELECT t.* FROM XMLTABLE('/r/i' PASSING XMLPARSE(CONTENT '<r><i n="1">a</i><i n="2">b</i></r>') COLUMNS n int PATH '@n', v text PATH '.') t
-- case: rows
SELECT ROW(1, 'a', NULL), (ROW(1, 2)).f2, ROW(1, 2) < ROW(1, 3), ROW(1, NULL) IS NULL
-- case: enums
SELECT enum_range(NULL::clinic.severity), 'low'::clinic.severity < 'high', severity, count(*) FROM clinic.encounters GROUP BY severity ORDER BY severity
-- case: windows by name
SELECT id, lag(price) OVER w, first_value(name) OVER w, ntile(3) OVER w, percent_rank() OVER w FROM products WINDOW w AS (ORDER BY id) ORDER BY id
-- case: window frames
SELECT id, sum(price) OVER (ORDER BY id RANGE BETWEEN 2 PRECEDING AND CURRENT ROW), count(*) OVER (PARTITION BY id % 2 ORDER BY id GROUPS 1 PRECEDING) FROM products ORDER BY id
-- case: ordered sets
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY id), mode() WITHIN GROUP (ORDER BY id % 3), rank(5) WITHIN GROUP (ORDER BY id) FROM products
-- case: statistics of numbers
SELECT corr(id, price), stddev(price), var_pop(id), regr_slope(price, id), covar_samp(id, price) FROM products
-- case: grouping sets and cube
SELECT id % 2 AS a, id % 3 AS b, grouping(id % 2, id % 3), count(*) FROM products GROUP BY CUBE (id % 2, id % 3) ORDER BY 3, 1, 2
-- case: joins of every kind
SELECT p.id, e.id, v.id FROM products p FULL JOIN clinic.encounters e ON e.id = p.id + 18 LEFT JOIN LATERAL (SELECT e.id WHERE e.id > 1) v ON true RIGHT JOIN (VALUES (19), (21)) w (x) ON w.x = p.id ORDER BY 1, 2, 3
-- case: natural join
SELECT * FROM clinic.encounters NATURAL JOIN (SELECT id, 'x' AS more FROM products) q ORDER BY id
-- case: correlated sub-queries
SELECT id, (SELECT count(*) FROM clinic.encounters e WHERE e.patient_id = p.id), id IN (SELECT encounter_id FROM clinic.prescriptions), id > ALL (SELECT id FROM clinic.encounters WHERE id < 0) FROM products p ORDER BY id LIMIT 4
-- case: recursion with cycles
WITH RECURSIVE t (n, path) AS (SELECT 1, ARRAY[1] UNION ALL SELECT n + 1, path || (n + 1) FROM t WHERE n < 5) SELECT n, path FROM t ORDER BY n DESC
-- case: nested WITH
WITH a AS (SELECT id FROM products WHERE id < 3), b AS (SELECT a.id * 2 AS d FROM a) SELECT a.id, b.d FROM a, b ORDER BY 1, 2
-- case: nested set operations
(SELECT 1 UNION ALL SELECT 2) INTERSECT (SELECT 2 UNION SELECT 3) ORDER BY 1 LIMIT 1
-- case: limits of every form
SELECT id FROM products ORDER BY id OFFSET 2 ROWS FETCH NEXT 3 ROWS WITH TIES
-- case: TABLESAMPLE
SELECT count(*) FROM products TABLESAMPLE BERNOULLI (100) REPEATABLE (7)
-- case: functions in FROM
SELECT * FROM ROWS FROM (generate_series(1, 3), unnest(ARRAY['a', 'b'])) WITH ORDINALITY AS r (a, b, n)
-- case: series of dates
SELECT d::date FROM generate_series(TIMESTAMP '2024-01-01', TIMESTAMP '2024-01-05', INTERVAL '2 days') d
-- case: system columns of an open table
SELECT tableoid::regclass, id FROM products WHERE ctid = '(0,1)'
-- case: collations
SELECT name COLLATE "C" FROM products ORDER BY name COLLATE "C" DESC LIMIT 3
-- case: names of relations and types
SELECT 'clinic.patients'::regclass, ('clinic.' || 'patients')::regclass::text, 'int4'::regtype, to_regclass('no.such'), 'pg_catalog.lower(text)'::regprocedure
-- case: open columns of a protected table by alias
SELECT q.id, q.town FROM (SELECT id, city AS town FROM clinic.patients) q WHERE q.town LIKE 'B%' ORDER BY q.id
-- case: open columns of a child and a partition
SELECT (SELECT count(*) FROM clinic.archived), c.id, c.amount FROM clinic.claims c ORDER BY c.id
-- case: exists over a protected table
SELECT e.id FROM clinic.encounters e WHERE EXISTS (SELECT 1 FROM clinic.patients p WHERE p.id = e.patient_id AND p.city = 'Boston') ORDER BY 1
-- case: error of a function
SELECT length(1), 1
-- case: error of an unknown setting's value
SET statement_timeout = 'soon'
-- case: error of a constraint on an open table
INSERT INTO products (id, name) VALUES (NULL, 'x')
-- case: error in a transaction
BEGIN
;;
SELECT 1 / 0
;;
SELECT 1
;;
ROLLBACK
;;
SELECT 2
-- case: savepoints
BEGIN
;;
SAVEPOINT a
;;
SELECT 1 / 0
;;
ROLLBACK TO a
;;
RELEASE a
;;
SELECT 1
;;
COMMIT
-- case: transactions in a chain
BEGIN READ ONLY
;;
COMMIT AND CHAIN
;;
SHOW transaction_read_only
;;
ROLLBACK
-- case: a cursor that is held
BEGIN
;;
DECLARE h CURSOR WITH HOLD FOR SELECT id FROM products ORDER BY id LIMIT 5
;;
COMMIT
;;
FETCH 2 FROM h
;;
MOVE FORWARD 1 FROM h
;;
FETCH ALL FROM h
;;
CLOSE h
-- case: prepared with several types
PREPARE w (int, text, date) AS SELECT $1 + 1, $2 || 'x', $3 - 1
;;
EXECUTE w (1, 'a', '2024-01-02')
;;
EXECUTE w (2, NULL, NULL)
;;
DEALLOCATE ALL
-- case: insert of several rows by a select
BEGIN
;;
INSERT INTO products (id, name, price) SELECT g, 'n' || g, g FROM generate_series(200, 203) g RETURNING id, price
;;
DELETE FROM products WHERE id >= 200
;;
ROLLBACK
-- case: update from another table
BEGIN
;;
UPDATE log SET message = e.note FROM clinic.encounters e WHERE e.id = log.id RETURNING log.id, log.message
;;
WITH gone AS (DELETE FROM log RETURNING id) SELECT count(*) FROM gone
;;
ROLLBACK
-- case: temporary table with constraints
CREATE TEMP TABLE work_3 (id int PRIMARY KEY, v text UNIQUE, n int CHECK (n > 0))
;;
INSERT INTO work_3 VALUES (1, 'a', 1), (2, 'b', 2)
;;
UPDATE work_3 SET n = n + id RETURNING n
;;
DROP TABLE work_3
-- case: explain with formats
EXPLAIN (COSTS OFF, FORMAT json) SELECT id FROM products WHERE price > 3
-- case: COPY with options
COPY (SELECT id, name, NULL AS n FROM products ORDER BY id LIMIT 3) TO STDOUT WITH (FORMAT csv, DELIMITER ';', NULL '-', FORCE_QUOTE (name))
-- case: COPY binary
COPY (SELECT id, price FROM products ORDER BY id LIMIT 3) TO STDOUT WITH (FORMAT binary)
-- case: locks
BEGIN
;;
LOCK TABLE products IN SHARE MODE
;;
SELECT id FROM products WHERE id = 2 FOR SHARE OF products NOWAIT
;;
COMMIT
-- case: comments between words that belong together
SELECT id NOT/* a */IN (1, 2), U&'d!0061t' /**/ UESCAPE '!', g.n FROM products, generate_series(1, 2) WITH/* b */ORDINALITY AS g (i, n) ORDER BY id, 3 NULLS -- c
 FIRST
-- case: a table that is used in its own transaction
BEGIN
;;
CREATE TABLE public.in_transaction (id int PRIMARY KEY, note text DEFAULT 'none')
;;
INSERT INTO public.in_transaction (id) VALUES (1), (2) RETURNING id, note
;;
SAVEPOINT s
;;
UPDATE public.in_transaction SET note = 'one' WHERE id = 1
;;
DROP TABLE public.in_transaction
;;
ROLLBACK TO s
;;
SELECT id, note FROM public.in_transaction ORDER BY id
;;
ROLLBACK
-- case: a temporary table in its own transaction
BEGIN
;;
CREATE TEMPORARY TABLE in_temp ON COMMIT DROP AS SELECT id, name FROM public.products
;;
SELECT count(*), min(name) FROM in_temp
;;
COMMIT
-- case: equality beside a column that is masked
SELECT id, branch FROM clinic.accounts WHERE branch = 'north' AND id IN (1, 2) ORDER BY id
-- case: prepared equality on what is open
PREPARE branches AS SELECT a.id, p.name FROM clinic.accounts a JOIN public.products p ON p.id = a.id AND a.branch = $1 ORDER BY 1
;;
EXECUTE branches('south')
;;
DEALLOCATE branches
-- case: ranges, vectors and XML that are nobody's
SELECT lower(daterange('2024-01-01', '2024-02-01')), to_tsvector('simple', 'a b'), xpath('/a/text()', '<a>b</a>'::xml), point(1, 2) <-> point(3, 4), B'101' | B'010'
-- case: open columns of a table with masked ranges
SELECT s.id, s.ward, p.name FROM clinic.stays s JOIN public.products p ON p.id = s.id WHERE s.ward IN ('a', 'b') ORDER BY s.id
-- case: functions whose bodies are harmless
SELECT id, helpers.net(price), helpers.net(price, rate => 0.1), helpers.size(price), helpers.label(p), p.label FROM public.products p ORDER BY id
-- case: rows of functions whose bodies are harmless
SELECT c.id, c.name, t.others FROM helpers.cheap(6) c LEFT JOIN helpers.tagged('a') t USING (id) ORDER BY c.id
-- case: a function that calls itself
SELECT helpers.factorial(g), public.double(g) FROM generate_series(1, 6) g
-- case: aggregates of one's own
SELECT id % 2 AS odd, helpers.longest(name), helpers.joined(',', VARIADIC array_agg(name ORDER BY id)) FROM public.products GROUP BY 1 ORDER BY 1
-- case: what a function says
SELECT helpers.positive(3), helpers.either(NULL, 'x'::text)
-- case: what a function refuses
SELECT helpers.positive(-3, 'count')
-- case: a trigger that is harmless
BEGIN
;;
INSERT INTO helpers.orders (id, n) VALUES (1, 5) RETURNING stamp
;;
UPDATE helpers.orders SET n = 6 WHERE id = 1 RETURNING stamp
;;
INSERT INTO helpers.orders (id, n) VALUES (2, -1)
;;
ROLLBACK
-- case: a view of a harmless function
SELECT size, count(*) FROM helpers.v_sizes WHERE helpers.size(id) <> 'none' GROUP BY size ORDER BY size
-- case: harmless functions over open columns
SELECT id, helpers.size(visits), helpers.longer(city, 'somewhere') FROM clinic.patients ORDER BY id
-- case: a prepared call of a harmless function
PREPARE sized AS SELECT helpers.size($1), helpers.net(price) FROM public.products WHERE id = $2
;;
EXECUTE sized(12, 3)
;;
DEALLOCATE sized
-- case: a generated column of a harmless function
SELECT id, size FROM helpers.stored ORDER BY id
-- case: a path of one's own
BEGIN
;;
SET LOCAL search_path = helpers, public
;;
SELECT id, size(price), label(p) FROM products p ORDER BY id
;;
SELECT count(*) FROM v_sizes
;;
SHOW search_path
;;
ROLLBACK
-- case: settings by functions
SELECT set_config('extra_float_digits', '1', true), current_setting('server_version_num') > '0', current_setting('search_path'), current_setting('DateStyle', true)
;;
SELECT pg_catalog.set_config('search_path', '', true)
-- case: the plan of a prepared statement
PREPARE planned AS SELECT name FROM public.products WHERE id = $1
;;
EXPLAIN (COSTS OFF) EXECUTE planned (1)
;;
DEALLOCATE planned
-- case: a search of a tree and its cycles
-- since: 14
WITH RECURSIVE t (id, n) AS (SELECT id, name FROM public.products WHERE id < 3 UNION ALL SELECT p.id, p.name FROM t JOIN public.products p ON p.id = t.id * 2 WHERE p.id < 9) SEARCH BREADTH FIRST BY id SET o CYCLE id SET looped USING way SELECT id, n, looped, way FROM t ORDER BY o
-- case: an update beside a generated column and an index of masked texts
UPDATE clinic.titles SET title = 'Prof' WHERE id = 1
-- case: UNION ALL of open columns, in order
SELECT id, city AS c FROM clinic.patients UNION ALL SELECT id, note FROM clinic.encounters ORDER BY c NULLS LAST, id
-- case: UNION ALL of stars
SELECT * FROM public.log UNION ALL TABLE public.log UNION ALL (SELECT 7, NULL, NULL)
-- case: COPY of UNION ALL with a header
COPY (SELECT city, 'a,"b"' AS x FROM clinic.patients UNION ALL SELECT note, NULL FROM clinic.encounters) TO STDOUT (FORMAT csv, HEADER, NULL 'none')
-- case: COPY with NULL as it likes
COPY (SELECT city, E'\t\\' FROM clinic.patients) TO STDOUT (NULL '-', DELIMITER '|')
-- case: COPY of what a write returns
BEGIN
;;
COPY (UPDATE clinic.patients SET visits = 0 WHERE id = 2 RETURNING id, city, visits) TO STDOUT (FORMAT binary)
;;
ROLLBACK
-- case: RETURNING of a joined write
BEGIN
;;
UPDATE public.log SET message = 'y' FROM clinic.patients p WHERE p.id = log.id RETURNING p.city, log.message, p.id
;;
ROLLBACK
-- case: a WITH query by the name of a protected table
WITH patients AS (SELECT 1 AS id, 'x' AS name) SELECT p.*, name FROM patients p
-- case: WITH queries that read one another
WITH RECURSIVE a AS (SELECT name FROM patients), patients AS (SELECT 'x' AS name) SELECT name FROM a
-- case: a WITH query is there in what is within
WITH patients AS (SELECT 1 AS id) SELECT (SELECT max(id) FROM patients), x.id FROM (SELECT id FROM patients) x WHERE EXISTS (SELECT FROM patients WHERE id = x.id)
-- case: COPY with a header by number
COPY (SELECT id, name FROM products ORDER BY id LIMIT 2) TO STDOUT (FORMAT csv, HEADER 1)
-- case: COPY with a header that is on
COPY (SELECT id, name FROM products ORDER BY id LIMIT 2) TO STDOUT (FORMAT csv, HEADER 'On')
-- case: MERGE
-- since: 15
BEGIN
;;
MERGE INTO products p USING (VALUES (1, 'one'), (900, 'new')) v (i, n) ON p.id = v.i WHEN MATCHED AND p.price < 3 THEN UPDATE SET name = v.n WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.i, v.n)
;;
SELECT id, name FROM products WHERE id IN (1, 900) ORDER BY id
;;
MERGE INTO products p USING clinic.visits v ON p.id = v.id WHEN NOT MATCHED THEN DO NOTHING
;;
MERGE INTO products p USING (VALUES (1)) v (i) ON p.id = v.i WHEN MATCHED THEN UPDATE SET price = 'x'
;;
ROLLBACK
-- case: MERGE that returns
-- since: 17
BEGIN
;;
MERGE INTO products p USING (VALUES (1, 'one'), (900, 'new')) v (i, n) ON p.id = v.i WHEN MATCHED THEN UPDATE SET name = v.n WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.i, v.n) WHEN NOT MATCHED BY SOURCE AND p.id > 18 THEN DELETE RETURNING merge_action(), p.id, v.*
;;
WITH m AS (MERGE INTO products p USING (VALUES (2)) v (i) ON p.id = v.i WHEN MATCHED THEN DELETE RETURNING p.id) SELECT * FROM m
;;
ROLLBACK
-- case: what aggregates and operators are made of
SELECT float8_accum('{0,0,0}', 3), timestamptz_lt_date('2020-01-01', '2020-01-02'), btint4cmp(1, 2), textanycat('a', 1), int4send(7), record_out(ROW(1, 'x'))
