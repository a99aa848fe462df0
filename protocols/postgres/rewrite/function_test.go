package rewrite_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/rewrite"
)

// plpgsql defines a function of schema fn.
func plpgsql(name, body string) string {
	return "CREATE FUNCTION fn." + name + " RETURNS text LANGUAGE plpgsql AS $fn$" + body + "$fn$"
}

func sql(name, body string) string {
	return "CREATE FUNCTION fn." + name + " RETURNS text LANGUAGE sql AS $fn$" + body + "$fn$"
}

// Harmless functions, and how they are called.
var harmlessFunctions = [][2]string{
	{"CREATE FUNCTION fn.twice(int, int DEFAULT 1 + 1) RETURNS int LANGUAGE sql AS 'SELECT $1 * $2'", "fn.twice(2)"},
	{"CREATE FUNCTION fn.label(p public.products) RETURNS text LANGUAGE sql STABLE AS 'SELECT p.name || p.id'", "fn.label(p) FROM products p"},
	{"CREATE FUNCTION fn.all_products() RETURNS SETOF products LANGUAGE sql SECURITY DEFINER SET search_path = public AS 'SELECT * FROM products'", "x.id FROM fn.all_products() x"},
	{"CREATE FUNCTION fn.cities() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(DISTINCT city) FROM other.visits; END", "fn.cities()"},
	{"CREATE FUNCTION fn.plus(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT a + b'", "fn.plus(1, 2)"},
	{"CREATE FUNCTION fn.minus(a int, b int) RETURNS int LANGUAGE sql RETURN a - b", "fn.minus(2, 1)"},
	{"CREATE FUNCTION fn.nested(int) RETURNS int LANGUAGE sql AS 'SELECT fn.plus($1, fn.twice(3))'", "fn.nested(4)"},
	{"CREATE FUNCTION fn.first_of(VARIADIC anyarray) RETURNS anyelement LANGUAGE sql AS 'SELECT $1[1]'", "fn.first_of(1, 2)"},
	{plpgsql("classify(n int)", "\nDECLARE r text; p record;\nBEGIN\n IF n > 3 THEN RETURN 'big'; END IF;\n FOR p IN SELECT id, name FROM products LOOP r := p.name; END LOOP;\n RETURN r || coalesce($1::text, '');\nEND"), "fn.classify(3)"},
	{plpgsql("strings()", "BEGIN RETURN 'EXECUTE patients' /* patients /* ssn */ */ || E'\\'patients' || $$patients$$; -- patients\nEND"), "fn.strings()"},
	{plpgsql("says(n int)", "BEGIN RAISE NOTICE 'n is %', n; RETURN n; END"), "fn.says(1)"},
	{plpgsql("itself(n int)", "BEGIN IF n < 1 THEN RETURN 'x'; END IF; RETURN fn.itself(n - 1); END"), "fn.itself(3)"},
	{"CREATE FUNCTION fn.parts(a int, OUT b int, OUT c text) LANGUAGE plpgsql AS 'BEGIN b := a; c := a; END'", "* FROM fn.parts(2)"},
	{"CREATE FUNCTION fn.tabled(n int) RETURNS TABLE (id int, name text) LANGUAGE plpgsql AS 'BEGIN RETURN QUERY SELECT p.id, p.name FROM public.products p WHERE p.id = n; END'", "* FROM fn.tabled(2)"},
	{"CREATE AGGREGATE fn.total(int) (SFUNC = fn.plus, STYPE = int, INITCOND = '0')", "fn.total(id) FROM products"},
}

