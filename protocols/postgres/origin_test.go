package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"
)

const originPolicy = maskPolicy + `
  - name: more
    effect: mask
    identity: "*"
    resource: "*"
    fields:
      clinic.patients.visits: {mask: redact, constant: "0"}
      clinic.v_by_patient.patient_id: "null"
      public.checked.c: redact
`

// origins are statements whose result a client is told the same of as without masks:
// of which table and column it is, which type, size and modifier.
var origins = []string{
	"SELECT ssn FROM clinic.patients",
	"SELECT city, p.ssn AS number, phone, lower(ssn), id, 1 FROM clinic.patients p",
	"SELECT * FROM clinic.patients",
	"SELECT p.*, e.note, e.* FROM clinic.patients p JOIN clinic.encounters e ON e.patient_id = p.id",
	"SELECT 'x', clinic.patients.*, ssn FROM clinic.patients",
	"TABLE clinic.claims",
	"SELECT * FROM clinic.v_patients",
	"SELECT * FROM clinic.v_by_patient",
	"SELECT c, id FROM public.checked",
	"SELECT reason, ssn FROM clinic.archived ORDER BY ssn",
	"SELECT DISTINCT ssn FROM clinic.patients",
	"SELECT ssn, count(*) FROM clinic.patients GROUP BY ssn",
	"SELECT a.ssn, b.ssn FROM clinic.patients a LEFT JOIN clinic.patients b ON a.id = b.id + 1",
	"SELECT p.phone FROM clinic.patients p, (SELECT 1 AS phone) x",
	"SELECT (p.phone) FROM clinic.patients p WHERE EXISTS (SELECT phone FROM clinic.patients q)",
	"SELECT coalesce(ssn, ''), ssn || '', left(phone, 3) FROM clinic.patients",
	"SELECT ssn FROM clinic.patients UNION ALL SELECT ssn FROM clinic.claims",
	"SELECT id FROM clinic.patients",
	"SELECT s.ssn, s.n FROM (SELECT ssn, phone AS n FROM clinic.patients) s",
	"WITH x AS (SELECT ssn, city FROM clinic.patients) SELECT ssn, city FROM x",
	"WITH x AS (SELECT DISTINCT phone AS n FROM clinic.patients) SELECT x.n, y.n AS m FROM x, x y",
}

// describing is what a conversation says of columns, to the byte, and its errors.
func describing(r *raw, ready int, ms ...message) string {
	r.t.Helper()
	r.send(enc(ms...))
	var said strings.Builder
	for ready > 0 {
		typ, body := r.next()
		switch typ {
		case 0:
			return said.String()
		case 'Z':
			ready--
		case 'T', 'E':
			fmt.Fprintf(&said, "%c %q\n", typ, body)
		}
	}
	return said.String()
}

func TestOrigins(t *testing.T) {
	p := start(t, originPolicy)
	r, direct := p.raw(), dial(t, server.Addr.String())
	for i, sql := range origins {
		name := fmt.Sprint("o", i)
		for how, c := range map[string]struct {
			n   int
			say []message
		}{
			"simple":              {1, []message{q(sql)}},
			"Describe":            {1, extended(sql)},
			"Describe statement":  {1, []message{parse("", sql), describe('S', ""), sync_}},
			"binary":              {1, []message{parse("", sql), &pgproto3.Bind{ResultFormatCodes: []int16{1}}, describe('P', ""), execute(""), sync_}},
			"EXECUTE":             {3, append([]message{q("PREPARE " + name + " AS " + sql), q("EXECUTE " + name)}, extended("EXECUTE "+name)...)},
			"a cursor":            {4, []message{q("BEGIN"), q("DECLARE c CURSOR FOR " + sql), q("FETCH 1 c"), q("COMMIT")}},
			"a cursor, described": {4, []message{q("BEGIN"), q("DECLARE c CURSOR FOR " + sql), describe('P', "c"), execute("c"), sync_, q("COMMIT")}},
		} {
			got, want := describing(r, c.n, c.say...), describing(direct, c.n, c.say...)
			if got != want || !strings.Contains(got, "T ") {
				t.Errorf("%s, %s:\n%swant\n%s", sql, how, got, want)
			}
		}
	}
	p.settled()
}

// What is said of a column that is masked on output is what the server says.
func TestOriginsOfKeyedMasks(t *testing.T) {
	p := start(t, keyedPolicy)
	r, direct := p.raw(), dial(t, server.Addr.String())
	for _, sql := range []string{
		"SELECT ssn, lower(name), email, id FROM clinic.patients", "SELECT * FROM clinic.patients", "SELECT ssn, left(ssn, 1) FROM clinic.patients",
		"SELECT DISTINCT name, phone FROM clinic.patients", "SELECT p.*, c.ssn FROM clinic.patients p JOIN clinic.claims c ON true",
	} {
		for how, say := range map[string][]message{"simple": {q(sql)}, "extended": extended(sql)} {
			if got, want := describing(r, 1, say...), describing(direct, 1, say...); got != want {
				t.Errorf("%s, %s:\n%swant\n%s", sql, how, got, want)
			}
		}
	}
}
