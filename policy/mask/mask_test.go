package mask_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
)

var text = mask.Type{Name: "text"}

func connect(t testing.TB, database, settings string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), server.DSN("postgres")+" database="+database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	if _, err := c.Exec(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	return c
}

// types are what the table uses, and what a hostile search path has.
const types = `
CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;
CREATE EXTENSION IF NOT EXISTS hstore SCHEMA public;
CREATE TYPE public.severity AS ENUM ('low', 'high', 'it''s');
CREATE TYPE public.pair AS (a int, b int);
CREATE DOMAIN public.code AS text CHECK (VALUE ~ '^[A-Z][0-9]$') NOT NULL;
CREATE DOMAIN public.short AS varchar(2);
CREATE DOMAIN public.age AS int CHECK (VALUE % 10 > 0);
CREATE DOMAIN public.urgent AS public.severity CHECK (VALUE <> 'low');
`

// column makes a table with a column of the type.
func column(t testing.TB, c *pgx.Conn, table, typ string) mask.Type {
	t.Helper()
	if _, err := c.Exec(t.Context(), `CREATE TABLE `+table+` (column1 int, "odd ""name" `+typ+`)`); err != nil {
		t.Fatal(err)
	}
	var m mask.Type
	var builtin bool
	err := c.QueryRow(t.Context(), `WITH RECURSIVE d AS (
	SELECT atttypid AS oid, atttypmod AS mod FROM pg_catalog.pg_attribute WHERE attrelid = $1::text::regclass AND attnum = 2
	UNION ALL SELECT t.typbasetype, t.typtypmod FROM d JOIN pg_catalog.pg_type t ON t.oid = d.oid WHERE t.typtype = 'd')
SELECT t.typname::text, format_type(d.oid, d.mod), ARRAY(SELECT enumlabel::text FROM pg_catalog.pg_enum WHERE enumtypid = d.oid ORDER BY enumsortorder), t.typnamespace = 'pg_catalog'::regnamespace
FROM d JOIN pg_catalog.pg_type t ON t.oid = d.oid WHERE t.typtype <> 'd'`, table).Scan(&m.Name, &m.SQL, &m.Labels, &builtin)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case len(m.Labels) > 0:
		m.Name = ""
	case builtin:
		m.Labels = nil
	case slices.Contains(mask.Extensions, strings.TrimPrefix(m.Name, "_")):
		m.Labels, m.Extension = nil, true
	default:
		m = mask.Type{}
	}
	return m
}

// shown runs an expression over a column as text, without parameters.
func shown(t testing.TB, c *pgx.Conn, sql string) *pgconn.Result {
	t.Helper()
	return c.PgConn().ExecParams(t.Context(), sql, nil, nil, nil, nil).Read()
}

