package rewrite_test

import (
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// A name that is a keyword to the parser, and none to the server, is whatever
// the server finds on its path.
func TestKeywordsOfLaterMajors(t *testing.T) {
	conn := connect(t)
	for _, sql := range []string{
		"CREATE SCHEMA older",
		"CREATE FUNCTION older.json_object(int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM clinic.patients WHERE id = $1'",
		"CREATE DOMAIN older.json AS text CHECK (public.boom(VALUE))",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	defer conn.Exec(t.Context(), "DROP SCHEMA older CASCADE")
	a := newAnalyzer(t)
	for _, c := range []struct {
		sql     string
		keyword int // the major from which on it means what the parser says
	}{
		{"SELECT json_object(1)", 16}, {"SELECT system_user", 16}, {"SELECT '{}'::json", 17}, {"SELECT NULL::json[]", 17},
	} {
		an := analyze(t, a, c.sql)
		if refused := an.Opaque != ""; refused != (postgrestest.Major() < c.keyword) {
			t.Errorf("%s: %q", c.sql, an.Opaque)
		}
	}
}

// Numbers that a server before 15 reads as shorter ones and a name.
func TestNumbersOfLaterMajors(t *testing.T) {
	a := newAnalyzer(t)
	refused := postgrestest.Major() < 15
	for _, sql := range []string{
		"SELECT 1_000", "SELECT 0x1F", "SELECT -0b1", "SELECT - 1_0.5", "SELECT -/* 5 */1_000", "SELECT 1, 0o17 FROM public.products",
		"SELECT 1 WHERE 1 IN (2, 3_4)", "VALUES (1), (1_2)",
	} {
		if an := analyze(t, a, sql); (an.Opaque != "") != refused {
			t.Errorf("%s: %q", sql, an.Opaque)
		}
	}
	for _, sql := range []string{
		"SELECT 1, 1.5, .5, 5., 1e5, 1.5E-3, -1, - 2, '1_000', 'x' || '0x1F', 1 AS _0", "BEGIN READ ONLY", "SELECT name FROM public.products LIMIT 10 OFFSET 0",
	} {
		if an := analyze(t, a, sql); an.Opaque != "" {
			t.Errorf("%s: %s", sql, an.Opaque)
		}
	}
}
