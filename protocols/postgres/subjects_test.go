package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"
	"github.com/jackc/pgx/v5"

	"sallyport.dev/sallyport/events"
)

// whose says whose the rows of the clinic are.
const whose = `
subjects:
  - {relation: clinic.patients, key: id, name: patient}
  - {relation: clinic.encounters, key: patient_id, name: patient}
  - {relation: clinic.v_by_patient, key: patient_id, name: patient}
`

const subjectsPolicy = allowAll + whose

// hiddenKeyPolicy masks the column that says whose the rows are.
const hiddenKeyPolicy = `
rules:
  - name: staff
    effect: allow
    identity: "*"
    resource: "*"
    commands: [read, session, write]
    relations: ["*.*"]
  - name: masks
    effect: mask
    identity: "*"
    resource: "*"
    fields:
      clinic.patients.id: redact
      clinic.patients.ssn: {mask: partial, last: 4}
      clinic.patients.name: {mask: fake, of: name}
` + whose

// patients names who has these ids.
func patients(ids ...any) (out []string) {
	for _, id := range ids {
		out = append(out, subjectKey.Subject("patient", []byte(fmt.Sprint(id))).String())
	}
	slices.Sort(out)
	return out
}

// sights are those who were named since the latest statement on the record began, and
// what is not known of them.
func sights(t testing.TB, p *proxy) (named []string, untold string) {
	t.Helper()
	var latest uint64
	for _, e := range p.settled().Events(events.Statement, events.Subjects, events.Response) {
		switch {
		case e.Kind == events.Statement:
			named, untold, latest = nil, e.Untold, e.Number
		case e.Number != latest:
			continue
		case e.Kind == events.Response:
			if e.Untold != untold {
				t.Errorf("statement %d: %q is not known of, and then %q", latest, untold, e.Untold)
			}
			if int(e.Named) != len(named)+len(e.Subjects) {
				t.Errorf("statement %d: %d are named, and %d are said to be", latest, len(named)+len(e.Subjects), e.Named)
			}
		}
		for _, s := range e.Subjects {
			named = append(named, s.String())
		}
	}
	slices.Sort(named)
	return named, untold
}

