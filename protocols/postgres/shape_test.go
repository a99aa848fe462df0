package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/token"
)

// scanned is a token as the server's own lexer sees it.
type scanned struct {
	kind       pg_query.Token
	start, end int
}

func scan(sql string) ([]scanned, error) {
	r, err := pg_query.Scan(sql)
	if err != nil {
		return nil, err
	}
	out := make([]scanned, len(r.Tokens))
	for i, t := range r.Tokens {
		out[i] = scanned{t.Token, int(t.Start), int(t.End)}
	}
	return out, nil
}

// holdShape holds that all texts with sql's key are the same to the server's
// lexer, literals apart: the literals that were taken out are tokens of their
// own, and others in their places change no other token.
func holdShape(t *testing.T, sql string) (shaped bool) {
	t.Helper()
	key, lits, ok := shape(nil, []byte(sql), nil)
	if !ok {
		return false
	}
	toks, err := scan(sql)
	if err != nil {
		return true // refused by the grammar, whatever stands in the places
	}
	i := 0
	for _, l := range lits {
		if l.kept {
			continue
		}
		for i < len(toks) && toks[i].end <= l.start {
			i++
		}
		if i == len(toks) || toks[i].start != l.start || toks[i].end != l.end || toks[i].kind != pg_query.Token_SCONST && toks[i].kind != pg_query.Token_ICONST {
			t.Fatalf("%q: %q is not a literal to the server (%v)", sql, sql[l.start:l.end], toks)
		}
		i++
	}
	for _, with := range [][2]string{{"''", "0"}, {"'it''s; --/*\"$1'", "999999999"}, {"'é'", "007"}} {
		var b []byte
		at := 0
		for _, l := range lits {
			if l.kept {
				continue
			}
			b = append(b, sql[at:l.start]...)
			if sql[l.start] == '\'' {
				b = append(b, with[0]...)
			} else {
				b = append(b, with[1]...)
			}
			at = l.end
		}
		b = append(b, sql[at:]...)
		other, _, ok := shape(nil, b, nil)
		if !ok || !bytes.Equal(other, key) {
			t.Fatalf("%q and %q differ in plain literals only, their keys are %q and %q", sql, b, key, other)
		}
		toks2, err := scan(string(b))
		if err != nil || len(toks2) != len(toks) {
			t.Fatalf("%q is %v, %q is %v: %v", sql, toks, b, toks2, err)
		}
		for i := range toks {
			x, y := toks[i], toks2[i]
			literal := x.kind == pg_query.Token_SCONST || x.kind == pg_query.Token_ICONST
			if x.kind != y.kind || !literal && sql[x.start:x.end] != string(b[y.start:y.end]) {
				t.Fatalf("%q and %q have one key, but %q is %q", sql, b, sql[x.start:x.end], b[y.start:y.end])
			}
		}
	}
	return true
}

var shapes = []string{
	"SELECT 1", "select 'a', $1, 1.5, .5, 1e5, 1e+5, 1E-5, 0x1F, 1_000, 12345678901 from t where a='x' and b=-5",
	`SELECT "a'b", 'a"b', "a""b'"`, "SELECT 'a''b'", "SELECT 'a'\n'b'", "SELECT 'a' 'b'", `SELECT U&"d!0061" UESCAPE '!'`,
	`SELECT U&'d\0061'`, `SELECT E'\''`, `SELECT e'\'' , 'x'`, "SELECT N'a', B'01', X'ff', b '01'", "SELECT $$a$$, $x$'$x$", "SELECT $1'a'",
	"SELECT 1a, 1.a, a1 , 1$1, $1a", "SELECT a.1, a .1, 1..2, 1.-2", "SELECT 'a'--x\n,'b'", "SELECT 1/*'*/", "SELECT 1 / 2, 1 - - 2, 1 -2, a-1",
	"(SELECT 1) UNION (VALUES (2))", "WITH x AS (SELECT 'a') SELECT * FROM x", "INSERT INTO t VALUES (1,'x')", "UPDATE t SET a=1 WHERE b='y'", "DELETE FROM t WHERE a=1",
	"SELECT 'é', \"é\", é1, 'a'é", "SELECT '\x01', 1", "SELECT 1\x01", "SELECT 1\u00a0+1", "SELECT '\\'; DELETE FROM t; --'", "select 1e+x, 1e+, 1ee5, 1e5e5",
	"SELECT interval '1' day, date '2020-01-01', float '1', 'a'::text", "SELECT a[1], a[1:2], x:1", "SELECT 1;SELECT '2';", "SELECT '", `SELECT "`, "SELECT 'a", "selecting 1",
	"SELECT 00000000000000000001, 000000001", "SELECT 1 AS \"\x011\x02\"", "SELECT\f1", "SELECT\v'a'", "SELECT 'a'\r\n'b'", "SELECT 1'a'", "SELECT 1'a''b'", "SELECT a'b'",
	"SELECT u&'x', U& 'x', u&\"x\"", "SELECT 'a'U&'b'", "SELECT 1.5e5, 1.5e, 5.e5, .5e+5", "SELECT @-1, @ -1, !1, 1!", "SELECT '' ''", "SELECT ''''",
}

