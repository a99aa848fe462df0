package postgres_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// matchPolicy lets some masked columns be looked up.
func matchPolicy(limits string) string {
	return `
rules:
  - name: staff
    effect: allow
    identity: "*"
    resource: "*"
    commands: [read, session, write]
    relations: ["*.*"]
  - name: look up
    effect: mask
    identity: "*"
    resource: "*"
    fields:
      clinic.patients.ssn: {mask: partial, last: 4, match: equality}
      clinic.patients.name: {mask: redact, match: equality}
      clinic.patients.email: {mask: token, match: equality}
      clinic.patients.birth_date: {mask: year, match: equality}
      clinic.patients.phone: {mask: "null", match: equality}
      clinic.patients.visits: {mask: bucket, width: 10, match: equality}
      clinic.members.pin: redact
` + limits
}

const many1000 = "    limits: {hour: {lookups: 100000}}\n"

// matched are statements that find rows by a stored value, with the rows that
// they show; how many values they ask for.
var matched = []struct {
	sql, want string
	lookups   int
}{
	{"SELECT id FROM clinic.patients WHERE ssn = '911-47-0001'", "1", 1},
	{"SELECT id FROM clinic.patients WHERE '911-47-0001' = ssn", "1", 1},
	{"SELECT id, ssn, name FROM clinic.patients WHERE ssn = '911-47-0001'", "1|***-**-0001|[redacted]", 1},
	{"SELECT * FROM clinic.v_patients WHERE ssn = '911-47-0001'", "1|[redacted]|***-**-0001|Boston", 1},
	{"SELECT p.ssn FROM clinic.patients AS p WHERE p.ssn = '911-47-0001' AND p.city = 'Boston' AND p.id > 0", "***-**-0001", 1},
	{"SELECT id FROM clinic.patients WHERE clinic.patients.ssn = '911-47-0001'::text AND (ssn = '911-47-0001' AND visits = 0)", "1", 3},
	{"SELECT id FROM clinic.patients WHERE ssn IN ('911-47-0001', 'x', '922-58-0002'::varchar) ORDER BY id", "1 2", 3},
	{"SELECT id FROM clinic.patients WHERE visits IN (0, 99999999999, 7.5) AND id < 3 ORDER BY id", "1 2", 3},
	{"SELECT id FROM clinic.patients WHERE phone = '+1-555-019-7781'", "1", 1},
	{"SELECT id FROM clinic.patients WHERE birth_date = '1951-03-17'", "1", 1},
	{"SELECT id FROM clinic.patients WHERE birth_date = date '1951-03-17'", "1", 1},
	{"SELECT p.id, e.note FROM clinic.patients p JOIN clinic.encounters e ON e.patient_id = p.id AND p.ssn = '911-47-0001' ORDER BY e.id", "1|ok 1|fever", 1},
	{"SELECT p.id FROM clinic.patients p JOIN clinic.encounters e ON p.ssn = '911-47-0001' WHERE e.id = 1", "1", 1},
	{"SELECT p.id, e.id FROM clinic.patients p LEFT JOIN clinic.encounters e ON e.patient_id = p.id AND e.severity = 'low' WHERE p.ssn = '911-47-0001'", "1|1", 1},
	{"SELECT count(*) FROM clinic.patients p, clinic.patients o WHERE p.ssn = '911-47-0001' AND o.name = 'Bob CANARYNAME2'", "1", 2},
	{"SELECT count(*) FROM clinic.patients p WHERE p.ssn = '911-47-0001' GROUP BY p.city HAVING count(*) > 0", "1", 1},
	{"SELECT p.id FROM clinic.patients p, generate_series(1, 2) WHERE p.ssn = '911-47-0001'", "1 1", 1},
	{"SELECT p.id FROM clinic.patients p, (SELECT 1 AS ssn) x WHERE p.ssn = '911-47-0001'", "1", 1},
	{"WITH x AS (SELECT 1 AS a) SELECT p.id FROM clinic.patients p, x WHERE p.ssn = '911-47-0001' FOR SHARE OF p", "1", 1},
	{"SELECT email FROM clinic.patients WHERE email = 'alice.CANARYMAIL1@example.org'", "tok_", 1},
	{"SELECT id FROM clinic.archived WHERE ssn = '999-91-0009'", "9", 1},
	{"SELECT id FROM ONLY clinic.patients WHERE ssn = '999-91-0009'", "", 1},
}

