-- Makes the clinic's twin: what the masks show, and everything else, stays as
-- it is, and every protected value is another one. Whatever an agent can tell
-- the two apart by, tells of a protected value.
UPDATE clinic.patients SET
    name       = CASE WHEN id IN (1, 3) THEN 'Yvonne and another' ELSE translate(name, 'ABCDZ', 'YXWVA') || ' of the twin' END,
    ssn        = translate(ssn, '0123456789', '5678901234'),
    birth_date = birth_date + 5 * id,
    phone      = translate(phone, '0123456789', '3210987654'),
    email      = 'twin.' || translate(email, 'abcz', 'yxwb');
UPDATE clinic.claims SET ssn = translate(ssn, '0123456789', '5678901234');
UPDATE clinic.policies SET holder = 'A' || number;
UPDATE clinic.staff SET pin = 'A twin''s';
UPDATE clinic.members SET pin = (3 - id) || ' twin';
UPDATE clinic.guarded SET pin = 'A twin''s';
UPDATE clinic.accounts SET number = 'A twin''s ' || id;
UPDATE clinic.stays SET during = '[2001-02-03,2001-02-05)', words = 'twin:1', doc = '<y/>', spot = '(5,6)';
UPDATE public.history SET old = p, olds = ARRAY[p] FROM clinic.patients p WHERE p.id = 1;
UPDATE clinic.keywords SET "system_user" = 'A twin''s';
UPDATE clinic.virtual SET secret = 'A twin''s'; -- since: 18
UPDATE clinic.donors SET name = 'A twin''s ' || id;
UPDATE clinic.donated SET name = 'A twin''s ' || id;
UPDATE clinic.bands SET weight = 150 - weight WHERE id < 3;
UPDATE clinic.doses SET most = 5;
UPDATE clinic.rates SET most = 20;
UPDATE clinic.ratios SET most = 20;
UPDATE clinic.booked SET most = 5;
UPDATE clinic.contents SET box = 2;
UPDATE clinic.titles SET name = 'A twin''s ' || id;
UPDATE clinic.slips SET code = 'A twin''s ' || id;
UPDATE clinic.stamps SET code = 'A twin''s';
UPDATE clinic.seals SET code = 'A twin''s';
UPDATE clinic.graded SET code = 'B';
UPDATE clinic.shaded SET code = 'b';
UPDATE clinic.secrets SET code = 'A TWIN''S';
UPDATE clinic.minted SET code = 'A twin''s'; -- since: 18
UPDATE clinic.coined SET code = 'A twin''s'; -- since: 18
UPDATE clinic.leases SET tenant = '[2,3)' WHERE id = 2; -- since: 18
UPDATE clinic.sublet SET tenant = '[2,3)'; -- since: 18
UPDATE clinic.unenforced SET pin = 'A twin''s'; -- since: 18
REFRESH MATERIALIZED VIEW clinic.m_patients;
REFRESH MATERIALIZED VIEW clinic.m_donors;
