package mask_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
)

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

var (
	redact = policy.Mask{Kind: "redact"}
	hide   = policy.Mask{Kind: "redact", Constant: `it's "gone"`}
	null   = policy.Mask{Kind: "null"}
	last4  = policy.Mask{Kind: "partial", Last: 4}
	first1 = policy.Mask{Kind: "partial", First: 1}
	ends   = policy.Mask{Kind: "partial", First: 2, Last: 3}
	none   = policy.Mask{Kind: "partial"}
	year   = policy.Mask{Kind: "year"}
)

const isNull = "<null>"

// Both forms of each mask show the same.
var table = []struct {
	m           policy.Mask
	typ         string
	value, want string
}{
	{redact, "text", "Alice", "[redacted]"},
	{redact, "text", "", "[redacted]"},
	{redact, "varchar(5)", "Alice", "[redacted]"},
	{redact, "char(20)", "Alice", "[redacted]"},
	{hide, "text", "Alice", `it's "gone"`},
	{redact, "int4", "42", isNull},
	{redact, "jsonb", "{}", isNull},
	{redact, "date", "2024-02-03", isNull},
	{null, "text", "Alice", isNull},
	{null, "date", "2024-02-03", isNull},

	{last4, "text", "123-45-6789", "***-**-6789"},
	{last4, "varchar", "123-45-6789", "***-**-6789"},
	{last4, "char(20)", "123-45-6789", "***-**-6789"},
	{last4, "text", "123456789", "*****6789"},
	{last4, "text", "(617) 555-0143", "(***) ***-0143"},
	{first1, "text", "O'Brien-Smith, Zoë", "O******-*****, ***"},
	{ends, "text", "alice@example.org", "al***@*******.org"},
	{none, "text", "123-45-6789", "***-**-****"},
	// Nothing of a short value.
	{last4, "text", "", "***"},
	{last4, "text", "6", "***"},
	{last4, "text", "6789", "***"},
	{last4, "text", "56789", "*6789"},
	{last4, "char(20)", "6789", "***"},
	{ends, "text", "abcde", "***"},
	{ends, "text", "abcdef", "ab*def"},
	{none, "text", "", "***"},
	// Nor of one whose middle would hide nothing.
	{last4, "text", "--6789", "***"},
	{ends, "text", "ab.cde", "***"},
	{none, "text", "- -", "***"},
	// Characters, not bytes; whatever the locale takes for a letter.
	{last4, "text", "Дмитрий", "***трий"},
	{first1, "text", "李小龍", "李**"},
	{ends, "text", "łódź-ß-žluť", "łó**-*-*luť"},
	{last4, "text", "éééé", "***"},
	{first1, "text", "a😀b", "a**"},
	{first1, "text", "e\u0301", "e*"}, // a combining accent is a character of its own
	{first1, "text", "a\nb\tc\\d'e*f%", "a***********"},
	{last4, "int8", "123456789", isNull},
	{last4, "uuid", "00000000-0000-0000-0000-000000001234", isNull},

	{year, "date", "1951-03-17", "1951-01-01"},
	{year, "date", "1951-01-01", "1951-01-01"},
	{year, "date", "1951-12-31", "1951-01-01"},
	{year, "date", "0044-03-15 BC", "0044-01-01 BC"},
	{year, "date", "0001-12-31 BC", "0001-01-01 BC"},
	{year, "date", "5874897-12-31", "5874897-01-01"},
	{year, "date", "infinity", "infinity"},
	{year, "date", "-infinity", "-infinity"},
	{year, "timestamp", "2024-02-29 23:59:59.999999", "2024-01-01 00:00:00"},
	{year, "timestamp", "0044-03-15 12:00:00 BC", "0044-01-01 00:00:00 BC"},
	{year, "timestamp", "infinity", "infinity"},
	{year, "timestamptz", "2024-07-04 05:06:07+02", "2024-01-01 00:00:00+00"},
	{year, "timestamptz", "2024-01-01 00:30:00+05:30", "2023-01-01 00:00:00+00"},
	{year, "timestamptz", "2023-12-31 23:30:00-03", "2024-01-01 00:00:00+00"},
	{year, "timestamptz", "-infinity", "-infinity"},
	{year, "text", "1951-03-17", isNull},
	{year, "time", "12:00:00", isNull},
}

