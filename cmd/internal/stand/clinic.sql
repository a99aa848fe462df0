-- A small clinic. All of it is generated, the same every time, and every
-- protected value is a canary, so that a search finds it wherever it leaked:
-- names and addresses hold "canary", social security numbers begin with 987
-- (never issued), telephone numbers with 212-555-01 (never connected), and
-- birth dates alone have a day of the month after the 12th.
CREATE SCHEMA clinic;

CREATE TABLE clinic.patients (
    id         int PRIMARY KEY,
    name       text NOT NULL,
    ssn        text NOT NULL UNIQUE,
    birth_date date NOT NULL,
    phone      text,
    email      text,
    city       text NOT NULL,
    blood_type text NOT NULL,
    registered date NOT NULL
);
CREATE TABLE clinic.encounters (
    id         int PRIMARY KEY,
    patient_id int NOT NULL REFERENCES clinic.patients (id),
    day        date NOT NULL,
    reason     text NOT NULL
);
CREATE TABLE clinic.prescriptions (
    id           int PRIMARY KEY,
    encounter_id int NOT NULL REFERENCES clinic.encounters (id),
    drug         text NOT NULL,
    dose_mg      numeric(6,1) NOT NULL
);

INSERT INTO clinic.patients
SELECT g,
       first || ' Canary' || last,
       format('987-%s-%s', lpad((g / 10000 % 100)::text, 2, '0'), lpad((g % 10000)::text, 4, '0')),
       make_date(1930 + g * 37 % 80, 1 + g * 5 % 12, 13 + g * 11 % 16),
       format('+1-212-555-01%s', lpad((g % 100)::text, 2, '0')),
       lower(first) || '.canary' || g || '@example.org',
       (ARRAY['Boston', 'Austin', 'Denver', 'Portland', 'Tucson'])[1 + g * 3 % 5],
       (ARRAY['0+', 'A+', 'B+', 'AB+', '0-', 'A-'])[1 + g * 7 % 6],
       date '2020-01-01' + (g % 48) * interval '1 month'
FROM (SELECT g,
             (ARRAY['Ana', 'Ben', 'Chloe', 'David', 'Emma', 'Farid', 'Grace', 'Hugo', 'Ines', 'Jonas', 'Kira'])[1 + g % 11] AS first,
             (ARRAY['field', 'wood', 'stone', 'brook', 'hill', 'ford', 'well'])[1 + g % 7] AS last
      FROM generate_series(1, {{patients}}) AS g) AS x;

INSERT INTO clinic.encounters
SELECT g, 1 + (g - 1) / 2, date '2024-01-01' + (g % 12) * interval '1 month' + (g % 12) * interval '1 day',
       (ARRAY['check-up', 'fever', 'fracture', 'vaccination', 'back pain'])[1 + g % 5]
FROM generate_series(1, 2 * {{patients}}) AS g;

INSERT INTO clinic.prescriptions
SELECT g, 1 + (g - 1) * 2, (ARRAY['ibuprofen', 'amoxicillin', 'metformin', 'lisinopril'])[1 + g % 4], 50 + g % 9 * 12.5
FROM generate_series(1, {{patients}}) AS g;

-- The agents' account may do everything: what it does not do is policy's.
CREATE ROLE agent LOGIN PASSWORD '{{password}}';
GRANT USAGE, CREATE ON SCHEMA clinic TO agent;
GRANT ALL ON ALL TABLES IN SCHEMA clinic TO agent;
ALTER DATABASE clinic SET search_path = clinic, public;
-- Reads the catalog, which is all that it may.
CREATE ROLE sallyport_catalog LOGIN PASSWORD '{{catalog}}';
ANALYZE;
