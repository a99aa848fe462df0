package mask_test

import (
	"context"
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
	if len(m.Labels) == 0 {
		m.Labels = nil
		if !builtin {
			m = mask.Type{}
		}
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
	for _, database := range []string{"postgres", "plain"} {
		c := connect(t, database, types)
		defer c.Exec(t.Context(), "DROP TYPE public.severity, public.pair, public.code, public.short, public.age CASCADE")
		if _, err := c.Exec(t.Context(), "SET TimeZone = 'UTC'; SET search_path = pg_catalog"); err != nil {
			t.Fatal(err)
		}
		tables := map[string]mask.Type{}
		for _, x := range table {
			name := `pg_temp."of ` + x.typ + `"` // its row type must be no other type
			typ, ok := tables[x.typ]
			if !ok {
				typ = column(t, c, name, x.typ)
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
				t.Errorf("%s: %+v of %s %q: %v\n%s", database, x.m, x.typ, x.value, r.Err, sql)
				continue
			}
			stored, got := r.FieldDescriptions[0], r.FieldDescriptions[1]
			if stored.DataTypeOID != got.DataTypeOID || stored.TypeModifier != got.TypeModifier {
				t.Errorf("%+v of %s is of type %d with modifier %d, want %d with %d", x.m, x.typ, got.DataTypeOID, got.TypeModifier, stored.DataTypeOID, stored.TypeModifier)
			}
			if got := or(r.Rows[0][1]); got != x.want {
				t.Errorf("%s: SQL: %+v of %s %.100q: %q, want %q", database, x.m, x.typ, x.value, got, x.want)
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
	}
}

func or(s []byte) string {
	if s == nil {
		return isNull
	}
	return string(s)
}

func TestFixed(t *testing.T) {
	for _, x := range []struct {
		m     policy.Mask
		typ   string
		fixed bool
	}{{redact, "text", true}, {redact, "int4", false}, {last4, "text", false}, {null, "text", false}, {year, "date", false}} {
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
