package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sallyport.dev/sallyport/policy/approval"
)

// What others define while a client is held stops it only where the statement would mean
// something else by it.
func TestOthersDefineWhileHeld(t *testing.T) {
	p := definingBy(t, strings.ReplaceAll(definingPolicy, "WAIT", "wait: 5m")+`
  - name: hides
    effect: mask
    identity: {workload: agent}
    resource: "*"
    fields: {public.gold.b: redact}
`, `
		CREATE TABLE public.gold (a int, b text, c int);
		CREATE TABLE public.gold_child (a int);
		CREATE TABLE public.gold_other (a int);
		INSERT INTO public.gold VALUES (1, 'CANARY', 7)`)
	a := askingOf(p)
	agent := connect(t, p, "")
	owner := connect(t, p, "default_query_exec_mode=simple_protocol")
	n := 0
	held := func(mode pgx.QueryExecMode, sql string, args ...any) (approval.Entry, chan error) {
		t.Helper()
		var known []string
		for _, e := range a.listed(true) {
			known = append(known, e.ID)
		}
		done := make(chan error, 1)
		go func() {
			rows, err := agent.Query(context.Background(), sql, append([]any{mode}, args...)...)
			if err == nil {
				var out []string
				out, err = pgx.CollectRows(rows, pgx.RowTo[string])
				if err == nil && strings.Contains(fmt.Sprint(out), "CANARY") {
					err = fmt.Errorf("it was shown %s", out)
				}
			}
			done <- err
		}()
		return a.pending(known...), done
	}
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement} {
		for _, in := range []string{"", "BEGIN"} {
			name := fmt.Sprint(mode, in)
			if in != "" {
				must(t, agent, in)
			}
			for _, c := range []struct {
				sql  string
				args []any
			}{{"SELECT b FROM public.gold WHERE a = $1", []any{1}}, {"UPDATE public.gold_child SET a = 7 RETURNING a::text", nil}} {
				n++
				e, done := held(mode, c.sql, c.args...)
				must(t, owner, fmt.Sprintf("CREATE TABLE public.gold_new%d (a int)", n))
				must(t, owner, "ALTER TABLE public.gold_other ADD COLUMN IF NOT EXISTS x"+fmt.Sprint(n)+" int")
				if err := server.Exec(context.Background(), fmt.Sprintf("CREATE VIEW public.gold_view%d AS SELECT a FROM public.gold_other", n)); err != nil {
					t.Fatal(err)
				}
				a.decide(e.ID, approval.Approve)
				if err := a.end(done); err != nil {
					t.Errorf("%s: %s: %v", name, c.sql, err)
				}
				if e, err := a.book.Show(e.ID); err != nil || e.State != "consumed" {
					t.Errorf("%s: %s: it is %s: %v", name, c.sql, e.State, err)
				}
			}
			if in != "" {
				must(t, agent, "ROLLBACK")
			}
		}
		// What has to do with it does, and takes nothing of what was approved.
		for _, change := range []string{
			fmt.Sprintf("ALTER TABLE public.gold ADD COLUMN y%d int", n), "ALTER TABLE public.gold ADD CHECK (a > 0)",
			"CREATE TABLE public.gold_heir" + fmt.Sprint(n) + " () INHERITS (public.gold)",
			"CREATE SCHEMA gold_else; CREATE TABLE gold_else.gold (a int, b text, c int)",
		} {
			e, done := held(mode, "SELECT b FROM gold WHERE a = $1", 1)
			must(t, owner, change)
			a.decide(e.ID, approval.Approve)
			if err := a.end(done); err == nil {
				t.Errorf("%v: %s: it runs", mode, change)
			}
			if e, err := a.book.Show(e.ID); err != nil || e.State != "approved" {
				t.Errorf("%v: %s: it is %s: %v", mode, change, e.State, err)
			}
		}
		if err := server.Exec(context.Background(), "DROP SCHEMA gold_else CASCADE"); err != nil {
			t.Fatal(err)
		}
	}
}
