package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/events"
)

const keyedPolicy = `
rules:
  - name: staff
    effect: allow
    identity: "*"
    resource: "*"
    commands: [read, session, write]
    relations: ["*.*"]
  - name: keyed
    effect: mask
    identity: "*"
    resource: "*"
    fields:
      clinic.patients.id: token
      clinic.patients.ssn: format
      clinic.patients.name: {mask: fake, of: name}
      clinic.patients.email: hash
      clinic.patients.phone: token
      clinic.patients.birth_date: token
      clinic.claims.ssn: token
`

// What of the stored rows must never be seen: the id of 1001 too, in no form.
var planted = regexp.MustCompile(`(?i)CANARY|[0-9]{3}-[0-9]{2}-000[0-9]|[0-9]{5}000[0-9]\b|555-019|@example\.org|\b19[0-9]{2}-`)

// What is shown of patient 1 and 2, from policy/mask.
const (
	oneSSN  = `\d{3}-\d{2}-\d{4}`
	token   = `tok_[a-z2-7]{16}`
	hashed  = `[0-9a-f]{32}`
	someone = `[A-Z][a-z]+ [A-Z][a-z]+`
)

// reply is all that came, as text, and its rows, taken apart.
type reply struct {
	text string
	rows []string
	data []string // of COPY, by message
}

// get sends messages, and takes apart what comes up to the nth ReadyForQuery.
func (r *raw) get(ready int, ms ...message) (out reply) {
	r.t.Helper()
	r.send(enc(ms...))
	for ready > 0 {
		typ, body := r.next()
		out.text += fmt.Sprintf("%c %s\n", typ, printable(body))
		switch typ {
		case 0:
			return out
		case 'Z':
			ready--
		case 'd':
			out.data = append(out.data, string(body))
		case 'D':
			var m pgproto3.DataRow
			if err := m.Decode(body); err != nil {
				r.t.Fatal(err)
			}
			var row []string
			for _, v := range m.Values {
				if v == nil {
					v = []byte("NULL")
				}
				row = append(row, string(v))
			}
			out.rows = append(out.rows, strings.Join(row, "|"))
		}
	}
	return out
}

