package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"
	"github.com/jackc/pgx/v5"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// Two clinics in the same tables. What is of the south must not be told to the
// north: it has CANARY in it, and its numbers from 900.
const rowsSchema = `
DROP SCHEMA IF EXISTS rows CASCADE; CREATE SCHEMA rows;
CREATE TABLE rows.patients (id int PRIMARY KEY, clinic text NOT NULL, name text, x int, code text UNIQUE, big bigint, born date);
CREATE INDEX ON rows.patients (x);
INSERT INTO rows.patients VALUES (1, 'north', 'Ann', 7, 'a1', 1, '1950-01-01'), (2, 'north', 'Ben', 8, 'a2', 2, '1960-01-01'),
 (901, 'south', 'CANARYcy', 5, 'CANARYc1', 9999999999, '1970-01-01'), (902, 'south', 'CANARYdee', 905, 'CANARYc2', 3, '1980-01-01');
CREATE TABLE rows.visits (id int PRIMARY KEY, patient int REFERENCES rows.patients (id), note text);
INSERT INTO rows.visits VALUES (10, 1, 'ok'), (11, 901, 'free');
CREATE TABLE rows.labs (id int PRIMARY KEY, clinic text, value int);
INSERT INTO rows.labs VALUES (1, 'north', 3), (2, 'south', 905);
CREATE TABLE rows.all_events (id int, clinic text) PARTITION BY RANGE (id);
CREATE TABLE rows.events_1 PARTITION OF rows.all_events FOR VALUES FROM (0) TO (1000);
INSERT INTO rows.all_events VALUES (1, 'north'), (909, 'south');
CREATE VIEW rows.v_patients AS SELECT id, name, clinic FROM rows.patients;
CREATE VIEW rows.v_own AS SELECT id, name, clinic FROM rows.patients;
CREATE VIEW rows.v_counts AS SELECT clinic, count(*) AS n FROM rows.patients GROUP BY clinic;
CREATE VIEW rows.v_shares AS SELECT id, clinic, 1/(x-5) AS y FROM rows.patients;
CREATE TABLE rows.shares (id int PRIMARY KEY, clinic text, x int, y int GENERATED ALWAYS AS (1/(x-5)) VIRTUAL); -- since: 18
INSERT INTO rows.shares (id, clinic, x) VALUES (1, 'north', 7), (2, 'north', 8), (905, 'south', 5); -- since: 18
CREATE SEQUENCE rows.effects;
CREATE FUNCTION rows.effect(int) RETURNS boolean LANGUAGE sql AS 'SELECT nextval(''rows.effects'') > 0 AND $1 / ($1 - 5) > -1000';
`

const filterPolicy = `
rules:
  - name: staff
    effect: allow
    identity: "*"
    resource: "*"
    commands: [read, session, write, ddl]
    relations: ["*.*"]
    functions: [rows.effect]
  - name: own clinic
    effect: filter
    identity: "*"
    resource: "*"
    relations: [rows.patients, rows.labs, rows.all_events, rows.v_own, rows.v_shares, rows.shares]
    where: clinic = {identity.claims.clinic}
    except: {identity: {claims: {role: auditor}}}
`

// clinics opens a passage whose sessions belong to the given clinics in turn.
func clinics(t *testing.T, pol string, of ...any) *proxy {
	t.Helper()
	db, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(t.Context(), postgrestest.Schema(rowsSchema)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := db.Exec(context.Background(), "DROP SCHEMA rows CASCADE"); err != nil {
			t.Error(err)
		}
		db.Close(context.Background())
	})
	return open(t, pol, protocoltest.Options{Identity: func(n int, id *intercept.Identity) {
		id.Claims = map[string]any{}
		if c := of[(n-1)%len(of)]; c == "auditor" {
			id.Claims["role"] = c
		} else if c != nil {
			id.Claims["clinic"] = c
		}
	}})
}

// ofSouth reports what of the south came.
func ofSouth(out string) bool { return strings.Contains(out, "CANARY") || strings.Contains(out, "90") }