// seeing are statements with whose rows they show by the record, and what is not known.
var seeing = []struct {
	sql    string
	ids    []any
	untold string
}{
	{sql: "SELECT name FROM clinic.patients WHERE id < 3", ids: []any{1, 2}},
	{sql: "SELECT * FROM clinic.patients WHERE city = 'Boston'", ids: []any{1, 2, 9}},
	{sql: "SELECT p.* FROM clinic.patients p WHERE p.city = 'Austin'", ids: []any{3}},
	{sql: "TABLE clinic.encounters", ids: []any{1, 2}},
	{sql: "SELECT FROM clinic.patients WHERE id = 3", ids: []any{3}},
	{sql: "SELECT 1 FROM clinic.patients WHERE id = 3", ids: []any{3}},
	{sql: "SELECT name FROM clinic.patients WHERE false"},
	{sql: "SELECT city || '!' AS id FROM clinic.patients WHERE id = 2", ids: []any{2}},
	{sql: "SELECT city FROM clinic.patients ORDER BY 1, id LIMIT 1", ids: []any{3}},
	{sql: "SELECT id, city FROM clinic.patients ORDER BY 2, 1 LIMIT 2", ids: []any{3, 1}},
	{sql: "SELECT DISTINCT id, city FROM clinic.patients WHERE id = 2", ids: []any{2}},
	{sql: "SELECT DISTINCT ON (city) city FROM clinic.patients WHERE id IN (1, 3) ORDER BY 1", ids: []any{1, 3}},
	{sql: "SELECT city, row_number() OVER (ORDER BY city), count(*) OVER () FROM clinic.patients WHERE id IN (1, 3)", ids: []any{1, 3}},
	{sql: "SELECT generate_series(1, 3), city FROM clinic.patients WHERE id = 3", ids: []any{3}},
	{sql: "SELECT e.note FROM clinic.encounters e", ids: []any{1, 2}},
	{sql: "SELECT e.note, p.city FROM clinic.patients p LEFT JOIN clinic.encounters e ON e.patient_id = p.id WHERE p.id IN (1, 3)", ids: []any{1, 3}},
	{sql: "SELECT p.city FROM clinic.patients p, clinic.patients q WHERE p.id = 1 AND q.id = 2", ids: []any{1, 2}},
	{sql: "SELECT city FROM ONLY clinic.patients WHERE city = 'Boston'", ids: []any{1, 2}},
	{sql: "SELECT city, reason FROM clinic.archived", ids: []any{9}},
	{sql: "SELECT patient_id, count(*) FROM clinic.encounters GROUP BY patient_id ORDER BY 2", ids: []any{1, 2}},
	{sql: "SELECT count(*) FROM clinic.encounters GROUP BY encounters.patient_id", ids: []any{1, 2}},
	{sql: "SELECT id FROM clinic.v_by_patient", ids: []any{1, 2}},
	{sql: "SELECT city FROM clinic.patients TABLESAMPLE system (100) WHERE id = 2", ids: []any{2}},
	{sql: "SELECT p.city FROM clinic.patients p WHERE EXISTS (SELECT FROM clinic.encounters e WHERE e.patient_id = p.id)", ids: []any{1, 2}, untold: "clinic.encounters: in a query within another"},
	{sql: "SELECT id FROM public.products LIMIT 1"},
	{sql: "SELECT 1"},

	{sql: "SELECT count(*) FROM clinic.patients", untold: "clinic.patients: an aggregate puts rows together"},
	{sql: "SELECT string_agg(name, ',') FROM clinic.patients", untold: "clinic.patients: an aggregate puts rows together"},
	{sql: "SELECT city FROM clinic.patients GROUP BY city", untold: "clinic.patients: rows are put together, and not by whose they are"},
	{sql: "SELECT DISTINCT city FROM clinic.patients", untold: "clinic.patients: rows are put together, and not by whose they are"},
	{sql: "SELECT city FROM clinic.patients UNION ALL SELECT note FROM clinic.encounters", untold: "clinic.patients: in a set operation; clinic.encounters: in a set operation"},
	{sql: "SELECT x.city FROM (SELECT city FROM clinic.patients) x", untold: "clinic.patients: in a query within another"},
	{sql: "WITH x AS (SELECT city FROM clinic.patients) SELECT * FROM x", untold: "clinic.patients: in a query within another"},
	{sql: "SELECT (SELECT city FROM clinic.patients WHERE id = 1)", untold: "clinic.patients: in a query within another"},
	{sql: "SELECT city FROM clinic.v_patients", untold: "clinic.patients: through clinic.v_patients"},
	{sql: "SELECT p.a FROM clinic.patients AS p (a)", untold: "clinic.patients: its columns are renamed"},
	{sql: "SELECT city FROM (clinic.patients p JOIN clinic.encounters e ON e.patient_id = p.id) AS j (a, b, c, d, e, f, city)", untold: "clinic.patients: its name could mean another; clinic.encounters: its name could mean another"},
	{sql: "UPDATE clinic.patients SET visits = 1 WHERE id = 2", untold: "clinic.patients: a write without RETURNING"},
	{sql: "UPDATE clinic.patients SET visits = 2 WHERE id = 2 RETURNING visits", ids: []any{2}},
	{sql: "UPDATE clinic.encounters e SET note = note WHERE e.id = 1 RETURNING *", ids: []any{1}},
	{sql: "INSERT INTO clinic.encounters (id, patient_id) SELECT 77, 3 RETURNING id", ids: []any{3}},
	{sql: "DELETE FROM clinic.encounters USING public.products WHERE encounters.id = 3 AND products.id = 1 RETURNING encounters.id", ids: []any{2}},
	{sql: "EXPLAIN (COSTS off) SELECT city FROM clinic.patients", untold: "clinic.patients: its rows do not go out as they are"},
}

// What goes out is what the server would have said without, in every form of the
// protocol, and the record names whose it was.
func TestSubjects(t *testing.T) {
	p := start(t, subjectsPolicy)
	direct := dial(t, server.Addr.String())
	for _, c := range seeing {
		for _, form := range []struct {
			name string
			say  []message
		}{{"simple", []message{q(c.sql)}}, {"extended", extended(c.sql)}, {"binary", inBinary(c.sql)}} {
			direct.get(1, q("BEGIN"))
			want := direct.get(1, form.say...)
			direct.get(1, q("ROLLBACK"))
			r := p.raw()
			r.get(1, q("BEGIN"))
			got := r.get(1, form.say...)
			if got.text != want.text {
				t.Errorf("%s, %s:\n%s\nand not\n%s", c.sql, form.name, clip(got.text), clip(want.text))
			}
			named, untold := sights(t, p)
			r.get(1, q("ROLLBACK"))
			if !slices.Equal(named, patients(c.ids...)) || untold != c.untold {
				t.Errorf("%s, %s: %d are named, and of %q it is not known", c.sql, form.name, len(named), untold)
			}
			r.Close()
		}
	}
}

func inBinary(sql string) []message {
	return []message{
		parse("", sql), describe('S', ""), &pgproto3.Bind{ResultFormatCodes: []int16{1}}, describe('P', ""), execute(""), sync_,
	}
}