func TestForms(t *testing.T) {
	admin := connect(t, "postgres", "CREATE DATABASE plain TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
	defer admin.Exec(t.Context(), "DROP DATABASE plain WITH (FORCE)")
	for _, run := range []struct {
		name, database string
		domains        bool // columns are of domains over the types
	}{{"C.UTF-8", "postgres", false}, {"C", "plain", false}, {"domains", "postgres", true}} {
		t.Run(run.name, func(t *testing.T) {
			c := connect(t, run.database, types)
			defer c.Exec(t.Context(), "DROP TYPE public.severity, public.pair, public.code, public.short, public.age CASCADE")
			if _, err := c.Exec(t.Context(), "SET TimeZone = 'UTC'; SET search_path = pg_catalog"); err != nil {
				t.Fatal(err)
			}
			tables := map[string]mask.Type{}
			for _, x := range table {
				name := `pg_temp."of ` + x.typ + `"` // its row type must be no other type
				typ, ok := tables[x.typ]
				if !ok {
					of := x.typ
					if run.domains {
						of = `pg_temp."domain of ` + x.typ + `"`
						if _, err := c.Exec(t.Context(), `CREATE DOMAIN `+of+` AS `+x.typ); err != nil {
							t.Fatal(err)
						}
					}
					typ = column(t, c, name, of)
					tables[x.typ] = typ
				}
				if r := c.PgConn().ExecParams(t.Context(), `INSERT INTO `+name+` VALUES (1, $1)`, [][]byte{[]byte(x.value)}, nil, nil, nil).Read(); r.Err != nil {
					t.Errorf("%s %q: %v", x.typ, x.value, r.Err)
					continue
				}
				sql, _, err := mask.SQL(x.m, `odd "name`, typ)
				if err != nil {
					t.Fatal(err)
				}
				if sql == "" {
					sql = `NULL::` + typ.SQL
				}
				if typ.SQL == "" {
					sql = `NULL::` + x.typ
				}
				r := shown(t, c, `SELECT "odd ""name", `+sql+` FROM `+name)
				if r.Err != nil {
					t.Errorf("%+v of %s %q: %v\n%s", x.m, x.typ, x.value, r.Err, sql)
					continue
				}
				stored, got := r.FieldDescriptions[0], r.FieldDescriptions[1]
				if stored.DataTypeOID != got.DataTypeOID || stored.TypeModifier != got.TypeModifier {
					t.Errorf("%+v of %s is of type %d with modifier %d, want %d with %d", x.m, x.typ, got.DataTypeOID, got.TypeModifier, stored.DataTypeOID, stored.TypeModifier)
				}
				if got := or(r.Rows[0][1]); got != x.want {
					t.Errorf("SQL: %+v of %s %.100q: %q, want %q", x.m, x.typ, x.value, got, x.want)
				}
				// In binary it is what the wanted value is.
				if x.want != isNull {
					r := c.PgConn().ExecParams(t.Context(), `SELECT `+sql+`, $1::pg_catalog.text::`+typ.SQL+` FROM `+name, [][]byte{[]byte(x.want)}, nil, nil, []int16{1}).Read()
					if r.Err != nil || string(r.Rows[0][0]) != string(r.Rows[0][1]) {
						t.Errorf("in binary: %+v of %s %.100q: %x, %v", x.m, x.typ, x.value, r.Rows, r.Err)
					}
				}
				out, isnull := mask.Apply(x.m, typ, string(r.Rows[0][0]))
				if isnull {
					out = isNull
				}
				if out != x.want {
					t.Errorf("Go: %+v of %s %.100q: %q, want %q", x.m, x.typ, r.Rows[0][0], out, x.want)
				}
				if r := shown(t, c, `DELETE FROM `+name); r.Err != nil {
					t.Fatal(r.Err)
				}
				// What an outer join adds: also a domain that takes no NULL has it.
				if r := shown(t, c, `SELECT `+sql+` FROM (VALUES (1)) o LEFT JOIN `+name+` USING (column1)`); r.Err != nil || r.Rows[0][0] != nil {
					t.Errorf("%+v of a NULL %s: %q, %v", x.m, x.typ, r.Rows, r.Err)
				}
			}
		})
	}
}

func or(s []byte) string {
	if s == nil {
		return isNull
	}
	return string(s)
}

// hostile is a schema in front of pg_catalog.
const hostile = `
CREATE SCHEMA evil;
CREATE FUNCTION evil.length(text) RETURNS int LANGUAGE sql AS 'SELECT 99';
CREATE FUNCTION evil.left(text, int) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION evil.no(int8, int8) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION evil.no(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION evil.no(date, date) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION evil.first(int8, int8) RETURNS int8 LANGUAGE sql AS 'SELECT $1';
CREATE OPERATOR evil.= (LEFTARG = int8, RIGHTARG = int8, FUNCTION = evil.no);
CREATE OPERATOR evil.< (LEFTARG = int8, RIGHTARG = int8, FUNCTION = evil.no);
CREATE OPERATOR evil.< (LEFTARG = date, RIGHTARG = date, FUNCTION = evil.no);
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.no);
CREATE OPERATOR evil.~ (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.no);
CREATE OPERATOR evil.- (LEFTARG = int8, RIGHTARG = int8, FUNCTION = evil.first);
CREATE DOMAIN evil.text AS pg_catalog.text CHECK (VALUE = 'none');
CREATE DOMAIN evil.int8 AS pg_catalog.int8 CHECK (VALUE = 0);
CREATE DOMAIN evil.numeric AS pg_catalog.numeric CHECK (VALUE = 0);
CREATE DOMAIN evil.varchar AS pg_catalog.varchar CHECK (VALUE = '');
CREATE DOMAIN evil.jsonb AS pg_catalog.jsonb CHECK (VALUE IS NULL);
`

// What a session may set changes nothing in what a mask tells: the same bytes,
// in the form that no setting has a say in.
func TestSettings(t *testing.T) {
	plain := connect(t, "postgres", types+hostile+"SET search_path = pg_catalog; SET TimeZone = 'UTC'; CREATE SCHEMA kept")
	defer plain.Exec(t.Context(), "DROP SCHEMA kept, evil CASCADE; DROP TYPE public.severity, public.pair, public.code, public.short, public.age CASCADE")
	known := map[string]mask.Type{}
	var queries []string
	for i, x := range table {
		name := `kept."of ` + x.typ + `"`
		if _, ok := known[x.typ]; !ok {
			known[x.typ] = column(t, plain, name, x.typ)
		}
		sql, _, _ := mask.SQL(x.m, `odd "name`, known[x.typ])
		if sql == "" {
			continue
		}
		n := strconv.Itoa(i)
		if r := plain.PgConn().ExecParams(t.Context(), `INSERT INTO `+name+` VALUES (`+n+`, $1)`, [][]byte{[]byte(x.value)}, nil, nil, nil).Read(); r.Err != nil {
			t.Fatal(r.Err)
		}
		queries = append(queries, `SELECT `+sql+` FROM `+name+` WHERE column1 OPERATOR(pg_catalog.=) `+n)
	}
	binary := func(c *pgx.Conn, sql string) string {
		r := c.PgConn().ExecParams(t.Context(), sql, nil, nil, nil, []int16{1}).Read()
		if r.Err != nil {
			return r.Err.Error()
		}
		return or(r.Rows[0][0])
	}
	if len(queries) < 150 {
		t.Fatalf("%d queries", len(queries))
	}
	for _, set := range []string{
		"SET TimeZone = 'America/New_York'", "SET TimeZone = '<x>-14:30'", "SET DateStyle = 'German'; SET lc_time = 'C'", "SET DateStyle = 'SQL, DMY'",
		"SET search_path = evil, pg_catalog", "SET IntervalStyle = 'iso_8601'; SET bytea_output = 'escape'",
		"SET extra_float_digits = -15; SET lc_numeric = 'C'; SET lc_monetary = 'C'; SET transform_null_equals = on",
		"SET quote_all_identifiers = on; SET array_nulls = off; SET xmloption = 'document'",
	} {
		c := connect(t, "postgres", set)
		for _, sql := range queries {
			if got, want := binary(c, sql), binary(plain, sql); got != want {
				t.Errorf("%s: %q, want %q\n%s", set, got, want, sql)
			}
		}
	}
}

// Patterns work under a collation that is not deterministic, and what is shown
// keeps the column's collation, so that it compares as the column does.
func TestCollation(t *testing.T) {
	c := connect(t, "postgres", `CREATE COLLATION public."no case" (provider = icu, locale = 'und-u-ks-level2', deterministic = false);`+
		`CREATE TABLE public.collated (v text COLLATE public."no case", w varchar(20) COLLATE "C", x text, y text[] COLLATE "C"); INSERT INTO public.collated VALUES ('ABC', 'ABC', 'ABC', '{ABC}')`)
	defer c.Exec(t.Context(), `DROP TABLE public.collated; DROP COLLATION public."no case"`)
	for _, m := range []policy.Mask{last4, first1, none, zip3, email, phone, ssn, pan, redact, null} {
		for column, typ := range map[string]mask.Type{
			"v": {Name: "text", SQL: "text", Collation: `public."no case"`}, "w": {Name: "varchar", SQL: "character varying(20)", Collation: `pg_catalog."C"`}, "x": text,
			"y": {Name: "_text", SQL: "text[]", Collation: `pg_catalog."C"`},
		} {
			sql, _, err := mask.SQL(m, column, typ)
			if err != nil || sql == "" {
				continue
			}
			// Two columns of different collations can't be compared.
			if r := shown(t, c, `SELECT `+column+` = m FROM (SELECT `+column+`, `+sql+` AS m FROM public.collated) x ORDER BY m`); r.Err != nil {
				t.Errorf("%+v of %s: %v", m, column, r.Err)
			}
			got := shown(t, c, `SELECT pg_collation_for(m) FROM (SELECT `+sql+` AS m FROM public.collated) x`)
			if want := shown(t, c, `SELECT pg_collation_for(`+column+`) FROM public.collated`); m.Kind != "redact" && or(got.Rows[0][0]) != or(want.Rows[0][0]) {
				t.Errorf("%+v of %s has collation %s, want %s", m, column, got.Rows[0][0], want.Rows[0][0])
			}
		}
	}
}

func TestFixed(t *testing.T) {
	for _, x := range []struct {
		m     policy.Mask
		typ   string
		fixed bool
	}{{redact, "text", true}, {constant("0"), "int4", true}, {redact, "jsonb", true}, {redact, "_int4", true}, {redact, "int4", false}, {last4, "text", false}, {null, "text", false}, {year, "date", false}} {
		if _, fixed, err := mask.SQL(x.m, "c", mask.Type{Name: x.typ}); err != nil || fixed != x.fixed {
			t.Errorf("%+v of %s: fixed %v, %v", x.m, x.typ, fixed, err)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, m := range []policy.Mask{redact, hide, null, last4, ends, none, year, {Kind: "partial", First: 64, Last: 64}} {
		if err := mask.Check(m); err != nil {
			t.Errorf("%+v: %v", m, err)
		}
	}
	for _, x := range []struct {
		m    policy.Mask
		want string
	}{
		{policy.Mask{}, `mask "" is not known: use one of redact, null, partial, year, bucket, zip3, email, phone, ssn, pan, json, hash, token, format, fake`},
		{policy.Mask{Kind: "rot13"}, "is not known"},
		{policy.Mask{Kind: "redact", Last: 4}, "only partial does"},
		{policy.Mask{Kind: "year", First: 4}, "only partial does"},
		{policy.Mask{Kind: "null", Constant: "x"}, "only redact does"},
		{policy.Mask{Kind: "partial", Constant: "x"}, "only redact does"},
		{policy.Mask{Kind: "partial", First: -1}, "from 0 to 64"},
		{policy.Mask{Kind: "partial", Last: 65}, "from 0 to 64"},
		{policy.Mask{Kind: "redact", Constant: `a\b`}, "backslash"},
		{policy.Mask{Kind: "redact", Constant: "a\x00b"}, "control"},
		{policy.Mask{Kind: "bucket"}, "one of width"},
		{policy.Mask{Kind: "bucket", Width: 10, Unit: "day"}, "one of width"},
		{policy.Mask{Kind: "bucket", Width: -10}, "from 1 to"},
		{policy.Mask{Kind: "bucket", Width: 1e13}, "from 1 to"},
		{policy.Mask{Kind: "bucket", Unit: "year"}, `unit "year" is not known: use one of hour, day, month, quarter`},
		{policy.Mask{Kind: "zip3", Width: 10}, "only bucket does"},
		{policy.Mask{Kind: "year", Unit: "day"}, "only bucket does"},
		{policy.Mask{Kind: "bucket", Width: 10, Earliest: 1900}, "only year does"},
		{policy.Mask{Kind: "year", Earliest: 10_000}, "from 1 to 9999"},
		{policy.Mask{Kind: "year", Earliest: -1}, "from 1 to 9999"},
		{policy.Mask{Kind: "json"}, "needs keep"},
		{policy.Mask{Kind: "json", Keep: "a\n"}, "from 1 to 8 steps"},
		{policy.Mask{Kind: "json", Keep: "a.'b"}, "in double quotes"},
		{policy.Mask{Kind: "redact", Keep: "a"}, "only json does"},
		{policy.Mask{Kind: "redact", Constant: "a\nb"}, "control"},
		{policy.Mask{Kind: "redact", Constant: "a\xffb"}, "UTF-8"},
		{policy.Mask{Kind: "redact", Constant: strings.Repeat("x", 257)}, "longer"},
	} {
		err := mask.Check(x.m)
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v: %v, want %q", x.m, err, x.want)
		}
		if _, _, err := mask.SQL(x.m, "c", text); err == nil {
			t.Errorf("%+v has an SQL form", x.m)
		}
		if out, null := mask.Apply(x.m, text, "Alice"); out != "" || !null {
			t.Errorf("%+v shows %q", x.m, out)
		}
	}
}

// The output form shows nothing of what it does not understand.
func TestApplyUnknown(t *testing.T) {
	for _, x := range []struct{ typ, text string }{
		{"date", "17.03.1951"},
		{"date", ""},
		{"date", "1951-03-17 00:00:00"},
		{"date", "1951-03-17x"},
		{"timestamp", "1951-03-17"},
		{"timestamp", "1951-03-17 00:00:00+00"},
		{"timestamptz", "1951-03-17 00:00:00"},
		{"date", "Sat Mar 17 1951"},
		{"", "1951-03-17"},
	} {
		if out, null := mask.Apply(year, mask.Type{Name: x.typ}, x.text); out != "" || !null {
			t.Errorf("%s %q: %q", x.typ, x.text, out)
		}
	}
}

// FuzzPartial: between the ends, nothing but separators is seen.
func FuzzPartial(f *testing.F) {
	f.Add("123-45-6789", 0, 4)
	f.Add("Дмитрий", 1, 1)
	f.Add("\xff\x00", 0, 0)
	f.Fuzz(func(t *testing.T, text string, first, last int) {
		out, null := mask.Apply(policy.Mask{Kind: "partial", First: first, Last: last}, mask.Type{Name: "text"}, text)
		if null || out == "***" {
			return
		}
		in, chars := []rune(text), []rune(out)
		if len(in) != len(chars) || out == text && !strings.Contains(text, "*") {
			t.Fatalf("%q shows %q", text, out)
		}
		for i, c := range chars[first : len(chars)-last] {
			if c != '*' && !strings.ContainsRune(" ./()+,:;@_#-", c) {
				t.Fatalf("%q shows %q at %d", text, out, first+i)
			}
		}
	})
}

// What policies write as keep, and what is wrong with it.
func TestKeep(t *testing.T) {
	for _, x := range []struct {
		list []string
		want string
	}{
		{[]string{"b.c", "a"}, "a\nb.c"},
		{[]string{"b[].c", "a[]", "[].x", `"odd key"."it""s"[]`, "a-b_$1"}, "a[]\na-b_$1\nb[].c\n\"odd key\".\"it\"\"s\"[]\n[].x"},
		{[]string{`"a"."b"`}, "a.b"},
		{[]string{"Größe"}, "keep: Größe: put a key that is no plain word in double quotes"},
		{[]string{`"Größe"`}, `"Größe"`},
		{[]string{`"a.b"`, "a.c"}, "a.c\n\"a.b\""},
		{[]string{"a.b", "a"}, "keep: a is there with all that is below it: leave a.b out"},
		{[]string{"a", "a"}, "keep: a is there with all that is below it: leave a out"},
		{[]string{"a..b"}, "keep: a..b: put a key that is no plain word in double quotes"},
		{[]string{"a."}, "keep: a.: put a key that is no plain word in double quotes"},
		{[]string{"a[0]"}, "keep: a[0]: write dots between keys, and [] for all elements of an array"},
		{[]string{"a[]b"}, "keep: a[]b: write dots between keys, and [] for all elements of an array"},
		{[]string{`"a"b`}, `keep: "a"b: write dots between keys, and [] for all elements of an array`},
		{[]string{`"a`}, `keep: "a: a quoted key has no end`},
		{[]string{"$.*"}, "keep: $.*: put a key that is no plain word in double quotes"},
		{[]string{""}, "keep: : a path has from 1 to 8 steps"},
		{[]string{"\"a\nb\""}, "keep: \"a\nb\": a key has at most 256 bytes, no control characters and no backslash"},
		{[]string{strings.Repeat("[]", 9)}, "keep: " + strings.Repeat("[]", 9) + ": a path has from 1 to 8 steps"},
		{strings.Split(strings.TrimSpace(strings.Repeat("a.b.c.d.e.f.g ", 40)), " "), "keep: a.b.c.d.e.f.g is there with all that is below it: leave a.b.c.d.e.f.g out"},
		{many(80), "keep: too many and too long paths for one statement: keep what is above them, or fewer"},
		{many(101), "keep: more than 100 paths"},
		{nil, "mask json needs keep: the paths that are shown, like [severity, visits[].day]"},
	} {
		got, err := mask.Keep(x.list)
		if err != nil {
			got = err.Error()
		}
		if got != x.want {
			t.Errorf("%q: %q, want %q", x.list, got, x.want)
		}
		if again, err := mask.Keep(strings.Split(got, "\n")); strings.HasPrefix(x.want, "a") && (err != nil || again != got) {
			t.Errorf("%q reads as %q, %v", got, again, err)
		}
	}
}

func many(n int) (list []string) {
	for i := range n {
		list = append(list, "a"+strconv.Itoa(i)+".b.c.d.e")
	}
	return list
}

// FuzzJSON: what is shown is under the paths, all of it, and printed as jsonb is.
func FuzzJSON(f *testing.F) {
	for _, x := range table {
		if x.m.Kind == "json" {
			f.Add(x.value)
		}
	}
	f.Fuzz(func(t *testing.T, in string) {
		for _, m := range []policy.Mask{keepAB, keepEach} {
			out, null := mask.Apply(m, mask.Type{Name: "json"}, in)
			if null {
				continue
			}
			if again, null := mask.Apply(m, mask.Type{Name: "jsonb"}, out); null || again != out {
				t.Fatalf("%q shows %q, and that %q", in, out, again)
			}
		}
	})
}

// Fits tells which masks show NULL.
func TestFits(t *testing.T) {
	for _, x := range []struct {
		m    policy.Mask
		typ  mask.Type
		want string
	}{
		{last4, text, ""},
		{null, mask.Type{}, ""},
		{last4, mask.Type{Name: "int4", SQL: "integer"}, "mask partial is not for type integer: NULL is shown"},
		{year, mask.Type{Name: "timestamptz", SQL: "timestamp with time zone"}, ""},
		{tens, mask.Type{Name: "_int4", SQL: "integer[]"}, ""},
		{tens, text, "mask bucket is not for type text: NULL is shown"},
		{daily, mask.Type{Name: "date"}, "mask bucket is not for type date: NULL is shown"},
		{constant("x"), mask.Type{Name: "int4"}, "the constant of mask redact is no value of type int4: NULL is shown"},
		{constant("x"), mask.Type{SQL: "clinic.severity", Labels: []string{"low"}}, "the constant of mask redact is no value of type clinic.severity: NULL is shown"},
		{constant("low"), mask.Type{SQL: "clinic.severity", Labels: []string{"low"}}, ""},
		{redact, mask.Type{}, "mask redact is not for a type that is not built in: NULL is shown"},
		{policy.Mask{Kind: "rot13"}, text, "is not known"},
	} {
		err := mask.Fits(x.m, x.typ)
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%+v, %+v: %v, want %q", x.m, x.typ, err, x.want)
		}
	}
}
