-- Class 10: values carried out by what only some majors of the server have, or
-- read otherwise than the parser.

-- case: a column that became a keyword
-- until: 15
SELECT system_user FROM clinic.keywords
-- case: a column with the name of a keyword
SELECT "system_user", k.system_user FROM clinic.keywords k
-- case: RETURNING old
-- since: 18
-- want: refused
UPDATE clinic.patients SET city = 'x' RETURNING old
-- case: RETURNING new
-- since: 18
-- want: refused
UPDATE clinic.patients SET city = 'x' RETURNING new
-- case: RETURNING all of old
-- since: 18
-- want: refused
UPDATE clinic.patients SET city = 'x' RETURNING old.*
-- case: RETURNING a column of old
-- since: 18
-- want: refused
UPDATE clinic.patients SET city = 'x' RETURNING old.ssn
-- case: RETURNING old as JSON
-- since: 18
-- want: refused
UPDATE clinic.patients SET city = 'x' RETURNING row_to_json(old)
-- case: RETURNING old as text
-- since: 18
-- want: refused
UPDATE clinic.patients SET city = 'x' RETURNING old::text, id
-- case: RETURNING a field of old
-- since: 18
-- want: refused
UPDATE clinic.patients SET city = 'x' RETURNING (old).ssn
-- case: RETURNING a function of old
-- since: 18
-- want: refused
UPDATE clinic.patients SET city = 'x' RETURNING old.to_json
-- case: RETURNING old in a sub-query
-- since: 18
-- want: refused
UPDATE clinic.patients SET city = 'x' RETURNING (SELECT old::text)
-- case: RETURNING old under another name
-- since: 18
UPDATE clinic.patients SET city = 'x' RETURNING WITH (OLD AS o, NEW AS n) o.ssn, n::text
-- case: DELETE RETURNING old
-- since: 18
-- want: refused
DELETE FROM clinic.guarded RETURNING old
-- case: INSERT RETURNING what was there
-- since: 18
-- want: refused
INSERT INTO clinic.members (id, city) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET city = 'y' RETURNING old
-- case: MERGE RETURNING
-- since: 17
MERGE INTO clinic.patients p USING (VALUES (1)) v (i) ON p.id = v.i WHEN MATCHED THEN UPDATE SET city = 'x' RETURNING merge_action(), p.*
-- case: MERGE in a WITH query
-- since: 17
-- want: refused
WITH m AS (MERGE INTO clinic.patients p USING (VALUES (1)) v (i) ON p.id = v.i WHEN MATCHED THEN UPDATE SET city = 'x' RETURNING p.ssn) SELECT * FROM m
-- case: a virtual generated column
-- since: 18
SELECT shout FROM clinic.virtual
-- case: a virtual generated column, whole row
-- since: 18
SELECT v FROM clinic.virtual v
-- case: a virtual generated column through a view
-- since: 18
SELECT s FROM clinic.v_virtual
-- case: a virtual generated column, changed
-- since: 18
-- want: refused
UPDATE clinic.virtual SET city = 'x' RETURNING shout
-- case: a virtual generated column, guessed
-- since: 18
-- want: none
-- tells
SELECT id FROM clinic.virtual WHERE shout = 'CANARYVIRTUAL'
-- case: a virtual generated column of one's own
-- since: 18
ALTER TABLE clinic.guarded ADD COLUMN loud text GENERATED ALWAYS AS (upper(pin)) VIRTUAL
;;
SELECT loud FROM clinic.guarded
-- case: JSON_TABLE
-- since: 17
SELECT t.* FROM clinic.patients p, JSON_TABLE(to_jsonb(p), '$' COLUMNS (s text PATH '$.ssn')) t
-- case: JSON_VALUE
-- since: 17
SELECT JSON_VALUE(to_jsonb(p), '$.ssn'), JSON_QUERY(to_jsonb(p), '$.name') FROM clinic.patients p
-- case: JSON constructors
-- since: 16
SELECT JSON_OBJECT('k': ssn), JSON_ARRAY(name, email), JSON_ARRAYAGG(p.ssn) OVER (), ssn IS JSON FROM clinic.patients p
-- case: JSON_SERIALIZE
-- since: 17
SELECT JSON_SERIALIZE(JSON_SCALAR(ssn)), JSON('"' || name || '"') FROM clinic.patients
-- case: any value
-- since: 16
SELECT any_value(ssn), array_shuffle(array_agg(name)) FROM clinic.patients
-- case: a value sorted
-- since: 18
SELECT array_sort(array_agg(ssn)), array_reverse(array_agg(name)), reverse(ssn::bytea), casefold(name) FROM clinic.patients GROUP BY ssn, name
-- case: numbers of a value
-- since: 18
-- tells
SELECT crc32(ssn::bytea), crc32c(name::bytea), right(ssn, 4)::int::bytea FROM clinic.patients WHERE id < 4
-- case: a value as XML text
-- since: 17
SELECT xmltext(ssn) FROM clinic.patients
-- case: errors of casts that are looked at
-- since: 16
SELECT message FROM clinic.patients, pg_input_error_info(ssn, 'integer')
-- case: statistics to be restored elsewhere
-- since: 18
SELECT stxdmcv::text, most_common_vals FROM pg_statistic_ext_data, pg_stats_ext
-- case: a sub-query without a name
-- since: 16
SELECT * FROM (SELECT ssn FROM clinic.patients)
-- case: AT LOCAL
-- since: 17
SELECT birth_date::timestamptz AT LOCAL FROM clinic.patients
-- case: a check of a virtual column
-- since: 18
-- want: refused
-- tells
UPDATE clinic.minted SET kind = 'x' WHERE id = 1
-- case: a virtual column may not be NULL
-- since: 18
-- want: refused
-- tells
UPDATE clinic.coined SET kind = 'CANARYCOIN' WHERE id = 1
-- case: what is computed of a virtual column's constraint
-- since: 18
-- tells
SELECT id FROM clinic.minted WHERE mark = 'yCANARYMINT'
-- case: a key without overlaps
-- since: 18
-- want: refused
-- tells
UPDATE clinic.leases SET during = '[2025-01-15,2025-01-20)' WHERE id = 1
-- case: a foreign key with a period
-- since: 18
-- want: refused
-- tells
UPDATE clinic.sublet SET during = '[2024-08-01,2024-09-01)' WHERE id = 1
-- case: a period that a foreign key holds
-- since: 18
-- want: refused
-- tells
DELETE FROM clinic.terms WHERE during = '[2024-01-01,2024-07-01)'
-- case: a period that a foreign key holds, changed
-- since: 18
-- want: refused
-- tells
UPDATE clinic.terms SET during = '[2024-01-01,2024-01-02)' WHERE during = '[2024-01-01,2024-07-01)'
-- case: RETURNING old, of a constraint that is not enforced
-- since: 18
-- want: refused
UPDATE clinic.unenforced SET city = 'x' RETURNING old.pin, new.pin
-- case: RETURNING old beside a relation of that name
-- since: 18
-- want: refused
UPDATE clinic.guarded g SET id = 1 FROM clinic.members old WHERE old.id = 1 RETURNING old.pin
-- case: RETURNING new where the target has that name
-- since: 18
-- want: refused
UPDATE clinic.guarded new SET id = 1 RETURNING new.pin, old.pin
-- case: RETURNING old with its columns in parentheses
-- since: 18
-- want: refused
DELETE FROM clinic.guarded RETURNING (old).*
-- case: RETURNING old compared
-- since: 18
-- want: refused
DELETE FROM clinic.guarded RETURNING old IS DISTINCT FROM new, old.pin || ''
-- case: RETURNING old in a WITH query
-- since: 18
-- want: refused
WITH w AS (UPDATE clinic.guarded SET id = 2 RETURNING old.*) SELECT * FROM w
-- case: RETURNING old, prepared
-- since: 18
-- want: refused
PREPARE o AS UPDATE clinic.guarded SET id = 2 RETURNING old.pin
;;
EXECUTE o
-- case: RETURNING old to a COPY
-- since: 18
-- want: refused
COPY (UPDATE clinic.guarded SET id = 2 RETURNING old.pin) TO STDOUT
-- case: COPY of a materialized view
-- since: 18
-- want: refused
COPY clinic.m_patients TO STDOUT
-- case: a function that returns old
-- since: 18
-- want: refused
SELECT helpers.returns_old()
-- case: a function that merges
-- since: 17
-- want: refused
SELECT helpers.merges()
-- case: MERGE where the source has nothing
-- since: 17
-- want: refused
MERGE INTO clinic.patients p USING (VALUES (99)) v (i) ON p.id = v.i WHEN NOT MATCHED BY SOURCE AND p.id = 1 THEN UPDATE SET visits = 1 RETURNING p.ssn
-- case: MERGE RETURNING old
-- since: 18
-- want: refused
MERGE INTO clinic.guarded g USING (VALUES (1)) v (i) ON g.id = v.i WHEN MATCHED THEN DELETE RETURNING merge_action(), old.pin
-- case: MERGE RETURNING to a COPY
-- since: 17
-- want: refused
COPY (MERGE INTO clinic.guarded g USING (VALUES (1)) v (i) ON g.id = v.i WHEN MATCHED THEN UPDATE SET id = 1 RETURNING g.pin) TO STDOUT
-- case: MERGE that does nothing, and fails by a masked value
-- since: 15
-- want: refused
MERGE INTO clinic.guarded g USING (VALUES (1)) v (i) ON g.id = v.i AND g.pin::int > 0 WHEN MATCHED THEN DO NOTHING
-- case: JSON_TABLE in a view
-- since: 17
SELECT * FROM clinic.v_json
-- case: JSON_TABLE of one column
-- since: 17
SELECT t.* FROM clinic.patients p, JSON_TABLE(to_jsonb(p.ssn), '$[*]' COLUMNS (n FOR ORDINALITY, s text PATH '$')) AS t
-- case: JSON_TABLE with nested paths
-- since: 17
SELECT t.* FROM (SELECT json_agg(p) AS j FROM clinic.patients p) x, JSON_TABLE(x.j, '$[*]' COLUMNS (id int, NESTED PATH '$.ssn' COLUMNS (s text PATH '$'))) t
-- case: JSON_TABLE whose path is passed a value
-- since: 17
-- want: none
-- tells
SELECT t.i FROM clinic.guarded g, JSON_TABLE('[1]'::jsonb, '$[*] ? ($p starts with "CANARY")' PASSING g.pin AS p COLUMNS (i int PATH '$')) t
-- case: JSON_QUERY
-- since: 17
SELECT JSON_QUERY(to_jsonb(p), '$.*' WITH WRAPPER) FROM clinic.patients p
-- case: JSON_VALUE of a whole row
-- since: 17
SELECT JSON_VALUE(row_to_json(p)::jsonb, '$.name' RETURNING text) FROM clinic.patients p
-- case: JSON_VALUE that fails
-- since: 17
SELECT JSON_VALUE(to_jsonb(p), '$.ssn' RETURNING int ERROR ON ERROR) FROM clinic.patients p
-- case: JSON_EXISTS as a condition
-- since: 17
-- want: none
-- tells
SELECT id FROM clinic.guarded g WHERE JSON_EXISTS(to_jsonb(g), '$ ? (@.pin starts with "CANARY")')
-- case: JSON constructors in a view
-- since: 16
SELECT * FROM clinic.v_json_made
-- case: JSON questions in a view
-- since: 17
-- want: none
-- tells
SELECT id FROM clinic.v_json_asked WHERE e
-- case: JSON questions in a view, shown
-- since: 17
SELECT s FROM clinic.v_json_asked
-- case: a JSON constructor in a function of its own grammar
-- since: 16
-- want: refused
SELECT helpers.json_made()
-- case: JSON_ARRAY of a query
-- since: 16
SELECT JSON_ARRAY(SELECT ssn FROM clinic.patients)
-- case: JSON_ARRAY of a whole row
-- since: 16
SELECT JSON_ARRAY(p, p.*) FROM clinic.patients p
-- case: JSON_OBJECT with a value for a key
-- since: 16
SELECT JSON_OBJECT(ssn: 1 WITH UNIQUE KEYS) FROM clinic.patients WHERE id < 4
-- case: JSON_OBJECTAGG
-- since: 16
SELECT JSON_OBJECTAGG(id: name WITH UNIQUE KEYS) FROM clinic.patients
-- case: IS JSON as a condition
-- since: 16
-- want: none
-- tells
SELECT g.id FROM clinic.guarded g WHERE (CASE WHEN g.pin LIKE 'CANARY%' THEN '1' END) IS JSON SCALAR
-- case: JSON of a text that is none
-- since: 17
-- says: 911-47
SELECT JSON(ssn) FROM clinic.patients
-- case: any value, in a view
-- since: 16
SELECT * FROM clinic.v_any
-- case: any value of a whole row
-- since: 16
SELECT any_value(p) FROM clinic.patients p
-- case: XML that is indented
-- since: 16
SELECT XMLSERIALIZE(CONTENT xmlelement(name x, ssn) AS text INDENT) FROM clinic.patients
-- case: numbers in other bases
-- since: 16
SELECT ssn, name FROM clinic.patients WHERE id IN (0x1, 0b1_0, 0o3) AND visits < 1_000
-- case: a part of a text by a number in another base
-- since: 16
SELECT substr(ssn, 0x1, 1_1) FROM clinic.patients
-- case: a value to a number, and that in another base
-- since: 16
-- tells
SELECT to_hex(('0x' || right(replace(ssn, '-', ''), 6))::int) FROM clinic.patients WHERE id < 4
-- case: methods of a path
-- since: 17
SELECT jsonb_path_query(to_jsonb(p), '$.ssn.string()') FROM clinic.patients p WHERE id < 4
-- case: a role with what it may
-- since: 16
-- effect: SELECT EXISTS (SELECT FROM pg_auth_members WHERE member = 'colleague'::regrole AND roleid = 'pg_read_all_data'::regrole)
-- want: refused
GRANT pg_read_all_data TO colleague WITH INHERIT TRUE, SET TRUE, ADMIN FALSE
-- case: COPY whose mistakes are told
-- since: 17
-- want: refused
CREATE TEMP TABLE told (n int)
;;
COPY told FROM PROGRAM 'echo CANARYTOLD' (ON_ERROR ignore, LOG_VERBOSITY verbose)
-- case: EXPLAIN that makes the rows
-- since: 17
-- want: refused
-- tells
EXPLAIN (ANALYZE, SERIALIZE text, COSTS off, TIMING off, SUMMARY off) SELECT 1 FROM clinic.guarded WHERE pin < 'B'
-- case: statistics of a relation, restored
-- since: 18
-- effect: SELECT reltuples = 4711 FROM pg_class WHERE oid = 'clinic.guarded'::regclass
-- want: refused
SELECT pg_restore_relation_stats('schemaname', 'clinic', 'relname', 'guarded', 'reltuples', 4711::real)
-- case: what is computed of a column, expressed otherwise
-- since: 17
-- want: refused
ALTER TABLE clinic.titles ALTER COLUMN said SET EXPRESSION AS (upper(name))
;;
SELECT upper(said) FROM clinic.titles