// With the key masked the same is named, and the key is not shown.
func TestSubjectsOfAMaskedKey(t *testing.T) {
	p, without := start(t, hiddenKeyPolicy), start(t, strings.TrimSuffix(hiddenKeyPolicy, whose))
	for _, c := range []struct {
		sql    string
		ids    []any
		untold string
	}{
		{sql: "SELECT city FROM clinic.patients WHERE city = 'Boston'", ids: []any{1, 2, 9}},
		{sql: "SELECT * FROM clinic.patients WHERE city = 'Austin'", ids: []any{3}},
		{sql: "SELECT p.*, e.note FROM clinic.patients p JOIN clinic.encounters e ON e.id = 3 WHERE p.city = 'Austin'", ids: []any{2, 3}},
		{sql: "SELECT city FROM clinic.patients WHERE city = 'Austin' ORDER BY 1", ids: []any{3}},
		{sql: "SELECT ssn, id, name FROM clinic.patients WHERE city = 'Austin'", ids: []any{3}},
		{sql: "SELECT p FROM clinic.patients p WHERE p.city = 'Austin'", untold: "clinic.patients: rows are shown whole, and their key is masked"},
		{sql: "SELECT * FROM clinic.patients NATURAL JOIN other.visits", untold: "clinic.patients: rows are shown whole, and their key is masked"},
		{sql: "SELECT DISTINCT id FROM clinic.patients", untold: "clinic.patients: rows are put together, and not by whose they are"},
		{sql: "SELECT count(*) FROM clinic.patients GROUP BY id", untold: "clinic.patients: rows are put together, and not by whose they are"},
		{sql: "UPDATE clinic.patients SET visits = 2 WHERE city = 'Austin' RETURNING visits", ids: []any{3}},
	} {
		for _, say := range [][]message{{q(c.sql)}, extended(c.sql), inBinary(c.sql)} {
			r := p.raw()
			out := r.get(1, say...)
			if want := without.raw().get(1, say...); out.text != want.text || strings.Contains(out.text, "E S") {
				t.Errorf("%s:\n%s\nand not\n%s", c.sql, clip(out.text), clip(want.text))
			}
			if named, untold := sights(t, p); !slices.Equal(named, patients(c.ids...)) || untold != c.untold {
				t.Errorf("%s: %d are named, and of %q it is not known", c.sql, len(named), untold)
			}
			r.Close()
		}
	}
	for _, sql := range []string{
		"SELECT city FROM clinic.patients ORDER BY sallyport_subject_0",
		"SELECT sallyport_subject_0 FROM clinic.patients",
		"SELECT p.sallyport_subject_0 FROM clinic.patients p",
		`SELECT city FROM clinic.patients p WHERE (p)."sallyport_subject_0" = '1'`,
		"SELECT city FROM clinic.patients GROUP BY city HAVING max(sallyport_subject_0) > '1'",
		"SELECT city FROM clinic.patients JOIN other.visits USING (sallyport_subject_0)",
	} {
		if out := p.raw().get(1, q(sql)); len(out.rows) > 0 || !strings.Contains(out.text, "sallyport's own") {
			t.Errorf("%s: %s", sql, clip(out.text))
		}
	}
}