// keyedStatements show masked columns; want is of each row, none where the
// columns are redacted. In all forms.
var keyedStatements = []struct{ sql, want string }{
	{"SELECT ssn FROM clinic.patients WHERE city = 'Boston'", oneSSN},
	{"SELECT city, ssn, visits FROM clinic.patients WHERE city IS NOT NULL ORDER BY city", `\w+\|` + oneSSN + `\|0`},
	{"SELECT p.name AS who, p.ssn AS ssn FROM clinic.patients AS p WHERE p.city = 'Boston' LIMIT 5", someone + `\|` + oneSSN},
	{"SELECT ssn, ssn FROM clinic.patients WHERE city = 'Austin'", oneSSN + `\|` + oneSSN},
	{"SELECT email, phone FROM patients WHERE city = 'Austin'", hashed + `\|` + token},
	{"SELECT clinic.patients.ssn FROM clinic.patients WHERE city = 'Austin' FOR SHARE", oneSSN},
	{"SELECT id, birth_date FROM clinic.patients WHERE city = 'Austin'", `\d+\|NULL`},
	{"SELECT * FROM clinic.patients WHERE city = 'Austin'", `\d+\|` + someone + `\|` + oneSSN + `\|NULL\|` + token + `\|` + hashed + `\|Austin\|NULL\|0`},
	{"SELECT p.*, e.note FROM clinic.patients p JOIN clinic.encounters e ON true WHERE p.city = 'Austin' AND e.severity = 'high'", `\d+\|` + someone + `\|.*\|fever`},
	{"SELECT ssn FROM clinic.v_patients WHERE city = 'Austin'", oneSSN},
	{"SELECT c.ssn, p.ssn FROM clinic.claims c, clinic.patients p WHERE p.city = 'Austin'", token + `\|` + oneSSN},
	{"TABLE clinic.claims", `\d\|` + token + `\|.*`},
	// Also where it is passed on, by whatever names.
	{"SELECT s.ssn FROM (SELECT ssn FROM clinic.patients WHERE city = 'Austin') s", oneSSN},
	{"SELECT s.number, s.city FROM (SELECT ssn AS number, city FROM clinic.patients) s WHERE s.city = 'Austin'", oneSSN + `\|Austin`},
	{"SELECT n FROM (SELECT number AS n FROM (SELECT p.ssn AS number FROM clinic.patients p JOIN clinic.encounters e ON true WHERE p.city = 'Austin' ORDER BY p.city LIMIT 2) a LIMIT 1) b", oneSSN},
	{"SELECT ssn FROM (SELECT 'x' AS ssn, 'y' AS x) s", `x`},
	{"SELECT s.ssn, p.ssn FROM clinic.patients p, (SELECT 'x' AS ssn) s WHERE p.city = 'Austin'", `x\|` + `\[redacted\]`},
	{"WITH x AS (SELECT ssn FROM clinic.patients WHERE city = 'Austin') SELECT ssn FROM x", oneSSN},
	{"WITH x AS (SELECT ssn, city FROM clinic.patients), y AS MATERIALIZED (SELECT x.ssn AS number FROM x WHERE city = 'Austin') SELECT a.number, b.ssn AS again FROM y a, x b WHERE b.city = 'Austin'", oneSSN + `\|` + oneSSN},
	{"WITH x AS (SELECT ssn, name FROM clinic.v_patients WHERE city = 'Austin') SELECT who, s.ssn FROM (SELECT name AS who, x.ssn FROM x) s", someone + `\|` + oneSSN},
	{"SELECT p.ssn FROM clinic.patients p WHERE EXISTS (SELECT 1 FROM clinic.patients p WHERE p.city = 'Austin') AND p.city = 'Austin'", oneSSN},
	{"SELECT p.ssn FROM clinic.patients p, (SELECT 1 AS one UNION SELECT 1) u WHERE p.city = 'Austin'", oneSSN},
	{"SELECT s.ssn, s.city FROM (SELECT city AS ssn, ssn AS city FROM clinic.patients) s", `(Boston|Austin|NULL)\|(` + oneSSN + `|NULL)`},
	{"SELECT s.ssn FROM (SELECT * FROM clinic.patients WHERE city = 'Austin') s", oneSSN},
	{"WITH x AS (SELECT p.*, e.note FROM clinic.patients p JOIN clinic.encounters e ON e.id = 1 WHERE p.city = 'Austin') SELECT note, ssn FROM x", `ok\|` + oneSSN},
	// What is done more with a column has it redacted.
	{"SELECT s.* FROM (SELECT * FROM clinic.patients WHERE city = 'Austin') s", `.*\|\[redacted\]\|.*`},
	{"WITH products AS (SELECT ssn FROM clinic.patients WHERE city = 'Austin') SELECT * FROM products", `\[redacted\]`},
	{"WITH products AS (SELECT ssn FROM clinic.patients WHERE city = 'Austin'), y AS (SELECT * FROM products) SELECT ssn FROM y", `\[redacted\]`},
	{"SELECT left(ssn, 99) FROM clinic.patients WHERE city = 'Austin'", `\[redacted\]`},
	{"SELECT ssn FROM clinic.patients WHERE ssn <> ''", `\[redacted\]`},
	{"SELECT ssn FROM clinic.patients WHERE city = 'Austin' ORDER BY ssn", `\[redacted\]`},
	{"SELECT ssn FROM clinic.patients WHERE city = 'Austin' ORDER BY 1", `\[redacted\]`},
	{"SELECT ssn AS city FROM clinic.patients ORDER BY city LIMIT 1", `\[redacted\]`},
	{"SELECT DISTINCT ssn FROM clinic.patients WHERE city = 'Austin'", `\[redacted\]`},
	{"SELECT ssn FROM clinic.patients WHERE city = 'Austin' GROUP BY 1", `\[redacted\]`},
	{"SELECT ssn FROM clinic.patients WHERE city = 'Austin' UNION ALL SELECT 'x'", `\[redacted\]|x`},
	// Where queries follow each other each of them has the same field there, or NULL.
	{"SELECT ssn, city FROM clinic.patients WHERE city = 'Austin' UNION ALL SELECT ssn, city FROM clinic.v_patients WHERE city = 'Austin'", oneSSN + `\|Austin`},
	{"(SELECT ssn AS a, city FROM clinic.patients ORDER BY city LIMIT 3) UNION ALL (SELECT x.number, 'y' FROM (SELECT ssn AS number FROM clinic.v_patients WHERE city = 'Austin') x) ORDER BY city", `(` + oneSSN + `|NULL)\|.*`},
	{"TABLE clinic.claims UNION ALL TABLE clinic.claims UNION ALL SELECT * FROM clinic.claims LIMIT 5", `\d\|` + token + `\|.*`},
	{"SELECT NULL, id FROM clinic.encounters UNION ALL SELECT ssn, 7 FROM clinic.patients UNION ALL (SELECT NULL, 8)", `(` + oneSSN + `\|7|NULL\|\d)`},
	{"WITH x AS (SELECT ssn FROM clinic.patients WHERE city = 'Austin') SELECT ssn FROM x UNION ALL SELECT ssn FROM x", oneSSN},
	{"SELECT id FROM clinic.patients UNION ALL SELECT id FROM clinic.v_patients", `\d{3,}`},
	{"SELECT ssn, city FROM clinic.patients WHERE city = 'Austin' UNION ALL SELECT ssn, ssn FROM clinic.v_patients WHERE city = 'Austin'", `\[redacted\]\|(Austin|\[redacted\])`},
	{"SELECT ssn FROM clinic.patients WHERE city = 'Austin' UNION ALL SELECT ssn FROM clinic.claims", `\[redacted\]`},
	{"SELECT ssn FROM clinic.patients WHERE city = 'Austin' UNION ALL SELECT name FROM clinic.patients WHERE city = 'Austin'", `\[redacted\]`},
	{"SELECT ssn FROM clinic.patients WHERE city = 'Austin' UNION ALL SELECT city FROM clinic.patients WHERE city = 'Austin'", `\[redacted\]|Austin`},
	{"SELECT ssn, ssn FROM clinic.patients WHERE city = 'Austin' UNION ALL SELECT ssn, 'x' FROM clinic.v_patients WHERE city = 'Austin'", `\[redacted\]\|(\[redacted\]|x)`},
	{"SELECT ssn FROM clinic.patients WHERE city = 'Austin' UNION ALL SELECT ssn FROM clinic.patients WHERE city = 'Austin' ORDER BY ssn", `\[redacted\]`},
	{"SELECT ssn FROM clinic.patients WHERE city = 'Austin' UNION ALL SELECT ssn FROM clinic.patients WHERE city = 'Austin' ORDER BY 1", `\[redacted\]`},
	{"SELECT city AS k FROM clinic.patients WHERE city = 'Austin' UNION ALL SELECT ssn FROM clinic.patients WHERE city = 'Austin' ORDER BY k", `\[redacted\]|Austin`},
	{"SELECT NULL::text UNION ALL SELECT ssn FROM clinic.patients WHERE city = 'Austin' ORDER BY text", `\[redacted\]|NULL`},
	{"SELECT NULL UNION ALL SELECT ssn FROM clinic.patients WHERE city = 'Austin' ORDER BY \"?column?\"", `\[redacted\]|NULL`},
	{"SELECT NULL AS k UNION ALL SELECT ssn FROM clinic.patients WHERE city = 'Austin' ORDER BY k", `\[redacted\]|NULL`},
	{"SELECT ssn FROM clinic.patients WHERE city = 'Austin' UNION ALL VALUES ('x')", `\[redacted\]|x`},
	{"SELECT ssn FROM clinic.patients WHERE city = 'Austin' UNION SELECT ssn FROM clinic.patients WHERE city = 'Austin'", `\[redacted\]`},
	{"SELECT ssn FROM clinic.patients WHERE city = 'Austin' INTERSECT SELECT ssn FROM clinic.patients", `\[redacted\]`},
	{"SELECT ssn FROM clinic.patients WHERE city = 'Austin' EXCEPT ALL SELECT 'x'", `\[redacted\]`},
	{"SELECT ssn FROM clinic.patients WHERE city = 'Austin' UNION ALL (SELECT ssn FROM clinic.patients WHERE city = 'Austin' UNION SELECT ssn FROM clinic.patients WHERE city = 'Austin')", `\[redacted\]`},
	{"SELECT ssn FROM clinic.patients WHERE city = 'Austin' UNION ALL (WITH x AS (SELECT ssn FROM clinic.patients WHERE city = 'Austin') SELECT ssn FROM x)", `\[redacted\]`},
	{"WITH x AS (SELECT ssn, city FROM clinic.patients) SELECT ssn FROM x WHERE city = 'Austin' UNION ALL SELECT city FROM x WHERE city = 'Austin'", `\[redacted\]|Austin`},
	{"SELECT (SELECT max(ssn) FROM clinic.patients)", `\[redacted\]`},
	{"SELECT ssn || '', ssn FROM clinic.patients WHERE city = 'Austin'", `\[redacted\]\|\[redacted\]`},
	{"SELECT row_to_json(p) FROM clinic.patients p WHERE city = 'Austin'", `.*"ssn":"\[redacted\]".*`},
	{"SELECT ssn, p FROM clinic.patients p WHERE city = 'Austin'", `\[redacted\]\|\(.*\[redacted\].*\)`},
	{"SELECT p.ssn, j.x FROM clinic.patients p, LATERAL (SELECT p.ssn AS x) j WHERE p.city = 'Austin'", `\[redacted\]\|\[redacted\]`},
	{"SELECT a FROM clinic.patients AS p (z, b, a) WHERE p.city = 'Austin'", `\[redacted\]`},
	{"SELECT ssn, rank() OVER (ORDER BY ssn) FROM clinic.patients WHERE city = 'Austin'", `\[redacted\]\|1`},
	{"SELECT ssn::text FROM clinic.patients WHERE city = 'Austin'", `\[redacted\]`},
	{"SELECT ssn FROM clinic.patients p WHERE EXISTS (SELECT 1 FROM clinic.claims c WHERE c.ssn = p.ssn OR true) AND city = 'Austin'", `\[redacted\]|NULL`},
	// Or with what passes it on.
	{"SELECT ssn FROM (SELECT ssn, city FROM clinic.patients) s WHERE lower(city) = 'austin' AND ssn <> ''", `\[redacted\]`},
	{"SELECT s.number FROM (SELECT ssn AS number FROM clinic.patients WHERE city = 'Austin') s ORDER BY number", `\[redacted\]`},
	{"SELECT number FROM (SELECT ssn AS number FROM clinic.patients WHERE city = 'Austin') s WHERE number IS NOT NULL", `\[redacted\]`},
	{"SELECT s.ssn FROM (SELECT DISTINCT ssn FROM clinic.patients WHERE city = 'Austin') s", `\[redacted\]`},
	{"SELECT s.ssn FROM (SELECT ssn FROM clinic.patients WHERE city = 'Austin' ORDER BY 1 LIMIT 1) s", `\[redacted\]`},
	{"SELECT s.ssn FROM (SELECT max(ssn) AS ssn FROM clinic.patients WHERE city = 'Austin') s", `\[redacted\]`},
	{"SELECT s.ssn FROM (SELECT ssn FROM clinic.patients WHERE city = 'Austin' GROUP BY ssn) s", `\[redacted\]`},
	{"SELECT s.ssn FROM (SELECT ssn FROM clinic.patients WHERE city = 'Austin' UNION ALL SELECT 'x') s", `\[redacted\]|x`},
	{"WITH x AS (SELECT ssn FROM clinic.patients WHERE city = 'Austin') SELECT ssn FROM x WHERE ssn <> ''", `\[redacted\]`},
	{"WITH x AS (SELECT ssn FROM clinic.patients WHERE city = 'Austin') SELECT x.ssn, (SELECT y.ssn FROM x y) FROM x", `\[redacted\]\|\[redacted\]`},
	{"WITH x AS (SELECT ssn FROM clinic.patients WHERE city = 'Austin') SELECT ssn FROM x WHERE NOT EXISTS (SELECT FROM x y JOIN clinic.claims c USING (ssn))", `\[redacted\]|NULL`},
	{"WITH x AS (SELECT ssn FROM clinic.patients WHERE city = 'Austin') SELECT x.ssn, x FROM x", `\[redacted\]\|.*redacted.*`},
	{"WITH x (a) AS (SELECT ssn FROM clinic.patients WHERE city = 'Austin') SELECT a FROM x", `NULL`},
	{"WITH RECURSIVE x AS (SELECT ssn FROM clinic.patients WHERE city = 'Austin') SELECT ssn FROM x", `\[redacted\]`},
	{"SELECT p.ssn, j.ssn FROM clinic.patients p, LATERAL (SELECT p.ssn) j WHERE p.city = 'Austin'", `\[redacted\]\|\[redacted\]`},
	{"SELECT j.ssn FROM clinic.patients p, LATERAL (SELECT ssn FROM (SELECT 1) y) j WHERE p.city = 'Austin'", `\[redacted\]`},
}

