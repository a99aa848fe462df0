package rewrite_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/rewrite"
)

// attacks is the public corpus; psql.sql is written in the same way.
const attacks = "../testdata/attacks/"

// cases reads those of its files, or of ours, that match a pattern, without
// what is said in messages.
func cases(t testing.TB, pattern string) (out []postgrestest.Attack) {
	t.Helper()
	dir := attacks
	if pattern == "psql.sql" {
		dir = "testdata/"
	}
	all, err := postgrestest.Attacks(dir, pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if a.Login != "" || a.Statements[0][0] == '>' {
			continue
		}
		for i, s := range a.Statements {
			a.Statements[i] = strings.ReplaceAll(s, "{database}", "postgres")
		}
		out = append(out, a)
	}
	return out
}

// agent is a session that sends what the analysis says, and keeps the names
// that the server confirmed.
type agent struct {
	t        testing.TB
	a        *rewrite.Analyzer // nil: what the client sends goes out
	c        *pgconn.PgConn
	scope    *policy.Scope
	prepared map[string]*query.Analysis
	cursors  map[string]*query.Analysis
	notices  *strings.Builder
	seen     strings.Builder // what the client sees
	refused  string
}

func newAgent(t testing.TB, a *rewrite.Analyzer) *agent {
	g := &agent{t: t, a: a, scope: masked(), prepared: map[string]*query.Analysis{}, cursors: map[string]*query.Analysis{}, notices: new(strings.Builder)}
	cfg, err := pgconn.ParseConfig("host=" + socket + " user=agent dbname=postgres")
	if err != nil {
		t.Fatal(err)
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		fmt.Fprintln(g.notices, n.Message, n.Detail, n.Hint)
	}
	if g.c, err = pgconn.ConnectConfig(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.c.Close(context.Background()) })
	return g
}

// mode is how a statement travels.
type mode int

const (
	simple mode = iota
	extendedBinary
)

func (m mode) String() string { return [...]string{"simple", "binary"}[m] }

// send sends one text and appends what comes back.
func (g *agent) send(sql string, m mode) {
	t := g.t
	out, sanitize := sql, false
	if g.a != nil {
		an, err := g.analyzer().Analyze(t.Context(), query.Input{
			SQL: sql, Scope: g.scope, Simple: m == simple,
			Prepared: func(n string) *query.Analysis { return g.prepared[n] }, Cursor: func(n string) *query.Analysis { return g.cursors[n] },
		})
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if an.Opaque != "" {
			g.refused = an.Opaque
			fmt.Fprintln(&g.seen, "refused:", an.Opaque)
			return
		}
		if an.SQL != "" {
			out = an.SQL
		}
		sanitize = an.Sanitize
		defer func() {
			for n, p := range an.Prepares {
				g.prepared[n] = p
			}
			for n, p := range an.Declares {
				g.cursors[n] = p
			}
			if an.DDL {
				if err := g.a.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}()
	}
	up := strings.ToUpper(strings.TrimSpace(out))
	var err error
	switch {
	case strings.HasPrefix(up, "COPY") && strings.Contains(up, "STDOUT"):
		_, err = g.c.CopyTo(t.Context(), &g.seen, out)
	case m == simple:
		var results []*pgconn.Result
		results, err = g.c.Exec(t.Context(), out).ReadAll()
		for _, r := range results {
			g.result(r)
		}
	default:
		format := []int16{0}
		if m == extendedBinary {
			format[0] = 1
		}
		r := g.c.ExecParams(t.Context(), out, nil, nil, nil, format).Read()
		err = r.Err
		g.result(r)
	}
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		fmt.Fprintln(&g.seen, "error", pe.Code)
		if !sanitize {
			// What quotes definitions the session withholds: see postgres.TestAttacks.
			fmt.Fprintln(&g.seen, pe.Message, pe.Detail, pe.Hint)
		}
	} else if err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if !sanitize {
		g.seen.WriteString(g.notices.String())
	}
	g.notices.Reset()
}

