package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"sallyport.dev/sallyport/policy/approval"
)

const guessed = `
  - name: guessed
    effect: approve
    identity: "*"
    resource: "*"
    commands: [select, update, insert, merge]
    relations: ["public.guess*"]
    approve: {by: {issuer: "https://people", subjects: [dr-lee]}, within: 1h, WAIT}
`

// newGuessing is newAsking for relations of known sizes.
func newGuessing(t *testing.T, wait string) *asking {
	t.Helper()
	admin(t, `DROP TABLE IF EXISTS public.guess, public.guess_far CASCADE; DROP FUNCTION IF EXISTS public.guess_acts;
		CREATE TABLE public.guess AS SELECT g AS a, 'x'::text AS b FROM generate_series(1, 1000) g; ANALYZE public.guess;
		CREATE FUNCTION public.guess_acts(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_lock(4711); RETURN $1; END $$`)
	a := newAsking(t, wait)
	a.Gate.SetEngine(engine(t, strings.ReplaceAll(approvePolicy+guessed, "WAIT", wait)))
	return a
}

func admin(t *testing.T, sql string) {
	t.Helper()
	if err := server.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// estimateOf is what an approver is told of a request's rows.
func (a *asking) estimateOf(id string) (changed, returned int64, unknown string) {
	a.t.Helper()
	e, err := a.book.Show(id)
	if err != nil || e.Estimate == nil {
		a.t.Fatalf("%+v %v", e.Estimate, err)
	}
	return e.Estimate.Changed, e.Estimate.Returned, e.Estimate.Unknown
}

// An approver is told what the planner expects, in each form of the protocol, and
// nothing of the statement has run by that.
func TestEstimate(t *testing.T) {
	a := newGuessing(t, "wait: retry")
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeCacheStatement,
	} {
		c := connect(t, a.proxy, "")
		for _, x := range []struct {
			sql               string
			args              []any
			changed, returned int64
		}{
			{"UPDATE public.guess SET b = 'changed'", nil, 1000, 0},
			{"UPDATE public.guess SET b = 'changed' WHERE a = $1", []any{7}, 1, 0},
			{"SELECT a FROM public.guess", nil, 0, 1000},
			{"INSERT INTO public.guess SELECT a + 1000, b FROM public.guess", nil, 1000, 0},
			{"WITH x AS (UPDATE public.guess SET b = 'y' RETURNING a) SELECT count(*) FROM x", nil, 1000, 1},
		} {
			_, err := c.Exec(t.Context(), x.sql, append([]any{mode}, x.args...)...)
			id := refusedFor(t, err)
			if changed, returned, unknown := a.estimateOf(id); changed != x.changed || returned != x.returned || unknown != "" {
				t.Errorf("%v: %s: %d changed, %d returned, %s", mode, x.sql, changed, returned, unknown)
			}
			if err := a.book.Withdraw(context.Background(), id, "seen"); err != nil {
				t.Fatal(err)
			}
		}
		if got := count(t, "SELECT count(*)::text || string_agg(DISTINCT b, '') FROM public.guess"); got != "1000x" {
			t.Fatal(got)
		}
	}
}

// The client hears nothing of the question, and its transaction goes on as if there
// had been none, also where the server could not say.
func TestEstimateDisturbsNothing(t *testing.T) {
	a := newGuessing(t, "wait: 5m")
	r := a.raw()
	defer r.Close()
	held := func(known []string, want string, ms ...message) approval.Entry {
		t.Helper()
		r.send(enc(ms...))
		e := a.pending(known...)
		a.estimated(e.ID)
		if _, _, unknown := a.estimateOf(e.ID); want == "" && unknown != "" || !strings.Contains(unknown, want) {
			t.Errorf("unknown for %q, not %q", unknown, want)
		}
		return e
	}
	update := "UPDATE public.guess SET b = 'y' WHERE a = 1"
	r.ask(1, q("BEGIN"))
	e := held(nil, "", q(update))
	known := []string{e.ID}
	a.decide(e.ID, approval.Approve)
	if out := r.until('Z', 1); !strings.Contains(out, "UPDATE 1") || strings.Contains(out, "QUERY PLAN") || !strings.Contains(out, "Z T") {
		t.Errorf("%s", out)
	}
	if out := r.ask(3, q("SHOW transaction_read_only"), q("SHOW statement_timeout"), q("SELECT b FROM public.t LIMIT 0")); !strings.Contains(out, "off") || strings.Contains(out, "2s") || strings.Contains(out, "E ") {
		t.Errorf("%s", out)
	}
	r.ask(1, q("ROLLBACK"))

	// What has a lock that the question would wait for.
	other := connect(t, a.proxy, "")
	if _, err := other.Exec(t.Context(), "BEGIN; LOCK TABLE public.t2"); err != nil {
		t.Fatal(err)
	}
	r.ask(1, q("BEGIN"))
	e = held(known, "the server did not say", q("UPDATE public.t2 SET a = 1"))
	known = append(known, e.ID)
	if _, err := other.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	a.decide(e.ID, approval.Approve)
	if out := r.until('Z', 1); !strings.Contains(out, "UPDATE") || !strings.Contains(out, "Z T") {
		t.Errorf("%s", out)
	}
	r.ask(1, q("ROLLBACK"))

	// A snapshot that would be of the question's time, and a batch under way.
	r.ask(1, q("BEGIN ISOLATION LEVEL REPEATABLE READ"))
	e = held(known, "READ COMMITTED", q(update+" "))
	known = append(known, e.ID)
	a.decide(e.ID, approval.Approve)
	if out := r.until('Z', 1); !strings.Contains(out, "UPDATE 1") {
		t.Errorf("%s", out)
	}
	r.ask(1, q("ROLLBACK"))
	e = held(known, "run together", &pgproto3.Parse{Query: "SELECT 'first'"}, bind("", ""), execute(""),
		&pgproto3.Parse{Query: update + "  "}, bind("", ""), execute(""), sync_)
	known = append(known, e.ID)
	a.decide(e.ID, approval.Deny)
	if out := r.until('Z', 1); !strings.Contains(out, "first") || !strings.Contains(out, "SPA02") {
		t.Errorf("%s", out)
	}
	// One that was only parsed before it, in an explicit transaction and in none.
	for _, begin := range []string{"BEGIN", "SELECT 1"} {
		r.ask(1, q(begin))
		other := "UPDATE public.guess SET b = 'z' WHERE a = 1 --" + begin // what was denied stays so
		e = held(known, "", &pgproto3.Parse{Name: "mine", Query: other}, bind("", "mine"), execute(""), sync_)
		known = append(known, e.ID)
		a.decide(e.ID, approval.Approve)
		if out := r.until('Z', 1); !strings.Contains(out, "UPDATE 1") {
			t.Errorf("%s", out)
		}
		r.ask(2, closing('S', "mine"), sync_, q("ROLLBACK"))
	}
}

