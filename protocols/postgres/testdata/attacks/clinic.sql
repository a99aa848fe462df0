-- The clinic, with values that must never be seen by a masked identity: every
-- protected value holds "CANARY", or is one that postgrestest.Planted knows.
CREATE SCHEMA clinic;
CREATE SCHEMA other;
CREATE TYPE clinic.severity AS ENUM ('low', 'high');
CREATE DOMAIN clinic.code AS text CHECK (VALUE ~ '^[A-Z]');
CREATE DOMAIN clinic.plain AS text;

CREATE TABLE clinic.patients (
    id          int PRIMARY KEY,
    name        text NOT NULL,
    ssn         text UNIQUE,
    birth_date  date,
    phone       varchar(20),
    email       text,
    city        text,
    name_upper  text GENERATED ALWAYS AS (upper(name)) STORED,
    visits      int DEFAULT 0
);
CREATE TABLE clinic.encounters (
    id          int PRIMARY KEY,
    patient_id  int REFERENCES clinic.patients (id),
    day         date,
    severity    clinic.severity,
    note        text
);
CREATE TABLE clinic.prescriptions (
    id           serial PRIMARY KEY,
    encounter_id int REFERENCES clinic.encounters (id),
    drug         text,
    dose         numeric(6,2)
);
CREATE TABLE clinic.archived (reason text) INHERITS (clinic.patients);
CREATE TABLE clinic.claims (id int, ssn text, amount numeric(8,2)) PARTITION BY RANGE (id);
CREATE TABLE clinic.claims_1 PARTITION OF clinic.claims FOR VALUES FROM (0) TO (1000);
CREATE TABLE public.products (id int PRIMARY KEY, name text, price numeric(8,2), tags text[], data jsonb, at timestamptz);
CREATE TABLE public.log (id serial PRIMARY KEY, at timestamptz DEFAULT now(), message text);
CREATE TABLE public.audited (id int, v text);
CREATE TABLE other.visits (id int, city text);
CREATE TABLE clinic.visits (id int, city text);
CREATE TABLE public.checked (id int, c clinic.code);

INSERT INTO clinic.patients (id, name, ssn, birth_date, phone, email, city) VALUES
 (1, 'Alice CANARYNAME1', '911-47-0001', '1951-03-17', '+1-555-019-7781', 'alice.CANARYMAIL1@example.org', 'Boston'),
 (2, 'Bob CANARYNAME2',   '922-58-0002', '1962-04-28', '+1-555-019-7782', 'bob.CANARYMAIL2@example.org',   'Boston'),
 (3, 'Carol CANARYNAME3', '933-69-0003', '1973-05-19', '+1-555-019-7783', 'carol.CANARYMAIL3@example.org', 'Austin'),
 (4, 'Dave CANARYNAME4',  NULL,          NULL,         NULL,              NULL,                            NULL);
INSERT INTO clinic.archived (id, name, ssn, birth_date, phone, email, city, reason) VALUES
 (9, 'Zoe CANARYNAME9', '999-91-0009', '1949-09-09', '+1-555-019-7789', 'zoe.CANARYMAIL9@example.org', 'Boston', 'moved');
INSERT INTO clinic.encounters VALUES (1, 1, '2024-01-02', 'low', 'ok'), (2, 1, '2024-02-03', 'high', 'fever'), (3, 2, '2024-03-04', 'low', 'ok');
INSERT INTO clinic.prescriptions (encounter_id, drug, dose) VALUES (1, 'aspirin', 100), (2, 'ibuprofen', 200.5);
INSERT INTO clinic.claims VALUES (1, '911-47-0001', 10.50), (2, '922-58-0002', 20);
INSERT INTO public.products SELECT g, 'product ' || g, g * 1.5, ARRAY['a', 'b' || g], jsonb_build_object('k', g), '2024-01-01 00:00:00Z'::timestamptz + g * interval '1 hour' FROM generate_series(1, 20) g;
INSERT INTO public.log (message) VALUES ('hello');
INSERT INTO other.visits VALUES (1, 'x');
INSERT INTO clinic.visits VALUES (1, 'y');