// analyzer returns the one for the session's next statement.
func (g *agent) analyzer() query.Analyzer {
	if g.c.TxStatus() != 'T' {
		return g.a
	}
	a, err := g.a.Within(g.t.Context(), func(ctx context.Context, sql ...string) ([]query.Rows, error) {
		out := make([]query.Rows, len(sql))
		for i, s := range sql {
			r := g.c.ExecParams(ctx, s, nil, nil, nil, nil).Read()
			if r.Err != nil {
				return nil, fmt.Errorf("%s: %w", s, r.Err)
			}
			out[i] = r.Rows
		}
		return out, nil
	})
	if errors.Is(err, query.ErrUnseen) {
		return g.a
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return a
}

func (g *agent) result(r *pgconn.Result) {
	for _, f := range r.FieldDescriptions {
		fmt.Fprint(&g.seen, f.Name, "/", f.DataTypeOID, " ")
	}
	if len(r.FieldDescriptions) > 0 {
		g.seen.WriteByte('\n')
	}
	for _, row := range r.Rows {
		for i, v := range row {
			if i > 0 {
				g.seen.WriteByte('\t')
			}
			if v == nil {
				g.seen.WriteString("<null>")
			}
			g.seen.Write(v)
		}
		g.seen.WriteByte('\n')
	}
	fmt.Fprintln(&g.seen, r.CommandTag.String())
}

// Nothing protected comes back, in any protocol and format.
func TestEvasions(t *testing.T) {
	a := newAnalyzer(t)
	all := cases(t, "[0-9]*.sql")
	if len(all) < 250 {
		t.Fatalf("%d evasions", len(all))
	}
	for _, c := range all {
		t.Run(c.Name, func(t *testing.T) {
			for _, m := range []mode{simple, extendedBinary} {
				g := newAgent(t, a)
				skipped := false
				for _, sql := range c.Statements {
					if m != simple && strings.Contains(sql, "; ") {
						skipped = true // several statements: the simple protocol only
						continue
					}
					g.send(sql, m)
				}
				g.c.Close(t.Context()) // a transaction that it left open is in the next one's way
				seen := g.seen.String()
				if found := postgrestest.Planted([]byte(seen)); found != "" {
					t.Errorf("%v: %q in\n%s", m, found, seen)
				}
				if m == simple {
					t.Log(seen)
				}
				switch {
				case c.Want == "":
				case c.Want == "refused":
					if g.refused == "" && !skipped {
						t.Errorf("%v: not refused:\n%s", m, seen)
					}
				case m == simple && g.refused != "":
					t.Errorf("refused: %s", g.refused)
				case m == simple && c.Want == "none":
					if !strings.Contains("\n"+seen, "\nSELECT 0\n") {
						t.Errorf("rows came back:\n%s", seen)
					}
				case m == simple && !strings.Contains(seen, "\n"+strings.ReplaceAll(c.Want, ",", "\n")+"\n") && c.Want != "ok":
					t.Errorf("want %s:\n%s", c.Want, seen)
				}
			}
		})
	}
}

// What touches nothing protected is as it is without us.
func TestHarmless(t *testing.T) {
	a := newAnalyzer(t)
	all := slices.DeleteFunc(cases(t, "harmless.sql"), func(c postgrestest.Attack) bool { return !c.Known() })
	if len(all) < 120 {
		t.Fatalf("%d statements", len(all))
	}
	for _, c := range all {
		t.Run(c.Name, func(t *testing.T) {
			for _, m := range []mode{simple, extendedBinary} {
				g, direct := newAgent(t, a), newAgent(t, nil)
				for _, sql := range c.Statements {
					if m != simple && strings.Contains(sql, "; ") {
						continue
					}
					g.send(sql, m)
					if g.refused != "" {
						t.Fatalf("refused: %s", g.refused)
					}
				}
				for _, sql := range c.Statements {
					if m != simple && strings.Contains(sql, "; ") {
						continue
					}
					direct.send(sql, m)
				}
				if g.seen.String() != direct.seen.String() {
					t.Errorf("%v:\n%s\nwithout us:\n%s", m, g.seen.String(), direct.seen.String())
				}
			}
		})
	}
}

// psql's backslash commands work: what they send is understood, and runs, if
// the server has what they ask for: they are what psql sends to a 15.
func TestPsqlCommands(t *testing.T) {
	a := newAnalyzer(t)
	g, direct := newAgent(t, a), newAgent(t, nil)
	for _, c := range cases(t, "psql.sql") {
		g.seen.Reset()
		direct.seen.Reset()
		for _, s := range c.Statements {
			g.send(s, simple)
			direct.send(s, simple)
		}
		if strings.Contains(direct.seen.String(), "error ") && postgrestest.Major() != 15 {
			g.refused = ""
			continue
		}
		if g.refused != "" || strings.Contains(g.seen.String(), "error ") {
			t.Errorf("%s: %s %s\n%s", c.Name, g.refused, g.seen.String(), strings.Join(c.Statements, "\n"))
		}
		if found := postgrestest.Planted([]byte(g.seen.String())); found != "" {
			t.Errorf("%s: %q in\n%s", c.Name, found, g.seen.String())
		}
	}
}
