-- case: plain
SELECT body FROM wards.notes WHERE id = 1
-- case: all columns
SELECT * FROM wards.notes
-- case: the whole row
SELECT n FROM wards.notes n WHERE id = 1
-- case: a row of some
SELECT ROW(id, body, tags) FROM wards.notes WHERE id = 1
-- case: varchar and char
SELECT short, fixed FROM wards.notes
-- case: json
SELECT doc FROM wards.notes
-- case: jsonb
SELECT docb, docs FROM wards.notes
-- case: a path of jsonb
SELECT docb #>> '{a,b}', doc -> 'to' FROM wards.notes WHERE id = 1
-- case: the row as JSON
SELECT row_to_json(n), to_jsonb(n) FROM wards.notes n WHERE id = 1
-- case: an array
SELECT tags FROM wards.notes
-- case: an array that is made
SELECT array_agg(body), array_agg(short) FROM wards.notes
-- case: an array of rows
SELECT array_agg(n) FROM wards.notes n
-- case: xml
SELECT page FROM wards.notes
-- case: a domain
SELECT remark FROM wards.notes
-- case: a composite
SELECT pair, (pair).b, p FROM wards.pairs p
-- case: an enum
SELECT mood FROM wards.notes
-- case: known by the name of its column
SELECT ssn FROM wards.numbers WHERE id = 1
-- case: under another name
SELECT ssn || '' AS ssn FROM wards.numbers WHERE id = 1
-- case: within an expression
SELECT 'x ' || body || ' y', left(body, 30), trim(short) FROM wards.notes WHERE id = 1
-- case: aggregated
SELECT string_agg(body, '; '), max(short) FROM wards.notes
-- case: by a view
SELECT words FROM wards.v
-- case: by a sub-query
SELECT (SELECT min(short) FROM wards.notes) FROM public.open_notes
-- case: by WITH
WITH w AS (SELECT short AS s FROM wards.notes) SELECT s FROM w ORDER BY s
-- case: by UNION
SELECT 1, 'x' UNION ALL SELECT id, short FROM wards.notes
-- case: by TABLE
TABLE wards.v
-- case: joined with what is not looked at
SELECT o.id, n.short FROM public.open_notes o JOIN wards.notes n USING (id)
-- case: a column of its own
SELECT body FROM wards.part
-- case: an expression of a column that is looked at
SELECT coalesce(body, other) FROM wards.part
-- case: RETURNING
UPDATE wards.notes SET big = big WHERE id = 1 RETURNING body, tags
-- case: DELETE RETURNING
BEGIN
;;
DELETE FROM wards.notes WHERE id = 1 RETURNING short
;;
ROLLBACK
-- case: a cursor
BEGIN
;;
DECLARE c CURSOR FOR SELECT short FROM wards.notes ORDER BY id
;;
FETCH FORWARD 1 FROM c
;;
ROLLBACK
-- case: a cursor in binary
BEGIN
;;
DECLARE c BINARY CURSOR FOR SELECT short, docb, tags FROM wards.notes ORDER BY id
;;
FETCH ALL FROM c
;;
ROLLBACK
-- case: a held cursor
BEGIN
;;
DECLARE held CURSOR WITH HOLD FOR SELECT short FROM wards.notes ORDER BY id
;;
COMMIT
;;
FETCH ALL FROM held
-- case: PREPARE and EXECUTE
PREPARE p AS SELECT short FROM wards.notes WHERE id = $1
;;
EXECUTE p(1)
-- case: several in one text
SELECT 1; SELECT short FROM wards.notes; SELECT 2
-- case: several, the last without text
SELECT short FROM wards.notes; SELECT big FROM wards.notes
-- case: COPY as text
COPY wards.notes TO STDOUT
-- case: COPY of columns as text
COPY wards.notes (id, body) TO STDOUT
-- case: COPY of a query as text
COPY (SELECT body, doc, tags FROM wards.notes) TO STDOUT
-- case: COPY with another delimiter
COPY wards.notes (short, body) TO STDOUT WITH (DELIMITER '@')
-- case: COPY as CSV
COPY wards.notes TO STDOUT WITH (FORMAT csv, HEADER)
-- case: COPY as CSV with digits around
COPY wards.notes (short, fixed) TO STDOUT WITH (FORMAT csv, QUOTE '9', ESCAPE '1', DELIMITER '-')
-- case: COPY as CSV, everything quoted
COPY wards.notes (short) TO STDOUT CSV FORCE QUOTE short
-- case: COPY as CSV with a word for NULL
COPY wards.notes (body, remark) TO STDOUT (FORMAT 'csv', NULL 'nothing')
-- case: COPY in binary
COPY wards.notes TO STDOUT WITH (FORMAT binary)
-- case: COPY of what the name of its column tells
COPY wards.numbers TO STDOUT
-- case: COPY of a query whose columns have names
COPY (SELECT id, n.ssn || '' AS ssn FROM wards.numbers n) TO STDOUT CSV
-- case: COPY in binary of what the name of its column tells
COPY wards.numbers (ssn) TO STDOUT (FORMAT binary)
-- case: two COPY in one text
COPY (SELECT short FROM wards.notes) TO STDOUT; COPY (SELECT short FROM wards.notes) TO STDOUT CSV
-- case: EXPLAIN
EXPLAIN SELECT * FROM wards.notes WHERE short = '219-09-9847'
-- case: EXPLAIN as JSON
EXPLAIN (FORMAT json, VERBOSE) SELECT id FROM wards.notes WHERE short = '219-09-9847'
-- case: an error that quotes
SELECT body::int FROM wards.notes WHERE id = 1
-- case: an error of a function
SELECT short::date FROM wards.notes WHERE id = 1
-- case: an error of a constraint
INSERT INTO wards.emptied SELECT short, 1 FROM wards.notes WHERE id = 1
-- case: a notice
SELECT wards.says(id) FROM wards.notes WHERE id = 1
-- case: a notification
LISTEN c
;;
NOTIFY c, 'it is 219-09-9847'
-- case: a setting that is told
SET application_name = 'it is 219-09-9847'
-- case: messages of the protocol
> parse s "SELECT short FROM wards.notes"
> bind p s
> execute p 1
> execute p 0
> sync
-- case: described first
> parse s "SELECT body, tags FROM wards.notes"
> describe S s
> bind p s binary
> describe P p
> execute p 0
> sync
-- case: a cursor of SQL, by the protocol
> query "BEGIN"
> query "DECLARE c CURSOR FOR SELECT short FROM wards.notes"
> execute c 0
> sync
-- case: COPY by the protocol
> parse - "COPY wards.notes (short) TO STDOUT"
> bind - -
> execute - 0
> sync
-- case: several portals at once
> parse a "SELECT id FROM wards.notes"
> parse b "SELECT short FROM wards.notes"
> bind a a
> bind b b
> execute a 1
> execute b 1
> execute a 1
> execute b 1
> sync
