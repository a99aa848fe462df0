package token

import (
	"slices"
	"strings"
	"testing"

	pg_query "github.com/pganalyze/pg_query_go/v6"
)

func TestNormalize(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"SELECT 1", "SELECT ?"},
		{"  select\t*\nfrom t -- ssn 123-45-6789\n where a='x''y' ", "select * from t where a=?"},
		{"select /* a /* nested 'q' */ b */ 'v'", "select ?"},
		{`select E'a\'b', N'c', B'01', x'ff', U&'\0041'`, "select ?, ?, ?, ?, ?"},
		{`select "a""b'c", U&"d'e"`, `select "a""b'c", U&"d'e"`},
		{"select $1, $2::int, $$a'b$$, $t$x$$y$t$, a$b$c", "select $1, $2::int, ?, ?, a$b$c"},
		{"select 1.5e-3, .5, 1_000, 0xff, c1, t.a", "select ?, ?, ?, ?, c1, t.a"},
		{"select a-1--x\n+2", "select a-? +?"},
		{"select 'open", "select ?"},
		{"select /* open 'x'", "select"},
		{"select $tag$ open", "select ?"},
		{`select 'a\' or 'b'`, "select ?"}, // two readings: the rest is hidden
		{"select a->'k'->>'l' from j", "select a->?->>? from j"},
	} {
		got, lits := Normalize(nil, tt.in, nil)
		if string(got) != tt.want {
			t.Errorf("Normalize(%q) = %q, want %q", tt.in, got, tt.want)
		}
		if n := strings.Count(tt.want, "?"); n != len(lits) {
			t.Errorf("Normalize(%q) found %d literals, want %d", tt.in, len(lits), n)
		}
	}
}

func TestNormalizeDoesNotAllocate(t *testing.T) {
	dst, lits := make([]byte, 0, 256), make([]Literal, 0, 8)
	const sql = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711 AND note = 'x';"
	if n := testing.AllocsPerRun(100, func() {
		d, _ := Normalize(dst[:0], sql, lits[:0])
		if Command(d) != "select" || Fingerprint(d) == 0 {
			t.Fatal("wrong")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzNormalize holds the walk against PostgreSQL's own scanner: no literal
// that the scanner sees may survive in the output.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"select 'a' 'b', 1, $1, $$x$$", `select E'\'' "x"`, "a/*/*'*/*/1", "U&'x'u&\"y\"", "1..2 3.e5 a$1$2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		if strings.ContainsRune(sql, 0) || len(sql) > 4096 {
			return
		}
		out, lits := Normalize(nil, sql, nil)
		end := 0
		for _, l := range lits {
			if l.Start < end || l.End <= l.Start || l.End > len(sql) {
				t.Fatalf("literal %v out of order in %q", l, sql)
			}
			end = l.End
		}
		scan, err := pg_query.Scan(sql)
		if err != nil {
			return
		}
		for _, tok := range scan.Tokens {
			switch tok.Token {
			case pg_query.Token_SCONST, pg_query.Token_USCONST, pg_query.Token_BCONST, pg_query.Token_XCONST, pg_query.Token_ICONST, pg_query.Token_FCONST:
				// 'a' <newline> 'b' is one token there and two literals here.
				s, e := int(tok.Start), int(tok.End)
				holds := func(i int) bool {
					return slices.ContainsFunc(lits, func(l Literal) bool { return l.Start <= i && i < l.End })
				}
				if !holds(s) || !holds(e-1) {
					t.Fatalf("%q: literal %q survives in %q", sql, sql[s:e], out)
				}
			}
		}
	})
}

// Comments are what a comment says, and nothing that only looks like one.
func TestComments(t *testing.T) {
	for sql, want := range map[string][]string{
		"SELECT 1": nil, "-- why\nSELECT 1 /* and /* more */ so */ -- end": {"why", "and /* more */ so", "end"},
		"SELECT '-- no', \"/* no */\", $x$ -- no $x$ /**/": nil, "/* open": {"open"}, "--": nil, "/*": nil, "/*/": {"/"}, "a-b": nil, "--a\r--b": {"a", "b"},
	} {
		if got := Comments(sql); !slices.Equal(got, want) {
			t.Errorf("%q: %q, not %q", sql, got, want)
		}
	}
}
