package postgres_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// ddlPolicy lets a masked agent define things, unmaskedPolicy shows it all
// besides; both in scopes that are analysed.
var (
	ddlPolicy      = strings.Replace(maskPolicy, "[read, session, write]", "[read, session, write, ddl]", 1)
	unmaskedPolicy = `
rules:
  - name: everything
    effect: allow
    identity: "*"
    resource: "*"
    commands: ["*"]
    relations: ["*.*"]
  - name: not-this
    effect: block
    identity: "*"
    resource: "*"
    commands: [read]
    relations: [clinic.guarded]
`
)

// pathy is a role whose search_path is its own.
const pathy = "CREATE ROLE pathy SUPERUSER LOGIN; ALTER ROLE pathy SET search_path = public, clinic"

// sql runs statements past everything.
func sql(t *testing.T, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if err := server.Exec(context.Background(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// What a transaction makes is known in it, and no longer than it is there.
func TestOwnTransaction(t *testing.T) {
	sql(t, pathy)
	defer sql(t, "DROP ROLE pathy", "DROP TABLE IF EXISTS own, own2, own_as, own_renamed, own_batch")
	n := 0
	for name, say := range map[string]func(string) []message{
		"simple":   func(s string) []message { return []message{q(s)} },
		"extended": func(s string) []message { return extended(s) },
		"named": func(s string) []message {
			n++
			name := fmt.Sprint("n", n)
			return []message{parse(name, s), bind("", name), execute(""), sync_}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, ddlPolicy)
			r := p.raw("user", "pathy")
			is := func(stmt, want string) {
				t.Helper()
				out := r.ask(1, say(stmt)...)
				if !strings.Contains(out, want) || strings.Contains(out, "911-47") {
					t.Errorf("%s: %s", stmt, out)
				}
			}
			is("BEGIN", "C BEGIN")
			is("SELECT * FROM own", "C42P01")
			is("ROLLBACK", "C ROLLBACK")
			is("BEGIN", "C BEGIN")
			is("CREATE TABLE own (id serial, ssn text DEFAULT lower('x'))", "C CREATE")
			is("INSERT INTO own (ssn) VALUES ('a')", "C INSERT")
			is("SELECT ssn || id FROM own", "a1\n")
			is("SELECT o.id, p.ssn FROM own o JOIN clinic.patients p USING (id)", "***-**-0001")
			is("SAVEPOINT s", "C SAVEPOINT")
			is("CREATE TABLE own2 AS SELECT id FROM own", "C SELECT 1")
			is("CREATE TEMPORARY TABLE own_temp (v text)", "C CREATE")
			is("INSERT INTO own_temp SELECT 'temp' FROM own2", "C INSERT 0 1")
			is("SELECT v FROM own_temp", "temp\n")
			is("CREATE TABLE own_as AS SELECT ssn FROM clinic.patients", "sallyport: refused")
			is("ROLLBACK TO s", "C ROLLBACK")
			is("SELECT * FROM own2", `relation "own2" does not exist`)
			is("ROLLBACK TO s", "C ROLLBACK")
			is("SELECT * FROM own_temp", `relation "own_temp" does not exist`)
			is("ROLLBACK TO s", "C ROLLBACK")
			is("SELECT ssn FROM own", "a\n")
			is("ROLLBACK", "C ROLLBACK")
			is("SELECT ssn FROM own", `relation "own" does not exist`)
			is("BEGIN", "C BEGIN")
			is("CREATE TABLE own (id int)", "C CREATE")
			is("CREATE TABLE public.own2 (id int)", "C CREATE")
			is("SELECT * FROM public.own, public.own2", "C SELECT 0")
			is("SHOW search_path", "public, clinic\n")
			is("COMMIT AND CHAIN", "C COMMIT")
			is("SHOW search_path", "public, clinic\n")
			is("SELECT * FROM own, own2", "C SELECT 0")
			is("DROP TABLE own", "C DROP")
			is("SELECT * FROM own", `relation "own" does not exist`)
			is("ROLLBACK", "C ROLLBACK")
			is("SELECT * FROM own", "C SELECT 0")
			is("DROP TABLE own, own2", "C DROP")
		})
	}
}

// In a batch too, whose transaction ends with it: by one error all of it is undone.
func TestOwnTransactionOfABatch(t *testing.T) {
	p := start(t, ddlPolicy)
	r := p.raw()
	make_ := []message{parse("", "CREATE TABLE own_batch (v text)"), bind("", ""), execute("")}
	use := []message{parse("u", "INSERT INTO own_batch VALUES ('made')"), bind("", "u"), execute(""), parse("", "SELECT v, ssn FROM own_batch, clinic.patients WHERE id = 1"), bind("", ""), execute("")}
	out := r.ask(1, append(append(append([]message{}, make_...), use...), parse("", "SELECT 1/0"), bind("", ""), execute(""), sync_)...)
	if !strings.Contains(out, "made") || !strings.Contains(out, "***-**-0001") || !strings.Contains(out, "C22012") || !strings.HasSuffix(out, "Z I\n") {
		t.Errorf("%s", out)
	}
	if out := r.ask(1, q("SELECT * FROM own_batch")); !strings.Contains(out, "C42P01") {
		t.Errorf("%s", out)
	}
	// The client's unnamed statement outlives what is asked in between.
	out = r.ask(1, parse("", "CREATE TABLE own_batch (v text)"), bind("", ""), execute(""), parse("", "SELECT 'mine'"), sync_)
	if out += r.ask(1, bind("", ""), execute(""), sync_); !strings.Contains(out, "mine") {
		t.Errorf("%s", out)
	}
	if out := r.ask(1, q("DROP TABLE own_batch")); !strings.Contains(out, "C DROP") {
		t.Errorf("%s", out)
	}
	if err := p.settled(); err == nil {
		t.Error("no journal")
	}
}

// Whoever may define more, and is then another: what was protected stays so under
// any name, and by any view.
func TestOwnTransactionProtects(t *testing.T) {
	const seen = "911-47"
	sql(t, "CREATE VIEW harmless_view AS SELECT id, city FROM clinic.patients", "CREATE TABLE ordinary (id int, ssn text, city text)", "INSERT INTO ordinary VALUES (7, 'plain', 'x')")
	sql(t, pathy)
	defer sql(t, "DROP ROLE pathy", "DROP VIEW harmless_view", "DROP TABLE ordinary")
	for _, c := range []struct {
		name   string
		define []string
		read   []string
	}{
		{"renamed", []string{"ALTER TABLE clinic.patients RENAME TO ill"}, []string{"SELECT ssn FROM clinic.ill", "SELECT * FROM ill", "SELECT ssn FROM clinic.patients"}},
		{"a column renamed", []string{"ALTER TABLE clinic.patients RENAME COLUMN ssn TO number"}, []string{"SELECT number FROM clinic.patients", "SELECT * FROM clinic.patients", "SELECT ssn FROM clinic.v_patients"}},
		{"columns swapped", []string{"ALTER TABLE clinic.patients RENAME COLUMN ssn TO x", "ALTER TABLE clinic.patients RENAME COLUMN city TO ssn", "ALTER TABLE clinic.patients RENAME COLUMN x TO city"}, []string{"SELECT city FROM clinic.patients", "SELECT city FROM harmless_view", "SELECT ssn FROM clinic.v_patients"}},
		{"tables swapped", []string{"ALTER TABLE clinic.patients RENAME TO x", "CREATE TABLE clinic.patients (id int, ssn text, city text)"}, []string{"SELECT ssn FROM clinic.x", "SELECT ssn FROM clinic.v_patients", "SELECT ssn FROM clinic.patients"}},
		{"a view", []string{"CREATE VIEW own_view AS SELECT id, ssn AS v, lower(ssn) AS w FROM clinic.patients"}, []string{"SELECT v FROM own_view", "SELECT * FROM own_view", "SELECT w FROM own_view"}},
		{"a view of a view", []string{"CREATE VIEW own_view AS SELECT ssn AS v FROM clinic.v_patients", "CREATE VIEW own_view2 AS SELECT v FROM own_view"}, []string{"SELECT v FROM own_view2"}},
		{"a temporary view", []string{"CREATE TEMPORARY VIEW ordinary AS SELECT id, ssn, city FROM clinic.patients"}, []string{"SELECT ssn FROM ordinary", "SELECT ssn || id FROM ordinary"}},
		{"a view by the search path", []string{"CREATE VIEW own_view AS SELECT ssn AS v FROM patients"}, []string{"SELECT v FROM own_view", "SELECT v FROM public.own_view"}},
		{"a view replaced", []string{"CREATE OR REPLACE VIEW harmless_view AS SELECT id, ssn AS city FROM clinic.patients"}, []string{"SELECT city FROM harmless_view", "SELECT city || '' FROM harmless_view"}},
		{"a view replaced and back", []string{"CREATE OR REPLACE VIEW clinic.v_nested AS SELECT 'x'::text AS number, 'y'::text AS note"}, []string{"ROLLBACK; SELECT number FROM clinic.v_nested"}},
		{"a child", []string{"ALTER TABLE ordinary ADD COLUMN name text, ADD COLUMN birth_date date", "CREATE TABLE clinic.child () INHERITS (clinic.patients)"}, []string{"SELECT ssn FROM clinic.child"}},
	} {
		for _, level := range []string{"READ COMMITTED", "REPEATABLE READ"} {
			t.Run(c.name+"/"+level, func(t *testing.T) {
				p := start(t, unmaskedPolicy)
				r := p.raw("user", "pathy")
				defer r.Close()
				for i, read := range c.read {
					p.Gate.SetEngine(engine(t, unmaskedPolicy))
					out := r.ask(1+len(c.define), append([]message{q("BEGIN ISOLATION LEVEL " + level)}, qs(c.define)...)...)
					if strings.Contains(out, "E S") && level == "READ COMMITTED" && c.name != "a child" {
						t.Fatal(out)
					}
					if i%2 == 1 { // looked at before the rules change
						r.ask(2, q("SAVEPOINT x"), q("SELECT 1 FROM ordinary"))
					}
					p.Gate.SetEngine(engine(t, ddlPolicy))
					out = r.ask(1, q(read))
					if level == "READ COMMITTED" && !strings.Contains(read, ";") {
						out += r.ask(1, q("ROLLBACK TO x"))
						out += r.ask(1, extended(read)...)
					}
					if strings.Contains(out, seen) || strings.Contains(out, "911") {
						t.Errorf("%s: %s", read, out)
					}
					r.ask(1, q("ROLLBACK"))
				}
			})
		}
	}
}

// What was a column when a relation was looked at may be a function that is called
// with the row when the server looks: an agent that makes relations can see to it.
func TestColumnsThatBecomeFunctions(t *testing.T) {
	sql(t, "CREATE FUNCTION peek(anyelement) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM clinic.patients ORDER BY id LIMIT 1'")
	defer sql(t, "DROP FUNCTION peek(anyelement)", "DROP TABLE IF EXISTS rx")
	const read, with, without = "SELECT rx.peek FROM rx", "CREATE TABLE rx (peek text, a int)", "CREATE TABLE rx (a int); INSERT INTO rx VALUES (1)"
	for name, say := range map[string][]string{
		"shadowed":            {with, "CREATE TEMP TABLE rx (a int)", "INSERT INTO rx VALUES (1)", read},
		"made again":          {"CREATE TEMP TABLE rx (peek text)", read, "DROP TABLE rx", "CREATE TEMP TABLE rx (a int)", "INSERT INTO rx VALUES (1)", read},
		"prepared":            {"CREATE TEMP TABLE rx (peek text)", "PREPARE p AS " + read, "DROP TABLE rx", "CREATE TEMP TABLE rx (a int)", "INSERT INTO rx VALUES (1)", "EXECUTE p"},
		"in one text":         {with, "DROP TABLE rx; " + without + "; " + read},
		"back to a savepoint": {with, "BEGIN; DROP TABLE rx; " + without + "; SAVEPOINT s; SELECT 1/0", "ROLLBACK TO s; " + read},
		"by a failed COMMIT":  {without, "BEGIN", "DROP TABLE rx", with, "SELECT 1 FROM rx", "SELECT 1/0", "COMMIT; " + read},
	} {
		sql(t, "DROP TABLE IF EXISTS rx")
		p := start(t, ddlPolicy)
		r := p.raw()
		var out string
		for _, s := range say {
			out += r.ask(1, q(s))
		}
		r.Close()
		if strings.Contains(out, "911-47") {
			t.Errorf("%s: %s", name, out)
		}
	}
}

func qs(statements []string) (out []message) {
	for _, s := range statements {
		out = append(out, q(s))
	}
	return out
}

// Programs that open a transaction by themselves.
func TestOwnTransactionInPsycopg(t *testing.T) {
	p := start(t, ddlPolicy)
	out, err := exec.Command("/usr/bin/python3", "-B", "testdata/drivers/transactions.py", p.dsn("")).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "psycopg2 done\npsycopg done" {
		t.Errorf("%v: %s", err, out)
	}
}