// Functions that are not, how they are called, and why they may not be.
var harmfulFunctions = [][3]string{
	{sql("reads()", "SELECT 1; SELECT ssn FROM clinic.patients"), "fn.reads()", "statement 2 of its body: it reads protected relation clinic.patients"},
	{"CREATE FUNCTION fn.bare() RETURNS text LANGUAGE sql SET search_path = clinic AS 'SELECT ssn FROM patients'", "fn.bare()", "it reads protected relation clinic.patients"},
	{"CREATE FUNCTION fn.atomic() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT (SELECT name FROM clinic.patients LIMIT 1); END", "fn.atomic()", "statement 2 of its body: it reads protected relation clinic.patients"},
	{"CREATE FUNCTION fn.by_view() RETURNS text LANGUAGE sql RETURN (SELECT number FROM clinic.v_nested LIMIT 1)", "fn.by_view()", "it reads protected relation clinic.v_nested"},
	{sql("deep()", "SELECT fn.reads()"), "fn.deep()", "function fn.reads is not declared harmless"},
	{sql("deeper()", "SELECT fn.deep()"), "fn.deeper()", "function fn.reads is not declared harmless"},
	{"CREATE FUNCTION fn.leaks(p public.products) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM clinic.patients WHERE id = p.id'; " + sql("attribute()", "SELECT p.leaks FROM products p"), "fn.attribute()", "function fn.leaks is not declared harmless"},
	{"CREATE FUNCTION fn.twofold(int) RETURNS int LANGUAGE sql AS 'SELECT $1'; " + sql("twofold(text)", "SELECT ssn FROM clinic.patients LIMIT 1"), "fn.twofold(2)", "fn.twofold is not declared harmless"},
	{sql("writes()", "INSERT INTO log (message) VALUES ('x') RETURNING message"), "fn.writes()", "it is INSERT"},
	{sql("writes_within()", "WITH w AS (DELETE FROM log RETURNING message) SELECT message FROM w"), "fn.writes_within()", "it writes"},
	{sql("locks()", "SELECT name FROM products FOR UPDATE"), "fn.locks()", "it does more than to read"},
	{sql("xml()", "SELECT query_to_xml('SELECT ssn FROM clinic.patients', true, true, '')::text"), "fn.xml()", "query_to_xml is not among"},
	{sql("prints()", "SELECT pg_get_viewdef('clinic.v_patients'::regclass)"), "fn.prints()", "it prints definitions"},
	{"CREATE FUNCTION fn.defaults(text DEFAULT public.leak(1)) RETURNS text LANGUAGE sql AS 'SELECT $1'", "fn.defaults()", "public.leak is not declared harmless"},
	{"CREATE FUNCTION fn.typed(public.trap) RETURNS text LANGUAGE sql AS 'SELECT $1::text'", "fn.typed('x')", "domain public.trap has a check"},
	{"CREATE FUNCTION fn.rows() RETURNS SETOF clinic.patients LANGUAGE sql AS 'SELECT NULL::clinic.patients'", "fn.rows()", "protected relation clinic.patients"},
	{"CREATE FUNCTION fn.as_another() RETURNS text LANGUAGE sql SET row_security = off AS 'SELECT 1::text'", "fn.as_another()", "it sets row_security"},
	{"CREATE FUNCTION fn.otherwise() RETURNS text LANGUAGE sql SET standard_conforming_strings = off AS 'SELECT 1::text'", "fn.otherwise()", "it sets standard_conforming_strings"},
	{"CREATE FUNCTION fn.within(text) RETURNS text LANGUAGE internal AS 'pg_read_file_all'", "fn.within('x')", "written in internal"},
	{"CREATE AGGREGATE fn.begins(text) (SFUNC = textcat, STYPE = text, INITCOND = 'secret')", "fn.begins('x')", "begins with a constant"},
	{"CREATE FUNCTION fn.adds(int, int) RETURNS int LANGUAGE sql AS 'SELECT id FROM clinic.patients WHERE ssn = $1::text'; CREATE AGGREGATE fn.sums(int) (SFUNC = fn.adds, STYPE = int)", "fn.sums(1)", "it reads protected relation clinic.patients"},
	{plpgsql("ping()", "BEGIN RETURN 'x'; END") + "; " + plpgsql("pong()", "BEGIN RETURN fn.ping(); END") + "; CREATE OR REPLACE FUNCTION fn.ping() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN fn.pong(); END'", "fn.ping()", "it is called by what it calls"},

	{plpgsql("dynamic()", "\nBEGIN\n RETURN (SELECT 1);\n EXECUTE 'SELECT 1';\nEND"), "fn.dynamic()", "line 3 of its body: EXECUTE"},
	{plpgsql("dynamic_rows()", "BEGIN FOR i IN eXeCuTe format('SELECT %I', 'x') LOOP END LOOP; END"), "fn.dynamic_rows()", "EXECUTE"},
	{plpgsql("raises()", "BEGIN RAISE EXCEPTION '%', (SELECT ssn FROM \"clinic\".\"patients\" LIMIT 1); END"), "fn.raises()", "protected relation clinic.patients"},
	{plpgsql("row_typed()", "DECLARE p clinic.patients%ROWTYPE; BEGIN RETURN p.ssn; END"), "fn.row_typed()", "protected relation clinic.patients"},
	{plpgsql("calls()", "BEGIN PERFORM leak(1); RETURN 'x'; END"), "fn.calls()", "public.leak is not declared harmless"},
	{plpgsql("by_commented()", "BEGIN RETURN public./* */leak /* x */ (1); END"), "fn.by_commented()", "public.leak is not declared harmless"},
	{plpgsql("writes_too()", "BEGIN INSERT INTO log (message) VALUES ('x'); RETURN 'x'; END"), "fn.writes_too()", "INSERT is not looked at"},
	{plpgsql("sets()", "BEGIN PERFORM set_config('role', 'x', false); RETURN 'x'; END"), "fn.sets()", "set_config is not among"},
	{plpgsql("unicode()", "BEGIN RETURN (SELECT ssn FROM clinic.U&\"p\\0061tients\" LIMIT 1); END"), "fn.unicode()", "line 1 of its body is not understood"},
	{plpgsql("fetches(refcursor)", "DECLARE v text; BEGIN FETCH $1 INTO v; RETURN v; END"), "fn.fetches('c')", "FETCH is not looked at"},
	{plpgsql("stats()", "BEGIN RETURN (SELECT most_common_vals::text FROM pg_stats LIMIT 1); END"), "fn.stats()", "pg_stats is not among"},
	{plpgsql("treats()", "BEGIN RETURN TREAT('/etc/passwd' AS pg_read_file); END"), "fn.treats()", "TREAT is not looked at"},
	{plpgsql("carriage_return()", "BEGIN -- \r EXECUTE 'SELECT 1';\n RETURN 'x'; END"), "fn.carriage_return()", "EXECUTE is not looked at"},
	{plpgsql("continued()", "BEGIN PERFORM E'a'\n'\\''; EXECUTE 'SELECT 1'; RETURN ''; END"), "fn.continued()", "body is not understood"},
	{plpgsql("numbered(a text)", "BEGIN RETURN $1||E'\\'' ; EXECUTE ''; END"), "fn.numbered('x')", "EXECUTE is not looked at"},
	{plpgsql("nested_comment()", "BEGIN /* /* */ */ EXECUTE ''; /* */ END"), "fn.nested_comment()", "EXECUTE is not looked at"},
	{plpgsql("dollars()", "BEGIN PERFORM $a$ $b$ $a$; EXECUTE '$b$'; END"), "fn.dollars()", "EXECUTE is not looked at"},
	{plpgsql("range()", "BEGIN FOR i IN 1..2 LOOP EXECUTE ''; END LOOP; END"), "fn.range()", "EXECUTE is not looked at"},
	{plpgsql("shows()", "DECLARE x text; BEGIN GET STACKED DIAGNOSTICS x = PG_EXCEPTION_CONTEXT; RETURN x; END"), "fn.shows()", "DIAGNOSTICS is not looked at"},
	{plpgsql("caught()", "BEGIN PERFORM * FROM clinic.v_stored; RETURN ''; EXCEPTION WHEN OTHERS THEN RETURN SQLERRM; END"), "fn.caught()", "it could return an error that tells of what is stored"},
	{plpgsql("member()", "DECLARE p products; BEGIN RETURN p.leak; END"), "fn.member()", "public.leak is not declared harmless"},
	{plpgsql("columns_type()", "DECLARE v trapped.c%TYPE := 'x'; BEGIN RETURN v; END"), "fn.columns_type()", "domain public.trap has a check"},
	{plpgsql("poly(a anyelement)", "BEGIN a := 'x'; RETURN a; END"), "fn.poly(c) FROM trapped", "domain public.trap has a check"},
	{plpgsql("speaks(v text)", "BEGIN RAISE NOTICE '%', v; RETURN v; END") + "; CREATE VIEW fn.told AS SELECT id FROM clinic.patients WHERE fn.speaks(ssn) <> ''", "id FROM fn.told", "may say what is stored"},
}

