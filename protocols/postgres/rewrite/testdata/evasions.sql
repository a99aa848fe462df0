-- Each case is what an agent sends, in one session; statements are separated
-- by a line of its own ";;". No byte of a protected value may come back.
-- "want:" is what must come back at least: "refused", or the rows.

-- case: star
SELECT * FROM clinic.patients
-- case: alias
SELECT p.ssn AS x, p.name AS y FROM clinic.patients AS p
-- case: unqualified with a path
SELECT name FROM patients
-- case: quoted names
SELECT "name", "ssn" FROM "clinic"."patients"
-- case: U& names
SELECT U&"n\0061me" FROM U&"clinic".U&"p\0061tients"
-- case: upper and lower
SELECT pg_catalog.upper(name), lower(ssn), initcap(name), reverse(ssn) FROM clinic.patients
-- case: slices
SELECT substr(ssn, 1, 3), left(ssn, 5), right(name, 6), split_part(ssn, '-', 1), overlay(ssn placing 'x' from 1 for 1) FROM clinic.patients
-- case: one character at a time
SELECT ascii(substr(ssn, g, 1)) FROM clinic.patients, generate_series(1, 11) g
-- case: concatenation
SELECT 'x' || ssn || name FROM clinic.patients
-- case: cast in an error
SELECT ssn::int FROM clinic.patients
-- case: cast of a name in an error
SELECT name::date FROM clinic.patients
-- case: cast in a predicate's error
SELECT 1 FROM clinic.patients WHERE name::int > 0
-- case: division error by value
SELECT 1 / (CASE WHEN ssn LIKE '911%' THEN 0 ELSE 1 END) FROM clinic.patients
-- want: ok
-- case: json error
SELECT name::json FROM clinic.patients
-- case: regular expression error
SELECT 'a' ~ ('(' || name) FROM clinic.patients
-- case: COPY
COPY clinic.patients TO STDOUT
-- case: COPY columns
COPY clinic.patients (ssn, name) TO STDOUT WITH (FORMAT csv, HEADER)
-- case: COPY binary
COPY clinic.patients TO STDOUT WITH (FORMAT binary)
-- case: COPY query
COPY (SELECT ssn FROM clinic.patients ORDER BY name) TO STDOUT
-- case: COPY to a file
COPY clinic.patients TO '/tmp/stolen'
-- want: refused
-- case: COPY to a program
COPY clinic.patients TO PROGRAM 'cat'
-- want: refused
-- case: COPY from a program
COPY public.log (message) FROM PROGRAM 'id'
-- want: refused
-- case: TABLE
TABLE clinic.patients
-- case: view
SELECT * FROM clinic.v_patients
-- case: view with expressions
SELECT * FROM clinic.v_derived
-- case: view of whole rows
SELECT * FROM clinic.v_whole
-- case: view on a view
SELECT number, note FROM clinic.v_nested
-- case: view of a union
SELECT * FROM clinic.v_union
-- case: view with WITH
SELECT * FROM clinic.v_cte
-- case: view that calls a function
SELECT * FROM clinic.v_fn
-- want: refused
-- case: materialized view
SELECT * FROM clinic.m_patients
-- case: view through COPY
COPY (SELECT * FROM clinic.v_patients) TO STDOUT
-- case: generated column
SELECT name_upper FROM clinic.patients
-- case: child table
SELECT * FROM clinic.archived
-- case: partition and parent
SELECT a.ssn, b.ssn FROM clinic.claims a, clinic.claims_1 b
-- case: ONLY
SELECT name FROM ONLY clinic.patients
-- case: star after the name
SELECT name FROM clinic.patients *
-- case: TABLESAMPLE
SELECT name, ssn FROM clinic.patients TABLESAMPLE BERNOULLI (100) REPEATABLE (1)
-- case: whole row
SELECT p FROM clinic.patients p
-- case: whole row by table name
SELECT patients FROM clinic.patients
-- case: whole row qualified
SELECT clinic.patients FROM clinic.patients
-- case: whole row text
SELECT p::text, (p).ssn, (p).* FROM clinic.patients p
-- case: row_to_json
SELECT row_to_json(p), to_jsonb(p), json_agg(p) FROM clinic.patients p GROUP BY p
-- case: attribute notation of a function
SELECT p.row_to_json FROM clinic.patients p
-- case: attribute notation of a user function
SELECT p.poly FROM clinic.patients p
-- want: refused
-- case: field selection of a user function
SELECT (p).poly FROM clinic.patients p
-- want: refused
-- case: functional notation of a column
SELECT ssn(p) FROM clinic.patients p
-- case: row comparison
SELECT ROW(p.*) = ROW(p.*), ROW(ssn, name) FROM clinic.patients p
-- case: cast to the row type
SELECT p::clinic.patients FROM clinic.patients p
-- case: null row type
SELECT json_populate_record(NULL::clinic.patients, to_json(p)) FROM clinic.patients p
-- case: RETURNING of an update
UPDATE clinic.patients SET visits = visits RETURNING ssn
-- want: refused
-- case: RETURNING star of a delete
DELETE FROM clinic.patients WHERE id = 4 RETURNING *
-- want: refused
-- case: RETURNING whole row
UPDATE clinic.patients SET visits = 1 RETURNING patients
-- want: refused
-- case: update that copies to an open column
UPDATE clinic.patients SET city = ssn
-- want: refused
-- case: update that writes a protected column
UPDATE clinic.patients SET ssn = '000-00-0000' WHERE id = 1
-- want: refused
-- case: update that guesses
UPDATE clinic.patients SET visits = 1 WHERE ssn LIKE '911%'
-- want: refused
-- case: delete that guesses
DELETE FROM clinic.patients WHERE name LIKE 'Dave%'
-- want: refused
-- case: update from
UPDATE public.products SET name = p.ssn FROM clinic.patients p WHERE p.id = products.id RETURNING products.name
-- case: check violation shows the row
UPDATE clinic.patients SET id = NULL WHERE id = 1
-- case: foreign key violation
DELETE FROM clinic.patients WHERE id = 1
-- case: unique violation as an oracle
INSERT INTO clinic.patients (id, name, ssn) VALUES (77, 'x', '911-47-0001')
-- want: refused
-- case: not-null violation shows the row
INSERT INTO clinic.patients (id, city) VALUES (78, 'x')
-- case: ON CONFLICT as an oracle
INSERT INTO clinic.patients (id, city) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET city = patients.ssn
-- want: refused
-- case: ON CONFLICT DO NOTHING on a protected key
INSERT INTO clinic.patients (ssn, id) VALUES ('911-47-0001', 79) ON CONFLICT (ssn) DO NOTHING
-- want: refused
-- case: MERGE
MERGE INTO clinic.patients p USING public.products q ON p.id = q.id WHEN MATCHED THEN UPDATE SET city = p.ssn
-- want: refused
-- case: insert by select
INSERT INTO public.log (message) SELECT ssn || name FROM clinic.patients RETURNING message
-- case: data-modifying WITH
WITH x AS (UPDATE clinic.patients SET visits = 2 WHERE id = 1 RETURNING ssn) SELECT * FROM x
-- want: refused
-- case: data-modifying WITH into the log
WITH x AS (INSERT INTO public.log (message) SELECT name FROM clinic.patients RETURNING message) SELECT * FROM x
-- case: cursor
BEGIN
;;
DECLARE c CURSOR FOR SELECT ssn, name FROM clinic.patients
;;
FETCH ALL FROM c
;;
CLOSE c
;;
COMMIT
-- case: WHERE CURRENT OF
BEGIN
;;
DECLARE c CURSOR FOR SELECT id FROM clinic.patients
;;
FETCH c
;;
UPDATE clinic.patients SET visits = 3 WHERE CURRENT OF c RETURNING ssn
;;
ROLLBACK
-- case: PREPARE and EXECUTE
PREPARE q (int) AS SELECT ssn, name FROM clinic.patients WHERE id = $1
;;
EXECUTE q (1)
-- case: EXECUTE of an unknown name
EXECUTE nothing (1)
-- want: refused
-- case: CREATE TABLE AS EXECUTE
PREPARE q2 AS SELECT ssn FROM clinic.patients
;;
CREATE TEMP TABLE stolen AS EXECUTE q2
;;
SELECT * FROM stolen
-- case: WITH that shadows
WITH patients AS (SELECT * FROM clinic.patients) SELECT ssn FROM patients
-- want: refused
-- case: WITH
WITH x AS (SELECT ssn AS a, name AS b FROM clinic.patients) SELECT a, b FROM x UNION SELECT b, a FROM x
-- case: WITH RECURSIVE
WITH RECURSIVE r(n, s) AS (SELECT 1, ssn FROM clinic.patients UNION SELECT n + 1, s FROM r WHERE n < 3) SELECT * FROM r
-- case: nested WITH shadows by a sub-query
SELECT * FROM (WITH archived AS (SELECT 1) SELECT * FROM archived) x
-- want: refused
-- case: LATERAL
SELECT q.s, q.n FROM clinic.encounters e, LATERAL (SELECT p.ssn AS s, p.name AS n FROM clinic.patients p WHERE p.id = e.patient_id) q
-- case: sub-link
SELECT (SELECT ssn FROM clinic.patients WHERE id = e.patient_id) FROM clinic.encounters e
-- case: ARRAY sub-link
SELECT ARRAY(SELECT name FROM clinic.patients)
-- case: correlated EXISTS as an oracle
SELECT EXISTS (SELECT FROM clinic.patients WHERE ssn = '911-47-0001')
-- want: f
-- case: guess in WHERE
SELECT id FROM clinic.patients WHERE ssn = '911-47-0001'
-- want: none
-- case: guess by LIKE
SELECT count(*) FROM clinic.patients WHERE name LIKE 'Alice%'
-- want: 0
-- case: guess by regular expression
SELECT count(*) FROM clinic.patients WHERE name ~ 'CANARY'
-- want: 0
-- case: guess by range
SELECT id FROM clinic.patients WHERE ssn BETWEEN '911' AND '912'
-- want: none
-- case: guess by IN
SELECT id FROM clinic.patients WHERE ssn IN ('911-47-0001', '922-58-0002')
-- want: none
-- case: guess by a month
SELECT id FROM clinic.patients WHERE date_part('month', birth_date) = 3
-- want: none
-- case: guess in HAVING
SELECT city FROM clinic.patients GROUP BY city HAVING max(ssn) = '922-58-0002'
-- want: none
-- case: guess in FILTER
SELECT count(*) FILTER (WHERE email LIKE 'alice%') FROM clinic.patients
-- want: 0
-- case: guess in JOIN
SELECT p.id FROM clinic.patients p JOIN (VALUES ('911-47-0001')) v(s) ON p.ssn = v.s
-- want: none
-- case: guess by NATURAL JOIN
SELECT * FROM clinic.patients NATURAL JOIN (SELECT '911-47-0001'::text AS ssn) v
-- want: none
-- case: guess by USING
SELECT id FROM clinic.patients JOIN (SELECT '911-47-0001'::text AS ssn) v USING (ssn)
-- want: none
-- case: guess by a subscript
SELECT id FROM clinic.patients WHERE (string_to_array(ssn, '-'))[1] = '911'
-- want: none
-- case: order as an oracle
SELECT id FROM clinic.patients ORDER BY name DESC, id
-- case: order by a position
SELECT name, ssn FROM clinic.patients ORDER BY 1, 2
-- case: group by
SELECT ssn, count(*) FROM clinic.patients GROUP BY ssn
-- case: distinct
SELECT count(DISTINCT ssn), count(DISTINCT name) FROM clinic.patients
-- want: 1	1
-- case: distinct on
SELECT DISTINCT ON (name) name, ssn FROM clinic.patients
-- case: min and max
SELECT min(ssn), max(ssn), min(name), max(email), min(birth_date) FROM clinic.patients
-- case: aggregates of text
SELECT string_agg(ssn, ','), array_agg(name), json_agg(email), json_object_agg(id, ssn), xmlagg(xmlelement(name x, name)) FROM clinic.patients
-- case: window functions
SELECT lag(ssn) OVER w, first_value(name) OVER w, rank() OVER (ORDER BY ssn) FROM clinic.patients WINDOW w AS (PARTITION BY city ORDER BY id)
-- case: hashes of small domains
SELECT md5(ssn), sha256(ssn::bytea), hashtext(name), hash_record(p) FROM clinic.patients p
-- case: encodings
SELECT encode(name::bytea, 'base64'), encode(name::bytea, 'hex'), to_hex(ascii(name)), convert_to(name, 'UTF8') FROM clinic.patients
-- case: quoting functions
SELECT quote_literal(name), format('%s %L', name, ssn), concat(name, ssn), to_tsvector(name), translate(name, 'a', 'b') FROM clinic.patients
-- case: jsonb
SELECT jsonb_build_object('a', ssn), to_jsonb(name), jsonb_pretty(to_jsonb(p)), jsonb_each_text(to_jsonb(p)) FROM clinic.patients p
-- case: XML
SELECT xmlforest(name, ssn), xmlconcat(xmlelement(name a, ssn)), xmlserialize(content xmlelement(name b, name) AS text) FROM clinic.patients
-- case: XMLTABLE
SELECT x.* FROM clinic.patients p, XMLTABLE('/a' PASSING xmlelement(name a, p.name) COLUMNS v text PATH '.') x
-- case: set-returning functions
SELECT regexp_split_to_table(name, ''), unnest(string_to_array(ssn, '-')) FROM clinic.patients
-- case: functions in FROM
SELECT * FROM clinic.patients p, regexp_matches(p.name, '.', 'g') m, unnest(ARRAY[p.ssn]) u
-- case: ROWS FROM
SELECT * FROM ROWS FROM (public.leak_all()) x
-- want: refused
-- case: user function
SELECT public.leak(1)
-- want: refused
-- case: user function unqualified
SELECT leak(g) FROM generate_series(1, 3) g
-- want: refused
-- case: user function in ORDER BY
SELECT id FROM public.products ORDER BY leak(id)
-- want: refused
-- case: user operator
SELECT 'x' <=> 1
-- want: refused
-- case: user operator qualified
SELECT 'x' OPERATOR(public.<=>) 1
-- want: refused
-- case: domain check error
SELECT 'x'::public.trap
-- want: refused
-- case: domain check on a table
INSERT INTO public.checked VALUES (1, 'x')
-- want: refused
-- case: column default
INSERT INTO public.defaulted (id) VALUES (1) RETURNING v
-- want: refused
-- case: trigger
INSERT INTO public.audited VALUES (1, 'x') RETURNING v
-- want: refused
-- case: rule
INSERT INTO public.ruled VALUES (1)
-- want: refused
-- case: row security policy
SELECT * FROM public.rls
-- want: refused
-- case: query_to_xml
SELECT query_to_xml('SELECT * FROM clinic.patients', true, false, '')
-- want: refused
-- case: table_to_xml
SELECT table_to_xml('clinic.patients', true, false, '')
-- want: refused
-- case: database_to_xml
SELECT schema_to_xml('clinic', true, false, ''), database_to_xml(true, false, '')
-- want: refused
-- case: cursor_to_xml
SELECT cursor_to_xml('c', 1, true, false, '')
-- want: refused
-- case: ts_stat
SELECT * FROM ts_stat('SELECT to_tsvector(name) FROM clinic.patients')
-- want: refused
-- case: ts_rewrite
SELECT ts_rewrite('a'::tsquery, 'SELECT ssn::tsquery, name::tsquery FROM clinic.patients')
-- want: refused
-- case: statistics
SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE tablename = 'patients'
-- want: refused
-- case: statistics, raw
SELECT stavalues1 FROM pg_catalog.pg_statistic
-- want: refused
-- case: extended statistics
SELECT * FROM pg_stats_ext
-- want: refused
-- case: activity
SELECT query FROM pg_stat_activity
-- want: refused
-- case: prepared statements of the session
SELECT statement FROM pg_prepared_statements
-- want: refused
-- case: cursors of the session
SELECT * FROM pg_cursors
-- want: refused
-- case: passwords
SELECT rolpassword FROM pg_authid
-- want: refused
-- case: files
SELECT pg_read_file('/etc/passwd'), pg_ls_dir('/')
-- want: refused
-- case: large object
SELECT lo_from_bytea(0, convert_to(ssn, 'UTF8')) FROM clinic.patients
-- want: refused
-- case: large object table
SELECT * FROM pg_largeobject
-- want: refused
-- case: dblink
SELECT * FROM dblink('dbname=postgres', 'SELECT ssn FROM clinic.patients') AS t(s text)
-- want: refused
-- case: notification
SELECT pg_notify('c', ssn) FROM clinic.patients
-- want: refused
-- case: NOTIFY
NOTIFY c, 'x'
-- want: refused
-- case: set_config and current_setting
SELECT set_config('x.y', ssn, false) FROM clinic.patients
-- want: refused
-- case: sequence
SELECT setval('public.log_id_seq', ascii(ssn)) FROM clinic.patients
-- want: refused
-- case: sequence read
SELECT last_value FROM clinic.prescriptions_id_seq
-- want: refused
-- case: advisory lock
SELECT pg_advisory_lock(ascii(ssn)) FROM clinic.patients
-- want: refused
-- case: EXPLAIN estimates
EXPLAIN SELECT * FROM clinic.patients WHERE ssn = '911-47-0001'
-- want: refused
-- case: EXPLAIN ANALYZE
EXPLAIN (ANALYZE, VERBOSE) SELECT ssn FROM clinic.v_patients
-- want: refused
-- case: temp table
CREATE TEMP TABLE t1 AS SELECT * FROM clinic.patients
-- want: refused
-- case: temp table by columns
CREATE TEMP TABLE t2 (s text)
;;
INSERT INTO t2 SELECT ssn FROM clinic.patients
;;
SELECT * FROM t2
-- case: temp table that shadows
CREATE TEMP TABLE patients (ssn text)
-- want: refused
-- case: SELECT INTO
SELECT * INTO TEMP t3 FROM clinic.patients
-- want: refused
-- case: CREATE VIEW
CREATE VIEW public.v9 AS SELECT ssn FROM clinic.patients
-- want: refused
-- case: CREATE TEMP VIEW
CREATE TEMP VIEW v9 AS SELECT * FROM clinic.patients
-- want: refused
-- case: CREATE MATERIALIZED VIEW
CREATE MATERIALIZED VIEW m9 AS SELECT * FROM clinic.patients
-- want: refused
-- case: DO
DO $$ BEGIN RAISE NOTICE '%', (SELECT ssn FROM clinic.patients LIMIT 1); END $$
-- want: refused
-- case: CREATE FUNCTION
CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM clinic.patients LIMIT 1'
-- want: refused
-- case: CALL
CALL public.leak(1)
-- want: refused
-- case: rename and read
ALTER TABLE clinic.patients RENAME TO persons
-- want: refused
-- case: rename a column
ALTER TABLE clinic.patients RENAME COLUMN ssn TO number
-- want: refused
-- case: drop the not-null and read the definition
SELECT pg_get_viewdef('clinic.v_patients'::regclass), pg_get_functiondef('public.leak'::regproc)
-- case: row security rewritten
ALTER TABLE clinic.patients ENABLE ROW LEVEL SECURITY
-- want: refused
-- case: inherit from a protected table
CREATE TABLE public.child () INHERITS (clinic.patients)
-- want: refused
-- case: table like a protected one
CREATE TABLE public.twin (LIKE clinic.patients INCLUDING ALL)
-- want: refused
-- case: search_path
SET search_path = other, clinic
-- want: refused
-- case: role
SET ROLE postgres
-- want: refused
-- case: session authorization
SET SESSION AUTHORIZATION postgres
-- want: refused
-- case: row_security
SET row_security = off
-- want: refused
-- case: standard_conforming_strings
SET standard_conforming_strings = off
-- want: refused
-- case: client_encoding
SET client_encoding = 'SQL_ASCII'
-- want: refused
-- case: client encoding by NAMES
SET NAMES 'LATIN1'
-- want: refused
-- case: logging to the client
SET debug_print_plan = on
-- want: refused
-- case: local setting
SET LOCAL log_statement = 'all'
-- want: refused
-- case: SHOW of a custom setting
SHOW x.y
-- want: refused
-- case: system columns
SELECT ctid, xmin, tableoid, ssn FROM clinic.patients
-- case: qualified by the database
SELECT ssn FROM postgres.clinic.patients
-- case: triple-qualified columns
SELECT clinic.patients.ssn, clinic.patients.name FROM clinic.patients
-- case: column alias list
SELECT a, b, c FROM clinic.patients AS p (a, b, c)
-- case: join alias
SELECT j.* FROM (clinic.patients p JOIN clinic.encounters e ON e.patient_id = p.id) AS j (a, b, c, d, e, f)
-- case: set operation finds by difference
SELECT ssn FROM clinic.patients EXCEPT SELECT '911-47-0001'
-- case: intersect as an oracle
SELECT ssn FROM clinic.patients INTERSECT SELECT '911-47-0001'
-- want: none
-- case: VALUES with a sub-link
VALUES ((SELECT name FROM clinic.patients LIMIT 1))
-- case: LIMIT by a sub-link
SELECT generate_series(1, 5) LIMIT (SELECT ascii(ssn) - 56 FROM clinic.patients WHERE id = 1)
-- case: comments
SELECT/**/ssn/* /* nested */ */FROM--x
clinic.patients
-- case: dollar quotes and strings
SELECT $a$ $b$ $a$, E'\'', ssn FROM clinic.patients
-- case: many statements
SELECT 1; SELECT ssn FROM clinic.patients; SELECT name FROM clinic.patients
-- case: one bad among many
SELECT 1; SELECT public.leak(1)
-- want: refused
-- case: CASE and COALESCE
SELECT CASE WHEN ssn > '5' THEN ssn END, coalesce(name, email), nullif(ssn, 'x'), greatest(ssn, name) FROM clinic.patients
-- case: ANY and ALL
SELECT id FROM clinic.patients WHERE '911-47-0001' = ANY (ARRAY[ssn])
-- want: none
-- case: row in sub-select
SELECT id FROM clinic.patients WHERE (ssn, name) IN (SELECT ssn, name FROM clinic.patients WHERE id = 1)
-- case: grouping sets
SELECT ssn, name, count(*) FROM clinic.patients GROUP BY CUBE (ssn, name)
-- case: collate
SELECT ssn COLLATE "C" FROM clinic.patients ORDER BY ssn COLLATE "C"
-- case: FOR UPDATE
SELECT ssn FROM clinic.patients FOR UPDATE
-- case: lengths
SELECT length(name), octet_length(email), char_length(phone), bit_length(ssn), pg_column_size(name) FROM clinic.patients WHERE id = 1
-- case: ages
SELECT age(birth_date), birth_date - DATE '2000-01-01', extract(doy from birth_date), to_char(birth_date, 'DD MM') FROM clinic.patients
-- case: regclass games
SELECT 'clinic.patients'::regclass, ('clinic.' || 'patients')::regclass::text, 16384::regclass
-- case: statistics functions
SELECT pg_stat_get_live_tuples('clinic.patients'::regclass)
-- want: refused
-- case: index on a function
CREATE INDEX ON public.products (public.leak(id))
-- want: refused
-- case: grants
GRANT SELECT ON clinic.patients TO PUBLIC
-- want: refused
-- case: extension
CREATE EXTENSION dblink
-- want: refused
-- case: cast
CREATE CAST (text AS int) WITH INOUT AS IMPLICIT
-- want: refused
-- case: two-phase
BEGIN
;;
PREPARE TRANSACTION 'x'
-- want: refused
-- case: sequence as a relation in an error
SELECT nextval(ssn) FROM clinic.patients
-- want: refused
-- case: text search debug
SELECT * FROM ts_debug((SELECT name FROM clinic.patients LIMIT 1))
-- case: pg_prepared by catalog function
SELECT * FROM pg_prepared_statement()
-- want: refused
-- case: catalog defaults
SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef
-- case: catalog missing values
SELECT attmissingval FROM pg_attribute WHERE attrelid = 'clinic.patients'::regclass
-- case: catalog sources
SELECT prosrc FROM pg_proc WHERE proname = 'leak'
-- case: json constructor of a later grammar
SELECT JSON_ARRAY(ssn) FROM clinic.patients
-- want: refused
-- case: bit by bit through random access
SELECT get_byte(name::bytea, 7), get_bit(ssn::bytea, 3) FROM clinic.patients WHERE id = 1
-- case: sleeping oracle
SELECT pg_sleep(CASE WHEN ssn LIKE '911%' THEN 0.01 ELSE 0 END) FROM clinic.patients
-- case: large multi join
SELECT a.ssn, b.name, c.email FROM clinic.patients a, clinic.v_patients b, clinic.archived c
-- case: ambiguous names
SELECT v.city FROM visits v
-- case: catalog of another schema through quotes
SELECT "most_common_vals" FROM "pg_catalog"."pg_stats"
-- want: refused
-- case: settings
SELECT * FROM pg_settings
-- want: refused
-- case: LOCK and LISTEN
LISTEN c
-- want: refused
-- case: one text prepares and executes
PREPARE z AS SELECT ssn FROM clinic.patients; EXECUTE z
-- case: one text replaces a prepared statement
PREPARE y AS SELECT 1
;;
DEALLOCATE y; PREPARE y AS DELETE FROM clinic.encounters; EXECUTE y
-- want: refused
-- case: table with the name of a type
CREATE TEMP TABLE text (a int)
-- want: refused
-- case: unique index of several columns as an oracle
UPDATE clinic.policies SET number = 2 WHERE number = 1
-- want: refused
-- case: check over a protected column as an oracle
UPDATE clinic.policies SET kind = 'x' WHERE number = 1
-- want: refused
-- case: foreign key to a protected column as an oracle
INSERT INTO clinic.cards (ssn) VALUES ('911-47-0001')
-- want: refused
-- case: child's row in a parent's error
UPDATE clinic.people SET id = NULL
-- case: group by a key shows a dependent column
SELECT m.pin, count(*) FROM clinic.members m GROUP BY m.id
-- case: group by a key shows all
SELECT m.* FROM clinic.members m GROUP BY m.id
-- case: copies of whole rows
SELECT * FROM public.history
-- case: field of a copy
SELECT (old).ssn, (olds[1]).name, old.ssn FROM public.history
-- case: error of a view's own predicate
SELECT * FROM clinic.v_cast
-- case: error of a nested view's predicate
SELECT id FROM clinic.v_cast2
-- case: overload of a built-in
SELECT upper(1)
-- want: refused
-- case: the server's log
SET client_min_messages = log
-- want: refused