// unmatched are statements in which the mask is compared, as everywhere, or that
// are refused: whatever could tell more than whether one value is there.
var unmatched = []string{
	"SELECT id FROM clinic.patients WHERE ssn = '911-47-0001' OR ssn = '922-58-0002'",
	"SELECT id FROM clinic.patients WHERE NOT (ssn <> '911-47-0001')",
	"SELECT id FROM clinic.patients WHERE (ssn = '911-47-0001') IS TRUE",
	"SELECT id FROM clinic.patients WHERE CASE WHEN ssn = '911-47-0001' THEN true ELSE false END",
	"SELECT id FROM clinic.patients WHERE COALESCE(ssn = '911-47-0001', false)",
	"SELECT id FROM clinic.patients WHERE ssn IS NOT DISTINCT FROM '911-47-0001'",
	"SELECT id FROM clinic.patients WHERE ssn = ANY ('{911-47-0001,922-58-0002}')",
	"SELECT id FROM clinic.patients WHERE ssn = ANY (ARRAY['911-47-0001'])",
	"SELECT id FROM clinic.patients WHERE ssn = ANY (ARRAY(SELECT '911-47-000' || g FROM generate_series(1, 9) g))",
	"SELECT id FROM clinic.patients WHERE ssn IN (SELECT '911-47-000' || g FROM generate_series(1, 9) g)",
	"SELECT id FROM clinic.patients WHERE ssn = (SELECT '911-47-0001')",
	"SELECT id FROM clinic.patients WHERE ssn = '911-47-000' || 1",
	"SELECT id FROM clinic.patients WHERE ssn = concat('911-47-000', 1)",
	"SELECT id FROM clinic.patients WHERE (ssn, city) = ('911-47-0001', 'Boston')",
	"SELECT id FROM clinic.patients WHERE (ssn, city) IN (('911-47-0001', 'Boston'))",
	"SELECT id FROM clinic.patients WHERE ssn COLLATE \"C\" = '911-47-0001'",
	"SELECT id FROM clinic.patients WHERE ssn = '911-47-0001' COLLATE \"C\"",
	"SELECT id FROM clinic.patients WHERE ssn::text = '911-47-0001'",
	"SELECT id FROM clinic.patients WHERE left(ssn, 3) = '911'",
	"SELECT id FROM clinic.patients WHERE ssn LIKE '911-47-0001'",
	"SELECT id FROM clinic.patients WHERE ssn BETWEEN '911-47-0001' AND '911-47-0001'",
	"SELECT id FROM clinic.patients WHERE ssn >= '911-47-0001' AND ssn <= '911-47-0001'",
	"SELECT id FROM clinic.patients WHERE birth_date = '1951-03-17'::timestamp",
	"SELECT p.id FROM clinic.patients p, generate_series(1, 9) g WHERE p.ssn = '911-47-000' || g",
	"SELECT p.id FROM clinic.patients p, (VALUES ('911-47-0001'), ('922-58-0002')) v (x) WHERE p.ssn = v.x",
	"SELECT p.id FROM clinic.patients p JOIN (VALUES ('911-47-0001'), ('922-58-0002')) v (ssn) USING (ssn)",
	"SELECT p.id FROM clinic.patients p JOIN clinic.claims c ON p.ssn = c.ssn",
	"SELECT p.id FROM clinic.patients p, clinic.patients o WHERE p.name = o.name",
	"SELECT p.id FROM clinic.encounters e LEFT JOIN clinic.patients p ON p.ssn = '911-47-0001' WHERE p.id IS NOT NULL",
	"SELECT p.id FROM clinic.encounters e LEFT JOIN clinic.patients p ON p.id = e.patient_id WHERE p.ssn = '911-47-0001'",
	"SELECT p.id FROM clinic.patients p FULL JOIN clinic.encounters e ON p.id = e.patient_id WHERE p.ssn = '911-47-0001'",
	"SELECT id FROM clinic.patients AS p (id, a, b, ssn) WHERE ssn = '911-47-0001'",
	"SELECT id FROM (SELECT * FROM clinic.patients) p WHERE ssn = '911-47-0001'",
	"SELECT id FROM (SELECT * FROM clinic.patients WHERE ssn = '911-47-0001') p",
	"SELECT j.id FROM (clinic.patients p CROSS JOIN (SELECT 1) x) AS j WHERE j.ssn = '911-47-0001'",
	"WITH p AS (SELECT * FROM clinic.patients WHERE ssn = '911-47-0001') SELECT id FROM p",
	"WITH p AS (SELECT * FROM clinic.patients) SELECT id FROM p WHERE ssn = '911-47-0001'",
	"SELECT 1 WHERE EXISTS (SELECT 1 FROM clinic.patients WHERE ssn = '911-47-0001')",
	"SELECT e.id FROM clinic.encounters e WHERE EXISTS (SELECT 1 FROM clinic.patients p WHERE p.id = e.patient_id AND p.ssn = '911-47-0001')",
	"SELECT g FROM generate_series(1, 9) g WHERE (SELECT count(*) FROM clinic.patients WHERE ssn = '911-47-000' || g) > 0",
	"SELECT g FROM generate_series(1, 9) g, LATERAL (SELECT 1 FROM clinic.patients WHERE ssn = '911-47-000' || g) x",
	"SELECT id FROM clinic.patients WHERE ssn = '911-47-0001' AND false UNION ALL SELECT id FROM clinic.patients WHERE ssn = '922-58-0002'",
	"SELECT id FROM clinic.patients WHERE ssn = '911-47-0001' UNION SELECT id FROM clinic.patients WHERE ssn = '922-58-0002'",
	"SELECT id FROM clinic.patients GROUP BY id, ssn HAVING ssn = '911-47-0001'",
	"SELECT id FROM clinic.patients WHERE (SELECT ssn = '911-47-0001')",
	"SELECT max(id) FILTER (WHERE ssn = '911-47-0001') FROM clinic.patients HAVING max(id) FILTER (WHERE ssn = '911-47-0001') IS NOT NULL",
	"SELECT id FROM clinic.patients ORDER BY (ssn = '911-47-0001') DESC NULLS LAST, 1 LIMIT 0",
	"SELECT id FROM clinic.patients TABLESAMPLE bernoulli (100) WHERE ssn = '911-47-0001'",
	"SELECT id FROM clinic.members WHERE pin = 'CANARYPIN1'",
	"SELECT id FROM clinic.patients WHERE name_upper = 'ALICE CANARYNAME1'",
	"SELECT id FROM clinic.v_derived WHERE s = '911-47-0001'",
	"UPDATE clinic.patients SET city = city WHERE ssn = '911-47-0001' RETURNING id",
	"DELETE FROM clinic.patients WHERE ssn = '911-47-0001' RETURNING id",
	"INSERT INTO clinic.visits SELECT id, city FROM clinic.patients WHERE ssn = '911-47-0001' RETURNING id",
	"EXPLAIN (ANALYZE) SELECT id FROM clinic.patients WHERE ssn = '911-47-0001'",
	"CREATE TABLE x AS SELECT id FROM clinic.patients WHERE ssn = '911-47-0001'",
}