CREATE VIEW clinic.v_patients AS SELECT id, name, ssn, city FROM clinic.patients;
CREATE VIEW clinic.v_derived AS SELECT id, upper(ssn) AS s, left(name, 3) || city AS x, birth_date + 1 AS d, city FROM clinic.patients;
CREATE VIEW clinic.v_whole AS SELECT p.id, p AS row, to_json(p.*) AS j FROM clinic.patients p;
CREATE VIEW clinic.v_nested AS SELECT v.ssn AS number, e.note FROM clinic.v_patients v JOIN clinic.encounters e ON e.patient_id = v.id;
CREATE VIEW clinic.v_union AS SELECT ssn FROM clinic.patients UNION ALL SELECT drug FROM clinic.prescriptions;
CREATE VIEW clinic.v_cte AS WITH x AS (SELECT ssn, name FROM clinic.patients) SELECT x.ssn, x.name AS who, (SELECT max(y.email) FROM clinic.patients y) AS m FROM x;
CREATE MATERIALIZED VIEW clinic.m_patients AS SELECT id, name, ssn FROM clinic.patients;
CREATE VIEW public.v_products AS SELECT id, name FROM public.products WHERE price > 3;

CREATE FUNCTION public.leak(int) RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT ssn FROM clinic.patients WHERE id = $1';
CREATE FUNCTION public.leak_all() RETURNS SETOF clinic.patients LANGUAGE sql AS 'SELECT * FROM clinic.patients';
CREATE FUNCTION public.poly(anyelement) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT ssn FROM clinic.patients LIMIT 1); END';
CREATE FUNCTION public.boom(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE EXCEPTION ''%'', (SELECT ssn FROM clinic.patients LIMIT 1); END';
CREATE PROCEDURE public.pleak(INOUT s text) LANGUAGE sql AS 'SELECT ssn FROM clinic.patients WHERE id = 1';
CREATE FUNCTION public.double(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE FUNCTION public.on_write() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := (SELECT ssn FROM clinic.patients LIMIT 1); RETURN NEW; END';
CREATE FUNCTION public.eq_leak(text, int) RETURNS boolean LANGUAGE sql AS 'SELECT true FROM clinic.patients WHERE ssn = $1';
CREATE OPERATOR public.<=> (LEFTARG = text, RIGHTARG = int, FUNCTION = public.eq_leak);
CREATE TRIGGER t BEFORE INSERT ON public.audited FOR EACH ROW EXECUTE FUNCTION public.on_write();
CREATE VIEW clinic.v_fn AS SELECT id, public.leak(id) AS x FROM public.products;
CREATE DOMAIN public.trap AS text CHECK (public.boom(VALUE));
CREATE TABLE public.defaulted (id int, v text DEFAULT public.leak(1));
CREATE VIEW clinic.v_by_patient AS SELECT id, patient_id FROM clinic.encounters;
CREATE TABLE public.ruled (id int);
CREATE RULE r AS ON INSERT TO public.ruled DO ALSO INSERT INTO public.log (message) SELECT ssn FROM clinic.patients;
CREATE TABLE public.rls (id int);
INSERT INTO public.rls VALUES (1);
ALTER TABLE public.rls ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON public.rls USING (public.boom(id::text));
COMMENT ON TABLE public.products IS 'things for sale';
CREATE STATISTICS clinic.st (dependencies, mcv) ON city, ssn FROM clinic.patients;
ANALYZE;
CREATE TABLE clinic.policies (number int, kind text, holder text, UNIQUE (number, holder), CHECK (kind <> 'x' OR holder < 'C'));
INSERT INTO clinic.policies VALUES (1, 'a', 'CANARYHOLDER'), (2, 'a', 'CANARYHOLDER');
CREATE TABLE clinic.cards (ssn text REFERENCES clinic.patients (ssn));
CREATE TABLE clinic.people (id int NOT NULL);
CREATE TABLE clinic.staff (pin text) INHERITS (clinic.people);
INSERT INTO clinic.staff VALUES (1, 'CANARYPIN');
CREATE TABLE clinic.members (id int PRIMARY KEY, pin text, city text, data json);
INSERT INTO clinic.members VALUES (1, 'CANARYPIN1', 'Boston', '{}'), (2, 'CANARYPIN2', 'Austin', '{}');
CREATE TABLE public.history (id int, old clinic.patients, olds clinic.patients[]);
INSERT INTO public.history SELECT 1, p, ARRAY[p] FROM clinic.patients p WHERE id = 1;
CREATE VIEW clinic.v_cast AS SELECT id, city FROM clinic.patients WHERE ssn::int > 0;
CREATE VIEW clinic.v_cast2 AS SELECT id FROM clinic.v_cast;
CREATE TABLE clinic.guarded (id int, pin text);
INSERT INTO clinic.guarded VALUES (1, 'CANARYPIN');
CREATE TABLE clinic.accounts (id int PRIMARY KEY, number text, branch text);
INSERT INTO clinic.accounts VALUES (1, 'CANARY-1', 'north'), (2, 'CANARY-2', 'north'), (3, 'CANARY-3', 'south');
CREATE TABLE clinic.stays (id int PRIMARY KEY, during daterange, words tsvector, doc xml, spot point, ward text);
INSERT INTO clinic.stays VALUES (1, '[1951-03-17,1951-03-20)', 'canaryfever:1', '<x>CANARYXML</x>', '(91147,1)', 'a'), (2, '[1962-04-28,)', 'canarycold:1', '<x>CANARYXML2</x>', '(92258,2)', 'b');
CREATE VIEW clinic.v_accounts AS SELECT number AS account, branch FROM clinic.accounts;
CREATE FUNCTION public.upper(int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM clinic.patients LIMIT 1';
-- Definitions that hold protected values.
CREATE DOMAIN public.dom AS text DEFAULT 'CANARYDOM' CHECK (VALUE <> 'CANARYDOMCHK');
CREATE FUNCTION public.fdef(a text DEFAULT 'CANARYARG') RETURNS text LANGUAGE sql AS 'SELECT ''CANARYBODY''';
CREATE FUNCTION public.fsql() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT 'CANARYATOMIC'; END; -- since: 14
CREATE PROCEDURE public.pdef() LANGUAGE sql AS 'SELECT ''CANARYPROC''';
CREATE TABLE public.defs (id int, s text DEFAULT 'CANARYDEF' CHECK (s <> 'CANARYCHK'), g text GENERATED ALWAYS AS ('CANARYGEN') STORED, d public.dom);
CREATE INDEX ON public.defs (id) WHERE s = 'CANARYIDX';
CREATE INDEX ON public.defs ((s || 'CANARYEXPR'));
CREATE VIEW public.v_literal AS SELECT id FROM public.defs WHERE s = 'CANARYVIEW';
CREATE MATERIALIZED VIEW public.m_literal AS SELECT id FROM public.defs WHERE s = 'CANARYMAT';
CREATE TABLE public.parts (s text) PARTITION BY LIST (s);
CREATE TABLE public.part_1 PARTITION OF public.parts FOR VALUES IN ('CANARYPART');
CREATE TABLE public.parted (s text) PARTITION BY LIST ((s || 'CANARYKEY'));
CREATE STATISTICS public.stx ON (s || 'CANARYSTX') FROM public.defs; -- since: 14
CREATE POLICY pol ON public.defs USING (s <> 'CANARYPOL') WITH CHECK (s <> 'CANARYPOLCHK');
CREATE RULE rul AS ON DELETE TO public.defs DO INSTEAD SELECT 'CANARYRULE';
CREATE TRIGGER trg BEFORE INSERT ON public.defs FOR EACH ROW WHEN (NEW.s = 'CANARYTRG') EXECUTE FUNCTION public.on_write('CANARYTRGARG');
CREATE PUBLICATION pub FOR TABLE public.products WHERE (name <> 'CANARYPUB'); -- since: 15
CREATE TABLE public.missing (id int);
INSERT INTO public.missing VALUES (1);
ALTER TABLE public.missing ADD COLUMN v text DEFAULT 'CANARYMISSING';
CREATE AGGREGATE public.agg (text) (SFUNC = textcat, STYPE = text, INITCOND = 'CANARYINIT');
ALTER ROLE agent SET application_name = 'CANARYROLE';
CREATE FOREIGN DATA WRAPPER fdw OPTIONS (a 'CANARYFDW');
CREATE SERVER srv FOREIGN DATA WRAPPER fdw OPTIONS (a 'CANARYSRV');
CREATE FOREIGN TABLE public.far (id int OPTIONS (a 'CANARYFCOL')) SERVER srv OPTIONS (b 'CANARYFT');
CREATE TABLE clinic.keywords (id int, "system_user" text);
INSERT INTO clinic.keywords VALUES (1, 'CANARYKEYWORD');
CREATE TABLE clinic.virtual (id int, secret text, shout text GENERATED ALWAYS AS (upper(secret)) VIRTUAL, city text); -- since: 18
CREATE VIEW clinic.v_virtual AS SELECT id, shout AS s FROM clinic.virtual; -- since: 18
INSERT INTO clinic.virtual (id, secret, city) VALUES (1, 'CANARYVIRTUAL', 'Boston'); -- since: 18

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'colleague') THEN
        CREATE ROLE colleague PASSWORD 'not to be seen';
    END IF;
END $$;
-- Where the order of rows tells of protected values.
CREATE TABLE clinic.donors (id int PRIMARY KEY, town text, name text, given int);
CREATE INDEX ON clinic.donors (name) INCLUDE (given);
CREATE INDEX ON clinic.donors (town, name);
INSERT INTO clinic.donors VALUES (1, 'Boston', 'CANARYDONOR2', 1), (2, 'Boston', 'CANARYDONOR1', 2), (3, 'Austin', 'CANARYDONOR3', 3), (4, 'Chester', 'CANARYDONOR0', 4);
CREATE VIEW clinic.v_donors AS SELECT id, town FROM clinic.donors;
CREATE MATERIALIZED VIEW clinic.m_donors AS SELECT id, town, name FROM clinic.donors;
CREATE INDEX ON clinic.m_donors (town, name);
CREATE TABLE clinic.donated (id int PRIMARY KEY, town text, name text);
CREATE INDEX ON clinic.donated (town, name);
INSERT INTO clinic.donated SELECT id, town, name FROM clinic.donors;
ALTER TABLE clinic.donated ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON clinic.donated USING (town = 'Boston');
CREATE TABLE clinic.bands (id int, weight int, ward text) PARTITION BY RANGE (weight);
CREATE TABLE clinic.bands_1 PARTITION OF clinic.bands FOR VALUES FROM (0) TO (70);
CREATE TABLE clinic.bands_2 PARTITION OF clinic.bands FOR VALUES FROM (70) TO (1000);
INSERT INTO clinic.bands VALUES (1, 80, 'a'), (2, 60, 'a'), (3, 90, 'b');

-- Functions that a body tells of: what they do is seen, and they may be called.
CREATE SCHEMA helpers;
CREATE FUNCTION helpers.net(price numeric, rate numeric DEFAULT 0.2) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT round(price / (1 + rate), 2)';
CREATE FUNCTION helpers.label(p public.products) RETURNS text LANGUAGE sql STABLE AS 'SELECT p.id || '': '' || p.name';
CREATE FUNCTION helpers.cheap(upto numeric) RETURNS SETOF public.products LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS 'SELECT * FROM products WHERE price <= upto ORDER BY id';
CREATE FUNCTION helpers.size(n numeric) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'DECLARE s text := ''small''; BEGIN IF n > 20 THEN s := ''large''; ELSIF n > 10 THEN s := ''medium''; END IF; RETURN s; END';
CREATE FUNCTION helpers.tagged(tag text) RETURNS TABLE (id int, others text[]) LANGUAGE plpgsql STABLE AS 'BEGIN RETURN QUERY SELECT p.id, array_remove(p.tags, tag) FROM public.products p WHERE tag = ANY (p.tags) ORDER BY p.id; END';
CREATE FUNCTION helpers.factorial(n numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS 'BEGIN IF n < 2 THEN RETURN 1; END IF; RETURN n * helpers.factorial(n - 1); END';
CREATE FUNCTION helpers.positive(n int, what text DEFAULT 'number') RETURNS int LANGUAGE plpgsql AS 'BEGIN IF n <= 0 THEN RAISE EXCEPTION ''the % is %'', what, n USING HINT = ''Take another.'', ERRCODE = ''22023''; END IF; RAISE NOTICE ''it is %'', n; RETURN n; END';
CREATE FUNCTION helpers.joined(sep text, VARIADIC parts text[]) RETURNS text LANGUAGE sql AS 'SELECT string_agg(p, sep) FROM unnest(parts) p';
CREATE FUNCTION helpers.longer(a text, b text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN length(b) > length(a) THEN b ELSE coalesce(a, b) END';
CREATE AGGREGATE helpers.longest(text) (SFUNC = helpers.longer, STYPE = text);
CREATE FUNCTION helpers.either(a anyelement, b anyelement) RETURNS anyelement LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(a, b); END';
CREATE FUNCTION helpers.quoted(n int) RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM id FROM public.products WHERE id / n > 0 AND name <> ''CANARYCODE''; RETURN n; END';
CREATE VIEW helpers.v_sizes AS SELECT id, helpers.size(price) AS size FROM public.products;
CREATE TABLE helpers.orders (id int PRIMARY KEY, n int, stamp text);
CREATE FUNCTION helpers.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.stamp := TG_OP || '' '' || coalesce(NEW.n, 0); IF NEW.n < 0 THEN RAISE EXCEPTION ''no order of %'', NEW.n; END IF; RETURN NEW; END';
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON helpers.orders FOR EACH ROW EXECUTE FUNCTION helpers.stamp();

-- Functions of the same make that may not.
CREATE FUNCTION helpers.middle(int) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN public.leak($1); END';
CREATE FUNCTION helpers.deep(int) RETURNS text LANGUAGE sql AS 'SELECT upper(helpers.middle($1))';
CREATE FUNCTION helpers.presumes(n int, of text DEFAULT public.leak(2)) RETURNS text LANGUAGE sql AS 'SELECT n || of';
CREATE FUNCTION helpers.over(int) RETURNS text LANGUAGE sql AS 'SELECT $1::text';
CREATE FUNCTION helpers.over(text) RETURNS text LANGUAGE sql AS 'SELECT name FROM clinic.patients WHERE id = 1';
CREATE FUNCTION helpers.pathed() RETURNS text LANGUAGE sql SET search_path = clinic AS 'SELECT ssn FROM patients WHERE id = 1';
CREATE FUNCTION helpers.dynamic(text) RETURNS text LANGUAGE plpgsql AS 'DECLARE v text; BEGIN EXECUTE ''SELECT ssn FROM clin'' || ''ic.'' || $1 || '' LIMIT 1'' INTO v; RETURN v; END';
CREATE FUNCTION helpers.dynamic_rows(text) RETURNS SETOF text LANGUAGE plpgsql AS 'BEGIN RETURN QUERY EXECUTE format(''SELECT name FROM clinic.%I'', $1); END';
CREATE FUNCTION helpers.looped() RETURNS SETOF text LANGUAGE plpgsql AS 'DECLARE r record; BEGIN FOR r IN EXECUTE convert_from(decode(''53454c454354206e616d652046524f4d20636c696e69632e70617469656e7473'', ''hex''), ''UTF8'') LOOP RETURN NEXT r.name; END LOOP; END';
CREATE FUNCTION helpers.typed() RETURNS text LANGUAGE plpgsql AS 'DECLARE p clinic.patients%ROWTYPE; BEGIN SELECT * INTO p FROM clinic.patients WHERE id = 2; RETURN p.email; END';
CREATE FUNCTION helpers.notices() RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''%'', (SELECT name FROM clinic.m_patients WHERE id = 1); RETURN 1; END';
CREATE FUNCTION helpers.raises() RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING MESSAGE = ''sorry'', DETAIL = (SELECT ssn FROM clinic.v_patients WHERE id = 1); END';
CREATE FUNCTION helpers.returned() RETURNS text LANGUAGE plpgsql AS E'BEGIN -- no more \r RETURN (SELECT ssn FROM clinic.patients WHERE id = 1);\n END';
CREATE FUNCTION helpers.continued() RETURNS text LANGUAGE plpgsql AS E'BEGIN PERFORM E''a''\n''\\''''; RETURN (SELECT ssn FROM clinic.patients WHERE id = 1); PERFORM ''''; END';
CREATE FUNCTION helpers.nested() RETURNS text LANGUAGE plpgsql AS 'BEGIN /* /* */ -- */ RETURN (SELECT ssn FROM clinic.patients WHERE id = 1); /* */ END';
CREATE FUNCTION helpers.treats() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN TREAT(''/etc/passwd'' AS pg_read_file); END';
CREATE FUNCTION helpers.unicode() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT ssn FROM clinic.U&"p\0061tients" WHERE id = 1); END';
CREATE FUNCTION public.told(p public.products) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM clinic.patients WHERE id = p.id';
CREATE FUNCTION helpers.by_dot() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT p . /* a */ told FROM public.products p WHERE id = 1); END';
CREATE FUNCTION helpers.child() RETURNS text LANGUAGE sql AS 'SELECT name FROM clinic.archived';
CREATE FUNCTION helpers.gathers(text, int) RETURNS text LANGUAGE sql AS 'SELECT concat($1, (SELECT ssn FROM clinic.patients WHERE id = $2))';
CREATE AGGREGATE helpers.gathered(int) (SFUNC = helpers.gathers, STYPE = text);
CREATE FUNCTION helpers.ends(text) RETURNS text LANGUAGE sql AS 'SELECT max(name) FROM clinic.patients';
CREATE AGGREGATE helpers.ended(text) (SFUNC = helpers.longer, STYPE = text, FINALFUNC = helpers.ends);
CREATE FUNCTION helpers.each(int) RETURNS TABLE (id int, v text) LANGUAGE sql AS 'SELECT id, ssn FROM clinic.patients WHERE id = $1';
CREATE FUNCTION helpers.as_xml(int) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN query_to_xml(''SELECT ssn FROM clinic.pa'' || ''tients'', true, true, ''''); END';
CREATE FUNCTION helpers.stores() RETURNS bigint LANGUAGE sql AS 'WITH w AS (INSERT INTO public.log (message) SELECT ssn FROM clinic.patients RETURNING 1) SELECT count(*) FROM w';
CREATE FUNCTION helpers.keeps() RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM set_config(''helpers.kept'', (SELECT ssn FROM clinic.claims WHERE id = 1), false); RETURN current_setting(''helpers.kept''); END';
CREATE FUNCTION helpers.caught() RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM FROM clinic.v_cast; RETURN ''''; EXCEPTION WHEN OTHERS THEN RETURN SQLERRM; END';
CREATE FUNCTION helpers.known(text) RETURNS boolean LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM clinic.patients WHERE ssn = $1)';
CREATE FUNCTION helpers.fails(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1 / (SELECT count(*) FROM clinic.patients WHERE id = $1 AND ssn LIKE ''9%''); END';
CREATE DOMAIN helpers.late AS text;
CREATE TABLE helpers.lates (c helpers.late);
INSERT INTO helpers.lates VALUES ('x');
ALTER DOMAIN helpers.late ADD CONSTRAINT late CHECK (public.boom(VALUE)) NOT VALID;
CREATE FUNCTION helpers.assigns(a anyelement) RETURNS text LANGUAGE plpgsql AS 'BEGIN a := ''y''; RETURN a; END';
CREATE FUNCTION helpers.column_typed() RETURNS text LANGUAGE plpgsql AS 'DECLARE v helpers.lates.c%TYPE := ''y''; BEGIN RETURN v; END';
CREATE TABLE helpers.conditional (id int);
CREATE TRIGGER stamp AFTER INSERT ON helpers.conditional FOR EACH ROW WHEN (public.boom(NEW.id::text)) EXECUTE FUNCTION helpers.stamp();
CREATE TABLE helpers.lines (n int REFERENCES helpers.orders ON DELETE CASCADE);
CREATE FUNCTION helpers.tells() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''%'', (SELECT ssn FROM clinic.patients WHERE id = 1); RETURN OLD; END';
CREATE TRIGGER tells BEFORE DELETE ON helpers.lines FOR EACH ROW EXECUTE FUNCTION helpers.tells();
INSERT INTO helpers.orders VALUES (100, 1), (101, 2);
INSERT INTO helpers.lines VALUES (100);
CREATE TABLE helpers.read (id int, v text);
CREATE FUNCTION helpers.reads() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN EXECUTE ''SELECT ssn FROM clinic.patients WHERE id = 1'' INTO NEW.v; RETURN NEW; END';
CREATE TRIGGER reads BEFORE INSERT ON helpers.read FOR EACH ROW EXECUTE FUNCTION helpers.reads();
CREATE VIEW helpers.v_deep AS SELECT id, helpers.deep(id) AS v FROM public.products;
CREATE FUNCTION helpers.speaks(v text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''%'', v; RETURN true; END';
CREATE VIEW helpers.v_spoken AS SELECT id FROM clinic.patients WHERE helpers.speaks(ssn);
CREATE FUNCTION helpers.computes(int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT ssn FROM clinic.patients WHERE id = $1); END';
CREATE TABLE helpers.stored (id int, size text GENERATED ALWAYS AS (helpers.size(id)) STORED, v text GENERATED ALWAYS AS (helpers.computes(id)) STORED);
INSERT INTO helpers.stored VALUES (1), (21);
CREATE FUNCTION helpers.unpathed() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT ssn FROM patients WHERE id = 1); END';

-- Outcomes of writes that a masked value decides: of children, of what is computed, and
-- by way of foreign keys.
CREATE TABLE clinic.doses (id int PRIMARY KEY, given int, most int);
CREATE TABLE clinic.doses_kept (CHECK (given <= most)) INHERITS (clinic.doses);
INSERT INTO clinic.doses_kept VALUES (1, 1, 50), (2, 1, 40);
CREATE TABLE clinic.rates (id int PRIMARY KEY, given int, most int, rate int GENERATED ALWAYS AS (100 / (given - most)) STORED);
INSERT INTO clinic.rates VALUES (1, 1, 50), (2, 1, 40);
CREATE TABLE clinic.ratios (id int PRIMARY KEY, given int, most int);
CREATE INDEX ON clinic.ratios ((100 / (given - most)));
INSERT INTO clinic.ratios VALUES (1, 1, 50), (2, 1, 40);
CREATE TABLE clinic.beds (id int PRIMARY KEY);
CREATE TABLE clinic.booked (bed int REFERENCES clinic.beds ON UPDATE CASCADE, most int, CHECK (bed <= most));
INSERT INTO clinic.beds VALUES (1), (2);
INSERT INTO clinic.booked VALUES (1, 50), (2, 40);
CREATE TABLE clinic.shelves (id int PRIMARY KEY);
CREATE TABLE clinic.boxes (id int PRIMARY KEY, shelf int REFERENCES clinic.shelves ON DELETE CASCADE);
CREATE TABLE clinic.contents (box int REFERENCES clinic.boxes, n int);
INSERT INTO clinic.shelves VALUES (1), (2);
INSERT INTO clinic.boxes VALUES (1, 1), (2, 2);
INSERT INTO clinic.contents VALUES (1, 1);
CREATE TABLE clinic.titles (id int PRIMARY KEY, title text, name text, said text GENERATED ALWAYS AS (title || ' ' || lower(name)) STORED);
CREATE INDEX ON clinic.titles (lower(title)) WHERE name <> '' AND title IS NOT NULL;
INSERT INTO clinic.titles VALUES (1, 'Dr', 'CANARYTITLE'), (2, 'Mr', 'CANARYTITLED');
CREATE TABLE clinic.slips (id int PRIMARY KEY, kind text, code text, mark text GENERATED ALWAYS AS (kind || code) STORED UNIQUE);
INSERT INTO clinic.slips VALUES (1, 'x', 'CANARYSLIP'), (2, 'y', 'xCANARYSLIP');
CREATE TABLE clinic.stamps (id int PRIMARY KEY, kind text, code text, mark text GENERATED ALWAYS AS (kind || code) STORED, CHECK (mark <> 'xCANARYSTAMP'));
INSERT INTO clinic.stamps VALUES (1, 'y', 'CANARYSTAMP');
CREATE TABLE clinic.seals (id int PRIMARY KEY, kind text, code text, mark text GENERATED ALWAYS AS (CASE WHEN kind = code THEN NULL ELSE kind END) STORED NOT NULL);
INSERT INTO clinic.seals VALUES (1, 'y', 'CANARYSEAL');
CREATE TABLE clinic.grades (code text, kind text, PRIMARY KEY (code, kind));
CREATE TABLE clinic.graded (id int PRIMARY KEY, kind text, code text, FOREIGN KEY (code, kind) REFERENCES clinic.grades);
INSERT INTO clinic.grades VALUES ('A', 'x'), ('A', 'y'), ('B', 'x');
INSERT INTO clinic.graded VALUES (1, 'x', 'A');
CREATE TABLE clinic.shades (id int PRIMARY KEY, name text, shade text GENERATED ALWAYS AS (lower(name)) STORED UNIQUE);
CREATE TABLE clinic.shaded (code text REFERENCES clinic.shades (shade));
INSERT INTO clinic.shades VALUES (1, 'A'), (2, 'B');
INSERT INTO clinic.shaded VALUES ('a');
CREATE TABLE clinic.secrets (code text PRIMARY KEY);
CREATE TABLE clinic.guesses (id int PRIMARY KEY, name text, guess text GENERATED ALWAYS AS (upper(name)) STORED REFERENCES clinic.secrets);
INSERT INTO clinic.secrets VALUES ('CANARYSECRET');
INSERT INTO clinic.guesses VALUES (1, NULL);
CREATE TABLE clinic.minted (id int PRIMARY KEY, kind text, code text, mark text GENERATED ALWAYS AS (kind || code) VIRTUAL, CHECK (mark <> 'xCANARYMINT')); -- since: 18
INSERT INTO clinic.minted VALUES (1, 'y', 'CANARYMINT'); -- since: 18
CREATE TABLE clinic.coined (id int PRIMARY KEY, kind text, code text, mark text GENERATED ALWAYS AS (nullif(kind, code)) VIRTUAL NOT NULL); -- since: 18
INSERT INTO clinic.coined VALUES (1, 'y', 'CANARYCOIN'); -- since: 18
CREATE TABLE clinic.leases (id int, tenant int4range, during daterange, PRIMARY KEY (tenant, during WITHOUT OVERLAPS)); -- since: 18
INSERT INTO clinic.leases VALUES (1, '[1,2)', '[2024-01-01,2024-02-01)'), (2, '[1,2)', '[2025-01-01,2025-02-01)'); -- since: 18
CREATE TABLE clinic.terms (tenant int4range, during daterange, PRIMARY KEY (tenant, during WITHOUT OVERLAPS)); -- since: 18
INSERT INTO clinic.terms VALUES ('[1,2)', '[2024-01-01,2025-01-01)'), ('[2,3)', '[2024-01-01,2024-07-01)'); -- since: 18
CREATE TABLE clinic.sublet (id int, tenant int4range, during daterange, FOREIGN KEY (tenant, PERIOD during) REFERENCES clinic.terms (tenant, PERIOD during)); -- since: 18
INSERT INTO clinic.sublet VALUES (1, '[1,2)', '[2024-02-01,2024-03-01)'); -- since: 18
CREATE TABLE clinic.unenforced (id int PRIMARY KEY, pin text, city text, CHECK (city <> 'x') NOT ENFORCED); -- since: 18
INSERT INTO clinic.unenforced VALUES (1, 'CANARYLOOSE', 'Boston'); -- since: 18
CREATE VIEW clinic.v_json AS SELECT t.s FROM clinic.patients p, JSON_TABLE(to_jsonb(p), '$' COLUMNS (s text PATH '$.ssn')) t; -- since: 17
CREATE VIEW clinic.v_json_made AS SELECT JSON_OBJECT('k': ssn) AS o, JSON_ARRAY(name) AS a, (SELECT JSON_ARRAYAGG(q.email) FROM clinic.patients q) AS g FROM clinic.patients; -- since: 16
CREATE VIEW clinic.v_any AS SELECT any_value(ssn) AS s FROM clinic.patients; -- since: 16
CREATE VIEW clinic.v_json_asked AS SELECT id, JSON_VALUE(to_jsonb(p), '$.ssn') AS s, JSON_EXISTS(to_jsonb(p), '$ ? (@.name like_regex "^A")') AS e FROM clinic.patients p; -- since: 17
CREATE FUNCTION helpers.json_made() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT JSON_OBJECT('k': ssn)::text FROM clinic.patients; END; -- since: 16
CREATE FUNCTION helpers.returns_old() RETURNS text LANGUAGE sql AS 'UPDATE clinic.patients SET visits = 0 WHERE id = 1 RETURNING old.ssn'; -- since: 18
CREATE FUNCTION helpers.merges() RETURNS text LANGUAGE sql AS 'MERGE INTO clinic.patients p USING (VALUES (1)) v (i) ON p.id = v.i WHEN MATCHED THEN UPDATE SET visits = 0 RETURNING p.ssn'; -- since: 17
CREATE VIEW clinic.v_ranked AS SELECT id, rank() OVER w AS place, count(*) OVER (w ROWS UNBOUNDED PRECEDING) AS before FROM clinic.patients WINDOW w AS (ORDER BY ssn);

-- A type whose values are compared by a function that reads.
CREATE TYPE helpers.mood AS ENUM ('low', 'high');
CREATE FUNCTION helpers.mood_lt(helpers.mood, helpers.mood) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
CREATE OPERATOR helpers.<<~ (FUNCTION = helpers.mood_lt, LEFTARG = helpers.mood, RIGHTARG = helpers.mood);
CREATE OPERATOR helpers.<=~ (FUNCTION = helpers.mood_lt, LEFTARG = helpers.mood, RIGHTARG = helpers.mood);
CREATE OPERATOR helpers.==~ (FUNCTION = helpers.mood_lt, LEFTARG = helpers.mood, RIGHTARG = helpers.mood);
CREATE OPERATOR helpers.>=~ (FUNCTION = helpers.mood_lt, LEFTARG = helpers.mood, RIGHTARG = helpers.mood);
CREATE OPERATOR helpers.>>~ (FUNCTION = helpers.mood_lt, LEFTARG = helpers.mood, RIGHTARG = helpers.mood);
CREATE FUNCTION helpers.mood_cmp(helpers.mood, helpers.mood) RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''%'', (SELECT ssn FROM clinic.patients WHERE id = 1); RETURN 0; END';
CREATE OPERATOR CLASS helpers.mood_ops DEFAULT FOR TYPE helpers.mood USING btree AS OPERATOR 1 helpers.<<~, OPERATOR 2 helpers.<=~, OPERATOR 3 helpers.==~, OPERATOR 4 helpers.>=~, OPERATOR 5 helpers.>>~, FUNCTION 1 helpers.mood_cmp(helpers.mood, helpers.mood);
CREATE TABLE helpers.moods (id int, m helpers.mood);
INSERT INTO helpers.moods VALUES (1, 'low'), (2, 'high');
