-- Class 10: carry a protected value out.

-- case: star
SELECT * FROM clinic.patients
-- case: alias
SELECT p.ssn AS x, p.name AS y FROM clinic.patients AS p
-- case: upper and lower
SELECT pg_catalog.upper(name), lower(ssn), initcap(name), reverse(ssn) FROM clinic.patients
-- case: slices
SELECT substr(ssn, 1, 3), left(ssn, 5), right(name, 6), split_part(ssn, '-', 1), overlay(ssn placing 'x' from 1 for 1) FROM clinic.patients
-- case: concatenation
SELECT 'x' || ssn || name FROM clinic.patients
-- case: cast in an error
SELECT ssn::int FROM clinic.patients
-- case: cast of a name in an error
SELECT name::date FROM clinic.patients
-- case: cast in a predicate's error
SELECT 1 FROM clinic.patients WHERE name::int > 0
-- case: regular expression
SELECT regexp_replace(name, '^.*(CAN.*)$', '\1'), substring(name from 'CAN.*') FROM clinic.patients
-- case: COPY
COPY clinic.patients TO STDOUT
-- case: COPY binary
COPY clinic.patients TO STDOUT WITH (FORMAT binary)
-- case: COPY query
COPY (SELECT ssn FROM clinic.patients ORDER BY name) TO STDOUT
-- case: COPY from a program
-- want: refused
-- effect: SELECT EXISTS (SELECT FROM public.log WHERE message = 'ran')
COPY public.log (message) FROM PROGRAM 'echo ran'
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
-- want: refused
SELECT * FROM clinic.v_fn
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
-- case: TABLESAMPLE
SELECT name, ssn FROM clinic.patients TABLESAMPLE BERNOULLI (100) REPEATABLE (1)
-- case: whole row
SELECT p FROM clinic.patients p
-- case: whole row by table name
SELECT patients FROM clinic.patients
-- case: whole row qualified
SELECT clinic.patients.* FROM clinic.patients
-- case: whole row text
SELECT p::text, (p).ssn, (p).* FROM clinic.patients p
-- case: row_to_json
SELECT row_to_json(p), to_jsonb(p), json_agg(p) FROM clinic.patients p GROUP BY p
-- case: attribute notation of a function
SELECT p.row_to_json FROM clinic.patients p
-- case: attribute notation of a user function
-- want: refused
SELECT p.poly FROM clinic.patients p
-- case: field selection of a user function
-- want: refused
SELECT (p).poly FROM clinic.patients p
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
-- case: RETURNING star of a delete
DELETE FROM clinic.patients WHERE id = 4 RETURNING *
-- case: RETURNING whole row
-- want: refused
UPDATE clinic.patients SET visits = 1 RETURNING patients
-- case: update that copies to an open column
-- want: refused
UPDATE clinic.patients SET city = ssn RETURNING city
-- case: update that writes a protected column
-- want: refused
-- effect: SELECT EXISTS (SELECT FROM clinic.patients WHERE ssn = '000-00-0000')
UPDATE clinic.patients SET ssn = '000-00-0000' WHERE id = 1
-- case: update from
UPDATE public.log SET message = p.ssn FROM clinic.patients p WHERE p.id = log.id RETURNING log.message
-- case: check violation shows the row
UPDATE clinic.patients SET id = NULL WHERE id = 1
-- case: not-null violation shows the row
-- want: refused
UPDATE clinic.patients SET name = NULL WHERE id = 1
-- case: ON CONFLICT copies
-- want: refused
INSERT INTO clinic.patients (id, name, city) VALUES (1, 'x', 'x') ON CONFLICT (id) DO UPDATE SET city = patients.ssn RETURNING city
-- case: MERGE
-- since: 15
-- want: refused
MERGE INTO clinic.patients p USING public.products q ON p.id = q.id WHEN MATCHED THEN UPDATE SET city = p.ssn
;;
SELECT city FROM clinic.patients
-- case: insert by select
INSERT INTO public.log (message) SELECT ssn || name FROM clinic.patients RETURNING message
-- case: data-modifying WITH
-- want: refused
WITH x AS (UPDATE clinic.patients SET visits = 2 WHERE id = 1 RETURNING ssn) SELECT * FROM x
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
-- case: WITH
WITH x AS (SELECT ssn AS a, name AS b FROM clinic.patients) SELECT a, b FROM x UNION SELECT b, a FROM x
-- case: WITH RECURSIVE
WITH RECURSIVE r(n, s) AS (SELECT 1, ssn FROM clinic.patients UNION SELECT n + 1, s FROM r WHERE n < 3) SELECT * FROM r
-- case: LATERAL
SELECT q.s, q.n FROM clinic.encounters e, LATERAL (SELECT p.ssn AS s, p.name AS n FROM clinic.patients p WHERE p.id = e.patient_id) q
-- case: sub-link
SELECT (SELECT ssn FROM clinic.patients WHERE id = e.patient_id) FROM clinic.encounters e
-- case: ARRAY sub-link
SELECT ARRAY(SELECT name FROM clinic.patients)
-- case: order by a position
SELECT name, ssn FROM clinic.patients ORDER BY 1, 2
-- case: group by
SELECT ssn, count(*) FROM clinic.patients GROUP BY ssn
-- case: distinct on
SELECT DISTINCT ON (name) name, ssn FROM clinic.patients
-- case: min and max
SELECT min(ssn), max(ssn), min(name), max(email), min(birth_date) FROM clinic.patients
-- case: aggregates of text
SELECT string_agg(ssn, ','), array_agg(name), json_agg(email), json_object_agg(id, ssn), xmlagg(xmlelement(name x, name)) FROM clinic.patients
-- case: window functions
SELECT lag(ssn) OVER w, first_value(name) OVER w, rank() OVER (ORDER BY ssn) FROM clinic.patients WINDOW w AS (PARTITION BY city ORDER BY id)
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
-- case: functions in FROM
SELECT * FROM clinic.patients p, regexp_matches(p.name, '.', 'g') m, unnest(ARRAY[p.ssn]) u
-- case: ROWS FROM
-- want: refused
SELECT * FROM ROWS FROM (public.leak_all()) x
-- case: user function
-- want: refused
SELECT public.leak(1)
-- case: user function unqualified
-- want: refused
SELECT leak(g) FROM generate_series(1, 3) g
-- case: domain check error
-- want: refused
SELECT 'x'::public.trap
-- case: domain check on a table
-- want: refused
CREATE TEMP TABLE trapped (c public.trap)
;;
INSERT INTO trapped VALUES ('x')
-- case: column default
-- want: refused
INSERT INTO public.defaulted (id) VALUES (1) RETURNING v
-- case: trigger
-- want: refused
INSERT INTO public.audited VALUES (1, 'x') RETURNING v
-- case: rule
-- want: refused
INSERT INTO public.ruled VALUES (1)
;;
SELECT message FROM public.log
-- case: row security policy
-- since: 14
-- want: refused
SET ROLE pg_read_all_data
;;
SELECT * FROM public.rls
-- case: query_to_xml
-- want: refused
SELECT query_to_xml('SELECT * FROM clinic.patients', true, false, '')
-- case: table_to_xml
-- want: refused
SELECT table_to_xml('clinic.patients', true, false, '')
-- case: database_to_xml
-- want: refused
SELECT schema_to_xml('clinic', true, false, ''), database_to_xml(true, false, '')
-- case: cursor_to_xml
-- want: refused
BEGIN
;;
DECLARE c CURSOR FOR SELECT ssn FROM clinic.patients
;;
SELECT cursor_to_xml('c', 10, true, false, '')
-- case: ts_stat
-- want: refused
SELECT * FROM ts_stat('SELECT to_tsvector(name) FROM clinic.patients')
-- case: ts_rewrite
-- want: refused
SELECT ts_rewrite('a'::tsquery, 'SELECT ssn::tsquery, name::tsquery FROM clinic.patients')
-- case: large object
-- want: refused
SELECT lo_from_bytea(4714, convert_to(ssn, 'UTF8')) FROM clinic.patients WHERE id = 1
;;
SELECT convert_from(lo_get(4714), 'UTF8')
-- case: dblink
-- want: refused
CREATE EXTENSION dblink
;;
SELECT * FROM dblink('host=' || split_part(current_setting('unix_socket_directories'), ',', 1) || ' port=' || current_setting('port') || ' user=postgres dbname=' || current_database(), 'SELECT ssn FROM clinic.patients') AS t(s text)
-- case: notification
-- want: refused
LISTEN c
;;
SELECT pg_notify('c', coalesce(ssn, 'x')) FROM clinic.patients
-- case: set_config and current_setting
-- want: refused
SELECT set_config('x.y', ssn, false) FROM clinic.patients
-- case: temp table
-- want: refused
CREATE TEMP TABLE t1 AS SELECT * FROM clinic.patients
;;
SELECT * FROM t1
-- case: temp table by columns
CREATE TEMP TABLE t2 (s text)
;;
INSERT INTO t2 SELECT ssn FROM clinic.patients
;;
SELECT * FROM t2
-- case: SELECT INTO
-- want: refused
SELECT * INTO TEMP t3 FROM clinic.patients
;;
SELECT * FROM t3
-- case: CREATE VIEW
-- want: refused
CREATE VIEW public.v9 AS SELECT ssn FROM clinic.patients
;;
SELECT * FROM public.v9
-- case: CREATE TEMP VIEW
-- want: refused
CREATE TEMP VIEW v9 AS SELECT * FROM clinic.patients
;;
SELECT * FROM v9
-- case: CREATE MATERIALIZED VIEW
-- want: refused
CREATE MATERIALIZED VIEW m9 AS SELECT * FROM clinic.patients
;;
SELECT * FROM m9
-- case: DO
-- want: refused
DO $$ BEGIN RAISE NOTICE '%', (SELECT ssn FROM clinic.patients LIMIT 1); END $$
-- case: CREATE FUNCTION
-- want: refused
CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM clinic.patients LIMIT 1'
;;
SELECT pg_temp.f()
-- case: CALL
-- want: refused
CALL public.pleak(NULL)
-- case: rename and read
-- want: refused
ALTER TABLE clinic.patients RENAME TO persons
;;
SELECT ssn FROM clinic.persons
-- case: rename a column
-- want: refused
ALTER TABLE clinic.patients RENAME COLUMN ssn TO number
;;
SELECT number FROM clinic.patients
-- case: row security rewritten
-- want: refused
-- effect: SELECT relrowsecurity FROM pg_class WHERE oid = 'clinic.patients'::regclass
ALTER TABLE clinic.patients ENABLE ROW LEVEL SECURITY
-- case: inherit from a protected table
-- want: refused
-- effect: SELECT to_regclass('public.child') IS NOT NULL
CREATE TABLE public.child () INHERITS (clinic.patients)
-- case: table like a protected one
-- want: refused
-- effect: SELECT to_regclass('public.twin') IS NOT NULL
CREATE TABLE public.twin (LIKE clinic.patients INCLUDING ALL)
-- case: system columns
SELECT ctid, xmin, tableoid, ssn FROM clinic.patients
-- case: column alias list
SELECT a, b, c FROM clinic.patients AS p (a, b, c)
-- case: join alias
SELECT j.* FROM (clinic.patients p JOIN clinic.encounters e ON e.patient_id = p.id) AS j (a, b, c, d, e, f)
-- case: VALUES with a sub-link
VALUES ((SELECT name FROM clinic.patients LIMIT 1))
-- case: CASE and COALESCE
SELECT CASE WHEN ssn > '5' THEN ssn END, coalesce(name, email), nullif(ssn, 'x'), greatest(ssn, name) FROM clinic.patients
-- case: grouping sets
SELECT ssn, name, count(*) FROM clinic.patients GROUP BY CUBE (ssn, name)
-- case: collate
SELECT ssn COLLATE "C" FROM clinic.patients ORDER BY ssn COLLATE "C"
-- case: FOR UPDATE
SELECT ssn FROM clinic.patients FOR UPDATE
-- case: index on a function
-- want: refused
CREATE INDEX ON public.log (public.boom(message))
-- case: grants
-- want: refused
-- effect: SELECT has_table_privilege('public', 'clinic.patients', 'SELECT')
GRANT SELECT ON clinic.patients TO PUBLIC
-- case: extension
-- want: refused
-- effect: SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'dblink')
CREATE EXTENSION dblink
-- case: sequence as a relation in an error
-- want: refused
SELECT nextval(ssn) FROM clinic.patients
-- case: text search debug
SELECT * FROM ts_debug((SELECT name FROM clinic.patients LIMIT 1))
-- case: json constructors
SELECT json_build_array(ssn), json_build_object(name, 1), json_object(ARRAY['k'], ARRAY[name]) FROM clinic.patients
-- case: error of a sleep
SELECT pg_sleep(ssn::float8) FROM clinic.patients
-- case: large multi join
SELECT a.ssn, b.name, c.email FROM clinic.patients a, clinic.v_patients b, clinic.archived c
-- case: child's row in an error
UPDATE clinic.staff SET id = NULL
-- case: group by a key shows a dependent column
SELECT m.pin, count(*) FROM clinic.members m GROUP BY m.id
-- case: group by a key shows all
SELECT m.* FROM clinic.members m GROUP BY m.id
-- case: copies of whole rows
SELECT * FROM public.history
-- case: field of a copy
SELECT (old).ssn, (olds[1]).name FROM public.history
-- case: error of a view's own predicate
SELECT * FROM clinic.v_cast
-- case: error of a nested view's predicate
SELECT id FROM clinic.v_cast2
-- case: COPY of a view's columns as csv
COPY (SELECT number AS n FROM clinic.v_nested) TO STDOUT WITH (FORMAT csv, FORCE_QUOTE *)
-- case: COPY of a set operation
COPY (SELECT name FROM clinic.patients UNION ALL TABLE clinic.v_union) TO STDOUT WITH (DELIMITER '|', NULL 'x')
-- case: COPY of VALUES
COPY (VALUES ((SELECT string_agg(ssn, ',') FROM clinic.patients))) TO STDOUT
-- case: COPY of what is returned
COPY (UPDATE clinic.patients SET visits = 1 RETURNING ssn) TO STDOUT
-- case: COPY of a partition
COPY clinic.claims_1 TO STDOUT
-- case: COPY of a child
COPY clinic.archived (name, reason) TO STDOUT WITH (FORMAT binary)
-- case: COPY of a materialized view's query
COPY (TABLE clinic.m_patients) TO STDOUT
-- case: COPY of a generated column
COPY (SELECT name_upper FROM clinic.patients) TO STDOUT
-- case: alias of an alias of an alias
SELECT c.z FROM (SELECT b.y AS z FROM (SELECT a.x AS y FROM (SELECT ssn AS x FROM clinic.patients) a) b) c
-- case: alias that is another column's name
SELECT ssn AS city, city AS ssn FROM clinic.patients
-- case: aliases by position over a join
SELECT j.c, j.b FROM (clinic.patients p CROSS JOIN clinic.encounters e) AS j (a, b, c)
-- case: USING with an alias of the join
-- since: 14
SELECT x.*, p.ssn FROM clinic.patients p JOIN clinic.members m USING (id) AS x
-- case: NATURAL FULL JOIN
SELECT ssn, pin FROM clinic.patients NATURAL FULL JOIN clinic.members
-- case: a join with itself
SELECT a.ssn || b.name FROM clinic.patients a JOIN clinic.patients b ON a.id = b.id
-- case: casts through every text type
SELECT ssn::varchar(5), name::name, ssn::char(11), email::bpchar, ssn::"char", phone::text::bytea FROM clinic.patients
-- case: casts to arrays and back
SELECT ('{' || ssn || '}')::text[], string_to_array(name, NULL) FROM clinic.patients
-- case: casts to search types
SELECT name::tsvector, to_tsquery('simple', replace(ssn, '-', '&')), plainto_tsquery(name) FROM clinic.patients
-- case: casts to numbers
SELECT replace(ssn, '-', '')::bigint, to_number(replace(ssn, '-', ''), '999999999'), translate(phone, '+-', '')::numeric FROM clinic.patients
-- case: casts to dates and back
SELECT birth_date::timestamp, birth_date::text, birth_date + interval '1 hour', daterange(birth_date, NULL), make_date(2000, extract(month FROM birth_date)::int, extract(day FROM birth_date)::int) FROM clinic.patients
-- case: enum input
SELECT name::clinic.severity FROM clinic.patients
-- case: enum input by a literal's own cast
SELECT (SELECT ssn FROM clinic.patients LIMIT 1)::text::clinic.severity
-- case: uuid input
SELECT ssn::uuid FROM clinic.patients
-- case: network address input
SELECT name::inet FROM clinic.patients
-- case: bit string input
-- tells
SELECT name::bit varying FROM clinic.patients
-- case: numeric input
SELECT name::numeric FROM clinic.patients
-- case: boolean input
SELECT ssn::boolean FROM clinic.patients
-- case: interval input
SELECT name::interval FROM clinic.patients
-- case: range input
SELECT name::int4range FROM clinic.patients
-- case: array input
SELECT name::int[] FROM clinic.patients
-- case: name of a relation
SELECT ssn::regclass FROM clinic.patients
-- case: name of a function
SELECT ('"' || name || '"')::regproc FROM clinic.patients
-- case: name of a type
SELECT to_regtype(name), ('"' || name || '"')::regtype FROM clinic.patients
-- case: name of a role
SELECT ('"' || ssn || '"')::regrole FROM clinic.patients
-- case: name of a time zone
SELECT TIMESTAMP '2024-01-01' AT TIME ZONE ssn FROM clinic.patients
-- case: name of a configuration
SELECT to_tsvector(ssn::regconfig, 'x') FROM clinic.patients
-- case: name of an encoding
SELECT convert_to('x', name) FROM clinic.patients
-- case: name of an encoding of bytes
SELECT encode('x', name) FROM clinic.patients
-- case: unit of a date
SELECT date_trunc(name, now()) FROM clinic.patients
-- case: field of a date
SELECT date_part(ssn, now()) FROM clinic.patients
-- case: path of a json value
SELECT ('"' || name || '"')::jsonpath FROM clinic.patients
-- case: json path over a row
SELECT jsonb_path_query(to_jsonb(p), '$.ssn'), jsonb_path_query_array(to_jsonb(p), '$.* ? (@ like_regex "CAN")') FROM clinic.patients p
-- case: json path with a variable
SELECT jsonb_path_query('[1]', '$ ? (1 == 1)', jsonb_build_object('x', ssn)), jsonb_path_query('1', '$x', jsonb_build_object('x', ssn)) FROM clinic.patients
-- case: json subscripts
-- since: 14
SELECT (to_jsonb(p))['ssn'], to_jsonb(p) #>> '{name}', to_jsonb(p) -> 'email', row_to_json(p) ->> 'phone' FROM clinic.patients p
-- case: json keys and values
SELECT e.key, e.value FROM clinic.patients p, jsonb_each_text(to_jsonb(p)) e
-- case: json table by hand
SELECT r.* FROM clinic.patients p, jsonb_to_record(to_jsonb(p)) AS r (ssn text, name text)
-- case: json recordset
SELECT * FROM json_to_recordset((SELECT json_agg(p) FROM clinic.patients p)) AS r (id int, ssn text)
-- case: json populated
SELECT (json_populate_record(NULL::clinic.encounters, json_build_object('note', ssn))).note FROM clinic.patients
-- case: json merged and set
SELECT jsonb_set('{}', '{a}', to_jsonb(ssn)), '{}'::jsonb || to_jsonb(p), jsonb_insert('[]', '{0}', to_jsonb(name)), to_jsonb(p) - 'id' FROM clinic.patients p
-- case: json aggregated by key
SELECT json_object_agg(ssn, name), jsonb_object_agg(id, email) FROM clinic.patients WHERE ssn IS NOT NULL
-- case: arrays
SELECT array_fill(ssn, ARRAY[2]), array_append(ARRAY['x'], name), ARRAY[ARRAY[ssn, name]], array_to_json(ARRAY[ssn]), (ARRAY[ssn])[1:1] FROM clinic.patients
-- case: arrays of rows
SELECT array_agg(p), array_agg(ROW(p.ssn, p.name)), (array_agg(p))[1] FROM clinic.patients p
-- case: rows of rows
SELECT ROW(p, ROW(p.ssn)), (ROW(p.ssn, 1)).f1 FROM clinic.patients p
-- case: row of a sub-select
SELECT x, (x).a, to_json(x) FROM (SELECT ssn AS a, name FROM clinic.patients) x
-- case: row of a join's alias
SELECT j FROM (clinic.patients p JOIN clinic.encounters e ON e.patient_id = p.id) AS j
-- case: rows compared and shown
SELECT (p.ssn, p.name) > ('5', ''), greatest(p.ssn, p.email), p IS NOT NULL, p::text FROM clinic.patients p
-- case: query_to_xml and friends
-- want: refused
SELECT query_to_xml_and_xmlschema('TABLE clinic.patients', true, false, '')
-- case: query_to_xmlschema
-- want: refused
-- says: xsd:schema
SELECT query_to_xmlschema('TABLE clinic.patients', true, false, '')
-- case: schema_to_xml
-- want: refused
SELECT schema_to_xml('clinic', true, false, '')
-- case: a query in pieces of text
-- want: refused
SELECT query_to_xml('SEL' || 'ECT ssn FROM clin' || 'ic.patients', true, true, '')
-- case: xml with attributes and comments
SELECT xmlelement(name a, xmlattributes(ssn AS s, name AS n)), xmlcomment(replace(name, '-', '')), xmlpi(name p, ssn), xmlroot(xmlelement(name r, name), version '1.0') FROM clinic.patients WHERE id = 1
-- case: xpath
SELECT xpath('/a/text()', xmlelement(name a, ssn)), xpath_exists('//a', xmlelement(name a)), xmlparse(content name) FROM clinic.patients
-- case: xml input
SELECT ('<' || name)::xml FROM clinic.patients
-- case: generate_series
SELECT g, substr(name, g, 1) || substr(ssn, g, 1) || '1' FROM clinic.patients, generate_series(1, 20) g WHERE g = 1 UNION ALL SELECT 0, string_agg(substr(name, g, 1), '' ORDER BY g) FROM clinic.patients, generate_series(1, 30) g WHERE id = 1
-- case: window frames
SELECT nth_value(ssn, 1) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING), last_value(name) OVER (ORDER BY id GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE TIES), string_agg(email, ' ') OVER () FROM clinic.patients
-- case: ordered sets
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn), mode() WITHIN GROUP (ORDER BY name), percentile_disc(ARRAY[0, 1]) WITHIN GROUP (ORDER BY email) FROM clinic.patients
-- case: GROUPING SETS
SELECT grouping(ssn), ssn, name, count(*) FROM clinic.patients GROUP BY GROUPING SETS ((ssn), (name), ())
-- case: ROLLUP with HAVING
SELECT name, max(ssn) FROM clinic.patients GROUP BY ROLLUP (name) HAVING count(*) > 0
-- case: aggregates with ORDER BY and DISTINCT
SELECT string_agg(DISTINCT ssn, ',' ORDER BY ssn DESC), array_agg(name ORDER BY birth_date) FILTER (WHERE id > 0) FROM clinic.patients
-- case: regular expressions that capture
-- since: 15
SELECT regexp_match(name, '(CAN)(\w+)'), regexp_matches(ssn, '\d+', 'g'), regexp_replace(email, '(.*)@', '\1'), regexp_substr(name, '[A-Z]{3,}\d'), ssn SIMILAR TO '9%' FROM clinic.patients
-- case: strings to tables
-- since: 14
SELECT string_to_table(ssn, '-'), regexp_split_to_table(name, ' ') FROM clinic.patients
-- case: formats
SELECT format('%1$s %2$L %3$I', ssn, name, email), to_char(birth_date, 'MM-DD'), quote_ident(name), quote_nullable(ssn), lpad(ssn, 20, '*'), repeat(name, 2), overlay(ssn PLACING '' FROM 1 FOR 0) FROM clinic.patients
-- case: turned and shifted
SELECT reverse(name), translate(ssn, '0123456789', '1234567890') || 'x', chr(ascii(name) + 1), rpad(reverse(reverse(name)), 30) FROM clinic.patients
-- case: binary strings
SELECT name::bytea, convert_to(ssn, 'LATIN1'), decode(encode(name::bytea, 'hex'), 'hex'), set_byte(name::bytea, 0, 65), substring(email::bytea FROM 1) FROM clinic.patients
-- case: LATERAL over a function
SELECT u FROM clinic.patients p, LATERAL (SELECT p.ssn || p.name AS u) x, LATERAL unnest(ARRAY[x.u]) y
-- case: LATERAL over VALUES
SELECT v.a FROM clinic.patients p CROSS JOIN LATERAL (VALUES (p.ssn), (p.name)) v (a)
-- case: LEFT JOIN LATERAL
SELECT e.id, q.* FROM clinic.encounters e LEFT JOIN LATERAL (SELECT * FROM clinic.patients p WHERE p.id = e.patient_id LIMIT 1) q ON true
-- case: ROWS FROM a value
SELECT * FROM clinic.patients p, ROWS FROM (unnest(ARRAY[p.ssn]), generate_series(1, 2)) WITH ORDINALITY AS r (a, b, c)
-- case: a recursive query that walks
WITH RECURSIVE w AS (SELECT id, ssn, 1 AS n FROM clinic.patients WHERE id = 1 UNION ALL SELECT w.id, substr(w.ssn, 1), n + 1 FROM w WHERE n < 3) SELECT ssn FROM w
-- case: a recursive query that joins
WITH RECURSIVE w (id, s) AS (VALUES (0, '') UNION ALL SELECT p.id, w.s || p.ssn FROM w JOIN clinic.patients p ON p.id = w.id + 1) SELECT s FROM w
-- case: a recursive query with SEARCH
-- since: 14
WITH RECURSIVE w (id, s) AS (SELECT id, ssn FROM clinic.patients WHERE id = 1 UNION ALL SELECT p.id, p.ssn FROM w JOIN clinic.patients p ON p.id = w.id + 1) SEARCH DEPTH FIRST BY s SET o SELECT o FROM w
-- case: a recursive query with CYCLE
-- since: 14
WITH RECURSIVE w (id, s) AS (SELECT id, ssn FROM clinic.patients WHERE id = 1 UNION ALL SELECT p.id, p.ssn FROM w JOIN clinic.patients p ON p.id = w.id + 1) CYCLE s SET looped TO 'y' DEFAULT 'n' USING way SELECT looped, way FROM w
-- case: WITH that is materialized
WITH a AS MATERIALIZED (SELECT ssn FROM clinic.patients), b AS NOT MATERIALIZED (SELECT name FROM clinic.patients) SELECT * FROM a, b
-- case: WITH in WITH
WITH a AS (WITH b AS (SELECT ssn AS x FROM clinic.patients) SELECT x FROM b) SELECT x FROM a
-- case: WITH in a sub-link
SELECT (WITH a AS (SELECT ssn FROM clinic.patients WHERE id = 1) SELECT ssn FROM a)
-- case: sub-link in every place
SELECT CASE WHEN (SELECT true) THEN (SELECT ssn FROM clinic.patients WHERE id = 1) END, coalesce(NULL, (SELECT name FROM clinic.patients WHERE id = 1)) FROM public.products WHERE id = 1 ORDER BY (SELECT max(email) FROM clinic.patients) OFFSET (SELECT 0)
-- case: set operations of every kind
(SELECT ssn FROM clinic.patients UNION ALL SELECT name FROM clinic.patients) EXCEPT (SELECT email FROM clinic.patients INTERSECT SELECT 'x') ORDER BY 1
-- case: TABLESAMPLE SYSTEM
SELECT p.ssn FROM clinic.patients AS p TABLESAMPLE SYSTEM (100)
-- case: ONLY of a child
SELECT name FROM ONLY (clinic.archived)
-- case: a partition by its own name
SELECT c.ssn FROM clinic.claims_1 c
-- case: a partitioned parent
SELECT ssn, tableoid::regclass FROM clinic.claims
-- case: a child through its parent
SELECT pin FROM clinic.people p JOIN clinic.staff s USING (id)
-- case: a materialized view's whole row
SELECT m, row_to_json(m) FROM clinic.m_patients m
-- case: a materialized view made fresh
-- want: refused
REFRESH MATERIALIZED VIEW clinic.m_patients
;;
SELECT ssn, public.leak(1) FROM clinic.m_patients
-- case: a view that is replaced
-- want: refused
CREATE OR REPLACE VIEW public.v_products AS SELECT id, (SELECT ssn FROM clinic.patients LIMIT 1) AS name FROM public.products
;;
SELECT name FROM public.v_products
-- case: a recursive view
-- want: refused
CREATE RECURSIVE VIEW public.rv (s) AS SELECT ssn FROM clinic.patients
;;
SELECT s FROM public.rv
-- case: a column that is computed
-- want: refused
ALTER TABLE clinic.members ADD COLUMN copied text GENERATED ALWAYS AS ('x' || pin) STORED
;;
SELECT copied FROM clinic.members
-- case: a column whose type changes
-- want: refused
ALTER TABLE clinic.members ALTER COLUMN city TYPE text USING pin
;;
SELECT city FROM clinic.members
-- case: a column that is dropped and made again
-- want: refused
ALTER TABLE clinic.patients ADD COLUMN more text
;;
UPDATE clinic.patients SET more = ssn
;;
SELECT more FROM clinic.patients
-- case: a check that fails
-- want: refused
ALTER TABLE clinic.patients ADD CHECK (ssn::int > 0)
-- case: a unique index that cannot be made
-- want: refused
CREATE UNIQUE INDEX ON clinic.policies (holder)
-- case: an index over an expression that fails
-- want: refused
CREATE INDEX ON clinic.patients ((ssn::int))
-- case: a foreign key that cannot be made
-- want: refused
ALTER TABLE clinic.claims_1 ADD FOREIGN KEY (ssn) REFERENCES clinic.policies (holder)
;;
ALTER TABLE clinic.policies ADD FOREIGN KEY (holder) REFERENCES clinic.patients (ssn)
-- case: a trigger of one's own
-- want: refused
CREATE TRIGGER mine BEFORE INSERT ON public.log FOR EACH ROW EXECUTE FUNCTION public.on_write()
;;
CREATE TABLE public.mine (v text)
;;
CREATE TRIGGER mine BEFORE INSERT ON public.mine FOR EACH ROW EXECUTE FUNCTION public.on_write()
;;
INSERT INTO public.mine VALUES ('x') RETURNING v
-- case: a rule of one's own
-- want: refused
CREATE RULE mine AS ON INSERT TO public.log DO INSTEAD SELECT ssn FROM clinic.patients
;;
INSERT INTO public.log (message) VALUES ('x')
-- case: a policy of one's own
-- since: 14
-- want: refused
CREATE POLICY mine ON public.rls USING (public.boom('x'))
;;
SET ROLE pg_read_all_data
;;
SELECT * FROM public.rls
-- case: an aggregate of one's own
-- want: refused
CREATE AGGREGATE public.spy (text) (SFUNC = textcat, STYPE = text)
;;
SELECT public.spy(ssn) FROM clinic.patients
-- case: an aggregate that somebody left
-- want: refused
SELECT public.agg(ssn) FROM clinic.patients
-- case: a language's block with an error
-- want: refused
DO $$ BEGIN RAISE EXCEPTION '%', (SELECT name FROM clinic.patients LIMIT 1); END $$
-- case: a language's block with dynamic SQL
-- want: refused
DO $$ DECLARE s text; BEGIN EXECUTE 'SELECT ssn FROM clinic.' || 'patients LIMIT 1' INTO s; RAISE NOTICE '%', s; END $$
-- case: a language's block with an assertion
-- want: refused
DO $$ BEGIN ASSERT false, (SELECT ssn FROM clinic.patients LIMIT 1); END $$
-- case: a procedure of one's own
-- want: refused
CREATE PROCEDURE pg_temp.p(INOUT s text) LANGUAGE sql AS 'SELECT ssn FROM clinic.patients LIMIT 1'
;;
CALL pg_temp.p(NULL)
-- case: a function with a named argument
-- want: refused
SELECT public.leak(int4 => 1), public.leak(VARIADIC ARRAY[1])
;;
SELECT * FROM public.leak(1) AS x
-- case: a function that returns a table
-- want: refused
SELECT (public.leak_all()).*
-- case: a function in a window
-- want: refused
SELECT max(public.leak(id)) OVER () FROM public.products
-- case: a function in VALUES
-- want: refused
VALUES (public.leak(1)), (public.leak(2))
-- case: a function in a default
-- want: refused
CREATE TEMP TABLE d (a int, b text DEFAULT public.leak(1))
;;
INSERT INTO d (a) VALUES (1) RETURNING b
-- case: a function in LIMIT
-- want: refused
SELECT id FROM public.products LIMIT length(public.leak(1)) - 10
;;
SELECT public.leak(1)
-- case: a function in a table's index
-- want: refused
CREATE TEMP TABLE i (a text)
;;
INSERT INTO i VALUES ('x')
;;
CREATE INDEX ON i (public.boom(a))
-- case: INSERT that returns the default
-- want: refused
INSERT INTO public.defaulted DEFAULT VALUES RETURNING *
-- case: INSERT of what is returned
-- want: refused
WITH gone AS (DELETE FROM clinic.staff RETURNING pin) INSERT INTO public.log (message) SELECT pin FROM gone RETURNING message
-- case: DELETE that returns by USING
-- want: refused
DELETE FROM clinic.staff s USING clinic.members m RETURNING m.pin, s.pin
-- case: UPDATE from a join that returns
UPDATE public.log l SET message = 'x' FROM clinic.patients p WHERE p.id = l.id RETURNING p.ssn, p.*
-- case: DELETE with USING that returns
DELETE FROM public.log l USING clinic.patients p WHERE p.id = l.id RETURNING p.name, l.id
-- case: UPDATE of several columns by a sub-select
UPDATE public.log SET (message, at) = (SELECT ssn, now() FROM clinic.patients WHERE id = 1) RETURNING message
-- case: UPDATE by a sub-link
UPDATE public.log SET message = (SELECT name FROM clinic.patients WHERE id = 1) RETURNING message
-- case: ON CONFLICT that writes a value
INSERT INTO public.log (id, message) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET message = (SELECT ssn FROM clinic.patients WHERE id = 1) RETURNING message
-- case: MERGE into an open table
-- since: 15
MERGE INTO public.log l USING clinic.patients p ON p.id = l.id WHEN MATCHED THEN UPDATE SET message = p.ssn
;;
SELECT message FROM public.log
-- case: MERGE that fails with a value
-- since: 15
MERGE INTO public.log l USING clinic.patients p ON p.id = l.id WHEN MATCHED AND p.ssn::int > 0 THEN DELETE
-- case: a unique violation with a value
INSERT INTO public.log (id, message) SELECT 1, ssn FROM clinic.patients
;;
CREATE TEMP TABLE once (v text UNIQUE)
;;
INSERT INTO once SELECT name FROM clinic.patients
;;
INSERT INTO once SELECT name FROM clinic.patients
-- case: a check violation with a value
CREATE TEMP TABLE checked_1 (v text CHECK (v < 'A'))
;;
INSERT INTO checked_1 SELECT name FROM clinic.patients
-- case: a not-null violation with a value
CREATE TEMP TABLE filled (a int NOT NULL, v text)
;;
INSERT INTO filled SELECT NULL, ssn FROM clinic.patients
-- case: a value too long
CREATE TEMP TABLE short (v varchar(3))
;;
INSERT INTO short SELECT left(ssn, 3) || name FROM clinic.patients
;;
SELECT ssn FROM clinic.patients
-- case: a domain's check with a value
SELECT lower(name)::clinic.code, name::clinic.plain FROM clinic.patients
;;
SELECT name::clinic.plain FROM clinic.patients
-- case: an error by a sub-query of more rows
SELECT (SELECT ssn FROM clinic.patients)::int
;;
SELECT max(ssn)::int FROM clinic.patients
-- case: a cursor over a union
BEGIN
;;
DECLARE c INSENSITIVE SCROLL CURSOR FOR SELECT ssn FROM clinic.patients UNION ALL SELECT name FROM clinic.v_patients
;;
FETCH LAST FROM c
;;
FETCH FIRST FROM c
;;
FETCH PRIOR FROM c
;;
FETCH FORWARD ALL FROM c
-- case: a binary cursor
BEGIN
;;
DECLARE c BINARY CURSOR FOR SELECT ssn, birth_date FROM clinic.patients
;;
FETCH ALL FROM c
-- case: a cursor of a returned statement
-- want: refused
BEGIN
;;
DECLARE c CURSOR FOR SELECT public.leak(1)
;;
FETCH c
-- case: a statement prepared with types
PREPARE t (text, int) AS SELECT ssn || $1 FROM clinic.patients WHERE id = $2
;;
EXECUTE t ('x', 1)
;;
EXECUTE t ((SELECT name FROM (VALUES ('y')) v (name)), 2)
-- case: an argument of EXECUTE that reads
PREPARE a (text) AS SELECT $1
;;
EXECUTE a ((SELECT ssn FROM clinic.patients WHERE id = 1))
;;
SELECT ssn FROM clinic.patients
-- case: EXPLAIN of a prepared statement
-- want: refused
-- says: Seq Scan
PREPARE x AS SELECT ssn FROM clinic.patients
;;
EXPLAIN (ANALYZE, FORMAT json) EXECUTE x
-- case: a constant that the planner folds
-- want: refused
EXPLAIN VERBOSE SELECT public.boom('x')
-- case: EXPLAIN of a write
-- want: refused
EXPLAIN (ANALYZE, VERBOSE) INSERT INTO public.defaulted (id) SELECT ssn::int FROM clinic.patients
-- case: EXPLAIN as XML of a cast
-- want: refused
EXPLAIN (ANALYZE, FORMAT xml) SELECT ssn::int FROM clinic.patients
-- case: EXPLAIN of CREATE TABLE AS
-- want: refused
EXPLAIN ANALYZE CREATE TEMP TABLE e AS SELECT ssn::int FROM clinic.patients
-- case: a foreign table over this server
-- want: refused
CREATE EXTENSION postgres_fdw
;;
DO $$ BEGIN EXECUTE format('CREATE SERVER me FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host %L, port %L, dbname %L)', split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database()); END $$
;;
CREATE USER MAPPING FOR CURRENT_USER SERVER me OPTIONS (user 'postgres', password_required 'false')
;;
IMPORT FOREIGN SCHEMA clinic LIMIT TO (patients) FROM SERVER me INTO other
;;
SELECT ssn FROM other.patients
-- case: a publication
-- want: refused
-- effect: SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = 'mine')
CREATE PUBLICATION mine FOR TABLE clinic.patients
-- case: a temporary copy of a view
-- want: refused
CREATE TEMP TABLE c AS TABLE clinic.v_patients
;;
TABLE c
-- case: a temporary copy by EXECUTE
-- want: refused
PREPARE cp AS TABLE clinic.patients
;;
CREATE TEMP TABLE cp AS EXECUTE cp
;;
SELECT ssn FROM cp
-- case: system columns of a view's base
SELECT p.ctid, p.xmin, p.cmax, p.name FROM clinic.patients p
-- case: a row by its place
SELECT ssn FROM clinic.patients WHERE ctid = '(0,1)'
-- case: the collation of an error
SELECT ssn < name COLLATE "C" COLLATE "en_US" FROM clinic.patients
;;
SELECT name COLLATE "C" FROM clinic.patients ORDER BY name COLLATE "C"
-- case: text search headlines
SELECT ts_headline(name, to_tsquery('simple', 'alice')), ts_lexize('simple', name), to_tsvector('simple', name), (ts_debug('simple', name)).token FROM clinic.patients
-- case: a value as a LIKE pattern
SELECT like_escape(name, 'x'), 'x' LIKE name ESCAPE left(ssn, 1), name FROM clinic.patients
-- case: a table that is filled in its own transaction
BEGIN
;;
CREATE TABLE public.mine (v text, n int)
;;
INSERT INTO public.mine SELECT ssn, id FROM clinic.patients
;;
SELECT v FROM public.mine
-- case: a temporary table behind a savepoint
BEGIN
;;
SAVEPOINT a
;;
CREATE TEMP TABLE behind (v text)
;;
INSERT INTO behind SELECT name FROM clinic.patients
;;
RELEASE a
;;
SELECT v FROM behind
-- case: a new table joined to a protected one in its transaction
BEGIN
;;
CREATE TABLE public.beside (id int)
;;
INSERT INTO public.beside VALUES (1), (2)
;;
SELECT p.*, b.* FROM clinic.patients p JOIN public.beside b USING (id)
-- case: a new table in place of one that was dropped
BEGIN
;;
DROP TABLE other.visits
;;
CREATE TABLE other.visits (id int, city text)
;;
INSERT INTO other.visits SELECT id, email FROM clinic.patients
;;
SELECT city FROM other.visits
-- case: a new table that a COPY leaves by
BEGIN
;;
CREATE TABLE public.outbox (v text)
;;
INSERT INTO public.outbox SELECT ssn FROM clinic.patients
;;
COPY public.outbox TO STDOUT
-- case: a function of a transaction of one's own
-- want: refused
BEGIN
;;
CREATE FUNCTION public.own_leak() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM clinic.patients WHERE id = 1'
;;
SELECT public.own_leak()
-- case: both ends of a range
SELECT lower(during), isempty(during), during::text FROM clinic.stays
-- case: a range and what it covers
SELECT during * '[1900-01-01,)'::daterange, during - '[1900-01-01,1900-01-02)'::daterange FROM clinic.stays WHERE id = 1
-- case: ranges put together
-- since: 14
SELECT range_agg(during), range_merge(during, during) FROM clinic.stays GROUP BY during
-- case: a range taken apart
-- since: 14
SELECT unnest(multirange(during)) FROM clinic.stays
-- case: words of a text vector
SELECT words, words::text, tsvector_to_array(words), strip(words) FROM clinic.stays
-- case: a text vector by unnest
SELECT (unnest(words)).lexeme FROM clinic.stays
-- case: XML by a path
SELECT xpath('/x/text()', doc), doc::text, xmlserialize(content doc AS text) FROM clinic.stays
-- case: XML as rows
SELECT x.v FROM clinic.stays, XMLTABLE('/x' PASSING doc COLUMNS v text PATH '.') x
-- case: XML in other XML
SELECT xmlelement(name y, doc), xmlforest(doc), xmlconcat(doc, doc) FROM clinic.stays
-- case: places by their parts
SELECT spot[0], spot::text, spot + point '(1,1)', spot <-> point '(0,0)' FROM clinic.stays
-- case: all of them in a row
SELECT row_to_json(s), s::text FROM clinic.stays s
-- case: a WITH query shown and measured
WITH x AS (SELECT ssn FROM clinic.patients) SELECT x.ssn, left(y.ssn, 4) FROM x, x y
-- case: passed on under the name of an open column
SELECT s.city FROM (SELECT ssn AS city FROM clinic.patients) s
-- case: passed on with names exchanged
SELECT s.ssn, s.city FROM (SELECT city AS ssn, ssn AS city FROM clinic.patients) s
-- case: passed on, and sorted by its new name
SELECT s.n FROM (SELECT ssn AS n FROM clinic.patients) s ORDER BY n
-- case: passed on twice, once by LATERAL
SELECT s.ssn, l.ssn FROM (SELECT ssn FROM clinic.patients) s, LATERAL (SELECT s.ssn) l
-- case: passed on behind a join's alias
SELECT j.ssn, j.one FROM ((SELECT ssn FROM clinic.patients) a CROSS JOIN (SELECT 1 AS one) b) AS j
-- case: passed on by one WITH query to another's name
WITH a AS (SELECT ssn AS x, city AS y FROM clinic.patients), b AS (SELECT y AS x, x AS y FROM a) SELECT b.x, b.y, a.x FROM a JOIN b ON true
-- case: passed on and stored
WITH x AS (SELECT ssn FROM clinic.patients), i AS (INSERT INTO public.log (message) SELECT ssn FROM x RETURNING message) SELECT x.ssn, i.message FROM x, i
-- case: passed on as a row
SELECT s.ssn, to_json(s) FROM (SELECT ssn FROM clinic.patients) s
-- case: passed on by a sub-query of the list
WITH x AS (SELECT ssn FROM clinic.patients WHERE id = 1) SELECT x.ssn, (SELECT x.ssn || '') FROM x
-- case: a held cursor that is read at COMMIT
BEGIN
;;
DECLARE held CURSOR WITH HOLD FOR SELECT id, ssn::int FROM clinic.patients
;;
COMMIT
-- case: UNION ALL under the name of its first query
SELECT city AS k FROM clinic.patients UNION ALL SELECT ssn FROM clinic.patients ORDER BY k
-- case: UNION ALL in two places
SELECT ssn, ssn FROM clinic.patients UNION ALL SELECT ssn, 'x' FROM clinic.v_patients
-- case: UNION ALL with NULL
SELECT NULL UNION ALL SELECT ssn FROM clinic.patients UNION ALL SELECT NULL ORDER BY "?column?"
-- case: UNION ALL of what a WITH passes on
WITH x AS (SELECT ssn, name FROM clinic.patients) SELECT ssn AS a FROM x UNION ALL SELECT a FROM (SELECT name AS a FROM x) y
-- case: UNION ALL with a WITH of its own
SELECT ssn FROM clinic.patients UNION ALL (WITH x AS (SELECT ssn AS a FROM clinic.patients) SELECT a FROM x)
-- case: UNION ALL of queries that are ordered
(SELECT ssn FROM clinic.patients ORDER BY 1 LIMIT 1) UNION ALL (SELECT ssn FROM clinic.v_patients ORDER BY ssn DESC LIMIT 1)
-- case: UNION ALL of columns that change places
SELECT ssn, city FROM clinic.patients UNION ALL SELECT city, ssn FROM clinic.patients
-- case: UNION ALL that is compared
(SELECT ssn FROM clinic.patients UNION ALL SELECT ssn FROM clinic.v_patients) EXCEPT ALL SELECT 'x'
-- case: UNION ALL of stars
SELECT * FROM clinic.claims UNION ALL TABLE clinic.claims UNION ALL SELECT p.id, p.ssn, 0 FROM clinic.patients p
-- case: UNION ALL by a cursor that goes back
BEGIN
;;
DECLARE c SCROLL CURSOR FOR SELECT ssn FROM clinic.patients UNION ALL SELECT ssn FROM clinic.v_patients
;;
FETCH LAST FROM c
;;
FETCH BACKWARD ALL FROM c
;;
COMMIT
-- case: RETURNING of what is joined, by its name
UPDATE public.log SET message = p.city FROM clinic.patients p WHERE p.id = log.id RETURNING p.ssn AS message, message AS ssn
-- case: RETURNING of what a WITH passes on
WITH x AS (SELECT id, ssn AS number FROM clinic.patients) UPDATE public.log SET message = 'x' FROM x WHERE x.id = log.id RETURNING number, (SELECT max(y.number) FROM x y)
-- case: RETURNING of what is set beside it
-- want: refused
UPDATE clinic.members SET city = pin RETURNING pin, city
-- case: RETURNING of a prepared write
PREPARE w AS UPDATE clinic.patients SET visits = $1 WHERE id = 1 RETURNING name, name_upper
;;
EXECUTE w (1)
-- case: RETURNING of a child by its parent's name
DELETE FROM clinic.archived RETURNING ssn
-- case: COPY of UNION ALL as CSV
COPY (SELECT ssn AS city FROM clinic.patients UNION ALL SELECT city FROM clinic.patients) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE (city))
-- case: COPY with a value for NULL
COPY (SELECT ssn, name FROM clinic.patients) TO STDOUT (NULL 'none', DELIMITER '-')
-- case: COPY with quotes of letters
COPY (SELECT name FROM clinic.patients) TO STDOUT (FORMAT csv, QUOTE 'x', ESCAPE 'y', NULL 'n', DELIMITER 'z')
-- case: COPY of a table without its columns in CSV
COPY clinic.members TO STDOUT (FORMAT csv, HEADER on)
-- case: COPY of what a join returns
COPY (DELETE FROM public.log l USING clinic.patients p WHERE p.id = l.id RETURNING p.name) TO STDOUT (FORMAT binary)
-- case: MERGE that inserts what it reads
-- since: 15
MERGE INTO public.log l USING clinic.patients p ON false WHEN NOT MATCHED THEN INSERT (message) VALUES (p.name || p.email)
;;
SELECT message FROM public.log
-- case: MERGE by a query of its source
-- since: 15
MERGE INTO public.log l USING (SELECT id, upper(name) FROM clinic.patients) p (i, s) ON l.id = p.i WHEN MATCHED THEN UPDATE SET (message, at) = (p.s, now()) WHEN NOT MATCHED THEN INSERT (message) VALUES ((SELECT max(ssn) FROM clinic.patients))
;;
SELECT message FROM public.log
-- case: MERGE from a WITH query
-- since: 15
WITH s AS (SELECT id, name FROM clinic.patients) MERGE INTO public.log l USING s ON l.id = s.id WHEN MATCHED AND s.id = 1 THEN UPDATE SET message = s.name
;;
SELECT message FROM public.log
-- case: MERGE that writes its target's protected column elsewhere
-- since: 15
-- want: refused
MERGE INTO clinic.members m USING (VALUES (1), (2)) v (i) ON m.id = v.i WHEN MATCHED THEN UPDATE SET city = m.pin
;;
SELECT city FROM clinic.members
-- case: RETURNING in a WITH query
WITH u AS (UPDATE clinic.members SET city = 'x' RETURNING *) SELECT pin, u FROM u
-- case: RETURNING in a WITH query that is stored
WITH u AS (DELETE FROM clinic.guarded RETURNING id, pin AS p) INSERT INTO public.log (message) SELECT p FROM u RETURNING message
-- case: RETURNING of an alias
UPDATE clinic.members AS m SET city = 'x' WHERE id = 1 RETURNING m.*, m.pin AS other
-- case: RETURNING by the whole name
UPDATE clinic.members SET city = 'x' RETURNING clinic.members.pin
-- case: RETURNING of a computed column
UPDATE clinic.patients SET visits = 1 RETURNING id, name_upper, city
-- case: RETURNING of what an expression makes of it
UPDATE clinic.members SET city = 'x' RETURNING reverse(pin), (members).pin
-- case: RETURNING of two of a name
DELETE FROM clinic.guarded g USING clinic.staff s WHERE s.id = g.id RETURNING g.pin, g.*
-- case: COPY with a header by number
COPY (SELECT id, name FROM clinic.patients) TO STDOUT (FORMAT csv, HEADER 1)
-- case: COPY with a header that is on
COPY clinic.members (id, pin) TO STDOUT (FORMAT csv, HEADER 'On', FORCE_QUOTE *)
-- case: EXPLAIN prints the definition of a view
-- want: refused
EXPLAIN (COSTS OFF) SELECT p.id FROM clinic.patients p, public.v_literal v
-- case: EXPLAIN prints the definition of a view alone
-- want: refused
EXPLAIN (COSTS OFF) SELECT * FROM public.v_literal
-- case: EXPLAIN prints the definition of a function
-- want: refused
EXPLAIN (COSTS OFF, VERBOSE) SELECT public.fdef()
-- case: EXPLAIN prints the definition of a function of a prepared statement
-- want: refused
PREPARE f AS SELECT public.fdef()
;;
EXPLAIN (COSTS OFF, VERBOSE) EXECUTE f
-- case: MERGE stores what it deletes
-- since: 17
-- want: refused
WITH m AS (MERGE INTO clinic.members m USING (VALUES (1)) v (i) ON m.id = v.i WHEN MATCHED THEN DELETE RETURNING m.*, m) INSERT INTO public.log (message) SELECT m::text FROM m RETURNING message
-- case: MERGE from its own target
-- since: 15
-- want: refused
MERGE INTO clinic.members m USING clinic.members s ON m.id = s.id WHEN MATCHED THEN UPDATE SET city = s.pin
;;
SELECT city FROM clinic.members
-- case: MERGE from its own target whole
-- since: 15
-- want: refused
MERGE INTO clinic.members m USING clinic.members s ON m.id = s.id WHEN MATCHED THEN UPDATE SET city = s::text
;;
SELECT city FROM clinic.members
-- case: MERGE with a query in its condition
-- since: 15
MERGE INTO public.log l USING (VALUES (1)) v (i) ON l.id = v.i WHEN MATCHED AND l.message <> (SELECT max(pin) FROM clinic.members) THEN UPDATE SET message = (SELECT string_agg(pin, ' ') FROM clinic.members)
;;
SELECT message FROM public.log
-- case: EXPLAIN prints defaults
-- want: refused
EXPLAIN (COSTS OFF, VERBOSE) INSERT INTO public.defs (id) VALUES (1)
