-- Class 7: make the parser and the server read a text, or a name, differently.

-- case: unqualified with a path
SET search_path = clinic
;;
SELECT name FROM patients
-- case: quoted names
SELECT "name", "ssn" FROM "clinic"."patients"
-- case: U& names
SELECT U&"n\0061me" FROM U&"clinic".U&"p\0061tients"
-- case: COPY columns
COPY clinic.patients (ssn, name) TO STDOUT WITH (FORMAT csv, HEADER)
-- case: nested WITH shadows by a sub-query
SELECT * FROM (WITH archived AS (SELECT 1 AS a) SELECT a.name FROM archived x, clinic.archived a) y
-- case: WITH that shadows
WITH patients AS (SELECT * FROM clinic.patients) SELECT ssn FROM patients
-- case: search_path
SET search_path = other, clinic
;;
SELECT ssn, name FROM patients WHERE ssn IS NOT NULL
;;
SELECT p, * FROM patients p
-- case: search_path by a function
SELECT set_config('search_path', 'clinic, public', false)
;;
SELECT ssn, name FROM patients
-- case: search_path of a transaction
BEGIN
;;
SET LOCAL search_path TO "clinic"
;;
SELECT email FROM patients
;;
SELECT number FROM v_nested
;;
ROLLBACK
-- case: search_path by a function before the catalog's
-- want: refused
SELECT set_config('search_path', 'public, pg_catalog', false)
;;
CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM clinic.patients LIMIT 1'
;;
SELECT lower('x')
-- case: a path that leads a function elsewhere
-- want: refused
SET search_path = clinic
;;
SELECT helpers.unpathed()
-- case: a path and an unqualified function
-- want: refused
SET search_path = helpers
;;
SELECT deep(1)
-- case: a setting that is made of values
-- want: refused
SELECT set_config('application_name', ssn, false) FROM clinic.patients WHERE id = 1
-- case: role
-- want: refused
-- shows: pg_monitor
SET ROLE pg_monitor
;;
SELECT current_user
-- case: session authorization
-- want: refused
-- shows: pg_monitor
SET SESSION AUTHORIZATION pg_monitor
;;
SELECT session_user
-- case: row_security
-- want: refused
-- shows: off
SET row_security = off
;;
SHOW row_security
-- case: standard_conforming_strings
-- want: refused
SET standard_conforming_strings = off
;;
SELECT '\'' || ssn || '' FROM clinic.patients --'
-- case: client_encoding
-- want: refused
-- shows: SQL_ASCII
SET client_encoding = 'SQL_ASCII'
;;
SHOW client_encoding
-- case: client encoding by NAMES
-- want: refused
-- shows: LATIN1
SET NAMES 'LATIN1'
;;
SHOW client_encoding
-- case: qualified by the database
SELECT ssn FROM {database}.clinic.patients
-- case: triple-qualified columns
SELECT clinic.patients.ssn, clinic.patients.name FROM clinic.patients
-- case: comments
SELECT/**/ssn/* /* nested */ */FROM--x
clinic.patients
-- case: dollar quotes and strings
SELECT $a$ $b$ $a$, E'\'', ssn FROM clinic.patients
-- case: many statements
SELECT 1; SELECT ssn FROM clinic.patients; SELECT name FROM clinic.patients
-- case: one bad among many
-- want: refused
SELECT 1; SELECT public.leak(1)
-- case: ambiguous names
CREATE TEMP TABLE guarded (id int, pin text)
;;
SELECT pin FROM guarded UNION SELECT pin FROM clinic.guarded
-- case: one text prepares and executes
PREPARE z AS SELECT ssn FROM clinic.patients; EXECUTE z
-- case: one text replaces a prepared statement
-- want: refused
-- effect: SELECT NOT EXISTS (SELECT FROM clinic.prescriptions)
PREPARE y AS SELECT 1
;;
DEALLOCATE y; PREPARE y AS DELETE FROM clinic.prescriptions; EXECUTE y
-- case: table with the name of a type
-- want: refused
-- shows: made 0
CREATE TEMP TABLE text (a int)
;;
SELECT 'made ' || count(*) FROM text
-- case: temp table that shadows
-- want: refused
CREATE TEMP TABLE patients (ssn text)
;;
INSERT INTO patients SELECT ssn FROM clinic.patients
;;
SELECT ssn FROM patients
-- case: star after the name
SELECT name FROM clinic.patients *
-- case: overload of a built-in
-- want: refused
SELECT upper(1)
-- case: catalog of another schema through quotes
-- want: refused
SELECT "histogram_bounds" FROM "pg_catalog"."pg_stats" WHERE "tablename" = 'patients'
-- case: CREATE TABLE AS EXECUTE
PREPARE q2 AS SELECT ssn FROM clinic.patients
;;
CREATE TEMP TABLE stolen AS EXECUTE q2
;;
SELECT * FROM stolen
-- case: two-phase
-- want: refused
-- shows: ROLLBACK PREPARED
BEGIN
;;
PREPARE TRANSACTION 'x'
;;
ROLLBACK PREPARED 'x'
-- case: local setting
-- want: refused
-- shows: all
BEGIN
;;
SET LOCAL log_statement = 'all'
;;
SHOW log_statement
-- case: SHOW of a custom setting
-- want: refused
-- shows: kept
SET x.y = 'kept'
;;
SHOW x.y
-- case: cast
-- want: refused
-- effect: SELECT EXISTS (SELECT FROM pg_cast WHERE castsource = 'text'::regtype AND casttarget = 'int'::regtype)
CREATE CAST (text AS int) WITH INOUT AS IMPLICIT
-- case: a DELETE behind a very long comment
-- want: refused
-- effect: SELECT NOT EXISTS (SELECT FROM clinic.staff)
/* {long} */ DELETE FROM clinic.staff WHERE pin > ''
-- case: a SELECT behind a very long comment
/* {long} */ SELECT ssn FROM clinic.patients
-- case: a very long line comment
-- {long} {long}
SELECT ssn FROM clinic.patients
-- case: deeply nested comments
/*/*/*/*/*/*/*/*/**/*/*/*/*/*/*/*/*/ SELECT/*/**/*/ssn /* ' */ FROM /* " */ clinic.patients /* $a$ */
-- case: a comment that MySQL would run
SELECT id /*! , city */, ssn FROM clinic.patients /*!50000 WHERE false */
-- case: a comment that hides a quote
SELECT 'a' -- '
|| ssn FROM clinic.patients -- '
-- case: dollar quotes with tags
SELECT $a$ FROM $a$ || ssn || $é1$ $a$ $b$ $é1$ FROM clinic.patients
-- case: a dollar quote that is not one
SELECT id AS a$b$, ssn AS c$b$ FROM clinic.patients
-- case: escape strings
SELECT E'\'' || ssn || E'\\' || E'\x27' || E'\u0027' FROM clinic.patients
-- case: Unicode strings with another escape
SELECT U&'!0041' UESCAPE '!' || ssn FROM clinic.patients
-- case: Unicode names with another escape
SELECT U&"s!0073n" UESCAPE '!', U&"n!+000061me" UESCAPE '!' FROM U&"!0063linic" UESCAPE '!' . U&"p*0061tients" UESCAPE '*'
-- case: strings that go on in the next line
SELECT 'a'
'b' || ssn FROM clinic.patients
-- case: bit and national strings
SELECT B'101', X'1F', N'x' || ssn FROM clinic.patients
-- case: names that fold
SELECT "ssn", SSN, Ssn, "clinic"."patients"."ssn" FROM CLINIC.Patients
-- case: a name that is cut at 63 bytes
SELECT x.a234567890b234567890c234567890d234567890e234567890f234567890g23xyz FROM (SELECT ssn AS a234567890b234567890c234567890d234567890e234567890f234567890g23 FROM clinic.patients) x
-- case: keywords as names
SELECT "select"."from" FROM (SELECT ssn AS "from" FROM clinic.patients) AS "select"
-- case: no blank between words
SELECT(ssn)FROM"clinic"."patients"WHERE"id"=1
-- case: odd blanks
SELECT	ssn	FROM clinic.patients
-- case: numbers of every form
SELECT 1.e0,.5,1.::int,ssn FROM clinic.patients
-- case: operators glued together
SELECT - - 1,2*-1,ssn||''||''::text FROM clinic.patients
-- case: casts in all notations
SELECT ssn::text, CAST(name AS varchar), text(ssn), ssn::"varchar", pg_catalog.text 'x', "char"(ascii(ssn)::int) FROM clinic.patients
-- case: backslash_quote
SET backslash_quote = on
;;
SELECT E'\'' || ssn || E'\'' FROM clinic.patients
-- case: escape_string_warning
SET escape_string_warning = off
;;
SELECT 'a\' || ssn FROM clinic.patients
-- case: standard_conforming_strings of a transaction
BEGIN
;;
SET LOCAL standard_conforming_strings = off
;;
SELECT '\'' || ssn || '' FROM clinic.patients --'
-- case: standard_conforming_strings by set_config
SELECT set_config('standard_conforming_strings', 'off', false)
;;
SELECT '\'' || ssn || '' FROM clinic.patients --'
-- case: standard_conforming_strings by the catalog's view
UPDATE pg_settings SET setting = 'off' WHERE name = 'standard_conforming_strings'
;;
SELECT '\'' || ssn || '' FROM clinic.patients --'
-- case: standard_conforming_strings when connecting
-- want: ended
-- login: standard_conforming_strings=off
SELECT '\'' || ssn || '' FROM clinic.patients --'
-- case: options when connecting
-- want: ended
-- login: options=-c standard_conforming_strings=off
SELECT '\'' || ssn || '' FROM clinic.patients --'
-- case: search_path when connecting
-- want: ended
-- login: search_path=clinic
SELECT ssn FROM patients
-- case: client_encoding when connecting
-- want: ended
-- login: client_encoding=SJIS
> query "SELECT E'\x95\x5c' || ssn FROM clinic.patients -- '"
-- case: an encoding in which a letter ends in a backslash
> query "SET client_encoding = 'SJIS'"
> query "SELECT E'\x95\x5c' || ssn FROM clinic.patients -- '"
-- case: an encoding changed in the same text
> query "SET client_encoding = 'SJIS'; SELECT ssn FROM clinic.patients"
-- case: a schema of one's own before the catalog's
-- want: refused
SET search_path = public, pg_catalog
;;
CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM clinic.patients LIMIT 1'
;;
SELECT lower('x')
-- case: an operator of one's own before the catalog's
-- want: refused
CREATE FUNCTION public.stolen(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''%'', (SELECT ssn FROM clinic.patients LIMIT 1); RETURN true; END'
;;
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.stolen)
;;
SET search_path = public, pg_catalog
;;
SELECT 'a'::text = 'b'::text
-- case: a type of one's own
-- want: refused
CREATE DOMAIN public.int4 AS text CHECK (public.boom(VALUE))
;;
SELECT 'x'::public.int4
-- case: a composite type that is a table's
-- want: refused
CREATE TYPE public.shape AS (a clinic.patients)
;;
SELECT ROW(p)::public.shape FROM clinic.patients p
-- case: a temporary view before a table
-- want: refused
CREATE TEMP VIEW products AS SELECT ssn AS name FROM clinic.patients
;;
SELECT name FROM products
-- case: a temporary function
-- want: refused
CREATE FUNCTION pg_temp.peek() RETURNS SETOF text LANGUAGE sql AS 'SELECT ssn FROM clinic.patients'
;;
SELECT * FROM pg_temp.peek()
-- case: a new schema with a table in it
-- want: refused
CREATE SCHEMA hidden CREATE VIEW v AS SELECT ssn FROM clinic.patients
;;
SELECT * FROM hidden.v
-- case: a schema that is renamed
-- want: refused
ALTER SCHEMA clinic RENAME TO surgery
;;
SELECT ssn FROM surgery.patients
-- case: a table that is moved
-- want: refused
ALTER TABLE clinic.patients SET SCHEMA other
;;
SELECT ssn FROM other.patients
-- case: two tables change names
-- want: refused
BEGIN
;;
ALTER TABLE clinic.patients RENAME TO was
;;
ALTER TABLE public.products RENAME TO patients
;;
SELECT ssn FROM clinic.was
-- case: a statement prepared before its view changed
-- want: refused
PREPARE swap AS SELECT name FROM public.v_products
;;
CREATE OR REPLACE VIEW public.v_products AS SELECT id, (SELECT ssn FROM clinic.patients LIMIT 1) AS name FROM public.products
;;
EXECUTE swap
-- case: a transaction begun twice
BEGIN; BEGIN; SELECT ssn FROM clinic.patients; COMMIT
-- case: statements behind an error
SELECT 1; SELECT 1/0; SELECT ssn FROM clinic.patients
;;
SELECT ssn FROM clinic.patients
-- case: an empty statement in between
; ; ;SELECT ssn FROM clinic.patients;;
-- case: parentheses
((((SELECT ssn FROM (clinic.patients CROSS JOIN (SELECT 1) x)))))
-- case: many parentheses
SELECT {parens}ssn{closes} FROM clinic.patients
-- case: row locks of all kinds
SELECT ssn FROM clinic.patients FOR NO KEY UPDATE OF patients NOWAIT
-- case: the table's name in every place
SELECT patients.ssn AS patients FROM clinic.patients AS patients (patients, b, ssn) WHERE patients.patients = 1 ORDER BY patients.ssn
-- case: a sub-select's alias is the table's
SELECT patients.x FROM (SELECT ssn AS x FROM clinic.patients) AS patients
-- case: an old-fashioned star
SELECT p.* FROM clinic.patients * AS p
-- case: a session setting for later sessions
-- want: refused
-- effect: SELECT EXISTS (SELECT FROM pg_db_role_setting WHERE 'search_path=other' = ANY (setconfig))
ALTER ROLE colleague SET search_path = other
-- case: SET of a role by a setting
-- want: refused
-- shows: pg_monitor
SET role = pg_monitor
;;
SELECT current_user
-- case: SET of a session's user by set_config
-- want: refused
-- shows: pg_monitor
SELECT set_config('session_authorization', 'pg_monitor', false)
;;
SELECT current_user
-- case: a role when connecting
-- since: 14
-- want: ended
-- login: role=pg_read_all_data
-- shows: pg_read_all_data
SELECT current_user
-- case: comments between words that belong together
SELECT U&"n!0061me" /* a /* b */ */ UESCAPE '!', ssn FROM clinic.patients WHERE ssn NOT/**/IN ('x') ORDER BY 1 NULLS -- '
 FIRST
