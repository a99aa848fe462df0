package parser_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"go.uber.org/goleak"

	"sallyport.dev/sallyport/protocols/postgres/parser"
)

func TestMain(m *testing.M) {
	if parser.IsChild() {
		os.Exit(parser.Main())
	}
	if len(os.Args) == 2 && os.Args[1] == "probe" {
		os.Exit(parser.Probe())
	}
	goleak.VerifyTestMain(m)
}

func pool(t testing.TB, o parser.Options) *parser.Pool {
	t.Helper()
	p, err := parser.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestRoundTrip(t *testing.T) {
	p := pool(t, parser.Options{Size: 2})
	for _, sql := range []string{
		"SELECT a, b AS c FROM s.t WHERE x = 0 AND (y OR z) ORDER BY 1 LIMIT 5",
		"SELECT 1, 'a''b', E'\\n', $$x$$, 1.5, 0x1F, NULL, true, B'101', '{1}'::int[]",
		"WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n+1 FROM t WHERE n < 100) SELECT sum(n) FROM t",
		"COPY (SELECT 1) TO STDOUT WITH (FORMAT csv)",
		"SELECT (SELECT FROM x) FROM y TABLESAMPLE system (10)",
		"SELECT p.*, (p).x, a[1:2], -1, - 1, x COLLATE \"C\", CAST('1' AS int) FROM p",
	} {
		tree, err := p.Parse(t.Context(), sql)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		out, err := p.Deparse(t.Context(), tree)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
		}
		t.Log(out)
	}
}

// The generator loses parentheses here; it must not be believed.
func TestDeparseIsNotBelieved(t *testing.T) {
	p := pool(t, parser.Options{Size: 1})
	tree, err := p.Parse(t.Context(), "SELECT 1 AS a, 'x' AS b")
	if err != nil {
		t.Fatal(err)
	}
	// A tree that no text has: a name that the generator prints as it is.
	tree.Stmts[0].Stmt.GetSelectStmt().TargetList[0].GetResTarget().Val = &pg_query.Node{Node: &pg_query.Node_AConst{
		AConst: &pg_query.A_Const{Val: &pg_query.A_Const_Fval{Fval: &pg_query.Float{Fval: "1, secret"}}},
	}}
	if sql, err := p.Deparse(t.Context(), tree); err == nil {
		t.Fatalf("generated %q", sql)
	}
}

func TestRefusals(t *testing.T) {
	p := pool(t, parser.Options{Size: 1, MaxSQL: 1000})
	var syn *parser.SyntaxError
	if _, err := p.Parse(t.Context(), "SELEC 1"); !errors.As(err, &syn) || !strings.Contains(syn.Message, "SELEC") {
		t.Errorf("syntax: %v", err)
	}
	if _, err := p.Parse(t.Context(), "SELECT 1\x00 FROM secret"); !errors.Is(err, parser.ErrText) {
		t.Errorf("NUL: %v", err)
	}
	if _, err := p.Parse(t.Context(), "SELECT '\xff'"); !errors.Is(err, parser.ErrText) {
		t.Errorf("UTF-8: %v", err)
	}
	if _, err := p.Parse(t.Context(), "SELECT '"+strings.Repeat("x", 1000)+"'"); !errors.Is(err, parser.ErrTooLarge) {
		t.Errorf("size: %v", err)
	}
	if _, err := p.Parse(t.Context(), "SELECT 1"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if _, err := p.Parse(ctx, "SELECT 1"); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	p.Close()
	if _, err := p.Parse(t.Context(), "SELECT 1"); !errors.Is(err, parser.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// A statement that kills its helper refuses itself and nobody else.
func TestOverflowIsAlone(t *testing.T) {
	p := pool(t, parser.Options{Size: 3})
	deep := []string{
		"SELECT " + strings.Repeat("1+", 100_000) + "1",
		"SELECT " + strings.Repeat("(", 100_000) + "1" + strings.Repeat(")", 100_000),
		"SELECT 1" + strings.Repeat(" UNION SELECT 1", 15_000),
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				tree, err := p.Parse(t.Context(), fmt.Sprintf("SELECT %d", n))
				if err != nil || len(tree.Stmts) != 1 {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	for _, sql := range deep {
		for range 2 {
			tree, err := p.Parse(t.Context(), sql)
			if err == nil {
				_, err = p.Deparse(t.Context(), tree)
			}
			if err == nil {
				t.Errorf("%.30s was taken", sql)
			}
			t.Log(err)
		}
	}
	close(stop)
	wg.Wait()
}

func TestTermSum(t *testing.T) {
	p := pool(t, parser.Options{Size: 1})
	_, err := p.Parse(t.Context(), "SELECT "+strings.Repeat("1+", 30_000)+"1")
	if err == nil {
		t.Error("a sum of 30,000 terms was taken")
	}
	if _, err := p.Parse(t.Context(), "SELECT 1"); err != nil {
		t.Error(err)
	}
}

func TestTimeLimit(t *testing.T) {
	p := pool(t, parser.Options{Size: 1, Timeout: time.Second})
	p.Stall()
	if _, err := p.Parse(t.Context(), "SELECT 1"); !errors.Is(err, parser.ErrDied) {
		t.Fatalf("a stopped helper: %v", err)
	}
	if _, err := p.Parse(t.Context(), "SELECT 1"); err != nil {
		t.Fatal(err)
	}
}

// The confinement, asked from inside.
func TestConfined(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	proc, err := os.StartProcess("/proc/self/exe", []string{os.Args[0], "probe"}, &os.ProcAttr{Files: []*os.File{nil, w, w}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, _ := r.Read(b)
	st, err := proc.Wait()
	if err != nil || st.String() != "signal: bad system call" {
		t.Errorf("a socket did not kill: %v %v", st, err)
	}
	for _, want := range []string{"open: operation not permitted", "unlink: operation not permitted", "kill: operation not permitted"} {
		if !strings.Contains(string(b[:n]), want) {
			t.Errorf("no %q in %q", want, b[:n])
		}
	}
}

func TestHelpersAreNobody(t *testing.T) {
	p := pool(t, parser.Options{Size: 2})
	for _, status := range p.Status() {
		for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534", "NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"} {
			if os.Getuid() != 0 && strings.HasPrefix(want, "Uid") {
				continue
			}
			if !strings.Contains(status, want) {
				t.Errorf("no %q in\n%s", want, status)
			}
		}
	}
}

func BenchmarkParse(b *testing.B) {
	p := pool(b, parser.Options{})
	for b.Loop() {
		if _, err := p.Parse(b.Context(), "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDeparse(b *testing.B) {
	p := pool(b, parser.Options{})
	tree, err := p.Parse(b.Context(), "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := p.Deparse(b.Context(), tree); err != nil {
			b.Fatal(err)
		}
	}
}