var plantedMatch = regexp.MustCompile(`CANARY|9[0-9]{2}-[0-9]{2}-000|555-019|1951-03`)

func TestMatch(t *testing.T) {
	p := start(t, matchPolicy(many1000))
	r := p.raw()
	want := 0
	for i, c := range matched {
		check := func(how string, out reply) {
			t.Helper()
			got := strings.Join(out.rows, " ")
			if got != c.want && (c.want != "tok_" || !strings.HasPrefix(got, c.want) || len(out.rows) != 1) || plantedMatch.MatchString(got) {
				t.Errorf("%s, %s: %q, want %q\n%s", c.sql, how, got, c.want, out.text)
			}
		}
		check("simple", r.get(1, q(c.sql)))
		check("extended", r.get(1, extended(c.sql)...))
		name := fmt.Sprint("m", i)
		check("PREPARE", r.get(2, q("PREPARE "+name+" AS "+c.sql), q("EXECUTE "+name)))
		check("a cursor", r.get(4, q("BEGIN"), q("DECLARE c CURSOR FOR "+strings.Replace(c.sql, " FOR SHARE OF p", "", 1)), q("FETCH ALL c"), q("COMMIT")))
		want += 4 * c.lookups
	}
	for _, sql := range unmatched {
		for how, say := range map[string][]message{"simple": {q(sql)}, "extended": extended(sql)} {
			if out := r.get(1, say...); len(out.rows) > 0 {
				t.Errorf("%s, %s: %s", sql, how, out.text)
			}
		}
	}
	// The fields that were looked up are on the record.
	n := 0
	for _, e := range p.settled().Events(events.Statement) {
		if strings.Contains(fmt.Sprint(e.Masked), "clinic.patients.ssn") && strings.HasPrefix(e.Normalized, "SELECT id FROM clinic.patients WHERE ssn = ?") {
			n++
		}
	}
	if n < 2 {
		t.Errorf("%d look-ups are on the record", n)
	}
	// With parameters, of each type.
	for _, c := range []struct {
		oid   uint32
		where string
		value string
		found bool
	}{
		{0, "ssn = $1", "911-47-0001", true},
		{25, "ssn = $1", "911-47-0001", true},
		{1043, "ssn = $1", "911-47-0001", true},
		{0, "ssn = $1::text", "911-47-0001", true},
		{0, "ssn IN ('x', $1)", "911-47-0001", true},
		{0, "visits = $1 AND id = 1", "0", true},
		{20, "visits = $1 AND id = 1", "0", true},
		{0, "birth_date = $1", "1951-03-17", true},
		{1082, "birth_date = $1", "1951-03-17", true},
		{25, "ssn = $1::varchar", "911-47-0001", false},
		{1114, "birth_date = $1", "1951-03-17", false},
		{19, "ssn = $1", "911-47-0001", false},
		{1009, "ssn = ANY ($1)", "{911-47-0001}", false},
	} {
		out := r.get(1, &pgproto3.Parse{Query: "SELECT id FROM clinic.patients WHERE " + c.where, ParameterOIDs: []uint32{c.oid}}, bind("", "", c.value), describe('P', ""), execute(""), sync_)
		if (len(out.rows) == 1) != c.found {
			t.Errorf("%d, %s: %s", c.oid, c.where, out.text)
		}
	}
	for _, c := range []struct{ prepare, execute, want string }{
		{"PREPARE a AS SELECT id FROM clinic.patients WHERE ssn = $1", "EXECUTE a('911-47-0001')", "1"},
		{"PREPARE b (text) AS SELECT id FROM clinic.patients WHERE ssn = $1", "EXECUTE b('911-47-0001')", "1"},
		{"PREPARE d (name) AS SELECT id FROM clinic.patients WHERE ssn = $1", "EXECUTE d('911-47-0001')", ""},
		{"PREPARE e (text) AS SELECT id FROM clinic.patients WHERE birth_date = $1::date", "EXECUTE e('1951-03-17')", ""},
	} {
		if out := r.get(2, q(c.prepare), q(c.execute)); strings.Join(out.rows, " ") != c.want {
			t.Errorf("%s: %s", c.prepare, out.text)
		}
	}
}

