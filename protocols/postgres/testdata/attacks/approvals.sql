-- Class 13: a person has approved what "approved" says (statements divided by ;;, of
-- one session), for a hundred uses. What else may be done with that? Policy:
-- approvals.yaml.

-- case: another row than was approved
-- approved: UPDATE public.log SET message = 'attacked' WHERE id = 2 RETURNING message
-- want: refused
-- shows: attacked
UPDATE public.log SET message = 'attacked' WHERE id = 1 RETURNING message
-- case: another value than was approved
-- approved: UPDATE public.log SET message = 'agreed' WHERE id = 1 RETURNING message
-- want: refused
-- shows: attacked
UPDATE public.log SET message = 'attacked' WHERE id = 1 RETURNING message
-- case: more than was approved, behind a comment
-- approved: UPDATE public.log SET message = 'attacked' WHERE id = 1 AND false RETURNING message
-- want: refused
-- shows: attacked
UPDATE public.log SET message = 'attacked' WHERE id = 1 -- AND false
RETURNING message
-- case: what was approved, and more in the same message
-- approved: UPDATE public.log SET message = 'agreed' WHERE id = 1
-- want: refused
-- shows: attacked
UPDATE public.log SET message = 'agreed' WHERE id = 1; UPDATE public.log SET message = 'attacked' WHERE id = 1 RETURNING message
-- case: what was approved, within another statement
-- approved: UPDATE public.log SET message = 'attacked' WHERE id = 1 RETURNING message
-- want: refused
-- shows: attacked
WITH u AS (UPDATE public.log SET message = 'attacked' WHERE id = 1 RETURNING message) SELECT message FROM u
-- case: what was approved, by a name that nobody was shown
-- approved: UPDATE public.log SET message = 'attacked' WHERE id = 1 RETURNING message
-- want: refused
-- shows: attacked
PREPARE p AS UPDATE public.log SET message = 'attacked' WHERE id = 1 RETURNING message
;;
EXECUTE p
-- case: another statement by the name that was approved
-- approved: PREPARE p AS UPDATE public.log SET message = 'agreed' WHERE id = 1 RETURNING message ;; EXECUTE p
-- want: refused
-- shows: attacked
PREPARE p AS UPDATE public.log SET message = 'attacked' WHERE id = 1 RETURNING message
;;
EXECUTE p
-- case: another parameter of the name that was approved
-- approved: PREPARE p AS UPDATE public.log SET message = $1 WHERE id = 1 RETURNING message ;; EXECUTE p('agreed')
-- want: refused
-- shows: attacked
PREPARE p AS UPDATE public.log SET message = $1 WHERE id = 1 RETURNING message
;;
EXECUTE p('attacked')
-- case: an upsert in place of an update
-- approved: UPDATE public.log SET message = 'attacked' WHERE id = 1 RETURNING message
-- want: refused
-- shows: attacked
INSERT INTO public.log (id, message) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET message = 'attacked' RETURNING message
-- case: an approval of what is masked, for what is in clear
-- approved: SELECT ssn FROM clinic.patients WHERE id = 1
-- want: refused
SET sallyport.justification = 'a patient calls back'
;;
SELECT ssn FROM clinic.patients WHERE id = 1
-- case: another column than was approved
-- approved: SET sallyport.justification = 'a patient calls back' ;; SELECT ssn FROM clinic.patients WHERE id = 1
-- want: refused
SET sallyport.justification = 'a patient calls back'
;;
SELECT birth_date FROM clinic.patients WHERE id = 1
-- case: the same for other words
-- approved: SET sallyport.justification = 'a patient calls back' ;; SELECT ssn FROM clinic.patients WHERE id = 1
-- want: refused
SET sallyport.justification = 'I would like to see it'
;;
SELECT ssn FROM clinic.patients WHERE id = 1
-- case: the same words, said otherwise
-- approved: SET sallyport.justification = 'a patient calls back' ;; SELECT ssn FROM clinic.patients WHERE id = 1
SELECT set_config('sallyport.justification', 'a patient calls back', false)
;;
SELECT ssn FROM clinic.patients WHERE id = 1
-- case: the same without words
-- approved: SET sallyport.justification = 'a patient calls back' ;; SELECT ssn FROM clinic.patients WHERE id = 1
SELECT ssn FROM clinic.patients WHERE id = 1
-- case: a column that no rule reveals, beside one that was approved
-- approved: SET sallyport.justification = 'a patient calls back' ;; SELECT ssn FROM clinic.patients WHERE id = 1
-- want: refused
SET sallyport.justification = 'a patient calls back'
;;
SELECT ssn, email FROM clinic.patients WHERE id = 1
-- case: what was approved, of a view
-- approved: SET sallyport.justification = 'a patient calls back' ;; SELECT ssn FROM clinic.patients WHERE id = 1
-- want: refused
SET sallyport.justification = 'a patient calls back'
;;
SELECT ssn FROM clinic.v_patients WHERE id = 1
-- case: what was approved, by COPY
-- approved: SET sallyport.justification = 'a patient calls back' ;; SELECT ssn FROM clinic.patients WHERE id = 1
-- want: refused
SET sallyport.justification = 'a patient calls back'
;;
COPY (SELECT ssn FROM clinic.patients WHERE id = 1) TO STDOUT
-- case: what was approved, put together
-- approved: SET sallyport.justification = 'a patient calls back' ;; SELECT ssn FROM clinic.patients WHERE id = 1
-- want: refused
SET sallyport.justification = 'a patient calls back'
;;
SELECT string_agg(ssn, ',') FROM clinic.patients
-- case: what was approved, prepared when it was masked
-- approved: SET sallyport.justification = 'a patient calls back' ;; SELECT ssn FROM clinic.patients WHERE id = 1
-- want: refused
PREPARE p AS SELECT ssn FROM clinic.patients WHERE id = 1
;;
SET sallyport.justification = 'a patient calls back'
;;
EXECUTE p
-- case: a cursor that was approved, for other words
-- approved: SET sallyport.justification = 'a patient calls back' ;; BEGIN ;; DECLARE c CURSOR FOR SELECT ssn FROM clinic.patients WHERE id = 1 ;; ROLLBACK
-- want: refused
BEGIN
;;
SET sallyport.justification = 'a patient calls back'
;;
DECLARE c CURSOR FOR SELECT ssn FROM clinic.patients WHERE id = 1
;;
SET sallyport.justification = 'I would like to see it'
;;
FETCH ALL FROM c
;;
ROLLBACK