// Every way to read shows the rows that are there for the identity, and they are
// those that the same statement shows where there are no others.
func TestRowsOfOthersAreNotThere(t *testing.T) {
	p := clinics(t, filterPolicy, "north")
	for sql, want := range map[string]string{
		"SELECT id, name FROM rows.patients ORDER BY id":       "1|Ann\n2|Ben\n",
		"SELECT count(*), max(x), sum(big) FROM rows.patients": "2|8|3\n",
		"TABLE rows.labs": "1|north|3\n",
		"SELECT p FROM rows.patients p WHERE id < 2":                                                                           "(1,north,Ann,7,a1,1,1950-01-01)\n",
		"SELECT * FROM rows.patients WHERE clinic = 'south'":                                                                   "",
		"SELECT id FROM rows.patients WHERE clinic = 'south' OR true ORDER BY 1":                                               "1\n2\n",
		"SELECT id FROM ONLY rows.patients ORDER BY id":                                                                        "1\n2\n",
		"SELECT EXISTS (SELECT FROM rows.patients WHERE id = 901), EXISTS (SELECT FROM rows.patients)":                         "f|t\n",
		"SELECT v.id, p.name FROM rows.visits v LEFT JOIN rows.patients p ON p.id = v.patient ORDER BY v.id":                   "10|Ann\n11|\n",
		"SELECT v.id FROM rows.visits v WHERE NOT EXISTS (SELECT FROM rows.patients p WHERE p.id = v.patient)":                 "11\n",
		"SELECT v.id FROM rows.visits v JOIN LATERAL (SELECT 1/(p.x-5) FROM rows.patients p WHERE p.id = v.patient) q ON true": "10\n",
		"WITH c AS (SELECT * FROM rows.patients) SELECT id FROM c WHERE 1/(x-5) > -9 ORDER BY 1":                               "1\n2\n",
		"SELECT id FROM rows.patients UNION ALL SELECT id FROM rows.labs ORDER BY 1":                                           "1\n1\n2\n",
		"SELECT clinic, count(*) FROM rows.patients GROUP BY clinic":                                                           "north|2\n",
		"SELECT a.id, b.id FROM rows.patients a CROSS JOIN rows.labs b ORDER BY 1, 2":                                          "1|1\n2|1\n",
		"SELECT name FROM rows.patients p JOIN rows.labs USING (clinic) ORDER BY 1":                                            "Ann\nBen\n",
		"SELECT id FROM rows.patients NATURAL JOIN rows.labs":                                                                  "1\n",
		"COPY rows.patients TO STDOUT":                                                                                         "1\tnorth\tAnn\t7\ta1\t1\t1950-01-01\n2\tnorth\tBen\t8\ta2\t2\t1960-01-01\n",
		"COPY rows.patients (id) TO STDOUT":                                                                                    "1\n2\n",
		"COPY (SELECT id FROM rows.patients WHERE 1/(x-5) > -9) TO STDOUT":                                                     "1\n2\n",
		"BEGIN; DECLARE c CURSOR FOR SELECT id FROM rows.patients; FETCH ALL FROM c; COMMIT":                                   "BEGIN\nDECLARE CURSOR\n1\n2\nCOMMIT\n",
		"PREPARE s AS SELECT id FROM rows.patients WHERE x > $1; EXECUTE s(0)":                                                 "PREPARE\n1\n2\n",
		"SELECT id FROM rows.all_events":                                                                                       "1\n",
		"SELECT id FROM rows.events_1":                                                                                         "1\n",
		"SELECT id, name FROM rows.v_own ORDER BY 1":                                                                           "1|Ann\n2|Ben\n",
		"SELECT id FROM rows.patients WHERE x = 7 FOR UPDATE":                                                                  "1\n",
		"SELECT reltuples IS NULL FROM pg_class WHERE relname = 'patients' AND relnamespace = 'rows'::regnamespace":            "t\n",
	} {
		if got := psql(t, p, "-At", "-c", sql); got != want {
			t.Errorf("%s\n got  %q\n want %q", sql, got, want)
		}
	}
	p.settled()
	for _, e := range p.Journal.Events(events.Statement) {
		if strings.Contains(e.Normalized, "patients") && !strings.Contains(strings.Join(e.Rules, ","), "own clinic") && !strings.Contains(e.Normalized, "pg_class") {
			t.Errorf("%s: by rules %q", e.Normalized, e.Rules)
		}
	}
}

