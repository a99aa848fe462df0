package postgres_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"
	"github.com/jackc/pgx/v5"

	"sallyport.dev/sallyport/events"
)

// keyedWrites return columns with keyed masks; want is of each row.
var keyedWrites = []struct{ sql, want string }{
	{"UPDATE clinic.patients SET visits = visits + 1 WHERE city = 'Austin' RETURNING ssn, visits", oneSSN + `\|1`},
	{"UPDATE clinic.patients AS p SET visits = 7 WHERE p.city = 'Austin' RETURNING p.id, p.email AS mail, phone", `\d{3,}\|` + hashed + `\|` + token},
	{"UPDATE clinic.patients SET visits = 1 WHERE city IS NULL RETURNING clinic.patients.ssn, city", `NULL\|NULL`},
	{"UPDATE clinic.claims SET amount = 1 RETURNING *", `\d\|` + token + `\|1.00`},
	{"DELETE FROM clinic.claims WHERE id = 1 RETURNING ssn, ssn AS again", token + `\|` + token},
	{"DELETE FROM clinic.claims RETURNING *", `\d\|` + token + `\|.*`},
	{"INSERT INTO clinic.claims (id, amount) VALUES (3, 30), (4, 40) RETURNING *", `\d\|NULL\|.0.00`},
	{"INSERT INTO clinic.claims (id) SELECT id + 100 FROM clinic.encounters RETURNING claims.ssn", `NULL`},
	{"UPDATE public.log SET message = 'x' FROM clinic.patients p WHERE p.city = 'Austin' RETURNING p.ssn, p.name, log.message", oneSSN + `\|` + someone + `\|x`},
	{"DELETE FROM public.log l USING clinic.v_patients p WHERE p.city = 'Austin' RETURNING p.ssn, l.id", oneSSN + `\|\d+`},
	{"UPDATE clinic.claims c SET amount = 2 FROM clinic.patients p WHERE p.city = 'Austin' RETURNING c.ssn, p.ssn", token + `\|` + oneSSN},
	{"WITH x AS (SELECT ssn AS number FROM clinic.patients WHERE city = 'Austin') UPDATE public.log SET message = 'x' FROM x RETURNING x.number", oneSSN},
	// What is done more with a column of another relation has it redacted.
	{"UPDATE public.log SET message = p.ssn FROM clinic.patients p WHERE p.city = 'Austin' RETURNING p.ssn, message", `\[redacted\]\|\[redacted\]`},
	{"UPDATE public.log SET message = 'x' FROM clinic.patients p WHERE p.city = 'Austin' AND p.ssn <> '' RETURNING p.ssn", `\[redacted\]`},
	{"UPDATE public.log SET message = 'x' FROM clinic.patients p WHERE p.city = 'Austin' RETURNING left(p.name, 99), p.name", `\[redacted\]\|\[redacted\]`},
	{"INSERT INTO public.log (message) SELECT ssn FROM clinic.patients WHERE city = 'Austin' RETURNING message", `\[redacted\]`},
}

