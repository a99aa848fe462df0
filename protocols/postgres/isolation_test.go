package postgres_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/rewrite"
)

var strictLevels = []string{"REPEATABLE READ", "SERIALIZABLE"}

// A transaction that goes on seeing what was there when it began knows what it has
// defined itself, as one does that is READ COMMITTED.
func TestOwnTransactionIsolated(t *testing.T) {
	for _, level := range strictLevels {
		t.Run(level, func(t *testing.T) {
			p := start(t, ddlPolicy)
			r := p.raw()
			defer r.Close()
			is := func(stmt, want string) {
				t.Helper()
				out := r.ask(1, q(stmt))
				if !strings.Contains(out, want) || strings.Contains(out, "911-47") {
					t.Errorf("%s: %s", stmt, out)
				}
			}
			is("BEGIN ISOLATION LEVEL "+level, "C BEGIN")
			is("SELECT 1 FROM m0", "C SELECT")
			is("CREATE TABLE isolated (id int, ssn text)", "C CREATE")
			is("INSERT INTO isolated VALUES (1, 'a')", "C INSERT")
			is("SELECT i.ssn, p.ssn FROM isolated i JOIN clinic.patients p USING (id)", "***-**-0001")
			is("SAVEPOINT s", "C SAVEPOINT")
			is("CREATE TEMP TABLE isolated_temp (v text)", "C CREATE")
			is("SELECT * FROM isolated_temp", "C SELECT 0")
			is("ROLLBACK TO s", "C ROLLBACK")
			is("SELECT * FROM isolated_temp", "does not exist")
			is("ROLLBACK TO s", "C ROLLBACK")
			is("DROP TABLE isolated", "C DROP")
			is("SELECT * FROM isolated", "does not exist")
			is("ROLLBACK", "C ROLLBACK")
		})
	}
}

// What another session changes after such a transaction began the server goes by,
// and the transaction does not see: what it has defined can't be told from it.
func TestOthersChangeAnIsolatedTransaction(t *testing.T) {
	for _, level := range strictLevels {
		t.Run(level, func(t *testing.T) {
			sql(t, "CREATE VIEW telling AS SELECT id, city FROM clinic.patients")
			defer sql(t, "DROP VIEW telling")
			p := start(t, ddlPolicy)
			r, other := p.raw(), p.raw()
			defer r.Close()
			defer other.Close()
			begin := func() {
				t.Helper()
				out := r.ask(3, q("BEGIN ISOLATION LEVEL "+level), q("SELECT a FROM m0"), q("CREATE TABLE isolated (id int)"))
				if strings.Contains(out, "E S") {
					t.Fatal(out)
				}
			}
			begin()
			if out := r.ask(1, q("SELECT * FROM isolated")); !strings.Contains(out, "C SELECT 0") {
				t.Errorf("before: %s", out)
			}
			// Past the passage, and known by what another session does in it.
			sql(t, "CREATE OR REPLACE VIEW telling AS SELECT id, ssn AS city FROM clinic.patients")
			if out := other.ask(1, q("CREATE TABLE isolated_other (id int)")); strings.Contains(out, "E S") {
				t.Fatal(out)
			}
			defer sql(t, "DROP TABLE isolated_other")
			if out := r.ask(1, q("SELECT city FROM telling WHERE id = 1")); strings.Contains(out, "911") {
				t.Errorf("what is protected came out: %s", out)
			}
			r.ask(2, q("ROLLBACK"), q("SELECT 1"))
			begin()
			if out := other.ask(1, q("CREATE TABLE isolated_third (id int)")); strings.Contains(out, "E S") {
				t.Fatal(out)
			}
			defer sql(t, "DROP TABLE isolated_third")
			out := r.ask(1, q("SELECT * FROM isolated"))
			if !strings.Contains(out, "sallyport: refused") || !strings.Contains(out, "READ COMMITTED") {
				t.Errorf("no remedy: %s", out)
			}
			// Begun again, it is known.
			r.ask(1, q("ROLLBACK"))
			begin()
			if out := r.ask(2, q("SELECT * FROM isolated"), q("ROLLBACK")); !strings.Contains(out, "C SELECT 0") {
				t.Errorf("again: %s", out)
			}
		})
	}
}

// The temporary relations of a session count: what was looked at before is looked at
// again with them, in every form of a statement, whoever had it looked at.
func TestTemporaryRelationsCount(t *testing.T) {
	const read = "SELECT rt.peek2 FROM rt"
	sql(t, "CREATE TABLE rt (peek2 text, a int)", "INSERT INTO rt VALUES ('kept', 1)")
	defer sql(t, "DROP TABLE IF EXISTS rt")
	p := start(t, ddlPolicy)
	other, r := p.raw(), p.raw()
	defer other.Close()
	defer r.Close()
	look := func(r *raw) string { return r.ask(1, q(read)) + r.ask(1, extended(read)...) }
	if out := look(other) + look(r) + r.ask(1, parse("s", read), sync_); strings.Contains(out, "E S") || strings.Count(out, "kept") != 4 {
		t.Fatal(out)
	}
	if out := r.ask(2, q("CREATE TEMP TABLE rt (a int)"), q("INSERT INTO rt VALUES (1)")); strings.Contains(out, "E S") {
		t.Fatal(out)
	}
	// There is no such column now: whatever is said of it is of what is there.
	if out := look(r) + r.ask(1, bind("", "s"), execute(""), sync_); strings.Contains(out, "kept") || strings.Contains(out, "D ") {
		t.Errorf("of another relation: %s", out)
	}
	if out := look(other); strings.Count(out, "kept") != 2 {
		t.Errorf("another session's: %s", out)
	}
	if out := r.ask(2, q("DROP TABLE rt"), q(read)); !strings.Contains(out, "kept") {
		t.Errorf("when it is gone: %s", out)
	}
}

// An analyzer for a session that may have temporary relations is of a version that
// nothing was analysed for, so that nothing which is kept stands for them.
func TestApart(t *testing.T) {
	cat, err := catalog.Open(t.Context(), catalog.Options{Dial: dialServer, User: "sallyport_catalog", Database: "postgres"})
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Close()
	an := rewrite.New(rewrite.Options{Parser: pool, Catalog: cat})
	if a := an.Apart(); a != nil {
		t.Errorf("there are no temporary relations: version %d", a.Version())
	}
	r := start(t, allowAll).raw()
	defer r.Close()
	r.ask(1, q("CREATE TEMP TABLE apart (a int)"))
	before := an.Version()
	if err := an.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, b := an.Apart(), an.Apart()
	if a == nil || b == nil || a.Version() == before || a.Version() == b.Version() || an.Version() != before {
		t.Errorf("%v and %v, of %d", a, b, before)
	}
}
