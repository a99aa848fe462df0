-- Class 11: learn of a protected value without carrying it.

-- case: one character at a time
-- tells
SELECT ascii(substr(ssn, g, 1)) FROM clinic.patients, generate_series(1, 11) g
-- case: division error by value
-- want: ok
-- tells
SELECT 1 / (CASE WHEN ssn LIKE '911%' THEN 0 ELSE 1 END) FROM clinic.patients
-- case: json error
-- tells
SELECT name::json FROM clinic.patients
-- case: update that guesses
-- want: refused
-- tells
UPDATE clinic.patients SET visits = 1 WHERE ssn LIKE '911%'
-- case: delete that guesses
-- want: refused
-- tells
DELETE FROM clinic.patients WHERE name LIKE 'Dave%'
-- case: foreign key violation
-- tells
INSERT INTO clinic.encounters (id, patient_id) SELECT 100 + p.id, 1000 + ascii(ssn) FROM clinic.patients p
-- case: unique violation as an oracle
-- want: refused
-- tells
INSERT INTO clinic.patients (id, name, ssn) VALUES (77, 'x', '911-47-0001')
-- case: ON CONFLICT DO NOTHING on a protected key
-- want: refused
-- tells
INSERT INTO clinic.patients (ssn, id, name) VALUES ('911-47-0001', 79, 'x') ON CONFLICT (ssn) DO NOTHING
-- case: correlated EXISTS as an oracle
-- want: f
-- tells
SELECT EXISTS (SELECT FROM clinic.patients WHERE ssn = '911-47-0001')
-- case: guess in WHERE
-- want: none
-- tells
SELECT id FROM clinic.patients WHERE ssn = '911-47-0001'
-- case: guess by LIKE
-- want: 0
-- tells
SELECT count(*) FROM clinic.patients WHERE name LIKE 'Alice%'
-- case: guess by regular expression
-- want: 0
-- tells
SELECT count(*) FROM clinic.patients WHERE name ~ 'CANARY'
-- case: guess by range
-- want: none
-- tells
SELECT id FROM clinic.patients WHERE ssn BETWEEN '911' AND '912'
-- case: guess by IN
-- want: none
-- tells
SELECT id FROM clinic.patients WHERE ssn IN ('911-47-0001', '922-58-0002')
-- case: guess by a day
-- want: none
-- tells
SELECT id FROM clinic.patients WHERE date_part('day', birth_date) = 17
-- case: guess in HAVING
-- want: none
-- tells
SELECT city FROM clinic.patients GROUP BY city HAVING max(ssn) = '933-69-0003'
-- case: guess in FILTER
-- want: 0
-- tells
SELECT count(*) FILTER (WHERE email LIKE 'alice%') FROM clinic.patients
-- case: guess in JOIN
-- want: none
-- tells
SELECT p.id FROM clinic.patients p JOIN (VALUES ('911-47-0001')) v(s) ON p.ssn = v.s
-- case: guess by NATURAL JOIN
-- want: none
-- tells
SELECT * FROM clinic.patients NATURAL JOIN (SELECT '911-47-0001'::text AS ssn) v
-- case: guess by USING
-- want: none
-- tells
SELECT id FROM clinic.patients JOIN (SELECT '911-47-0001'::text AS ssn) v USING (ssn)
-- case: guess by a subscript
-- want: none
-- tells
SELECT id FROM clinic.patients WHERE (string_to_array(ssn, '-'))[1] = '911'
-- case: order as an oracle
-- tells
SELECT id FROM clinic.patients ORDER BY name DESC, id
-- case: distinct
-- want: 1	1
-- tells
SELECT count(DISTINCT ssn), count(DISTINCT name) FROM clinic.patients
-- case: hashes of small domains
-- since: 14
-- tells
SELECT md5(ssn), sha256(ssn::bytea), hashtext(name), hash_record(p) FROM clinic.patients p
-- case: set-returning functions
-- tells
SELECT regexp_split_to_table(name, ''), unnest(string_to_array(ssn, '-')) FROM clinic.patients
-- case: user function in ORDER BY
-- want: refused
-- tells
SELECT id FROM public.products ORDER BY leak(id)
-- case: user operator
-- want: refused
-- tells
SELECT '911-47-0001' <=> 1
-- case: user operator qualified
-- want: refused
-- tells
SELECT '911-47-0001' OPERATOR(public.<=>) 1
-- case: sequence
-- want: refused
-- tells
SELECT setval('public.log_id_seq', ascii(ssn)) FROM clinic.patients
-- case: advisory lock
-- want: refused
-- tells
SELECT pg_advisory_lock(ascii(substr(ssn, 3, 1))) FROM clinic.patients
;;
SELECT objid FROM pg_locks WHERE locktype = 'advisory' ORDER BY 1
-- case: EXPLAIN estimates
-- want: refused
-- tells
EXPLAIN SELECT * FROM clinic.patients WHERE ssn = '911-47-0001'
-- case: set operation finds by difference
-- tells
SELECT ssn FROM clinic.patients EXCEPT SELECT '911-47-0001'
-- case: intersect as an oracle
-- want: none
-- tells
SELECT ssn FROM clinic.patients INTERSECT SELECT '911-47-0001'
-- case: LIMIT by a sub-link
-- tells
SELECT generate_series(1, 5) LIMIT (SELECT ascii(ssn) - 56 FROM clinic.patients WHERE id = 1)
-- case: ANY and ALL
-- want: none
-- tells
SELECT id FROM clinic.patients WHERE '911-47-0001' = ANY (ARRAY[ssn])
-- case: row in sub-select
-- tells
SELECT id FROM clinic.patients WHERE (city, name) IN (SELECT p.city, p.name FROM clinic.patients p WHERE p.id < 4) AND name IN (SELECT name FROM clinic.patients WHERE id = 1)
-- case: lengths
-- tells
SELECT length(name), octet_length(email), char_length(phone), bit_length(ssn), pg_column_size(name) FROM clinic.patients WHERE id = 1
-- case: ages
-- tells
SELECT age(birth_date), birth_date - DATE '2000-01-01', extract(doy from birth_date), to_char(birth_date, 'DD MM') FROM clinic.patients
-- case: bit by bit through random access
-- tells
SELECT get_byte(name::bytea, 7), get_bit(ssn::bytea, 3) FROM clinic.patients WHERE id = 1
-- case: foreign key to a protected column as an oracle
-- want: refused
-- tells
INSERT INTO clinic.cards (ssn) VALUES ('911-47-0001')
-- case: EXPLAIN ANALYZE
-- want: refused
-- says: actual time
EXPLAIN (ANALYZE, VERBOSE) SELECT ssn FROM clinic.v_patients
-- case: unique index of several columns as an oracle
-- want: refused
UPDATE clinic.policies SET number = 2 WHERE number = 1
-- case: check over a protected column as an oracle
-- want: refused
UPDATE clinic.policies SET kind = 'x' WHERE number = 1
-- case: guess by IS DISTINCT FROM
-- tells
SELECT id FROM clinic.patients WHERE ssn IS NOT DISTINCT FROM '911-47-0001'
-- case: guess by a row
-- tells
SELECT id FROM clinic.patients WHERE (id, ssn) = (1, '911-47-0001')
-- case: guess by ILIKE
-- tells
SELECT id FROM clinic.patients WHERE email ILIKE 'ALICE%'
-- case: guess by SIMILAR TO
-- tells
SELECT id FROM clinic.patients WHERE ssn SIMILAR TO '91%'
-- case: guess by starts_with
-- tells
SELECT id FROM clinic.patients WHERE starts_with(name, 'Al') OR name ^@ 'Al'
-- case: guess by full text
-- tells
SELECT id FROM clinic.patients WHERE to_tsvector('simple', name) @@ to_tsquery('simple', 'alice')
-- case: guess by an array
-- tells
SELECT id FROM clinic.patients WHERE ARRAY[ssn] && ARRAY['911-47-0001'] OR ssn = ANY ('{911-47-0001}')
-- case: guess by json containment
-- tells
SELECT id FROM clinic.patients p WHERE to_jsonb(p) @> '{"ssn": "911-47-0001"}'
-- case: guess by a json path
-- tells
SELECT id FROM clinic.patients p WHERE jsonb_path_exists(to_jsonb(p), '$.ssn ? (@ starts with "911")') OR to_jsonb(p) @? '$.name ? (@ like_regex "^Al")'
-- case: guess by a hash
-- tells
SELECT id FROM clinic.patients WHERE md5(ssn) = md5('911-47-0001')
-- case: guess by a length
-- tells
SELECT id, length(name) FROM clinic.patients WHERE length(email) > 28
-- case: guess by a date's range
-- tells
SELECT id FROM clinic.patients WHERE birth_date BETWEEN '1951-03-17' AND '1951-03-18'
-- case: guess by OVERLAPS
-- tells
SELECT id FROM clinic.patients WHERE (birth_date, birth_date) OVERLAPS (DATE '1951-03-16', DATE '1951-03-18')
-- case: guess by a week's day
-- tells
SELECT id, extract(dow FROM birth_date), to_char(birth_date, 'Day') FROM clinic.patients
-- case: guess in a CASE
-- tells
SELECT sum(CASE WHEN ssn < '915' THEN 1 ELSE 0 END), bool_or(name > 'B'), count(*) FILTER (WHERE name < 'C') FROM clinic.patients
-- case: guess in ORDER BY of a CASE
-- tells
SELECT id FROM clinic.patients ORDER BY CASE WHEN ssn LIKE '922%' THEN 0 ELSE 1 END, id
-- case: order by an operator
-- tells
SELECT id FROM clinic.patients ORDER BY ssn USING >, id
-- case: order with a limit
-- tells
SELECT id FROM clinic.patients ORDER BY name LIMIT 1
-- case: order with ties
-- tells
SELECT id FROM clinic.patients ORDER BY name FETCH FIRST 1 ROW WITH TIES
-- case: order in an aggregate
-- tells
SELECT array_agg(id ORDER BY name), string_agg(city, ',' ORDER BY email) FROM clinic.patients
-- case: order by a row
-- tells
SELECT id FROM clinic.patients p ORDER BY p.name, p
-- case: order in a window
-- tells
SELECT id, row_number() OVER (ORDER BY name), ntile(2) OVER (ORDER BY ssn), cume_dist() OVER (ORDER BY email), lead(id) OVER (ORDER BY phone) FROM clinic.patients
-- case: range of a window
-- tells
SELECT id, count(*) OVER (ORDER BY birth_date RANGE BETWEEN '4062 days' PRECEDING AND CURRENT ROW) FROM clinic.patients
-- case: rank of a guess
-- tells
SELECT rank('C') WITHIN GROUP (ORDER BY name), percent_rank('920') WITHIN GROUP (ORDER BY ssn) FROM clinic.patients
-- case: groups by a slice
-- tells
SELECT substr(name, 1, 1), count(*) FROM clinic.patients GROUP BY 1
-- case: groups that are equal
-- tells
SELECT count(*) FROM clinic.patients GROUP BY name HAVING count(*) > 1
-- case: distinct on with another column
-- tells
SELECT DISTINCT ON (name) id FROM clinic.patients ORDER BY name, id
-- case: union that removes duplicates
-- tells
SELECT name FROM clinic.patients UNION SELECT name FROM clinic.patients
-- case: join with itself by a value
-- tells
SELECT count(*) FROM clinic.patients a JOIN clinic.patients b ON a.name = b.name
-- case: join by an inequality
-- tells
SELECT a.id, b.id FROM clinic.patients a, clinic.patients b WHERE a.ssn < b.ssn ORDER BY 1, 2
-- case: anti-join
-- tells
SELECT count(*) FROM (VALUES ('911-47-0001'), ('000-00-0000')) x (v) WHERE NOT EXISTS (SELECT FROM clinic.patients WHERE ssn = v)
-- case: NOT IN
-- tells
SELECT '911-47-0001' NOT IN (SELECT ssn FROM clinic.patients WHERE ssn IS NOT NULL)
-- case: ALL of a sub-select
-- tells
SELECT '900' < ALL (SELECT ssn FROM clinic.patients WHERE ssn IS NOT NULL), '900' < ANY (SELECT ssn FROM clinic.patients)
-- case: EXCEPT of a guess
-- tells
SELECT count(*) FROM (SELECT '911-47-0001' EXCEPT SELECT ssn FROM clinic.patients) x
-- case: limit by a value
-- tells
SELECT id FROM public.products ORDER BY id LIMIT (SELECT substr(ssn, 3, 1)::int FROM clinic.patients WHERE id = 2)
-- case: offset by a value
-- tells
SELECT id FROM public.products ORDER BY id OFFSET (SELECT length(name) FROM clinic.patients WHERE id = 1)
-- case: generate_series by a value
-- tells
SELECT count(*) FROM clinic.patients p, generate_series(1, ascii(p.name)) g
-- case: repeat by a value
-- tells
SELECT length(repeat('x', ascii(name))), lpad('', ascii(ssn) - 40, 'x') FROM clinic.patients
-- case: bits of a value
-- since: 14
-- tells
SELECT (ascii(name) >> 2) & 1, name::bytea <> '\x00', get_bit(name::bytea, 3), bit_count(ssn::bytea) FROM clinic.patients
-- case: random numbers from a value
-- since: 14
-- tells
SELECT setseed(ascii(name) / 128.0) IS NULL, hashtext(name), hashtextextended(ssn, 1), hash_record(ROW(email)) FROM clinic.patients
-- case: an error that depends on a value
-- tells
SELECT 1 / (length(name) - 17) FROM clinic.patients WHERE id = 1
-- case: an error in a predicate
-- tells
SELECT id FROM clinic.patients WHERE CASE WHEN ssn LIKE '911%' THEN 1 / (id - id) ELSE 1 END = 1
-- case: an error by overflow
-- tells
SELECT id, 2147483577 + ascii(substr(name, 1, 1)) FROM clinic.patients WHERE id = 4
-- case: an error in a view's predicate
SELECT count(*) FROM clinic.v_cast
-- case: an affected row
-- tells
-- want: refused
UPDATE clinic.patients SET visits = visits WHERE name < 'D'
-- case: an affected row by a sub-select
-- tells
UPDATE public.log SET message = message WHERE EXISTS (SELECT FROM clinic.patients WHERE ssn = '911-47-0001')
-- case: an affected row by a join
-- tells
DELETE FROM public.log t USING clinic.patients p WHERE p.id = t.id AND p.ssn LIKE '91%'
-- case: an affected row by IN
-- tells
DELETE FROM public.log WHERE message NOT IN (SELECT ssn FROM clinic.patients WHERE ssn LIKE '911%') AND EXISTS (SELECT FROM clinic.patients WHERE ssn LIKE '911%')
-- case: an inserted row
-- tells
INSERT INTO public.log (message) SELECT 'x' FROM clinic.patients WHERE name LIKE 'Al%'
-- case: a conflict of a value
-- tells
-- want: refused
INSERT INTO clinic.patients (id, name, ssn) VALUES (99, 'x', '911-47-0001') ON CONFLICT DO NOTHING
-- case: a conflict of a value, and where it lies
-- tells
-- want: refused
INSERT INTO clinic.policies (number, kind, holder) VALUES (1, 'a', 'CANARYHOLDER')
-- case: a row that would be locked
-- tells
SELECT id FROM clinic.patients WHERE ssn LIKE '911%' FOR UPDATE SKIP LOCKED
-- case: a cursor that moves
-- tells
BEGIN
;;
DECLARE c SCROLL CURSOR FOR SELECT 1 FROM clinic.patients WHERE name LIKE 'B%'
;;
MOVE FORWARD ALL IN c
-- case: COPY that counts
-- tells
COPY (SELECT 1 FROM clinic.patients WHERE name LIKE 'B%') TO STDOUT
-- case: COPY in order
-- tells
COPY (SELECT id FROM clinic.patients ORDER BY ssn) TO STDOUT WITH (FORMAT binary)
-- case: a guess by a materialized view
-- tells
SELECT id FROM clinic.m_patients WHERE ssn = '911-47-0001'
-- case: a guess by a view
-- tells
SELECT id FROM clinic.v_patients WHERE ssn LIKE '911%'
-- case: a guess by a derived column
-- tells
SELECT id FROM clinic.v_derived WHERE s LIKE '911%' OR x LIKE 'Ali%'
-- case: a guess by a generated column
-- tells
SELECT id FROM clinic.patients WHERE name_upper LIKE 'ALICE%'
-- case: a guess by a child
-- tells
SELECT id FROM clinic.archived WHERE ssn LIKE '999%'
-- case: a guess by a partition
-- tells
SELECT id FROM clinic.claims WHERE ssn LIKE '911%'
-- case: a guess by a copy of a row
-- tells
SELECT id FROM public.history WHERE (old).ssn = '911-47-0001'
-- case: a guess in a WITH
-- tells
WITH x AS (SELECT id FROM clinic.patients WHERE ssn LIKE '911%') SELECT count(*) FROM x
-- case: a guess in a recursive query
-- tells
WITH RECURSIVE w (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM w WHERE n < 5 AND EXISTS (SELECT FROM clinic.patients WHERE id = n AND ssn < '93')) SELECT count(*) FROM w
-- case: a guess in a prepared statement
-- tells
PREPARE g (text) AS SELECT count(*) FROM clinic.patients WHERE ssn LIKE $1
;;
EXECUTE g ('911%')
;;
EXECUTE g ('912%')
-- case: a guess by TABLESAMPLE's argument
-- tells
SELECT count(*) FROM public.products TABLESAMPLE BERNOULLI ((SELECT CASE WHEN ssn LIKE '911%' THEN 100 ELSE 0 END FROM clinic.patients WHERE id = 1))
-- case: a plan that knows the values
-- want: refused
-- tells
EXPLAIN (FORMAT json) SELECT * FROM clinic.patients WHERE ssn > '94'
-- case: a plan's rows removed by a filter
-- want: refused
-- tells
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT id FROM clinic.patients WHERE ssn LIKE '911%'
-- case: a look-up made into two by OR
-- want: none
-- tells
SELECT id FROM clinic.accounts WHERE number = 'CANARY-1' OR number = 'CANARY-2'
-- case: a look-up turned round
-- want: none
-- tells
SELECT id FROM clinic.accounts WHERE NOT (number <> 'CANARY-1')
-- case: a look-up in CASE
-- want: none
-- tells
SELECT id FROM clinic.accounts WHERE CASE number WHEN 'CANARY-1' THEN true WHEN 'CANARY-2' THEN true END
-- case: a look-up in the select list
-- tells
SELECT id, number = 'CANARY-1' AS is_it FROM clinic.accounts ORDER BY id
-- case: a look-up that is one of many
-- want: none
-- tells
SELECT id FROM clinic.accounts WHERE number = ANY ('{CANARY-1,CANARY-2,CANARY-3}')
-- case: a dictionary from a function
-- want: none
-- tells
SELECT a.id FROM clinic.accounts a, generate_series(1, 1000) g WHERE a.number = 'CANARY-' || g
-- case: a dictionary from VALUES
-- want: none
-- tells
SELECT a.id, v.x FROM clinic.accounts a JOIN (VALUES ('CANARY-1'), ('CANARY-2')) v (x) ON a.number = v.x
-- case: a dictionary by IN
-- want: none
-- tells
SELECT id FROM clinic.accounts WHERE number IN (SELECT 'CANARY-' || g FROM generate_series(1, 1000) g)
-- case: a dictionary by a correlated EXISTS
-- want: none
-- tells
SELECT g FROM generate_series(1, 9) g WHERE EXISTS (SELECT FROM clinic.accounts a WHERE a.number = 'CANARY-' || g)
-- case: a dictionary by LATERAL
-- want: none
-- tells
SELECT g, x.id FROM generate_series(1, 9) g, LATERAL (SELECT id FROM clinic.accounts WHERE number = concat('CANARY-', g)) x
-- case: a dictionary by recursion
-- want: none
-- tells
WITH RECURSIVE r AS (SELECT 1 AS g UNION ALL SELECT g + 1 FROM r WHERE g < 9) SELECT g, a.id FROM r, clinic.accounts a WHERE a.number = 'CANARY-' || g
-- case: a dictionary by a set operation
-- want: none
-- tells
SELECT id FROM clinic.accounts WHERE number = 'CANARY-1' UNION ALL SELECT id FROM clinic.accounts WHERE number = 'CANARY-2'
-- case: a dictionary by count
-- want: 0
-- tells
SELECT count(*) FILTER (WHERE number = 'CANARY-1' OR number = 'CANARY-2') FROM clinic.accounts
-- case: a look-up of a group
-- want: none
-- tells
SELECT number, count(*) FROM clinic.accounts GROUP BY number HAVING number = 'CANARY-1'
-- case: a look-up that keeps the others
-- tells
SELECT a.id, b.branch FROM clinic.accounts a LEFT JOIN clinic.accounts b ON b.number = 'CANARY-1' ORDER BY 1, 2
-- case: a look-up behind an outer join
-- want: none
-- tells
SELECT p.id, a.id FROM clinic.prescriptions p LEFT JOIN clinic.accounts a ON a.id = p.id WHERE a.number = 'CANARY-1'
-- case: a look-up in a sub-query
-- want: none
-- tells
SELECT id FROM (SELECT * FROM clinic.accounts WHERE number = 'CANARY-1') a
-- case: a look-up by a range
-- want: none
-- tells
SELECT id FROM clinic.accounts WHERE number >= 'CANARY-1' AND number < 'CANARY-2'
-- case: a look-up by the first letters
-- want: none
-- tells
SELECT id FROM clinic.accounts WHERE number ^@ 'CANARY'
-- case: a look-up of a part
-- want: none
-- tells
SELECT id FROM clinic.accounts WHERE left(number, 1) = 'C'
-- case: a look-up through a view, by a part
-- want: none
-- tells
SELECT branch FROM clinic.v_accounts WHERE lower(account) = 'canary-1'
-- case: a look-up that ignores case
-- want: none
-- tells
SELECT id FROM clinic.accounts WHERE number ILIKE 'canary-1'
-- case: a look-up by a row
-- want: none
-- tells
SELECT id FROM clinic.accounts WHERE (number, branch) = ('CANARY-1', 'north')
-- case: a look-up by another table
-- want: none
-- tells
SELECT a.id FROM clinic.accounts a JOIN clinic.members m ON 'CANARY-' || m.id = a.number
-- case: the order of what is looked up
-- tells
SELECT id FROM clinic.accounts ORDER BY number = 'CANARY-2' DESC, id
-- case: a plan that knows how many there are
-- want: refused
-- tells
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT id FROM clinic.accounts WHERE number = 'CANARY-1'
-- case: a write that looks up
-- want: refused
-- tells
UPDATE clinic.accounts SET branch = 'west' WHERE number = 'CANARY-1'
-- case: a write that takes away what it looks up
-- want: refused
-- tells
DELETE FROM clinic.accounts WHERE number = 'CANARY-1'
-- case: a table made of what is looked up
-- want: refused
-- tells
CREATE TABLE public.found AS SELECT id FROM clinic.accounts WHERE number = 'CANARY-1'
;;
SELECT count(*) FROM public.found
-- case: a COPY of what is looked up
-- tells
COPY (SELECT id FROM clinic.accounts WHERE number = 'CANARY-1') TO STDOUT
-- case: more look-ups in one list than an hour has
-- want: refused
-- tells
> query "SELECT id FROM clinic.accounts WHERE number IN ('CANARY-1', 'CANARY-2', 'CANARY-3', 'CANARY-4', 'CANARY-5', 'CANARY-6', 'CANARY-7', 'CANARY-8', 'CANARY-9', 'CANARY-10', 'CANARY-11', 'CANARY-12', 'CANARY-13', 'CANARY-14', 'CANARY-15', 'CANARY-16', 'CANARY-17', 'CANARY-18', 'CANARY-19', 'CANARY-20', 'CANARY-21')"
-- case: more look-ups in one text than an hour has
-- want: refused
-- tells
> parse many "SELECT id FROM clinic.accounts WHERE number IN ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', $1, $2)"
> bind - many text "i" "j"
> execute - 0
> bind - many text "k" "l"
> execute - 0
> bind - many text "CANARY-1" "CANARY-2"
> execute - 0
> sync
-- case: who was there on a day
-- want: none
-- tells
SELECT id FROM clinic.stays WHERE during @> date '1951-03-18'
-- case: stays that overlap
-- want: none
-- tells
SELECT id FROM clinic.stays WHERE during && '[1951-01-01,1952-01-01)'
-- case: the order of ranges
-- tells
SELECT id FROM clinic.stays WHERE ward > '' ORDER BY isempty(during * '[1951-03-01,1951-04-01)'), id DESC
-- case: which words are there
-- want: none
-- tells
SELECT id FROM clinic.stays WHERE words @@ to_tsquery('simple', 'canaryfever')
-- case: whether XML has a path
-- want: none
-- tells
SELECT id FROM clinic.stays WHERE xpath_exists('/x', doc)
-- case: who is near
-- want: none
-- tells
SELECT id FROM clinic.stays WHERE spot <-> point '(91147,1)' < 10
-- case: the order of an index that has all that is shown
-- tells
SET enable_seqscan = off
;;
SET enable_bitmapscan = off
;;
SELECT string_agg(given::text, ',') FROM clinic.donors
-- case: the order of an index, with a mask
-- tells
SET enable_seqscan = off
;;
SET enable_bitmapscan = off
;;
SELECT name, town, row_number() OVER () FROM clinic.donors ORDER BY 3
-- case: the order of an index behind an open column
-- tells
SET enable_seqscan = off
;;
SET enable_bitmapscan = off
;;
SELECT array_agg(id) FROM clinic.donors WHERE town = 'Boston'
-- case: the order of an index behind an order
-- tells
SET enable_seqscan = off
;;
SET enable_bitmapscan = off
;;
SELECT id FROM clinic.donors ORDER BY town LIMIT 3
-- case: the order of an index behind a position
-- tells
SET enable_seqscan = off
;;
SET enable_bitmapscan = off
;;
SELECT * FROM clinic.donors ORDER BY 2
-- case: the order of an index in a join
-- tells
SET enable_seqscan = off
;;
SET enable_bitmapscan = off
;;
SELECT array_agg(d.id) FROM clinic.donors d JOIN (VALUES ('Boston')) v (t) ON d.town = v.t
-- case: the order of an index below a set operation
-- tells
SET enable_seqscan = off
;;
SET enable_bitmapscan = off
;;
SELECT array_agg(i) FROM (SELECT 0 AS i, '' AS t, '' AS n, 0 AS g WHERE false UNION ALL SELECT * FROM clinic.donors) x (i, t, n, g) WHERE t = 'Boston'
-- case: the order of an index through a view
-- tells
SET enable_seqscan = off
;;
SET enable_bitmapscan = off
;;
SELECT array_agg(id) FROM clinic.v_donors WHERE town = 'Boston'
-- case: the order of an index of a materialized view
-- tells
SET enable_seqscan = off
;;
SET enable_bitmapscan = off
;;
SELECT array_agg(id) FROM clinic.m_donors WHERE town = 'Boston'
-- case: the order of an index in a cursor
-- tells
SET enable_seqscan = off
;;
SET enable_bitmapscan = off
;;
BEGIN
;;
DECLARE c CURSOR FOR SELECT array_agg(id) FROM clinic.donors WHERE town = 'Boston'
;;
FETCH c
-- case: the order of an index in what an UPDATE returns
-- tells
SET enable_seqscan = off
;;
SET enable_bitmapscan = off
;;
WITH u AS (UPDATE clinic.donors SET given = 7 WHERE town = 'Boston' RETURNING id) SELECT array_agg(id) FROM u
-- case: the order of an index that an UPDATE leaves behind
-- tells
SET enable_seqscan = off
;;
SET enable_bitmapscan = off
;;
UPDATE clinic.donors SET given = 7 WHERE town = 'Boston'
;;
RESET enable_seqscan
;;
SELECT array_agg(id) FROM clinic.donors WHERE given = 7
-- case: the order of an index in what a DELETE returns
-- tells
SET enable_seqscan = off
;;
SET enable_bitmapscan = off
;;
WITH d AS (DELETE FROM clinic.donors WHERE town IN ('Boston', 'x') RETURNING id) SELECT array_agg(id) FROM d
-- case: the order of partitions by a masked column
-- tells
SELECT array_agg(id) FROM clinic.bands
-- case: a partition by a masked column
-- want: refused
-- tells
SELECT id FROM clinic.bands_1
-- case: how many are in a partition by a masked column
-- want: refused
-- tells
UPDATE clinic.bands_1 SET ward = 'c' WHERE id = 2
-- case: what is left of a relation when a partition by a masked column is emptied
-- want: refused
-- tells
TRUNCATE clinic.bands_1
;;
SELECT id FROM clinic.bands ORDER BY id
-- case: a check of a child
-- want: refused
-- tells
UPDATE clinic.doses SET given = 20 WHERE id = 1
-- case: a generated column that can fail
-- want: refused
-- tells
UPDATE clinic.rates SET given = 20 WHERE id = 1
-- case: an index whose expression can fail
-- want: refused
-- tells
UPDATE clinic.ratios SET given = 20 WHERE id = 1
-- case: a check of what a foreign key updates
-- want: refused
-- tells
UPDATE clinic.beds SET id = 20 WHERE id = 1
-- case: a foreign key to what a foreign key deletes
-- want: refused
-- tells
DELETE FROM clinic.shelves WHERE id = 1
-- case: a rank in a view, by the name of its window
-- tells
SELECT id, place FROM clinic.v_ranked ORDER BY id
-- case: a count in a view, over a window that another one is made of
-- tells
SELECT id, before FROM clinic.v_ranked ORDER BY id
-- case: how many rows the catalog counts in a partition by a masked column
-- tells
SELECT relname, reltuples FROM pg_class WHERE relname IN ('bands_1', 'bands_2') ORDER BY 1
-- case: a unique index on what is computed of a masked column
-- want: refused
-- tells
UPDATE clinic.slips SET kind = 'yx' WHERE id = 1
-- case: a check of what is computed of a masked column
-- want: refused
-- tells
UPDATE clinic.stamps SET kind = 'x' WHERE id = 1
-- case: what is computed of a masked column may not be NULL
-- want: refused
-- tells
UPDATE clinic.seals SET kind = 'CANARYSEAL' WHERE id = 1
-- case: a foreign key of a masked column and another
-- want: refused
-- tells
UPDATE clinic.graded SET kind = 'y' WHERE id = 1
-- case: a foreign key to a computed column
-- want: refused
-- tells
UPDATE clinic.shades SET name = 'C' WHERE id = 1
-- case: a foreign key of a computed column to a masked one
-- want: refused
-- tells
UPDATE clinic.guesses SET name = 'canarysecret' WHERE id = 1
-- case: MERGE tests a protected column of its target
-- since: 15
-- want: refused
-- tells
MERGE INTO clinic.members m USING (VALUES (1)) v (i) ON m.pin = 'CANARYPIN1' WHEN MATCHED THEN UPDATE SET city = 'x'
-- case: MERGE tests one when it has matched
-- since: 15
-- want: refused
-- tells
MERGE INTO clinic.members m USING (VALUES (1)) v (i) ON m.id = v.i WHEN MATCHED AND m.pin = 'CANARYPIN1' THEN DELETE
-- case: MERGE tests one when its source has not
-- since: 17
-- want: refused
-- tells
MERGE INTO clinic.members m USING (SELECT 7) v (i) ON m.id = v.i WHEN NOT MATCHED BY SOURCE AND m.pin = 'CANARYPIN1' THEN DELETE
-- case: MERGE asks its source
-- since: 15
-- tells
MERGE INTO public.log l USING clinic.patients p ON p.ssn = '911-47-0001' AND l.id = 1 WHEN MATCHED THEN UPDATE SET message = 'found'
-- case: MERGE of a row that two match
-- since: 15
-- tells
MERGE INTO public.log l USING clinic.patients p ON l.id = 1 AND p.name > 'Y' WHEN MATCHED THEN UPDATE SET message = 'found'
-- case: MERGE into a unique index over a protected column
-- since: 15
-- want: refused
MERGE INTO clinic.policies p USING (VALUES (1)) v (i) ON p.number = v.i WHEN MATCHED THEN UPDATE SET number = 2
-- case: what MERGE returns in the order of an index
-- since: 17
-- tells
SET enable_seqscan = off
;;
SET enable_bitmapscan = off
;;
MERGE INTO clinic.donors d USING (VALUES ('Boston')) v (t) ON d.town = v.t WHEN MATCHED THEN UPDATE SET given = 1 RETURNING d.id
-- case: what an UPDATE returns in the order of an index, where another's key is one row's
-- tells
SET enable_seqscan = off
;;
SET enable_bitmapscan = off
;;
UPDATE clinic.donors d SET given = 1 FROM (VALUES (1)) v (id) WHERE v.id = 1 AND d.town = 'Boston' RETURNING d.id
-- case: EXPLAIN of a condition on a masked column
-- want: refused
-- says: Filter
EXPLAIN (COSTS OFF) SELECT id FROM clinic.patients WHERE ssn LIKE '911%'
-- case: EXPLAIN with two minds about costs
-- want: refused
-- says: cost=
EXPLAIN (COSTS OFF, COSTS ON) SELECT id FROM clinic.patients
-- case: EXPLAIN of groups of a masked column
-- want: refused
-- says: Group
EXPLAIN (COSTS OFF) SELECT ssn FROM clinic.patients GROUP BY 1
-- case: EXPLAIN of a look-up
-- want: refused
-- says: number
EXPLAIN (COSTS OFF) SELECT id FROM clinic.accounts WHERE number = '1'
