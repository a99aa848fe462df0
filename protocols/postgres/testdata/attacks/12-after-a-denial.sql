-- Class 12: after a denial the session is what the client thinks it is, and the
-- next statement is read as if nothing had been denied.

-- case: a read after a denial
DELETE FROM clinic.patients WHERE ssn = 'x'
;;
SELECT ssn FROM clinic.patients
-- case: a read after a denial in a transaction
BEGIN
;;
UPDATE clinic.patients SET city = ssn
;;
ROLLBACK
;;
SELECT ssn FROM clinic.patients
-- case: a write of a transaction that was denied
-- effect: SELECT EXISTS (SELECT FROM public.log WHERE message = 'half')
BEGIN
;;
INSERT INTO public.log (message) VALUES ('half')
;;
SELECT public.leak(1)
;;
COMMIT
-- case: a write of one text that was denied in part
-- effect: SELECT EXISTS (SELECT FROM public.log WHERE message = 'half')
INSERT INTO public.log (message) VALUES ('half'); SELECT public.leak(1)
-- case: a write of a batch that was denied in part
-- effect: SELECT EXISTS (SELECT FROM public.log WHERE message = 'half')
> parse - "INSERT INTO public.log (message) VALUES ('half')"
> bind - - text
> execute - 0
> parse - "SELECT public.leak(1)"
> bind - - text
> execute - 0
> sync
-- case: the rest of a batch that was denied
-- effect: SELECT EXISTS (SELECT FROM public.log WHERE message = 'rest')
> parse - "SELECT public.leak(1)"
> bind - - text
> execute - 0
> parse - "INSERT INTO public.log (message) VALUES ('rest')"
> bind - - text
> execute - 0
> sync
-- case: a savepoint around a denial
BEGIN
;;
SAVEPOINT a
;;
SELECT public.leak(1)
;;
ROLLBACK TO a
;;
SELECT ssn FROM clinic.patients
;;
COMMIT
-- case: a setting of a denied transaction
-- shows: 77s
BEGIN
;;
SET statement_timeout = 77000
;;
SELECT public.leak(1)
;;
COMMIT
;;
SHOW statement_timeout
-- case: a statement prepared in a denied transaction
BEGIN
;;
PREPARE kept AS SELECT ssn FROM clinic.patients
;;
SELECT public.leak(1)
;;
ROLLBACK
;;
EXECUTE kept
-- case: a name that a denial did not make
PREPARE kept AS SELECT public.leak(1)
;;
EXECUTE kept
-- case: a denied name that is taken later
PREPARE kept AS SELECT public.leak(1)
;;
PREPARE kept AS SELECT ssn FROM clinic.patients
;;
EXECUTE kept
;;
DEALLOCATE kept
;;
PREPARE kept AS SELECT ssn FROM clinic.patients
;;
EXECUTE kept
-- case: a cursor that a denial did not make
BEGIN
;;
DECLARE c CURSOR WITH HOLD FOR SELECT public.leak(id) FROM clinic.encounters
;;
COMMIT
;;
FETCH ALL FROM c
-- case: a cursor that outlives its transaction
BEGIN
;;
DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT ssn FROM clinic.patients
;;
COMMIT
;;
FETCH BACKWARD ALL FROM c
;;
FETCH ABSOLUTE 2 FROM c
;;
MOVE 1 IN c
;;
FETCH RELATIVE 0 FROM c
-- case: a role of a denied transaction
-- shows: pg_monitor
BEGIN
;;
SET LOCAL ROLE pg_monitor
;;
SELECT current_user
-- case: a table of a denied transaction
-- want: refused
BEGIN
;;
CREATE TEMP TABLE kept AS SELECT ssn FROM clinic.patients
;;
COMMIT
;;
SELECT ssn FROM kept
-- case: DISCARD after a denial
SELECT public.leak(1)
;;
DISCARD ALL
;;
SELECT ssn FROM clinic.patients
-- case: the unnamed statement after a denial
> parse - "SELECT ssn FROM clinic.patients"
> sync
> parse - "SELECT public.leak(1)"
> sync
> bind - - text
> execute - 0
> sync
-- case: a portal after a denial
> query "BEGIN"
> parse a "SELECT ssn FROM clinic.patients"
> bind p a text
> sync
> query "SELECT public.leak(1)"
> execute p 0
> sync
> query "ROLLBACK"
> bind p a text
> execute p 0
> sync
-- case: a chain of transactions
BEGIN
;;
SELECT public.leak(1)
;;
ROLLBACK AND CHAIN
;;
SELECT ssn FROM clinic.patients
;;
COMMIT AND CHAIN
;;
SELECT name FROM clinic.patients
-- case: behind an explanation
SET sallyport.explain = on
;;
SELECT ssn FROM clinic.patients
;;
SET sallyport.explain = off
;;
SELECT name FROM clinic.patients
-- case: prepared while it is explained, run when it is not
> query "SET sallyport.explain = on"
> parse a "SELECT ssn FROM clinic.patients"
> bind p a text
> query "SET sallyport.explain = off"
> query "SELECT ssn FROM clinic.patients"
> bind p a text
> execute p 0
> sync
-- case: an explanation that a savepoint takes back
BEGIN
;;
SAVEPOINT a
;;
SET LOCAL sallyport.explain = on
;;
SELECT name FROM clinic.patients
;;
ROLLBACK TO a
;;
SELECT name FROM clinic.patients
-- case: SQL's EXECUTE of what is explained
> query "SET sallyport.explain = on"
> parse a "SELECT ssn FROM clinic.patients"
> sync
> query "EXECUTE a"
> query "SET sallyport.explain = off"
> query "EXECUTE a"
> query "SELECT ssn FROM clinic.patients"