// unknown reports a definition that the server's major does not know: before 14
// the body of every function is a string.
func unknown(definition string) bool {
	return postgrestest.Major() < 14 && (strings.Contains(definition, "LANGUAGE sql BEGIN ATOMIC") || strings.Contains(definition, "LANGUAGE sql RETURN "))
}

// What a function does is in its body: a harmless one may be called, any other is
// refused with what in it is not.
func TestFunctions(t *testing.T) {
	harmlessFunctions := slices.DeleteFunc(slices.Clone(harmlessFunctions), func(f [2]string) bool { return unknown(f[0]) })
	harmfulFunctions := slices.DeleteFunc(slices.Clone(harmfulFunctions), func(f [3]string) bool { return unknown(f[0]) })
	c := connect(t)
	run := func(sql string) {
		t.Helper()
		if _, err := c.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	t.Cleanup(func() {
		_, _ = c.PgConn().Exec(context.Background(), "DROP SCHEMA fn CASCADE; DROP VIEW clinic.v_stored; DROP TABLE public.trapped").ReadAll()
	})
	run("SET check_function_bodies = off; CREATE SCHEMA fn; CREATE TABLE public.trapped (c public.trap)")
	run("CREATE VIEW clinic.v_stored AS SELECT id FROM clinic.patients WHERE ssn::date IS NULL")
	for _, f := range harmlessFunctions {
		run(f[0])
	}
	for _, f := range harmfulFunctions {
		run(f[0])
	}
	a := newAnalyzer(t)
	for _, f := range harmlessFunctions {
		an := asked(t, a, masked(), "SELECT "+f[1])
		if an.Opaque != "" {
			t.Errorf("%s: refused: %s", f[0], an.Opaque)
		}
		if strings.Contains(f[1], "all_products") && !reads(an, "public", "products") {
			t.Errorf("what it reads is not told: %v", an.Objects)
		}
		run("SELECT " + f[1])
	}
	for _, f := range harmfulFunctions {
		if an := asked(t, a, masked(), "SELECT "+f[1]); !strings.Contains(an.Opaque, f[2]) {
			t.Errorf("%s: %q, want %q", f[0], an.Opaque, f[2])
		}
	}
}

// A range type brings a cast along, to its multirange, by a function of the server's
// own: that is no reason to refuse the bodies of all functions.
func TestFunctionsBesideARange(t *testing.T) {
	c := connect(t)
	run := func(sql string) {
		t.Helper()
		if _, err := c.PgConn().Exec(context.WithoutCancel(t.Context()), sql).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { run("DROP SCHEMA fn CASCADE") })
	run("CREATE SCHEMA fn; CREATE TYPE fn.span AS RANGE (subtype = float8); " + plpgsql("adds(n int)", "BEGIN RETURN n + 1; END"))
	a := newAnalyzer(t)
	if an := asked(t, a, masked(), "SELECT fn.adds(1)"); an.Opaque != "" {
		t.Error(an.Opaque)
	}
	if an := asked(t, a, masked(), "SELECT '[1,2]'::fn.span"); an.Opaque == "" {
		t.Error("a range is not looked at, and taken for harmless")
	}
	if postgrestest.Major() < 14 {
		return // no multiranges
	}
	if an := asked(t, a, masked(), "SELECT '{[1,2]}'::fn.spanmultirange"); !strings.Contains(an.Opaque, "not a simple type") && !strings.Contains(an.Opaque, "spanmultirange") {
		t.Errorf("%q", an.Opaque)
	}
	run("CREATE TYPE fn.kind AS ENUM ('a'); " + "CREATE FUNCTION fn.kinds(int) RETURNS fn.kind LANGUAGE plpgsql AS 'BEGIN EXECUTE ''SELECT 1''; RETURN ''a''; END'; CREATE CAST (int AS fn.kind) WITH FUNCTION fn.kinds(int)")
	if an := asked(t, newAnalyzer(t), masked(), "SELECT fn.adds(1)"); !strings.Contains(an.Opaque, "fn.kinds") {
		t.Errorf("a cast of somebody's: %q", an.Opaque)
	}
}

func reads(an *query.Analysis, schema, name string) bool {
	for _, o := range an.Objects {
		if o == (policy.Object{Schema: schema, Name: name, Access: policy.Read}) {
			return true
		}
	}
	return false
}

// A function that is replaced, or an overload that appears, is looked at again.
func TestFunctionChanges(t *testing.T) {
	c := connect(t)
	a := newAnalyzer(t)
	look := func(define string, harmless bool) {
		t.Helper()
		if _, err := c.Exec(t.Context(), define); err != nil {
			t.Fatal(err)
		}
		before := a.Version()
		if err := a.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a.Version() == before {
			t.Errorf("%s: not noticed", define)
		}
		if an := asked(t, a, masked(), "SELECT changing(1)"); (an.Opaque == "") != harmless {
			t.Errorf("%s: %q", define, an.Opaque)
		}
	}
	defer c.Exec(t.Context(), "DROP FUNCTION IF EXISTS other.changing, public.changing")
	look("CREATE FUNCTION public.changing(int) RETURNS text LANGUAGE sql AS 'SELECT ''a'''", true)
	look("CREATE OR REPLACE FUNCTION public.changing(int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM clinic.patients'", false)
	look("CREATE OR REPLACE FUNCTION public.changing(int) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'", true)
	look("CREATE FUNCTION other.changing(bigint) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM clinic.patients'", false)
	look("DROP FUNCTION other.changing", true)
	look("ALTER FUNCTION public.changing(int) SET row_security = off", false)
}

// A trigger's function sees no more than the row that is written, where its table
// holds nothing protected.
func TestTriggers(t *testing.T) {
	c := connect(t)
	for _, sql := range []string{
		"CREATE SCHEMA tg", "CREATE TABLE tg.t (id int, at text)", "CREATE TABLE tg.u (id int)", "CREATE TABLE tg.t2 (id int PRIMARY KEY, at text)",
		"CREATE FUNCTION tg.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.at := now()::text; RETURN NEW; END'",
		"CREATE FUNCTION tg.tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''%'', (SELECT ssn FROM clinic.patients LIMIT 1); END'",
		"CREATE TRIGGER t BEFORE INSERT ON tg.t FOR EACH ROW EXECUTE FUNCTION tg.stamp()",
		"CREATE TRIGGER t BEFORE INSERT ON tg.u FOR EACH ROW EXECUTE FUNCTION tg.tell()",
		"CREATE TRIGGER stamp BEFORE UPDATE ON clinic.members FOR EACH ROW EXECUTE FUNCTION tg.stamp()",
		"CREATE TABLE tg.w (id int, at text)",
		"CREATE TRIGGER t BEFORE INSERT ON tg.w FOR EACH ROW WHEN (public.leak(NEW.id) <> '') EXECUTE FUNCTION tg.stamp()",
		"CREATE TABLE tg.one (id int PRIMARY KEY, at text)",
		"CREATE TABLE tg.many (id int REFERENCES tg.one ON DELETE CASCADE)",
		"CREATE TRIGGER t BEFORE DELETE ON tg.many FOR EACH ROW EXECUTE FUNCTION tg.tell()",
		"CREATE TABLE tg.still (id int REFERENCES tg.t2 ON DELETE RESTRICT)",
		"CREATE TRIGGER t BEFORE DELETE ON tg.still FOR EACH ROW EXECUTE FUNCTION tg.tell()",
		"CREATE TRIGGER when_harmless BEFORE INSERT ON tg.t2 FOR EACH ROW WHEN (NEW.id > 10) EXECUTE FUNCTION tg.stamp()",
	} {
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	t.Cleanup(func() {
		_, _ = c.Exec(context.Background(), "DROP TRIGGER stamp ON clinic.members; DROP SCHEMA tg CASCADE")
	})
	a := newAnalyzer(t)
	for sql, why := range map[string]string{
		"INSERT INTO tg.t (id) VALUES (1)":                  "",
		"INSERT INTO tg.u (id) VALUES (1)":                  "it names protected relation clinic.patients",
		"UPDATE clinic.members SET city = 'x' WHERE id = 1": "it sees rows of a protected relation",
		"INSERT INTO tg.w (id) VALUES (1)":                  "its condition: function public.leak is not declared harmless",
		"INSERT INTO tg.one (id) VALUES (1)":                "",
		"DELETE FROM tg.one WHERE id = 1":                   "a foreign key changes tg.many",
		"DELETE FROM tg.t2 WHERE id = 1":                    "",
		"INSERT INTO tg.t2 VALUES (1)":                      "",
	} {
		if an := asked(t, a, masked(), sql); (why == "") != (an.Opaque == "") || !strings.Contains(an.Opaque, why) {
			t.Errorf("%s: %q", sql, an.Opaque)
		}
	}
}

func asked(t *testing.T, a *rewrite.Analyzer, sc *policy.Scope, sql string) *query.Analysis {
	t.Helper()
	an, err := a.Analyze(t.Context(), query.Input{SQL: sql, Scope: sc, Simple: true})
	if err != nil {
		t.Errorf("%s: %v", sql, err)
	}
	return an
}