func TestKeyedMasks(t *testing.T) {
	p := start(t, keyedPolicy)
	check := func(t *testing.T, out reply, want string) {
		t.Helper()
		if planted.MatchString(out.text) || len(out.rows) == 0 || strings.Contains(out.text, "E S") {
			t.Fatalf("%s", out.text)
		}
		for _, row := range out.rows {
			if !regexp.MustCompile(`^(` + want + `)$`).MatchString(row) {
				t.Errorf("%q is not %s", row, want)
			}
		}
	}
	for i, c := range keyedStatements {
		t.Run(c.sql, func(t *testing.T) {
			r := p.raw()
			simple := r.get(1, q(c.sql))
			check(t, simple, c.want)
			same := func(how string, out reply) {
				t.Helper()
				if !slices.Equal(out.rows, simple.rows) || planted.MatchString(out.text) {
					t.Errorf("%s: %s, and simply %s", how, out.text, simple.text)
				}
			}
			same("extended", r.get(1, extended(c.sql)...))
			same("extended without Describe", r.get(1, parse("", c.sql), bind("", ""), &pgproto3.Execute{}, sync_))
			name := fmt.Sprint("s", i)
			same("prepared", r.get(1, parse(name, c.sql), bind("", name), &pgproto3.Execute{}, sync_))
			same("again", r.get(1, bind("", name), &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, sync_))
			same("row by row", r.get(1, bind("", name), &pgproto3.Execute{MaxRows: 1}, &pgproto3.Execute{MaxRows: 1}, &pgproto3.Execute{}, sync_))
			if out := r.get(2, parse("", c.sql), bind("", ""), &pgproto3.Execute{}, parse("", c.sql), bind("", ""), &pgproto3.Execute{}, sync_, q(c.sql)); planted.MatchString(out.text) || len(out.rows) != 3*len(simple.rows) {
				t.Errorf("pipelined: %s", out.text)
			}
			same("PREPARE", r.get(2, q("PREPARE p AS "+c.sql), q("EXECUTE p")))
			same("EXECUTE in a Parse", r.get(1, extended("EXECUTE p")...))
			if out := r.get(1, parse("", c.sql), &pgproto3.Bind{ResultFormatCodes: []int16{1}}, &pgproto3.Execute{}, sync_); planted.MatchString(out.text) || len(out.rows) != len(simple.rows) {
				t.Errorf("binary: %s", out.text)
			}
			if strings.Contains(c.sql, "FOR SHARE") {
				return
			}
			same("a cursor", r.get(4, q("BEGIN"), q("DECLARE c CURSOR FOR "+c.sql), q("FETCH ALL FROM c"), q("COMMIT")))
			for how, ms := range map[string][]message{"COPY": {q("COPY (" + c.sql + ") TO STDOUT")}, "COPY, extended": extended("COPY (" + c.sql + ") TO STDOUT")} {
				out := r.get(1, ms...)
				for _, line := range out.data {
					line = strings.ReplaceAll(strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "|"), `\N`, "NULL")
					out.rows = append(out.rows, line)
				}
				same(how, out)
			}
			same("a cursor by Execute", r.get(4, q("BEGIN"), q("DECLARE c CURSOR FOR "+c.sql), &pgproto3.Execute{Portal: "c"}, sync_, q("COMMIT")))
			same("FETCH in a Parse", r.get(4, q("BEGIN"), q("DECLARE c CURSOR FOR "+c.sql), parse("", "FETCH ALL c"), bind("", ""), &pgproto3.Execute{}, sync_, q("COMMIT")))
			for _, more := range [][]message{
				{q("DECLARE c BINARY CURSOR FOR " + c.sql), q("FETCH ALL c")},
				{q("DECLARE c CURSOR WITH HOLD FOR " + c.sql), q("FETCH ALL c"), q("CLOSE c")},
				{q("DECLARE c CURSOR FOR " + c.sql), q("FETCH ALL c; FETCH FIRST c")},
				{q("DECLARE c CURSOR FOR " + c.sql), q("CREATE TABLE x AS EXECUTE p")},
				{q("EXPLAIN (ANALYZE, VERBOSE) " + c.sql)},
				{q("EXPLAIN EXECUTE p")},
				{q("COPY (" + c.sql + ") TO STDOUT")},
				{q("CREATE TABLE x AS " + c.sql)},
				{q(c.sql + "; " + c.sql)},
				{q("EXECUTE p; EXECUTE p")},
				{q("SELECT 1; " + c.sql)},
				{q(c.sql + "; SELECT 1")},
				{q("EXECUTE p; SELECT 1")},
				{q("DECLARE c CURSOR FOR " + c.sql), q("FETCH 1 c; SELECT 1")},
			} {
				if out := r.get(len(more)+2, append(append([]message{q("BEGIN")}, more...), q("ROLLBACK"))...); planted.MatchString(out.text) || strings.Contains(out.text, "not what was analysed") {
					t.Errorf("%s: %s", enc(more...), out.text)
				}
			}
		})
	}
	p.settled()
}