// Two texts that the server's lexer takes apart differently never share a key.
func TestShape(t *testing.T) {
	n := 0
	for _, s := range shapes {
		if holdShape(t, s) {
			n++
		}
	}
	if n < len(shapes)/3 {
		t.Errorf("only %d of %d have a shape", n, len(shapes))
	}
	pieces := []string{"'", "''", "\"", "$", "$$", "$1", "E", "U&", "u&", "e'", "--", "/*", "*/", "-", "+", ".", "1", "12", "0x", "_", "a", "é", "\\", "\n", " ", " ", ",", ";", "(", ")", "e", "1e", "&", "|", "x", "N", "b'"}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		var b strings.Builder
		b.WriteString("SELECT ")
		for range 1 + r.IntN(8) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		holdShape(t, b.String())
	}
}

func FuzzShape(f *testing.F) {
	for _, s := range shapes {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		if strings.IndexByte(sql, 0) >= 0 || len(sql) > 10_000 {
			return
		}
		if holdShape(t, sql) && !utf8.ValidString(sql) {
			t.Errorf("%q has a shape", sql)
		}
		holdTemplate(t, sql)
	})
}

// holdTemplate holds that literals that are spliced into what was generated for
// their shape give what is generated for them.
func holdTemplate(t *testing.T, sql string) {
	t.Helper()
	_, lits, ok := shape(nil, []byte(sql), nil)
	if !ok {
		return
	}
	generate := func(sql string) (string, error) { // as parser.Pool does
		tree, err := pg_query.Parse(sql)
		if err != nil {
			return "", err
		}
		out, err := pg_query.Deparse(tree)
		if err != nil {
			return "", err
		}
		a, aerr := pg_query.Fingerprint(sql)
		b, berr := pg_query.Fingerprint(out)
		if aerr == nil && berr == nil && a != b {
			berr = errors.New("not what it was generated from")
		}
		return out, errors.Join(aerr, berr)
	}
	gen, err := generate(string(canonical([]byte(sql), lits)))
	if err != nil {
		return
	}
	pieces, ok := template(gen, []byte(sql), lits)
	if !ok {
		return
	}
	st := &statement{pieces: pieces}
	st.an = &query.Analysis{SQL: gen}
	spliced := string(st.appendSQL(nil, []byte(sql), lits))
	exact, err := generate(sql)
	if err != nil {
		t.Fatalf("%q: its shape can be generated, itself not: %v", sql, err)
	}
	// Spellings of one number differ: 007.
	a, err := pg_query.Fingerprint(spliced)
	if err != nil {
		t.Fatalf("%q gives %q: %v", sql, spliced, err)
	}
	b, err := pg_query.Fingerprint(exact)
	if err != nil || a != b {
		t.Fatalf("%q gives %q by its shape, %q by itself (%v)", sql, spliced, exact, err)
	}
	if x, err := generate(spliced); err != nil || x != exact {
		t.Fatalf("%q gives %q by its shape, %q by itself (%v)", sql, x, exact, err)
	}
}