func TestKeyedReturning(t *testing.T) {
	p := start(t, keyedPolicy)
	for i, c := range keyedWrites {
		t.Run(c.sql, func(t *testing.T) {
			r := p.raw()
			// Each in a transaction that leaves nothing behind.
			try := func(how string, n int, ms ...message) reply {
				t.Helper()
				out := r.get(n+2, append(append([]message{q("BEGIN")}, ms...), q("ROLLBACK"))...)
				if planted.MatchString(out.text) || len(out.rows) == 0 || strings.Contains(out.text, "E S") {
					t.Fatalf("%s: %s", how, out.text)
				}
				return out
			}
			simple := try("simple", 1, q(c.sql))
			for _, row := range simple.rows {
				if !regexp.MustCompile(`^(` + c.want + `)$`).MatchString(row) {
					t.Errorf("%q is not %s", row, c.want)
				}
			}
			name := fmt.Sprint("s", i)
			for how, ms := range map[string][]message{
				"extended":           extended(c.sql),
				"without Describe":   {parse("", c.sql), bind("", ""), &pgproto3.Execute{}, sync_},
				"prepared":           {parse(name, c.sql), bind("", name), &pgproto3.Execute{}, sync_},
				"row by row":         {parse("", c.sql), bind("", ""), &pgproto3.Execute{MaxRows: 1}, &pgproto3.Execute{}, sync_},
				"EXECUTE in a Parse": append([]message{parse("", "PREPARE p AS "+c.sql), bind("", ""), &pgproto3.Execute{}, sync_}, extended("EXECUTE p")...),
			} {
				n := 1
				if strings.HasPrefix(how, "EXECUTE") {
					n = 2
				}
				if out := try(how, n, ms...); !slices.Equal(out.rows, simple.rows) && !strings.Contains(c.sql, "log SET") {
					t.Errorf("%s: %q, and simply %q", how, out.rows, simple.rows)
				}
			}
			if out := r.get(3, q("BEGIN"), parse("", c.sql), &pgproto3.Bind{ResultFormatCodes: []int16{1}}, &pgproto3.Execute{}, sync_, q("ROLLBACK")); planted.MatchString(out.text) || len(out.rows) != len(simple.rows) {
				t.Errorf("binary: %s", out.text)
			}
			copied := r.get(3, q("BEGIN"), q("COPY ("+c.sql+") TO STDOUT"), q("ROLLBACK"))
			if got := strings.ReplaceAll(strings.ReplaceAll(strings.Join(copied.data, ""), "\t", "|"), `\N`, "NULL"); got != strings.Join(simple.rows, "\n")+"\n" {
				t.Errorf("COPY: %s, and simply %q", copied.text, simple.rows)
			}
			for _, ms := range [][]message{
				{q(c.sql + "; SELECT 1")},
				{q("WITH w AS (" + c.sql + ") SELECT * FROM w")},
				{q("EXPLAIN (ANALYZE, VERBOSE) " + c.sql)},
				{q("CREATE TABLE public.kept AS WITH w AS (" + c.sql + ") SELECT * FROM w")},
			} {
				if out := r.get(3, q("BEGIN"), ms[0], q("ROLLBACK")); planted.MatchString(out.text) || strings.Contains(out.text, "not what was analysed") {
					t.Errorf("%s: %s", enc(ms...), out.text)
				}
			}
		})
	}
	p.settled()
}

// What does more with a column of what it writes than to return it is refused, and a
// value of the agent's choice is never shown under a mask.
func TestKeyedReturningRefused(t *testing.T) {
	administer(t, "CREATE TABLE public.made (id int, raw text, big text GENERATED ALWAYS AS (upper(raw)) STORED)", "GRANT ALL ON public.made TO PUBLIC")
	t.Cleanup(func() { _ = server.Exec(context.Background(), "DROP TABLE public.made") })
	p := start(t, keyedPolicy+"      public.made.big: token\n")
	for _, sql := range []string{
		"UPDATE clinic.patients SET ssn = '911-47-0001' WHERE city = 'Austin' RETURNING ssn",
		"INSERT INTO clinic.claims (id, ssn) VALUES (7, '911-47-0001') RETURNING ssn",
		"INSERT INTO clinic.claims VALUES (7, '911-47-0001', 1) RETURNING ssn",
		"INSERT INTO clinic.claims SELECT 7, '911-47-0001', 1 RETURNING *",
		"INSERT INTO clinic.claims (id) VALUES (1) ON CONFLICT DO NOTHING RETURNING ssn",
		"UPDATE clinic.patients SET visits = 1 WHERE ssn LIKE '9%' RETURNING ssn",
		"UPDATE clinic.patients SET city = ssn RETURNING ssn",
		"UPDATE clinic.patients SET visits = length(ssn) RETURNING ssn, visits",
		"DELETE FROM clinic.claims RETURNING upper(ssn)",
		"DELETE FROM clinic.claims RETURNING ssn, ssn || ''",
		"DELETE FROM clinic.claims RETURNING claims",
		"DELETE FROM clinic.claims c RETURNING c.ssn, to_json(c)",
		"DELETE FROM clinic.claims RETURNING ssn, (SELECT max(c.ssn) FROM clinic.claims c)",
		"UPDATE clinic.claims c SET amount = 2 FROM clinic.patients p WHERE p.ssn = c.ssn RETURNING c.ssn",
		"UPDATE clinic.claims SET amount = 2 FROM clinic.claims c WHERE c.id = claims.id RETURNING ssn",
		"UPDATE clinic.claims SET amount = 2 FROM clinic.patients JOIN clinic.cards USING (ssn) RETURNING claims.ssn",
		"WITH w AS (DELETE FROM clinic.claims RETURNING ssn) SELECT ssn FROM w",
	} {
		for how, ms := range map[string][]message{"simple": {q(sql)}, "extended": extended(sql), "COPY": {q("COPY (" + sql + ") TO STDOUT")}} {
			out := p.raw().get(3, append(append([]message{q("BEGIN")}, ms...), q("ROLLBACK"))...)
			if len(out.rows)+len(out.data) > 0 || planted.MatchString(out.text) || !strings.Contains(out.text, "42501") && !strings.Contains(out.text, "0A000") {
				t.Errorf("%s, %s: %s", how, sql, out.text)
			}
		}
	}
	// A generated column is redacted, and so is what has another mask, or comes by a WITH query.
	for sql, want := range map[string]string{
		"INSERT INTO public.made (id, raw) VALUES (1, '911-47-0001') RETURNING big, id":                                  "[redacted]|1",
		"INSERT INTO public.made (id, raw) VALUES (2, 'x') RETURNING *":                                                  "2|x|[redacted]",
		"UPDATE clinic.patients SET visits = 1 WHERE city = 'Austin' RETURNING name_upper, visits":                       "NULL|1",
		"WITH w AS (DELETE FROM public.log RETURNING id) UPDATE clinic.claims SET amount = 1 WHERE id = 1 RETURNING ssn": "[redacted]",
	} {
		for how, ms := range map[string][]message{"simple": {q(sql)}, "extended": extended(sql)} {
			out := p.raw().get(3, append(append([]message{q("BEGIN")}, ms...), q("ROLLBACK"))...)
			if len(out.rows) != 1 || out.rows[0] != want {
				t.Errorf("%s, %s: %s", how, sql, out.text)
			}
		}
	}
	p.settled()
}