// Drivers see the types that they know, and the same value as the same.
func TestKeyedMasksByDriver(t *testing.T) {
	p := start(t, keyedPolicy)
	ctx := context.Background()
	c, err := pgx.Connect(ctx, p.dsn(""))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	direct, err := pgx.Connect(ctx, server.DSN("agent")+" dbname=postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close(ctx)
	const sql = "SELECT id, ssn, email FROM clinic.patients WHERE city = $1"
	seen := map[int32]bool{}
	for range 2 { // binary for int4, and prepared
		rows, err := c.Query(ctx, sql, "Boston")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id int32
			var ssn, email *string
			if err := rows.Scan(&id, &ssn, &email); err != nil {
				t.Fatal(err)
			}
			if id < 100 || planted.MatchString(*ssn+" "+*email) {
				t.Errorf("%d %s %s", id, *ssn, *email)
			}
			seen[id] = true
		}
		if rows.Err() != nil {
			t.Fatal(rows.Err())
		}
	}
	var n int
	if err := direct.QueryRow(ctx, "SELECT count(*) FROM clinic.patients WHERE city = 'Boston'").Scan(&n); err != nil || len(seen) != n {
		t.Errorf("%d of %d: %v", len(seen), n, err)
	}
	var text string
	if err := c.QueryRow(ctx, sql, pgx.QueryExecModeSimpleProtocol, "Boston").Scan(&text, nil, nil); err != nil || !seen[atoi(text)] {
		t.Errorf("as text it is %s, and in binary one of %v: %v", text, seen, err)
	}
}

