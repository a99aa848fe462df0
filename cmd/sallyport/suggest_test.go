package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy/rules"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// Whatever a value is, "zebra" is in it, or it is a number of the list below.
const suggestSchema = `
CREATE SCHEMA clinic;
CREATE DOMAIN clinic.mail AS text CHECK (VALUE LIKE '%@%');
CREATE TYPE clinic.odd AS (a text);
CREATE TABLE clinic.patients (
	id int PRIMARY KEY, name text, ssn text, tax bigint, birth_date date, contact clinic.mail, mobile varchar(20),
	zip char(5), notes text, city text, active bool, extra jsonb, tags text[], odd clinic.odd, token text, secret_note text);
INSERT INTO clinic.patients SELECT g, 'Zebra', '219-45-' || 1000 + g, 4242, date '1960-01-01' + g, 'zebra' || g || '@example.org', '617-555-' || 1000 + g,
	'02115', CASE WHEN g = 77 THEN 'zebra, card 4111 1111 1111 1111, gone' ELSE 'well' END, 'Zebraville', true,
	jsonb_build_object('mrn', '00' || 12345600 + g, 'weight', 70), ARRAY['zebra' || g || '@example.com'], '(zebra)'::clinic.odd, 'x', 'zebra'
FROM generate_series(1, 300) g;
CREATE TABLE clinic.products (id int, name text, price numeric, created timestamptz);
INSERT INTO clinic.products SELECT g, 'zebra', 12.5 * g, now() FROM generate_series(1, 50) g;
CREATE TABLE clinic.visits (id int, seen_on date, icd text) PARTITION BY RANGE (id);
CREATE TABLE clinic.visits_1 PARTITION OF clinic.visits FOR VALUES FROM (0) TO (1000);
INSERT INTO clinic.visits SELECT g, date '2024-01-01' + g, 'E11.' || g % 10 FROM generate_series(1, 100) g;
CREATE TABLE clinic."Odd ""Table""
#: x" ("E-Mail: *" text, "größe" text);
INSERT INTO clinic."Odd ""Table""
#: x" VALUES ('zebra@example.org', '219-45-6789');
CREATE TABLE clinic.locked (ssn text);
CREATE TABLE clinic.big (id int, email text);
INSERT INTO clinic.big SELECT g, 'zebra' || g || '@example.net' FROM generate_series(1, 60000) g;
ANALYZE;
CREATE ROLE sallyport_catalog LOGIN;
CREATE ROLE sampler LOGIN;
GRANT USAGE ON SCHEMA clinic TO sampler;
GRANT SELECT ON ALL TABLES IN SCHEMA clinic TO sampler;
REVOKE SELECT ON clinic.locked, clinic.patients FROM sampler;
GRANT SELECT (id, name, ssn, tax, birth_date, contact, mobile, zip, notes, city, active, extra, tags, odd, token) ON clinic.patients TO sampler;
`

var sampledValue = regexp.MustCompile(`(?i)zebra\d|zebraville|219-45|617-555|02115|4111|123456|example\.`)

