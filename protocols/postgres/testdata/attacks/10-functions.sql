-- Class 10: functions whose bodies are looked at, and which do not say at once
-- what they do.

-- case: a function that calls one that calls one that reads
-- want: refused
SELECT helpers.deep(1)
-- case: a default of an argument that reads
-- want: refused
SELECT helpers.presumes(1)
-- case: an overload of a harmless function
-- want: refused
SELECT helpers.over('1'::text)
-- case: a body whose search_path decides
-- want: refused
SELECT helpers.pathed()
-- case: a body that makes its text
-- want: refused
SELECT helpers.dynamic('patients')
-- case: a body that returns the rows of a text
-- want: refused
SELECT * FROM helpers.dynamic_rows('patients') AS d
-- case: a body that runs a text that is not to be read
-- want: refused
SELECT count(*), min(l) FROM helpers.looped() AS l
-- case: a row of the table's type
-- want: refused
SELECT helpers.typed()
-- case: a notice of a body
-- want: refused
SELECT helpers.notices()
-- case: an exception's detail
-- want: refused
SELECT helpers.raises()
-- case: a comment that a carriage return ends
-- want: refused
SELECT helpers.returned()
-- case: a string with escapes that goes on in the next line
-- want: refused
SELECT helpers.continued()
-- case: a comment within a comment of a body
-- want: refused
SELECT helpers.nested()
-- case: a function that is called as a type
-- want: refused
-- says: root:
SELECT helpers.treats()
-- case: a name in a body in Unicode
-- want: refused
SELECT helpers.unicode()
-- case: a function behind a dot in a body
-- want: refused
SELECT helpers.by_dot()
-- case: a function behind a dot that a body would call
-- want: refused
SELECT p.told FROM public.products p WHERE id = 1
-- case: a body that reads a child
-- want: refused
SELECT helpers.child()
-- case: an aggregate that reads as it goes
-- want: refused
SELECT helpers.gathered(id) FROM clinic.encounters
-- case: an aggregate that reads at its end
-- want: refused
SELECT helpers.ended(name) FROM public.products
-- case: an aggregate that reads in a window
-- want: refused
SELECT id, helpers.gathered(id) OVER (ORDER BY id) FROM clinic.encounters ORDER BY id
-- case: a function that reads for each row
-- want: refused
SELECT p.id, e.v FROM public.products p, LATERAL helpers.each(p.id) e
-- case: a function that reads in a condition
-- want: refused
SELECT (SELECT v FROM helpers.each(1)) AS v FROM public.products WHERE helpers.deep(id) IS NOT NULL LIMIT 1
-- case: a function that reads in what is stored
-- want: refused
INSERT INTO public.log (message) VALUES (helpers.middle(1)) RETURNING message
-- case: a function that reads in what is set
-- want: refused
UPDATE public.log SET message = helpers.deep(id) WHERE id = 1 RETURNING message
-- case: a function that makes XML of a query's text
-- want: refused
SELECT helpers.as_xml(1)
-- case: a function that stores what it reads
-- want: refused
SELECT helpers.stores()
;;
SELECT message FROM public.log
-- case: a function that keeps what it reads in a setting
-- want: refused
SELECT helpers.keeps()
-- case: a function that returns an error's words
-- want: refused
SELECT helpers.caught()
-- case: a function that knows a number
-- want: refused
-- tells
SELECT helpers.known('911-47-0001')
-- case: a function that fails or does not
-- want: refused
-- tells
SELECT helpers.fails(1)
-- case: a function that converts to what it is given
-- want: refused
SELECT helpers.assigns(c) FROM helpers.lates
-- case: a function with a variable of a column's type
-- want: refused
SELECT helpers.column_typed()
-- case: a condition of a trigger
-- want: refused
INSERT INTO helpers.conditional VALUES (1)
-- case: a trigger of a table that a foreign key leads to
-- want: refused
DELETE FROM helpers.orders WHERE id = 100
-- case: a trigger that makes its text
-- want: refused
INSERT INTO helpers.read (id) VALUES (1) RETURNING v
-- case: a view of a function that reads
-- want: refused
SELECT v FROM helpers.v_deep WHERE id = 1
-- case: a view that has a function say what is stored
-- want: refused
SELECT id FROM helpers.v_spoken
-- case: a generated column of a function that reads
SELECT * FROM helpers.stored ORDER BY id
-- case: a function's text in an error
SELECT helpers.quoted(0)
-- case: a harmless function over masked columns
SELECT helpers.longer(name, ssn), helpers.joined('/', ssn, email), helpers.either(phone::text, name), helpers.longest(name) OVER () FROM clinic.patients ORDER BY id
-- case: a harmless function that says what it is given
SELECT helpers.speaks(ssn), helpers.speaks(name) FROM clinic.patients ORDER BY id
-- case: a function that is replaced by one's own
-- want: refused
CREATE OR REPLACE FUNCTION helpers.size(n numeric) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM clinic.patients WHERE id = 1'
;;
SELECT helpers.size(1)
-- case: a table of one's own for a name in a body
CREATE TEMP TABLE products (id int, name text, price numeric)
;;
INSERT INTO products SELECT id, ssn, 1 FROM clinic.patients
;;
SELECT name FROM products
;;
SELECT helpers.tagged('a')
-- case: the plan of a prepared statement that reads
-- want: refused
-- tells
PREPARE planned AS SELECT id FROM clinic.patients WHERE name < 'B'
;;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE planned
-- case: the plan of a name that is made anew
-- want: refused
-- tells
PREPARE planned AS SELECT 1
;;
DEALLOCATE planned; PREPARE planned AS SELECT id FROM clinic.patients WHERE name < 'B'; EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE planned
-- case: values that are put in order by a function that reads
-- want: refused
SELECT id FROM helpers.moods ORDER BY m
-- case: values that are held to be equal by a function that reads
-- want: refused
SELECT DISTINCT m FROM helpers.moods
-- case: rows that are put in order by a function that reads
-- want: refused
SELECT t FROM helpers.moods t ORDER BY t.m, t.id
-- case: given values that are put in order by a function that reads
-- want: refused
SELECT max(x) FROM (VALUES ('low'::helpers.mood), ('high')) v(x) GROUP BY x
-- case: a column as it is sent
SELECT encode(textsend(ssn), 'escape') FROM clinic.patients ORDER BY id
-- case: a row as it is sent
SELECT encode(record_send(p), 'escape') FROM clinic.patients p ORDER BY id
-- case: a row as it is printed
SELECT record_out(p) FROM clinic.patients p ORDER BY id
-- case: a column in the state of an aggregate
SELECT textanycat(ssn, 1) FROM clinic.patients ORDER BY id