// A driver that prepares, reads in binary, in parts and through cursors is told what it
// would be without.
func TestSubjectsByDriver(t *testing.T) {
	p := start(t, subjectsPolicy)
	ctx := context.Background()
	c := connect(t, p, "")
	want := patients(1, 2, 9)
	for range 2 {
		var got []string
		rows, err := c.Query(ctx, "SELECT id, city FROM clinic.patients WHERE city = $1 ORDER BY id", "Boston")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id int32
			var city string
			if err := rows.Scan(&id, &city); err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(id, " ", city))
		}
		if rows.Err() != nil || strings.Join(got, ",") != "1 Boston,2 Boston,9 Boston" {
			t.Errorf("%v %v", got, rows.Err())
		}
		if named, _ := sights(t, p); !slices.Equal(named, want) {
			t.Errorf("%d are named", len(named))
		}
	}
	tx, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		"DECLARE c CURSOR FOR SELECT city FROM clinic.patients ORDER BY id", "PREPARE x (text) AS SELECT id FROM clinic.patients WHERE city = $1",
		"MOVE 1 IN c", "DECLARE b BINARY CURSOR FOR SELECT id FROM clinic.patients ORDER BY id",
	} {
		if _, err := tx.Exec(ctx, s, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		if named, untold := sights(t, p); named != nil || untold != "" {
			t.Errorf("%s: %v %q", s, named, untold)
		}
	}
	const simple, described = pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeDescribeExec
	for _, f := range []struct {
		sql  string
		mode pgx.QueryExecMode
		ids  []any
	}{
		{"FETCH 2 FROM c", simple, []any{2, 3}},
		{"FETCH ALL FROM c", described, []any{4, 9}},
		{"EXECUTE x ('Austin')", simple, []any{3}},
		{"EXECUTE x ('Austin')", described, []any{3}},
		{"FETCH 1 FROM b", simple, []any{1}},
		{"FETCH 1 FROM b", described, []any{2}},
	} {
		rows, err := tx.Query(ctx, f.sql, f.mode)
		if err != nil {
			t.Fatal(err)
		}
		n, cols := 0, len(rows.FieldDescriptions())
		for rows.Next() {
			n++
		}
		if rows.Err() != nil || cols > 1 || n != len(f.ids) {
			t.Fatalf("%s: %d rows of %d columns: %v", f.sql, n, cols, rows.Err())
		}
		if named, untold := sights(t, p); !slices.Equal(named, patients(f.ids...)) || untold != "" {
			t.Errorf("%s: %v %q", f.sql, named, untold)
		}
	}
	_ = tx.Rollback(ctx)
	if out := psql(t, p, "-AXtc", "SELECT city FROM clinic.patients WHERE id = 3"); !strings.Contains(out, "Austin") || strings.Contains(out, "|") {
		t.Errorf("%s", out)
	}
}

// Nothing of a key stands in what is recorded, whose rows are that go out is there
// before them, and no row goes out where it can't be.
func TestSubjectsOnTheRecord(t *testing.T) {
	p := start(t, strings.Replace(subjectsPolicy, "clinic.patients, key: id", "clinic.patients, key: ssn", 1))
	r := p.raw()
	if out := r.get(1, q("SELECT city FROM clinic.patients WHERE id < 5")); len(out.rows) != 4 {
		t.Fatalf("%s", out.text)
	}
	j := p.settled()
	e := j.Events(events.Response)
	if got := e[len(e)-1]; got.Named != 3 || len(got.Subjects) != 3 || got.Subjects[0].Name != "patient" {
		t.Errorf("%+v", got)
	}
	for _, e := range j.All() {
		if strings.Contains(fmt.Sprintf("%+v", e), "911-47-0001") {
			t.Errorf("an event holds a key: %+v", e)
		}
	}
	for _, ch := range j.Chunks() {
		if bytes.Contains(ch.Data, []byte("911-47-0001")) {
			t.Errorf("the transcript holds a key: %q", ch.Data)
		}
	}
	j.Unwritten(true)
	if out := r.get(1, q("SELECT city FROM clinic.patients WHERE id < 5")); len(out.rows) > 0 {
		t.Errorf("rows went out whose names could not be written: %s", out.text)
	}
	_ = p.End()
}

// Of a result with many nobody is left out, and nobody is named twice.
func TestManySubjects(t *testing.T) {
	p := start(t, allowAll+"\nsubjects:\n  - {relation: public.many, key: n, name: someone}\n")
	ctx := context.Background()
	db, err := pgx.Connect(ctx, server.DSN("agent")+" dbname=postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)
	if _, err := db.Exec(ctx, "CREATE TABLE public.many AS SELECT i % 7000 AS n, repeat('x', 40) AS t FROM generate_series(0, 13999) i"); err != nil {
		t.Fatal(err)
	}
	defer db.Exec(ctx, "DROP TABLE public.many")
	if out := p.raw().get(1, q("SELECT t FROM public.many")); len(out.rows) != 14000 {
		t.Fatalf("%d rows: %s", len(out.rows), clip(out.text))
	}
	named, _ := sights(t, p)
	if len(named) != 7000 || len(slices.Compact(named)) != 7000 {
		t.Errorf("%d are named", len(named))
	}
	for _, e := range p.Journal.Events(events.Subjects, events.Response) {
		if len(e.Subjects) > events.MaxSubjects {
			t.Errorf("an event names %d", len(e.Subjects))
		}
	}
}

// A rule that asks whose rows go out allows nothing of which that can't be told.
func TestSubjectsRequired(t *testing.T) {
	p := start(t, strings.Replace(subjectsPolicy, `relations: ["*.*"]`, "relations: [\"*.*\"]\n    subjects: required", 1))
	for _, c := range seeing {
		out := p.raw().get(1, q(c.sql))
		if refused := strings.Contains(out.text, "asks whose rows go out"); refused != (c.untold != "") {
			t.Errorf("%s: %s", c.sql, clip(out.text))
		}
	}
}