func TestTemplate(t *testing.T) {
	for _, s := range shapes {
		holdTemplate(t, s)
	}
	exprs := []string{
		"1", "-1", "'x'", "'it''s'", "a", "b.c", "$1", "1.5", "1e5", "'é'", "NULL", "true", "''", "0", "999999999", "'a' || 'b'", "ARRAY[1,'2']", "a[1]", "('x')::text", "7::float8", "interval '1 day'", "date '2020-01-01'",
		"extract(year from d)", "extract('year' from d)", "substring('abc' from 1 for 2)", "trim(both 'x' from 'y')", "position('a' in 'b')", "overlay('a' placing 'b' from 1)", "a between 1 and 2", "a like 'x' escape 'y'",
		"a in (1,2,3)", "a in ('x')", "coalesce(a, 'x')", "case a when 1 then 'x' else 'y' end", "a at time zone 'UTC'", "current_date - 5", "row(1,'x')", "(1,2) = (3,4)", "exists (select 1)", "a is distinct from 5", "'5'::int + 5",
		"cast('t' as bool)", "bool 't'", "char 'x'", "a::varchar(5)", "a::numeric(5,2)", "a::interval(3)", "a collate \"C\"", "count(*) filter (where a = 5)", "sum(a) over (order by b rows 5 preceding)", "json '{}'", "a->'b'->>1", "- - 5", "+5", "5 - -5", "not 't'::bool",
		"xmlelement(name a, 'x')", "greatest(1,2)", "nullif(1,'2')", "f(a => 5)", "x'1'::int", "a.b.c = 'x'", "time '10:00' with time zone", "'x' is null", "make_interval(days => 5)",
	}
	r := rand.New(rand.NewPCG(3, 4))
	pick := func() string { return exprs[r.IntN(len(exprs))] }
	for range 3000 {
		s := "SELECT " + pick() + ", " + pick() + " AS x FROM t WHERE " + pick() + " = " + pick()
		switch r.IntN(6) {
		case 0:
			s += " ORDER BY 1, " + pick() + " LIMIT 5 OFFSET 6"
		case 1:
			s += " GROUP BY 2, " + pick() + " HAVING " + pick()
		case 2:
			s = "INSERT INTO t (a, b) VALUES (" + pick() + ", " + pick() + ") RETURNING " + pick()
		case 3:
			s = "UPDATE t SET a = " + pick() + " WHERE " + pick() + " = " + pick()
		case 4:
			s = "WITH x AS (" + s + ") SELECT " + pick() + " FROM x FETCH FIRST 5 ROWS ONLY"
		}
		holdTemplate(t, s)
	}
}

// What hides literals in an event's text and what takes them out of a key find
// the same ones, or an event would show what a digest should stand for.
func TestShapeAndTokensAgree(t *testing.T) {
	for _, s := range shapes {
		if _, err := scan(s); err != nil {
			continue
		}
		_, lits, ok := shape(nil, []byte(s), nil)
		if !ok {
			continue
		}
		_, want := token.Normalize(nil, s, nil)
		var got []token.Literal
		for _, l := range lits {
			got = append(got, token.Literal{Start: l.start, End: l.end})
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %s, the event's text has %s", s, fmt.Sprint(got), fmt.Sprint(want))
		}
	}
}

// A stand-in is a literal of what was generated only as a token of its own.
func TestTemplateRefuses(t *testing.T) {
	sql := []byte("SELECT 'x', 5")
	_, lits, _ := shape(nil, sql, nil)
	text, number := string(standIn(nil, sql, lits[0], 0)), string(standIn(nil, sql, lits[1], 1))
	if _, ok := template("SELECT "+text+", "+number, sql, lits); !ok {
		t.Error("the plain case is refused")
	}
	for _, gen := range []string{
		"SELECT E" + text + ", " + number, "SELECT U&" + text + ", " + number, "SELECT " + text + text + ", " + number,
		"SELECT " + text + ", 1" + number, "SELECT " + text + ", " + number + "0", "SELECT " + text + ", 0." + number, "SELECT " + text + ", a" + number,
		"SELECT " + text, "SELECT " + number, "SELECT " + text + ", '" + textStandIn + "Aa', 'x" + textStandIn + "Aa', " + number,
	} {
		if _, ok := template(gen, sql, lits); ok {
			t.Errorf("taken apart: %s", gen)
		}
	}
}