// suggest proposes what the samples show, as a policy that is good, and never
// prints a value.
func TestPolicySuggest(t *testing.T) {
	server, err := postgrestest.Start(suggestSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	good, _ := manualExamples(t)
	config := policyFiles(t, good, server.Addr.String(), ", catalog: {user: sallyport_catalog}")
	run := func(args ...string) (string, error) {
		return command(append([]string{"policy", "suggest", "-c", config, "--database", "postgres"}, args...)...)
	}
	text, err := run("--user", "sampler")
	if err != nil {
		t.Fatal(err)
	}
	if v := sampledValue.FindString(text); v != "" {
		t.Errorf("a value is printed: %q", v)
	}
	for _, want := range []string{
		"'clinic.patients.ssn': 'ssn'\n", "'clinic.patients.birth_date': 'year'\n", "'clinic.patients.contact': 'email'\n", "'clinic.patients.mobile': 'phone'\n",
		"'clinic.patients.notes': 'redact'\n", "# card, 76 %: within text, in 1 of 300 values\n", "'clinic.patients.name': 'redact'\n", "'clinic.patients.city': 'redact'\n", "'clinic.patients.zip': 'zip3'\n",
		"'clinic.patients.extra': 'redact'\n", "'clinic.patients.tags': 'redact'\n", "'clinic.visits.icd': 'redact'\n", "'clinic.visits.seen_on': 'year'\n", "'clinic.big.email': 'email'\n", "of 1000 values\n",
		"#   clinic.locked.ssn: the role may not read it; its name says ssn\n", "#   clinic.patients.odd: its type has no text form that is known\n", "#   clinic.patients.secret_note: the role may not read it",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	for _, not := range []string{"clinic.products", "clinic.patients.id'", "clinic.patients.tax'", "clinic.patients.active'", "visits_1"} {
		if strings.Contains(text, not) {
			t.Errorf("%q is proposed", not)
		}
	}
	file := filepath.Join(t.TempDir(), "suggested.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := command("policy", "check", file); err != nil || !strings.Contains(out, "is good: 1 rule, 1 mask\n") {
		t.Errorf("%s, %v\n%s", out, err, text)
	}
	if p, err := rules.Load(file); err != nil || len(p.Rules()) != 1 {
		t.Errorf("%v", err)
	}
	if t.Failed() {
		t.Log(text)
	}

	out, err := run("--user", "sampler", "--json", "--rows", "10", "--schema", "clinic")
	var s suggestion
	if jerr := json.Unmarshal([]byte(out), &s); err != nil || jerr != nil || s.Tables != 6 || sampledValue.MatchString(out) {
		t.Fatalf("%v, %v, %s", err, jerr, out)
	}
	fields := map[string]proposal{}
	for _, p := range s.Proposals {
		fields[p.Field] = p
	}
	if p := fields["clinic.patients.ssn"]; p.Kind != "ssn" || p.Values != 10 || p.Hits != 10 || p.Why != "values" || p.Confidence < 90 {
		t.Errorf("%+v", p)
	}
	if p := fields["clinic.\"Odd \"\"Table\"\"\n#: x\".\"E-Mail: *\""]; p.Kind != "email" {
		t.Errorf("%+v", s.Proposals)
	}
	// The catalog's own role reads nothing: names alone are judged.
	out, err = run()
	if err != nil || !strings.Contains(out, "read as sallyport_catalog.") || !strings.Contains(out, "# ssn, 70 %: by its name\n      'clinic.patients.ssn': 'ssn'\n") || strings.Contains(out, "of 300") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run("--schema", "public"); err != nil || !strings.Contains(out, "# Nothing was found.") || strings.Contains(out, "rules:") {
		t.Errorf("%v\n%s", err, out)
	}
	// A table that somebody has locked is given up, and told.
	locked := make(chan error, 1)
	go func() {
		locked <- server.Exec(t.Context(), "BEGIN; LOCK TABLE clinic.big; SELECT pg_sleep(4); COMMIT")
	}()
	for { // until the lock is there
		if err := server.Exec(t.Context(), "DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'clinic.big'::regclass AND mode = 'AccessExclusiveLock' AND granted) THEN RAISE 'not yet'; END IF; END$$"); err == nil {
			break
		}
	}
	if out, err := run("--user", "sampler", "--timeout", "100ms"); err != nil || !strings.Contains(out, "#   clinic.big.email: it is locked; its name says email\n") || !strings.Contains(out, "'clinic.patients.ssn': 'ssn'\n") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := <-locked; err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--resource", "x"}, 2, "name one of clinic"},
		{[]string{"--rows", "0"}, 2, "--rows"},
		{[]string{"--timeout", "0s"}, 2, "--timeout"},
		{[]string{"--min", "101"}, 2, "--min"},
		{[]string{"--password-file", "x"}, 2, "--user"},
		{[]string{"--user", "x", "--password-file", "/absent"}, 2, "--password-file: "},
		{[]string{"--server", "nowhere"}, 2, "HOST:PORT"},
		{[]string{"now"}, 2, "now"},
	} {
		if _, err := run(c.args...); exitCode(err) != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.args, err, c.want)
		}
	}
	server.Stop()
	_, err = run()
	var e *exitError
	if !errors.As(err, &e) || e.code != 1 || !strings.Contains(e.hint, "--server /run/postgresql") {
		t.Errorf("no server: %v", err)
	}
}

// Names that end lines, quote and comment do not get out of their places.
func TestSuggestionQuotes(t *testing.T) {
	for i, name := range []string{"a", "A", "a'b", `a"b`, "a\nrules: []", "a: b # c", "ä\u2028\u202e", "*", `a\b`, "\t", "null", "{x}"} {
		s := suggestion{Resource: "r", Database: name + "x", Role: name, Proposals: []proposal{{Field: fieldKey(name, name, name), Mask: "null", Kind: "ssn", Also: []string{"x"}}}, Unread: []unread{{Field: fieldKey(name, name, name), Reason: name}}}
		file := filepath.Join(t.TempDir(), fmt.Sprintf("%d.yaml", i))
		if err := os.WriteFile(file, []byte(s.yaml()), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := rules.Load(file)
		if err != nil || len(p.Rules()) != 1 {
			t.Errorf("%q: %v\n%s", name, err, s.yaml())
		}
	}
}
