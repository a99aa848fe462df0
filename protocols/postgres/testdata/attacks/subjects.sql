-- Class 14: rows that go out without anybody's being named on the record. Policy:
-- subjects.yaml.

-- case: an aggregate puts them together
-- want: refused
SELECT string_agg(name, ',') FROM clinic.patients
-- case: as one document
-- want: refused
SELECT json_agg(p) FROM clinic.patients p
-- case: as one array
-- want: refused
SELECT array_agg(name) FROM clinic.patients
-- case: grouped by something else
-- want: refused
SELECT name FROM clinic.patients GROUP BY name
-- case: each only once
-- want: refused
SELECT DISTINCT name FROM clinic.patients
-- case: with others in a union
-- want: refused
SELECT name FROM clinic.patients UNION ALL SELECT note FROM clinic.encounters
-- case: less others
-- want: refused
SELECT name FROM clinic.patients EXCEPT SELECT 'x'
-- case: from a query within
-- want: refused
SELECT x.name FROM (SELECT name FROM clinic.patients) x
-- case: from a query before
-- want: refused
WITH x AS (SELECT name FROM clinic.patients) SELECT * FROM x
-- case: as a value
-- want: refused
SELECT (SELECT name FROM clinic.patients WHERE id = 1)
-- case: as the arguments of a function
-- want: refused
SELECT concat(ARRAY(SELECT name FROM clinic.patients))
-- case: row by row, by another's side
-- want: refused
SELECT x.name FROM public.products, LATERAL (SELECT name FROM clinic.patients WHERE patients.id = products.id) x
-- case: by a view that has no key
-- want: refused
SELECT name FROM clinic.v_patients
-- case: with its columns renamed
-- want: refused
SELECT p.b FROM clinic.patients AS p (a, b)
-- case: written elsewhere, and returned from there
-- want: refused
INSERT INTO public.log (message) SELECT name FROM clinic.patients RETURNING message
-- case: copied as a query within
-- want: refused
COPY (SELECT x.name FROM (SELECT name FROM clinic.patients) x) TO STDOUT
-- case: by a cursor over a query within
-- want: refused
BEGIN
;;
DECLARE c CURSOR FOR SELECT string_agg(name, ',') FROM clinic.patients
;;
FETCH ALL FROM c
;;
ROLLBACK
