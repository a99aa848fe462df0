CREATE SCHEMA wards;
CREATE TYPE wards.mood AS ENUM ('calm', '219-09-9847');
CREATE DOMAIN wards.remark AS text;
CREATE TYPE wards.pair AS (a int, b text);
CREATE TABLE wards.notes (
	id int PRIMARY KEY, body text, short varchar(40), fixed char(30), doc json, docb jsonb, tags text[], page xml,
	remark wards.remark, mood wards.mood, docs jsonb[], big int8
);
INSERT INTO wards.notes VALUES
	(1, E'It is 219-09-9847,\twrite to "ann.walker@example.org"\nsoon', '219-09-9847', 'ann.walker@example.org',
	 '{"ssn": 219099847, "to": ["ann.walker@example.org"]}', '{"a": {"b": "219-09-9847 \"x\""}}', '{"219-09-9847, then","a\"b",NULL}',
	 '<p>ann.walker@example.org</p>', 'ask ann.walker@example.org', '219-09-9847',
	 ARRAY['{"m": "ann.walker@example.org"}'::jsonb], 7),
	(2, 'the patient was well', 'nothing', 'nothing', '{"n": 1}', '[]', '{a,b}', '<p/>', NULL, 'calm', '{}', 8);
CREATE TABLE wards.numbers (id int, ssn text);
INSERT INTO wards.numbers VALUES (1, '219099847'), (2, NULL);
CREATE TABLE wards.pairs (pair wards.pair);
INSERT INTO wards.pairs VALUES ('(1,"219-09-9847, x")');
CREATE VIEW wards.v AS SELECT id, body AS words FROM wards.notes;
CREATE TABLE wards.part (id int, body text, other text);
INSERT INTO wards.part VALUES (1, '219-09-9847', 'ann.walker@example.org');
CREATE TABLE wards.emptied (a text CHECK (a <> '219-09-9847'), b int);
CREATE FUNCTION wards.says(int) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''it is %'', ''219-09-9847''; RETURN ''x''; END';
CREATE TABLE public.open_notes (id int, body text);
INSERT INTO public.open_notes VALUES (1, '219-09-9847, ann.walker@example.org');