// An ORM's INSERT gets the key of the new row, under its mask and of its type, and the
// record names what was masked.
func TestKeyedReturningByDriver(t *testing.T) {
	ctx := context.Background()
	db, err := pgx.Connect(ctx, server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)
	if _, err := db.Exec(ctx, "DROP SCHEMA IF EXISTS orm CASCADE; CREATE SCHEMA orm; CREATE TABLE orm.people (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ref uuid DEFAULT '91147000-0000-0000-0000-000000000001', city text);"+
		"GRANT ALL ON SCHEMA orm TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA orm TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA orm TO PUBLIC"); err != nil {
		t.Fatal(err)
	}
	defer db.Exec(ctx, "DROP SCHEMA orm CASCADE")
	p := start(t, keyedPolicy+"      orm.people.id: token\n      orm.people.ref: token\n")
	c, err := pgx.Connect(ctx, p.dsn(""))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	var id, same int64
	var ref, again string
	if err := c.QueryRow(ctx, "INSERT INTO orm.people (city) VALUES ($1) RETURNING id, ref::text IS NULL IS NULL, ref", "Boston").Scan(&id, nil, &ref); err == nil {
		t.Error("it was said whether a masked column is NULL")
	}
	if err := c.QueryRow(ctx, "INSERT INTO orm.people (city) VALUES ($1) RETURNING id, ref", "Boston").Scan(&id, &ref); err != nil {
		t.Fatal(err)
	}
	if err := c.QueryRow(ctx, "SELECT id, ref FROM orm.people WHERE city = $1", "Boston").Scan(&same, &again); err != nil || same != id || again != ref || id < 100 || strings.HasPrefix(ref, "91147") {
		t.Errorf("%d %s, and %d %s: %v", id, ref, same, again, err)
	}
	_ = c.Close(ctx)
	j := p.settled()
	var masked []string
	for _, e := range j.Events(events.Statement) {
		if e.Command == "insert" && e.Verdict == events.Allow || strings.Contains(fmt.Sprint(e.Objects), "people") {
			masked = append(masked, fmt.Sprint(e.Masked))
		}
	}
	if !slices.Contains(masked, "[orm.people.id orm.people.ref]") {
		t.Errorf("%q", masked)
	}
}