// A look-up is counted when it runs, whatever runs it, and each of its values.
func TestLookupsAreCounted(t *testing.T) {
	const some = "SELECT id FROM clinic.patients WHERE ssn = '911-47-0009'"
	list := strings.Repeat("'x', ", 99) + "'y'"
	for _, c := range []struct {
		name string
		n    int // of ReadyForQuery, for each round
		say  []message
		of   int // how many values a round asks for
	}{
		{"simple", 1, []message{q(some)}, 1},
		{"extended", 1, extended(some), 1},
		{"two texts", 1, []message{q(some + "; " + some)}, 2},
		{"a list", 1, []message{q("SELECT id FROM clinic.patients WHERE ssn IN (" + list + ")")}, 100},
		{"two columns", 1, []message{q(some + " AND phone IN ('a', 'b')")}, 3},
		{"prepared", 1, []message{parse("", "SELECT id FROM clinic.patients WHERE ssn = $1"), bind("", "", "x"), execute(""), bind("", "", "y"), execute(""), sync_}, 2},
		{"bound, not executed", 1, []message{parse("", some), bind("", ""), sync_}, 1},
		{"EXECUTE", 3, []message{q("PREPARE p AS SELECT id FROM clinic.patients WHERE ssn = $1"), q("EXECUTE p('x'); EXECUTE p('y')"), q("DEALLOCATE p")}, 2},
		{"EXECUTE of a Parse", 2, []message{parse("s", "SELECT id FROM clinic.patients WHERE ssn = $1"), sync_, q("EXECUTE s('x')"), closing('S', "s")}, 1},
		{"a cursor", 5, []message{q("BEGIN"), q("DECLARE c SCROLL CURSOR FOR " + some), q("FETCH ALL c"), q("FETCH BACKWARD 5 c"), q("COMMIT")}, 1},
		{"in pieces", 1, []message{parse("", "SELECT id FROM clinic.patients WHERE visits = 0"), bind("", ""), &pgExecute{MaxRows: 1}, &pgExecute{MaxRows: 1}, execute(""), sync_}, 1},
		{"not at all", 1, []message{q("SELECT id FROM clinic.patients WHERE ssn LIKE '9%'")}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, matchPolicy("    limits: {hour: {lookups: 200}}\n"))
			used := 0
			r := p.raw()
			if c.of > 0 { // what is left is enough for one round, and not for another
				for used+2*c.of <= 200 && used < 200-2*c.of+1 {
					k := min(100, 200-2*c.of+1-used)
					if out := r.get(1, q("SELECT id FROM clinic.patients WHERE ssn IN ("+strings.Repeat("'x', ", k-1)+"'y')")); strings.Contains(out.text, "ERROR") {
						t.Fatal(out.text)
					}
					used += k
				}
			}
			if out := r.get(c.n, c.say...); strings.Contains(out.text, "ERROR") {
				t.Fatalf("the first: %s", out.text)
			}
			out := r.get(c.n, c.say...)
			over := strings.Contains(out.text, `rule "look up" lets at most 200 look-ups of masked values an hour through`)
			if over != (c.of > 0) || over && (!strings.Contains(out.text, `"refused":"limit","rules":["look up"]`) || !strings.Contains(out.text, "53400")) {
				t.Errorf("the second: %s", out.text)
			}
			r.Close()
		})
	}
}

