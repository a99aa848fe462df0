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
-- want: refused
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