// What the planner would run on rows that are left out tells nothing of them.
// Each of these does tell, sent to the server with the filter joined by AND.
func TestConditionsDoNotReachOtherRows(t *testing.T) {
	// A filter that costs more than the client's conditions: these go first.
	p := clinics(t, strings.Replace(filterPolicy, "clinic = {identity.claims.clinic}", "clinic IN ({identity.claims.clinic}, 'n', 'o', 'p', 'q', 'r', 's', 't')", 1), "north")
	statements := []string{
		"SELECT id FROM rows.patients WHERE 1/(x-5) > -9 ORDER BY 1",
		"SELECT id FROM rows.patients WHERE x > 0 AND (1/(x-905) < 9) ORDER BY 1",
		"SELECT id FROM rows.patients WHERE rows.effect(x) ORDER BY 1",
		"SELECT id FROM (SELECT id, 1/(x-5) AS y FROM rows.patients) s WHERE y > -9 ORDER BY 1",
		"SELECT a.id FROM rows.patients a JOIN rows.visits v ON 1/(a.x-5) < v.id GROUP BY a.id ORDER BY 1",
		"SELECT x FROM rows.patients GROUP BY x, id HAVING 1/(x-5) > -9 ORDER BY id",
		"SELECT id FROM rows.patients WHERE big::int > 0 ORDER BY 1",
		"SELECT id FROM rows.patients WHERE big <> 1000::oid ORDER BY 1",
		"SELECT id FROM rows.patients WHERE CASE WHEN x = 5 THEN 1/(x-5) ELSE 1 END = 1 ORDER BY 1",
		"SELECT id FROM rows.patients p WHERE x > 0 AND (SELECT 1/(p.x-5)) > -9 ORDER BY 1",
		"SELECT id FROM rows.patients p WHERE x <> ALL (ARRAY[1/(x-5)]) ORDER BY 1",
		"WITH c AS (SELECT x AS z, id FROM rows.patients) SELECT id FROM c WHERE 1/(z-5) > -9 ORDER BY 1",
		"SELECT id FROM rows.v_own WHERE 1/(id-901) > -9 ORDER BY 1",
		"SELECT id FROM rows.patients WHERE (code || ' ')::text NOT LIKE 'CANARY%\\' ORDER BY 1",
		"SELECT id FROM rows.v_shares WHERE y = 0 ORDER BY 1",
	}
	if postgrestest.Major() >= 18 {
		statements = append(statements, "SELECT id FROM rows.shares WHERE y = 0 ORDER BY 1")
	}
	for _, sql := range statements {
		got := psql(t, p, "-At", "-c", sql)
		if strings.Contains(got, "rror") && !strings.Contains(sql, `\'`) || ofSouth(got) || strings.HasPrefix(sql, "SELECT id") && got != "1\n2\n" && !strings.Contains(sql, `\'`) {
			t.Errorf("%s\n %s", sql, got)
		}
	}
	// The function ran for rows that are there only.
	if got := psql(t, p, "-At", "-c", "SELECT 1"); got != "1\n" {
		t.Error(got)
	}
	db, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	var n int
	if err := db.QueryRow(t.Context(), "SELECT last_value FROM rows.effects").Scan(&n); err != nil || n != 2 {
		t.Errorf("the function ran %d times, %v", n, err)
	}
	// A parameter whose type makes for a conversion: the same comes of a row that
	// is left out, and of one that is not there.
	r := p.raw()
	var outs []string
	for _, x := range []string{"905", "906"} {
		sql := "SELECT id FROM rows.patients WHERE x = " + x + " AND code = $1::int::text"
		outs = append(outs, r.ask(1, &pgproto3.Parse{Query: sql, ParameterOIDs: []uint32{25}}, bind("", "", "nonsense"), execute(""), sync_))
	}
	if outs[0] != outs[1] {
		t.Errorf("whether a row is there is told: %s%s", outs[0], outs[1])
	}
	r.Close()
}