// The limit is of an identity, over its sessions, and there is one where the
// policy gives none.
func TestLookupsByDefault(t *testing.T) {
	p := open(t, matchPolicy(""), protocoltest.Options{Identity: func(n int, id *intercept.Identity) {
		if n == 3 {
			id.Subject = "somebody else"
		}
	}})
	found := 0
	for n := range 3 {
		r := p.raw()
		r.get(1, q("SELECT 1"))
		if n == 2 {
			found = 0
		}
		for i := range 20 {
			out := r.get(1, parse("", "SELECT id FROM clinic.patients WHERE ssn = $1"), bind("", "", fmt.Sprintf("911-47-%04d", i)), execute(""), sync_)
			if !strings.Contains(out.text, "53400") {
				found++
			}
		}
		// What looks nothing up goes on.
		if out := r.get(1, q("SELECT ssn FROM clinic.patients WHERE id = 1")); len(out.rows) != 1 {
			t.Errorf("%s", out.text)
		}
		if want := []int{20, 30, 20}[n]; found != want {
			t.Errorf("session %d: %d look-ups, want %d", n+1, found, want)
		}
		r.Close()
	}
}

// A look-up finds no row that a filter leaves out, with a fence or without one.
func TestMatchOfFilteredRows(t *testing.T) {
	p := start(t, matchPolicy(many1000)+`
  - name: of Boston
    effect: filter
    identity: "*"
    resource: "*"
    relations: clinic.patients
    where: city = 'Boston'
`)
	r := p.raw()
	for sql, want := range map[string]string{
		"SELECT id FROM clinic.patients WHERE ssn = '911-47-0001'":                             "1",
		"SELECT id FROM clinic.patients WHERE ssn = '911-47-0001' AND 1 / id = 1":              "1",
		"SELECT id FROM clinic.patients WHERE ssn = '933-69-0003'":                             "",
		"SELECT id FROM clinic.patients WHERE ssn = '933-69-0003' AND 1 / (id - 3) = 1":        "",
		"SELECT id FROM clinic.patients WHERE ssn IN ('911-47-0001', '933-69-0003') FOR SHARE": "1",
	} {
		for how, say := range map[string][]message{"simple": {q(sql)}, "extended": extended(sql)} {
			if out := r.get(1, say...); strings.Join(out.rows, " ") != want || strings.Contains(out.text, "ERROR") {
				t.Errorf("%s, %s: %s", sql, how, out.text)
			}
		}
	}
}