func atoi(s string) (n int32) { _, _ = fmt.Sscan(s, &n); return n }

// NULL stays NULL, and the record says what went out and what was masked.
func TestKeyedMasksOnRecord(t *testing.T) {
	p := start(t, keyedPolicy)
	r := p.raw()
	out := r.get(1, extended("SELECT city, ssn FROM clinic.patients WHERE city IS NULL OR city = 'Austin'")...)
	if len(out.rows) != 2 || !slices.Contains(out.rows, "NULL|NULL") {
		t.Errorf("%s", out.text)
	}
	j := p.settled()
	last := j.Events(events.Statement)
	if e := last[len(last)-1]; len(e.Masked) != 1 || e.Masked[0].String() != "clinic.patients.ssn" {
		t.Errorf("%+v", e.Masked)
	}
	var result []byte
	for _, ch := range j.Chunks() {
		result = append(result, ch.Data...)
	}
	if planted.Match(result) || !bytes.Contains(result, []byte("Austin")) {
		t.Errorf("the transcript has %q", result)
	}
	resp := j.Events(events.Response)
	if e := resp[len(resp)-1]; e.Rows != 2 || e.Status != "ok" {
		t.Errorf("%+v", e)
	}
}

// Errors of a statement whose columns come as they are stored say nothing.
func TestKeyedMasksErrors(t *testing.T) {
	p := start(t, keyedPolicy)
	c, err := pgconn.Connect(context.Background(), p.dsn("options='-c client_min_messages=debug5'"))
	if err != nil {
		c, err = pgconn.Connect(context.Background(), p.dsn(""))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	_, err = c.Exec(context.Background(), "SELECT ssn, 1/(visits - visits) FROM clinic.patients").ReadAll()
	var e *pgconn.PgError
	if !errors.As(err, &e) || e.Code != "22012" || !strings.Contains(e.Detail, "withheld") {
		t.Errorf("%+v", err)
	}
}

// What is shown fits into its column, whose length the client was told.
func TestKeyedMasksFit(t *testing.T) {
	db, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	if _, err := db.Exec(t.Context(), "DROP SCHEMA IF EXISTS narrow CASCADE; CREATE SCHEMA narrow; CREATE DOMAIN narrow.short AS varchar(6);"+
		"CREATE TABLE narrow.t (a varchar(10), b char(8), c narrow.short, d varchar(3), e varchar, f varchar(40)); INSERT INTO narrow.t VALUES ('CANARY1', 'CANARY2', 'CANAR3', 'CAN', 'CANARY4', 'CANARY5')"); err != nil {
		t.Fatal(err)
	}
	defer db.Exec(context.Background(), "DROP SCHEMA narrow CASCADE")
	p := start(t, keyedPolicy+`      narrow.t.a: token
      narrow.t.b: hash
      narrow.t.c: {mask: fake, of: name}
      narrow.t.d: format
      narrow.t.e: hash
      narrow.t.f: token
`)
	r := p.raw()
	const want = `^tok_[a-z2-7]{6}\|[0-9a-f]{8}\|[A-Za-z ]{1,6}\|\[re\|[0-9a-f]{32}\|tok_[a-z2-7]{16}$`
	for how, say := range map[string][]message{"simple": {q("SELECT * FROM narrow.t")}, "extended": extended("SELECT * FROM narrow.t")} {
		if out := r.get(1, say...); len(out.rows) != 1 || !regexp.MustCompile(want).MatchString(out.rows[0]) {
			t.Errorf("%s: %s", how, out.text)
		}
	}
}
