-- case: constants
SELECT 1, 'x', NULL, '{a,b}'::text[], '{"a": 1}'::json, '{"a": 1}'::jsonb, 12345678901
-- case: another relation's text
SELECT * FROM public.open_notes
-- case: COPY of another relation
COPY public.open_notes TO STDOUT
-- case: COPY of another relation in binary
COPY public.open_notes TO STDOUT (FORMAT binary)
-- case: text without data
SELECT * FROM wards.notes WHERE id = 2
-- case: a row without data
SELECT n FROM wards.notes n WHERE id = 2
-- case: numbers
SELECT id, big, count(*) OVER () FROM wards.notes ORDER BY id
-- case: a column that is not looked at
SELECT id, other FROM wards.part
-- case: COPY without data
COPY (SELECT * FROM wards.notes WHERE id = 2) TO STDOUT
-- case: COPY without data as CSV
COPY (SELECT * FROM wards.notes WHERE id = 2) TO STDOUT WITH (FORMAT csv, HEADER, FORCE_QUOTE *)
-- case: COPY without data in binary
COPY (SELECT * FROM wards.notes WHERE id = 2) TO STDOUT WITH (FORMAT binary)
-- case: COPY of nothing
COPY (SELECT body FROM wards.notes WHERE id = 3) TO STDOUT
-- case: no rows
SELECT body FROM wards.notes WHERE id = 3
-- case: an aggregate
SELECT count(*), max(length(body)) FROM wards.notes
-- case: a cursor
BEGIN
;;
DECLARE c CURSOR FOR SELECT body FROM wards.notes WHERE id = 2
;;
FETCH 1 FROM c
;;
MOVE 1 IN c
;;
ROLLBACK
-- case: several in one text
SELECT 1; SELECT body FROM wards.notes WHERE id = 2; COPY wards.emptied TO STDOUT; SELECT 'x'
-- case: an error
SELECT 1 / (id - 2) FROM wards.notes WHERE id = 2
-- case: a write
UPDATE wards.notes SET big = 8 WHERE id = 2
-- case: a write with RETURNING
UPDATE wards.notes SET big = 8 WHERE id = 2 RETURNING id, body
-- case: EXPLAIN
EXPLAIN (COSTS off) SELECT body FROM wards.notes WHERE id = 2
-- case: transaction and settings
BEGIN
;;
SET LOCAL statement_timeout = '9s'
;;
SHOW statement_timeout
;;
COMMIT
-- case: messages of the protocol
> parse s "SELECT body FROM wards.notes WHERE id = $1"
> describe S s
> bind p s text "2"
> execute p 0
> bind q s binary "2"
> execute q 1
> execute q 1
> close S s
> sync
