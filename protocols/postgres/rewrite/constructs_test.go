package rewrite_test

import (
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/query"
)

// Constructs that name what is protected are understood, with masks in its place, or
// refused for what is the matter with them.
func TestConstructs(t *testing.T) {
	a := newAnalyzer(t)
	for _, c := range []struct{ sql, sent, refused string }{
		// MERGE: the source shows masks, the target is held to what other writes are.
		{
			sql:  "MERGE INTO public.log l USING clinic.patients p ON l.id = p.id WHEN MATCHED THEN UPDATE SET message = p.name",
			sent: "USING (SELECT id, ",
		},
		{
			sql:  "WITH s AS (SELECT id, name FROM clinic.patients) MERGE INTO public.log l USING s ON l.id = s.id WHEN NOT MATCHED THEN INSERT (message) VALUES (s.name)",
			sent: "patients) MERGE INTO",
		},
		{
			sql:  "MERGE INTO public.log l USING public.products p ON l.id = p.id WHEN NOT MATCHED AND p.id = (SELECT max(id) FROM clinic.patients WHERE ssn = 'x') THEN INSERT (message) VALUES ('x')",
			sent: "max(id) FROM (SELECT",
		},
		{sql: "MERGE INTO clinic.members m USING public.products p ON m.id = p.id WHEN MATCHED THEN UPDATE SET city = p.name"},
		{sql: "MERGE INTO clinic.members m USING public.products p ON m.id = p.id WHEN NOT MATCHED THEN INSERT (id, city) VALUES (p.id, p.name) WHEN MATCHED THEN DELETE"},
		{sql: "MERGE INTO clinic.members m USING public.products p ON m.id = p.id WHEN MATCHED THEN DO NOTHING"},
		{sql: "MERGE INTO clinic.members m USING public.products p ON m.pin = p.name WHEN MATCHED THEN DELETE", refused: "names its protected column pin"},
		{sql: "MERGE INTO clinic.members m USING public.products p ON m.id = p.id WHEN MATCHED AND m.pin > 'x' THEN DELETE", refused: "names its protected column pin"},
		{sql: "MERGE INTO clinic.members m USING public.products p ON m.id = p.id WHEN NOT MATCHED BY SOURCE AND pin > 'x' THEN DELETE", refused: "names its protected column pin"},
		{sql: "MERGE INTO clinic.members m USING public.products p ON m.id = p.id WHEN MATCHED THEN UPDATE SET city = m.pin", refused: "names its protected column pin"},
		{sql: "MERGE INTO clinic.members m USING public.products p ON m.id = p.id WHEN NOT MATCHED THEN INSERT (id, pin) VALUES (1, 'x')", refused: "names its protected column pin"},
		{sql: "MERGE INTO clinic.members m USING public.products p ON m.id = p.id WHEN NOT MATCHED THEN INSERT VALUES (1, 'x')", refused: "name the columns"},
		{sql: "MERGE INTO clinic.members m USING public.products p ON m.id = p.id WHEN NOT MATCHED THEN INSERT DEFAULT VALUES", refused: "name the columns"},
		{sql: "MERGE INTO clinic.members m USING public.products p ON m.ctid = '(0,1)' WHEN MATCHED THEN DELETE", refused: "ctid"},
		{sql: "MERGE INTO clinic.policies p USING public.products q ON p.number = q.id WHEN MATCHED THEN UPDATE SET number = 2", refused: "a unique index holds it"},
		{sql: "MERGE INTO public.audited a USING public.products q ON a.id = q.id WHEN NOT MATCHED THEN INSERT (id) VALUES (1)", refused: "on_write"},
		{sql: "MERGE INTO clinic.v_patients v USING public.products q ON v.id = q.id WHEN MATCHED THEN DELETE", refused: "is not a table"},
		{sql: "MERGE INTO clinic.donors d USING (VALUES ('Boston')) v (t) ON d.town = v.t WHEN MATCHED THEN UPDATE SET given = 1", sent: "CASE WHEN d.town IS NULL"},
		{sql: "MERGE INTO clinic.donors d USING (VALUES (1)) v (i) ON d.id = 1 WHEN MATCHED THEN UPDATE SET given = 1"},
		{sql: "MERGE INTO clinic.donors d USING (VALUES (1)) v (i) ON d.id = 1 AND d.town = 'x' WHEN NOT MATCHED BY SOURCE THEN DELETE", sent: "CASE WHEN d.town IS NULL"},
		{sql: "MERGE INTO clinic.donors d USING (VALUES (1)) v (id) ON v.id = 1 AND d.town = 'x' WHEN MATCHED THEN UPDATE SET given = 1", sent: "CASE WHEN d.town IS NULL"},
		{sql: "UPDATE clinic.donors d SET given = 1 FROM (VALUES (1)) v (id) WHERE v.id = 1 AND d.town = 'x'", sent: "CASE WHEN d.town IS NULL"},
		{sql: "DELETE FROM clinic.donors d USING (VALUES (1)) v (id) WHERE d.id = 1 AND d.town = 'x'"},
		{sql: "MERGE INTO clinic.members m USING public.products p ON m.id = p.id WHEN MATCHED THEN DELETE RETURNING m.pin, p.name", sent: "AS pin, p.name"},

		// RETURNING shows masks.
		{sql: "UPDATE clinic.members SET city = 'x' RETURNING *", sent: "RETURNING members.id"},
		{sql: "INSERT INTO clinic.members (id, city) VALUES (3, 'x') RETURNING *", sent: " AS pin, members.city"},
		{sql: "DELETE FROM clinic.members m WHERE id = 1 RETURNING m.pin AS p", sent: " AS p"},
		{sql: "WITH u AS (UPDATE clinic.members SET city = 'x' RETURNING *) SELECT id FROM u", sent: " AS pin, members.city"},
		{sql: "UPDATE clinic.members SET city = 'x' RETURNING members", refused: "name the columns"},
		{sql: "UPDATE clinic.members SET city = 'x' RETURNING reverse(pin)", refused: "protected column pin"},
		{sql: "UPDATE clinic.members SET city = 'x' WHERE pin = 'x' RETURNING pin", refused: "protected column pin"},
		{sql: "UPDATE clinic.members SET city = 'x' RETURNING (SELECT pin)", refused: "protected column pin"},
		{sql: "UPDATE clinic.members m SET city = 'x' FROM public.products m RETURNING m.pin", refused: "protected column pin"},
		{sql: "UPDATE clinic.members m SET city = 'x' FROM public.products p RETURNING *", refused: "name the columns"},
		{sql: "UPDATE clinic.members pin SET city = 'x' RETURNING pin", refused: "name the columns"},
		{sql: "WITH a AS (DELETE FROM clinic.members RETURNING pin), b AS (DELETE FROM clinic.guarded RETURNING pin AS p) SELECT 1 FROM a JOIN b ON p = a.pin", refused: "protected column pin"},
		{sql: "INSERT INTO clinic.members (id, pin) VALUES (3, 'x') RETURNING pin", refused: "protected column pin"},

		// A WITH query's name is known where the query is.
		{sql: "WITH patients AS (SELECT 1 AS name) SELECT name FROM patients"},
		{sql: "WITH patients AS (SELECT name FROM patients) SELECT name FROM patients", sent: "(SELECT name FROM (SELECT"},
		{sql: "WITH a AS (SELECT name FROM patients), patients AS (SELECT 1) SELECT name FROM a", sent: "(SELECT name FROM (SELECT"},
		{sql: "WITH RECURSIVE a AS (SELECT name FROM patients), patients AS (SELECT 'x' AS name) SELECT name FROM a"},
		{sql: "SELECT name FROM patients UNION (WITH patients AS (SELECT 'x' AS name) SELECT name FROM patients)", sent: "SELECT name FROM (SELECT"},
		{sql: "WITH members AS (SELECT 1 AS id) DELETE FROM members WHERE pin = 'x'", refused: "protected column pin"},

		// EXPLAIN prints no figures, where masked columns are only shown.
		{sql: "EXPLAIN (COSTS OFF) SELECT id, name FROM clinic.patients WHERE city = 'Boston' ORDER BY id", sent: "EXPLAIN (COSTS OFF) SELECT id, name FROM (SELECT"},
		{sql: "EXPLAIN (COSTS FALSE, FORMAT json) SELECT * FROM clinic.patients", sent: "FROM (SELECT"},
		{sql: "EXPLAIN SELECT id FROM clinic.patients", refused: "tells of stored values"},
		{sql: "EXPLAIN (ANALYZE, COSTS OFF) SELECT id FROM clinic.patients", refused: "tells of stored values"},
		{sql: "EXPLAIN (VERBOSE, COSTS OFF) SELECT id FROM clinic.patients", refused: "tells of stored values"},
		{sql: "EXPLAIN (COSTS OFF, COSTS ON) SELECT id FROM clinic.patients", refused: "tells of stored values"},
		{sql: "EXPLAIN (COSTS OFF) SELECT id FROM clinic.patients WHERE name = 'x'", refused: "tells of stored values"},
		{sql: "EXPLAIN (COSTS OFF) SELECT id FROM clinic.patients ORDER BY name", refused: "tells of stored values"},
		{sql: "EXPLAIN (COSTS OFF) SELECT DISTINCT name FROM clinic.patients", refused: "tells of stored values"},
		{sql: "EXPLAIN (COSTS OFF) SELECT p FROM clinic.patients p", refused: "tells of stored values"},
		{sql: "EXPLAIN (COSTS OFF) SELECT id FROM clinic.v_patients", refused: "EXPLAIN could print what a definition"},
		{sql: "EXPLAIN (COSTS OFF) SELECT id FROM public.v_literal", refused: "a definition of public.v_literal"},
		{sql: "EXPLAIN (COSTS OFF) SELECT id FROM clinic.accounts WHERE number = 'x'", refused: "tells of stored values"},
		{sql: "EXPLAIN (COSTS OFF) SELECT id FROM public.defs WHERE id = 1", refused: "a definition of public.defs"},
		{sql: "EXPLAIN (COSTS OFF) SELECT helpers.longer(name, 'x') FROM public.products", refused: "the definition of a function"},
		{sql: "PREPARE x AS SELECT helpers.longer(name, 'x') FROM public.products; EXPLAIN (COSTS OFF) EXECUTE x", refused: "the definition of a function"},
		{sql: "EXPLAIN (COSTS OFF) UPDATE clinic.members SET city = 'x' RETURNING *", sent: " AS pin, members.city"},

		{sql: "COPY (SELECT id, name FROM clinic.patients) TO STDOUT (FORMAT csv, HEADER 1)", sent: "FROM (SELECT"},
		{sql: "COPY (SELECT id, name FROM clinic.patients) TO STDOUT (FORMAT csv, HEADER 0)", sent: "FROM (SELECT"},
	} {
		an, err := a.Analyze(t.Context(), query.Input{SQL: c.sql, Scope: masked(), Simple: true})
		switch {
		case err != nil:
			t.Errorf("%s: %v", c.sql, err)
		case c.refused != "" && !strings.Contains(an.Opaque, c.refused), c.refused == "" && an.Opaque != "":
			t.Errorf("%s: refused with %q, not %q", c.sql, an.Opaque, c.refused)
		case c.refused == "" && (!strings.Contains(an.SQL, c.sent) || c.sent == "" && an.SQL != ""):
			t.Errorf("%s: sent as %q", c.sql, an.SQL)
		}
		if strings.HasPrefix(c.sql, "MERGE") && !slices.Contains(an.Commands, "merge") {
			t.Errorf("%s: is %v", c.sql, an.Commands)
		}
	}
}
