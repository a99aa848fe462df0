package rewrite_test

import (
	"context"
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// An implicit cast by a function that nobody vouches for may run in any expression:
// all is refused while it is there, and told why; what undoes a transaction is not.
func TestImplicitCast(t *testing.T) {
	exec := func(sql string) {
		t.Helper()
		if _, err := connect(t).PgConn().Exec(context.WithoutCancel(t.Context()), sql).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE TYPE clinic.tone AS ENUM ('low', 'high');
		CREATE FUNCTION clinic.toned(int) RETURNS clinic.tone LANGUAGE plpgsql AS 'BEGIN EXECUTE ''SELECT 1''; RETURN ''low''; END';
		CREATE CAST (int AS clinic.tone) WITH FUNCTION clinic.toned(int) AS IMPLICIT`)
	t.Cleanup(func() { exec("DROP TYPE clinic.tone CASCADE") })
	a := newAnalyzer(t)
	declared := masked()
	declared.ID = "declared"
	declared.Functions = map[string]bool{"clinic.toned": true}
	for _, c := range []struct {
		sql   string
		scope *policy.Scope
		want  string
	}{
		{"SELECT 1", masked(), "the implicit cast from int4 to tone by function clinic.toned"},
		{"SELECT ssn FROM clinic.patients", masked(), "implicit cast"},
		{"BEGIN; SELECT 1; ROLLBACK", masked(), "implicit cast"},
		{"COMMIT", masked(), "implicit cast"},
		{"ROLLBACK", masked(), ""},
		{"BEGIN", masked(), ""},
		{"ROLLBACK TO s", masked(), ""},
		{"SELECT 1", declared, ""},
		{"SELECT 1", &policy.Scope{ID: "free"}, ""},
	} {
		an, err := a.Analyze(t.Context(), query.Input{SQL: c.sql, Scope: c.scope})
		if err != nil {
			t.Errorf("%s: %v", c.sql, err)
			continue
		}
		if (an.Opaque != "") != (c.want != "") || !strings.Contains(an.Opaque, c.want) || c.want != "" && !(an.Sanitize && an.Writes && an.Remedy != "") {
			t.Errorf("%s: %+v", c.sql, an)
		}
	}
}