// estimated waits until it is known what the planner expects, or that it is not.
func (a *asking) estimated(id string) {
	a.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if e, err := a.book.Show(id); err == nil && e.Estimate != nil {
			return
		}
		if time.Now().After(end) {
			a.t.Fatal("nobody says how much it is about")
		}
	}
}

// What planning could run is not asked about: a function that acts, though it is
// said to be immutable and its like is declared, has not run before it is approved.
func TestEstimateRunsNothing(t *testing.T) {
	a := newGuessing(t, "wait: retry")
	pol := strings.ReplaceAll(approvePolicy+guessed, "WAIT", "wait: retry")
	a.Gate.SetEngine(engine(t, strings.Replace(pol, `relations: ["*.*"]`, "relations: [\"*.*\"]\n    functions: [public.guess_acts]", 1)))
	c := connect(t, a.proxy, "")
	_, err := c.Exec(t.Context(), "UPDATE public.guess SET b = 'y' WHERE a = public.guess_acts(1)")
	id := refusedFor(t, err)
	if _, _, unknown := a.estimateOf(id); !strings.Contains(unknown, "planning it could run more") {
		t.Error(unknown)
	}
	if n := count(t, "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711"); n != "0" {
		t.Error("the function has run")
	}
	// It would have: so the test can fail.
	if _, err := connectDirect(t).Exec(t.Context(), "BEGIN; EXPLAIN UPDATE public.guess SET b = 'y' WHERE a = public.guess_acts(1)"); err != nil {
		t.Fatal(err)
	}
	if n := count(t, "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711"); n == "0" {
		t.Error("planning does not run it")
	}
}

// connectDirect connects past the proxy.
func connectDirect(t *testing.T) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), server.DSN("agent"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// A cancel request that comes while the planner is asked withdraws the request, and so
// does one that comes before.
func TestEstimateIsCancelled(t *testing.T) {
	a := newGuessing(t, "wait: 5m")
	for i := range 10 {
		c := connect(t, a.proxy, "")
		e, done := a.held(c, 9750+i, pgx.QueryExecModeSimpleProtocol)
		if err := c.PgConn().CancelRequest(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := a.end(done); err == nil || !strings.Contains(err.Error(), "57014") {
			t.Error(err)
		}
		if x, _ := a.book.Show(e.ID); x.State != "withdrawn" {
			t.Error(x.State)
		}
	}
}

// What nobody could be shown is refused, however large, and asks nobody.
func TestApprovalOfWhatIsTooLarge(t *testing.T) {
	a := newAsking(t, "wait: retry")
	c := connect(t, a.proxy, "")
	large := strings.Repeat("x", 10<<20)
	for name, run := range map[string]func() error{
		"a literal": func() error {
			_, err := c.Exec(t.Context(), "INSERT INTO public.asked VALUES (9990, '"+large+"')")
			return err
		},
		"a comment": func() error {
			_, err := c.Exec(t.Context(), "INSERT INTO public.asked VALUES (9990, 'x') /* "+large+" */")
			return err
		},
		"a parameter": func() error {
			_, err := c.Exec(t.Context(), "INSERT INTO public.asked VALUES (9990, $1)", pgx.QueryExecModeExec, large)
			return err
		},
		"a justification": func() error {
			_, err := c.Exec(t.Context(), "SET sallyport.justification = '"+large+"'")
			return err
		},
	} {
		if err := run(); err == nil || !strings.Contains(err.Error(), "sallyport") || len(err.Error()) > 1000 {
			t.Errorf("%s: %.300v", name, err)
		}
	}
	if list := a.listed(true); len(list) > 0 {
		t.Errorf("%d requests", len(list))
	}
	if _, err := c.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Error("the session is not usable behind it:", err)
	}
	if got := count(t, "SELECT count(*)::text FROM public.asked WHERE a = 9990"); got != "0" {
		t.Error(got)
	}
}