// One value finds no other: not by a collation to which two are equal, nor by a type
// that only goes by the name of a built-in one.
func TestMatchFindsOneValue(t *testing.T) {
	administer(t, `CREATE COLLATION public.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
		`CREATE TABLE clinic.loose (id int, name text COLLATE public.loose, code text)`,
		`INSERT INTO clinic.loose VALUES (1, 'CANARYLOOSE', 'CANARYCODE')`, `CREATE DOMAIN public.text AS pg_catalog.bpchar`)
	defer administer(t, `DROP TABLE clinic.loose`, `DROP COLLATION public.loose`, `DROP DOMAIN public.text`)
	p := start(t, strings.Replace(matchPolicy(many1000), "    fields:\n", "    fields:\n      clinic.loose.name: {mask: redact, match: equality}\n      clinic.loose.code: {mask: redact, match: equality}\n", 1))
	r := p.raw()
	for sql, want := range map[string]string{
		"SELECT id FROM clinic.loose WHERE code = 'CANARYCODE'":                  "1",
		"SELECT id FROM clinic.loose WHERE code = 'CANARYCODE'::pg_catalog.text": "1",
		"SELECT id FROM clinic.loose WHERE code = 'CANARYCODE'::text":            "",
		"SELECT id FROM clinic.loose WHERE name = 'canaryloose'":                 "",
		"SELECT id FROM clinic.loose WHERE name = 'CANARYLOOSE'":                 "",
	} {
		for how, say := range map[string][]message{"simple": {q(sql)}, "extended": extended(sql)} {
			if out := r.get(1, say...); strings.Join(out.rows, " ") != want {
				t.Errorf("%s, %s: %s", sql, how, out.text)
			}
		}
	}
}

// A question counts as a statement: who asks without end reaches the limit, of
// which the SET took one.
func TestQuestionsAreCounted(t *testing.T) {
	p := start(t, strings.Replace(matchPolicy(""), "relations: [\"*.*\"]\n", "relations: [\"*.*\"]\n    limits: {hour: {statements: 4}}\n", 1))
	r := p.raw()
	const some = "SELECT id FROM clinic.patients WHERE id = 1"
	r.get(1, q("SET sallyport.explain = on"))
	for i := range 5 {
		if out := r.get(1, q(some)); strings.Contains(out.text, "53400") != (i > 2) {
			t.Errorf("question %d: %s", i+1, out.text)
		}
	}
}

// What is explained looks nothing up, and is counted when it runs all the same.
func TestLookupsThatAreExplained(t *testing.T) {
	p := start(t, matchPolicy("    limits: {hour: {lookups: 2}}\n"))
	r := p.raw()
	const some = "SELECT id FROM clinic.patients WHERE ssn = '911-47-0001'"
	for range 3 {
		if out := r.get(3, q("SET sallyport.explain = on"), q(some), q("SET sallyport.explain = off")); len(out.rows) != 1 || !strings.Contains(out.text, `"lookups":2`) {
			t.Fatal(out.text)
		}
	}
	for range 2 {
		if out := r.get(1, q(some)); strings.Join(out.rows, " ") != "1" {
			t.Errorf("%s", out.text)
		}
	}
	if out := r.get(1, q(some)); !strings.Contains(out.text, "53400") {
		t.Errorf("%s", out.text)
	}
}