func TestForms(t *testing.T) {
	admin := connect(t, "postgres", "CREATE DATABASE plain TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
	defer admin.Exec(t.Context(), "DROP DATABASE plain WITH (FORCE)")
	for database, c := range map[string]*pgx.Conn{
		"C.UTF-8": connect(t, "postgres", "SET TimeZone = 'UTC'"),
		"C":       connect(t, "plain", "SET TimeZone = 'UTC'"),
	} {
		for _, x := range table {
			typ, _, _ := strings.Cut(x.typ, "(")
			if typ == "char" {
				typ = "bpchar"
			}
			sql, _, err := mask.SQL(x.m, `odd "name`, typ)
			if err != nil {
				t.Fatal(err)
			}
			if sql == "" {
				sql = "NULL"
			}
			var stored string
			var atSource, ofNull *string
			err = c.QueryRow(t.Context(), `SELECT format('%s', "odd ""name"), (`+sql+`)::text FROM (SELECT $1::text::`+x.typ+`) t("odd ""name")`, x.value).Scan(&stored, &atSource)
			if err != nil {
				t.Errorf("%s: %+v of %s %q: %v", database, x.m, x.typ, x.value, err)
				continue
			}
			if got := or(atSource); got != x.want {
				t.Errorf("%s: SQL: %+v of %s %q: %q, want %q", database, x.m, x.typ, x.value, got, x.want)
			}
			out, isnull := mask.Apply(x.m, typ, stored)
			if isnull {
				out = isNull
			}
			if out != x.want {
				t.Errorf("Go: %+v of %s %q: %q, want %q", x.m, x.typ, stored, out, x.want)
			}
			if err := c.QueryRow(t.Context(), `SELECT (`+sql+`)::text FROM (SELECT NULL::`+x.typ+`) t("odd ""name")`).Scan(&ofNull); err != nil || ofNull != nil {
				t.Errorf("%+v of a NULL %s: %s, %v", x.m, x.typ, or(ofNull), err)
			}
		}
	}
}

func or(s *string) string {
	if s == nil {
		return isNull
	}
	return *s
}

// What a session may set changes nothing in what a mask tells.
func TestSettings(t *testing.T) {
	for _, set := range []string{
		"SET TimeZone = 'America/New_York'", "SET TimeZone = '<x>-14:30'", "SET DateStyle = 'German'",
		"SET search_path = evil, pg_catalog", "SET lc_time = 'C'; SET IntervalStyle = 'iso_8601'",
	} {
		c := connect(t, "postgres", "CREATE SCHEMA IF NOT EXISTS evil; CREATE OR REPLACE FUNCTION evil.length(text) RETURNS int LANGUAGE sql AS 'SELECT 99';"+
			"CREATE OR REPLACE FUNCTION evil.left(text, int) RETURNS text LANGUAGE sql AS 'SELECT $1';"+set)
		for _, x := range table {
			if strings.Contains(x.typ, "(") {
				continue
			}
			sql, _, _ := mask.SQL(x.m, "v", x.typ)
			if sql == "" {
				continue
			}
			want := "'" + strings.ReplaceAll(x.want, "'", "''") + "'"
			var same bool
			err := c.QueryRow(t.Context(), `SELECT (`+sql+`) = `+want+`::`+x.typ+` FROM (SELECT $1::text::`+x.typ+`) t(v)`, x.value).Scan(&same)
			if err != nil || !same {
				t.Errorf("%s: %+v of %s %q is not %q (%v)", set, x.m, x.typ, x.value, x.want, err)
			}
		}
	}
}

func TestFixed(t *testing.T) {
	for _, x := range []struct {
		m     policy.Mask
		typ   string
		fixed bool
	}{{redact, "text", true}, {redact, "int4", false}, {last4, "text", false}, {null, "text", false}, {year, "date", false}} {
		if _, fixed, err := mask.SQL(x.m, "c", x.typ); err != nil || fixed != x.fixed {
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
		{policy.Mask{}, `mask "" is not known: use one of redact, null, partial, year, hash, token, format, fake`},
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
		if _, _, err := mask.SQL(x.m, "c", "text"); err == nil {
			t.Errorf("%+v has an SQL form", x.m)
		}
		if out, null := mask.Apply(x.m, "text", "Alice"); out != "" || !null {
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
		if out, null := mask.Apply(year, x.typ, x.text); out != "" || !null {
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
		out, null := mask.Apply(policy.Mask{Kind: "partial", First: first, Last: last}, "text", text)
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