-- case: a comment that is none
SELECT '--' || name || $$/*$$, ssn AS "/*" FROM clinic.patients WHERE id NOT/**/IN (0) -- */
-- case: a WITH query is not yet there in those before it
SET search_path = clinic, public
;;
WITH a AS (SELECT name FROM patients), patients AS (SELECT 'x' AS name) SELECT name FROM a
-- case: a WITH query does not read itself
SET search_path = clinic, public
;;
WITH patients AS (SELECT upper(name) AS name FROM patients) SELECT name FROM patients
-- case: a WITH query of an arm is not the other's
SET search_path = clinic, public
;;
SELECT name FROM patients UNION ALL (WITH patients AS (SELECT 'x' AS name) SELECT name FROM patients)
-- case: a WITH query of a sub-select is not there outside
SET search_path = clinic, public
;;
SELECT p.name FROM (WITH patients AS (SELECT 1 AS id) SELECT id FROM patients) x, patients p
-- case: a WITH query of a sub-link is not there outside
SET search_path = clinic, public
;;
SELECT name, (WITH patients AS (SELECT 'x' AS name) SELECT name FROM patients) FROM patients
-- case: a WITH query does not take a qualified name
WITH patients AS (SELECT 1 AS id) SELECT p.name FROM clinic.patients p, patients
-- case: what a write returns is not of the WITH query of its name
SET search_path = clinic, public
;;
WITH members AS (SELECT 'x' AS pin, 1 AS id) UPDATE members SET city = 'x' RETURNING members.pin