// A plain condition is run together with the filter, so that its index serves.
func TestPlainConditionsHaveNoFence(t *testing.T) {
	p := clinics(t, filterPolicy, "north")
	c := connect(t, p, "")
	db, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	for sql, fenced := range map[string]bool{
		"SELECT lower(name), 1/x FROM rows.patients WHERE x = 7":                       false,
		"SELECT name FROM rows.patients p JOIN rows.visits v ON v.patient = p.id":      false,
		"SELECT name FROM rows.patients WHERE x IN (7, 8) AND born < '1955-01-01'":     false,
		"SELECT name FROM rows.patients WHERE id BETWEEN 1 AND 5 ORDER BY lower(name)": false,
		"SELECT name FROM rows.patients WHERE lower(name) = 'ann'":                     true,
	} {
		rows, _ := c.Query(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
		if got, err := pgx.CollectRows(rows, pgx.RowToMap); err != nil || len(got) == 0 {
			t.Errorf("%s: %v, %v", sql, got, err)
		}
		var sent string // as the server has it
		if err := db.QueryRow(t.Context(), "SELECT query FROM pg_stat_activity WHERE usename = 'agent' AND state = 'idle' ORDER BY query_start DESC LIMIT 1").Scan(&sent); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(sent, "OFFSET 0"); got != fenced || !strings.Contains(sent, "'north'") {
			t.Errorf("%s: fence %t: %s", sql, got, sent)
		}
	}
}

// What can't be told apart from other rows is refused, and the refusal tells
// nothing.
func TestWritesOnFilteredRows(t *testing.T) {
	p := clinics(t, filterPolicy, "north")
	for _, c := range []struct{ sql, want string }{
		{"UPDATE rows.patients SET name = 'Anna' WHERE id = 1 RETURNING id, name", "1|Anna\nUPDATE 1\n"},
		{"UPDATE rows.patients SET x = x + 0", "UPDATE 2\n"},
		{"UPDATE rows.patients SET name = 'no' WHERE id = 901", "UPDATE 0\n"},
		{"UPDATE rows.patients p SET name = 'no' WHERE p.x = 5 OR p.id = 901 RETURNING *", "UPDATE 0\n"},
		{"UPDATE rows.patients AS q SET name = l.clinic FROM rows.labs l WHERE l.clinic = q.clinic AND q.id = 2", "UPDATE 1\n"},
		{"WITH u AS (UPDATE rows.patients SET name = 'w' WHERE x > 0 RETURNING id) SELECT id FROM u ORDER BY 1", "1\n2\n"},
		{"DELETE FROM rows.labs WHERE id > 1", "DELETE 0\n"},
		{"DELETE FROM rows.labs WHERE id > 0 RETURNING value", "3\nDELETE 1\n"},
		{"UPDATE rows.patients SET name = 'x' WHERE 1/(x-5) > -9", "refused"},
		{"UPDATE rows.patients SET name = 'x' WHERE rows.effect(x)", "refused"},
		{"UPDATE rows.patients SET clinic = 'south'", "refused"},
		{"UPDATE rows.patients SET id = 901 WHERE id = 1", "refused"},
		{"UPDATE rows.patients SET code = 'CANARYc1' WHERE id = 1", "refused"},
		{"UPDATE rows.patients SET name = ctid::text", "refused"},
		{"DELETE FROM rows.labs WHERE value / (value - 905) = 0", "refused"},
		{"DELETE FROM rows.labs USING rows.visits v WHERE length(v.note) = value", "refused"},
		{"INSERT INTO rows.labs VALUES (2, 'north', 1)", "refused"},
		{"INSERT INTO rows.patients (id, clinic) VALUES (901, 'north') ON CONFLICT DO NOTHING", "refused"},
		{"INSERT INTO rows.visits VALUES (12, 901, '')", "refused"},
		{"UPDATE rows.visits SET patient = 901", "refused"},
		{"COPY rows.labs FROM STDIN", "refused"},
		{"TRUNCATE rows.labs", "refused"},
		{"MERGE INTO rows.labs l USING rows.visits v ON l.id = v.id WHEN MATCHED THEN DELETE", "refused"},
		{"CREATE TABLE rows.kept AS SELECT * FROM rows.patients", "refused"},
		{"CREATE INDEX ON rows.labs (value)", "refused"},
		{"ALTER TABLE rows.labs ADD CHECK (value < 900)", "refused"},
		{"DROP TABLE rows.labs", "refused"},
		{"SELECT ctid FROM rows.patients", "refused"},
		{"SELECT id FROM rows.patients WHERE ctid = '(0,3)'", "refused"},
		{"SELECT id FROM rows.patients TABLESAMPLE system (100)", "refused"},
		{"SELECT id FROM rows.patients WHERE 1/(x-5) > -9 FOR UPDATE", "refused"},
		{"SELECT * FROM rows.v_patients", "refused"},
		{"SELECT * FROM rows.v_counts", "refused"},
		{"EXPLAIN SELECT * FROM rows.patients", "refused"},
		{"EXPLAIN (ANALYZE) UPDATE rows.patients SET name = 'x'", "refused"},
		{"EXPLAIN DELETE FROM rows.labs", "refused"},
		{"SELECT pg_relation_size('rows.patients')", "refused"},
		{"SELECT n_live_tup FROM pg_stat_user_tables", "refused"},
		{"SELECT most_common_vals FROM pg_stats", "refused"},
		{"SELECT last_value FROM rows.effects", "refused"},
		{"SELECT query FROM pg_stat_activity", "refused"},
		{"DO $$BEGIN PERFORM 1; END$$", "refused"},
	} {
		got := psql(t, p, "-At", "-c", c.sql)
		if got != c.want && !(c.want == "refused" && strings.Contains(got, "sallyport: refused")) || ofSouth(strings.ReplaceAll(got, "rule", "")) && !ofSouth(c.sql) {
			t.Errorf("%s\n got  %q\n want %q", c.sql, got, c.want)
		}
	}
	db, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	var n int
	if err := db.QueryRow(t.Context(), "SELECT count(*) FROM rows.patients WHERE clinic = 'south' AND name LIKE 'CANARY%'").Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows of the others are as they were, %v", n, err)
	}
}

// One form of statement, many identities: each sees its own, also from the cache.
func TestFiltersAreOfTheIdentity(t *testing.T) {
	p := clinics(t, filterPolicy, "north", "south", nil, []any{"north"}, "auditor", "it's' OR true --\\", "")
	const sql = "SELECT id FROM rows.patients WHERE x > 0 ORDER BY 1"
	for range 2 {
		for i, want := range []string{"[1 2]", "[901 902]", "no claims.clinic", "is a list", "[1 2 901 902]", "[]", "no claims.clinic"} {
			c := connect(t, p, "")
			for range 2 {
				rows, _ := c.Query(t.Context(), sql)
				ids, err := pgx.CollectRows(rows, pgx.RowTo[int])
				got := fmt.Sprint(ids)
				if err != nil {
					got = err.Error()
				}
				if got != want && !(want[0] != '[' && strings.Contains(got, want)) {
					t.Errorf("identity %d: %s, want %s", i, got, want)
				}
			}
			c.Close(t.Context())
		}
	}
}

// What was prepared under one filter does not run under another.
func TestFilterChanges(t *testing.T) {
	p := clinics(t, filterPolicy, "north")
	r := p.raw()
	if out := r.ask(1, parse("s", "SELECT id FROM rows.patients WHERE x > 0"), bind("", "s"), execute(""), sync_); strings.Count(out, "D |") != 2 {
		t.Fatalf("%s", out)
	}
	for _, pol := range []string{strings.Replace(filterPolicy, "clinic = {identity.claims.clinic}", "clinic = 'none'", 1), allowAll} {
		p.Gate.SetEngine(engine(t, pol))
		if out := r.ask(1, bind("", "s"), execute(""), sync_); strings.Contains(out, "D |") || !strings.Contains(out, "C26000") {
			t.Errorf("%s", out)
		}
	}
	r.Close()
}
