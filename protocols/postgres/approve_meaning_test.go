package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// definingPolicy has the workload agent ask; others define things.
const definingPolicy = allowAll + `
  - name: asks
    effect: approve
    identity: {workload: agent}
    resource: "*"
    commands: [select, insert, update, delete, truncate]
    relations: ["public.gold", "public.gold_child"]
    approve: {by: {issuer: "https://people", subjects: [dr-lee]}, within: 1h, WAIT}
  - name: keeps
    effect: block
    identity: {workload: agent}
    resource: "*"
    commands: delete
    relations: "public.kept"
`

// defining starts a passage, and makes what the test is about in schema public: its
// names begin with gold or kept. The first session is an agent's, later ones are of
// somebody who defines things.
func defining(t *testing.T, wait, schema string) (a *asking, agent, owner *pgx.Conn) {
	t.Helper()
	a = askingOf(definingBy(t, strings.ReplaceAll(definingPolicy, "WAIT", wait), schema))
	const simple = "default_query_exec_mode=simple_protocol"
	agent = connect(t, a.proxy, simple)
	return a, agent, connect(t, a.proxy, simple)
}

// definingBy is defining by another policy.
func definingBy(t *testing.T, policy, schema string) *proxy {
	t.Helper()
	administer(t, schema)
	t.Cleanup(func() {
		c, err := pgx.Connect(context.Background(), server.DSN("postgres"))
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close(context.Background())
		for _, kind := range []string{"VIEW", "TABLE", "FUNCTION"} {
			sql := "SELECT 'DROP " + kind + " IF EXISTS ' || c.oid::regclass || ' CASCADE' FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relname ~ '^(gold|kept)' AND relkind = '" + map[string]string{"VIEW": "v", "TABLE": "r"}[kind] + "'"
			if kind == "FUNCTION" {
				sql = "SELECT 'DROP FUNCTION IF EXISTS ' || oid::regprocedure || ' CASCADE' FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname ~ '^gold'"
			}
			rows, err := c.Query(context.Background(), sql)
			if err != nil {
				t.Error(err)
				return
			}
			drops, err := pgx.CollectRows(rows, pgx.RowTo[string])
			for _, d := range drops {
				if err == nil {
					_, err = c.Exec(context.Background(), d)
				}
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	return open(t, policy, protocoltest.Options{Identity: func(n int, id *intercept.Identity) {
		if n > 1 {
			id.Workload = "owner"
		}
	}})
}

func must(t *testing.T, c *pgx.Conn, sql string) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func refusedBy(t *testing.T, c *pgx.Conn, sql, why string) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("%s: %v, not refused: %s", sql, err, why)
	}
}

// A rule is about the relation that it was about, whatever that is called by now.
func TestRulesFollowNames(t *testing.T) {
	_, agent, owner := defining(t, "wait: retry", "CREATE TABLE public.gold (a int); CREATE TABLE public.kept (a int); CREATE SCHEMA IF NOT EXISTS gold_else")
	t.Cleanup(func() { _ = server.Exec(context.Background(), "DROP SCHEMA IF EXISTS gold_else, gold_new CASCADE") })
	ask := func(sql string) {
		t.Helper()
		_, err := agent.Exec(t.Context(), sql)
		refusedFor(t, err)
	}
	ask("UPDATE public.gold SET a = 1")
	must(t, owner, "ALTER TABLE public.gold RENAME TO gold_brass")
	ask("UPDATE public.gold_brass SET a = 1")
	must(t, owner, "ALTER TABLE public.gold_brass SET SCHEMA gold_else")
	ask("UPDATE gold_else.gold_brass SET a = 1")
	must(t, owner, "ALTER SCHEMA gold_else RENAME TO gold_new")
	ask("SELECT a FROM gold_new.gold_brass")
	must(t, owner, "CREATE VIEW public.gold_view AS SELECT a FROM gold_new.gold_brass")
	ask("SELECT a FROM public.gold_view")
	must(t, owner, "CREATE TABLE public.gold (a int)") // what has the name now is ruled too
	ask("INSERT INTO public.gold VALUES (1)")
	ask("INSERT INTO gold_new.gold_brass VALUES (1)")
	must(t, owner, "ALTER TABLE public.kept RENAME TO kept_no_more")
	refusedBy(t, agent, "DELETE FROM public.kept_no_more", `rule "keeps" blocks delete`)
	refusedBy(t, agent, "ALTER TABLE public.kept_no_more RENAME TO kept_again", `rule "keeps" is about public.kept`)
	must(t, owner, "BEGIN")
	must(t, owner, "ALTER TABLE public.kept_no_more RENAME TO kept_again")
	must(t, owner, "ROLLBACK")
	must(t, owner, "DROP TABLE public.kept_no_more")
	must(t, owner, "CREATE TABLE public.kept_no_more (a int)") // another one
	must(t, agent, "DELETE FROM public.kept_no_more")
}

// What the server deletes and changes along with rows is asked about where a rule is
// about that.
func TestRulesFollowForeignKeys(t *testing.T) {
	_, agent, _ := defining(t, "wait: retry", `
		CREATE TABLE public.gold_a (id int PRIMARY KEY);
		CREATE TABLE public.gold_b (id int PRIMARY KEY REFERENCES public.gold_a ON DELETE CASCADE ON UPDATE CASCADE);
		CREATE TABLE public.gold_child (id int REFERENCES public.gold_b ON DELETE CASCADE ON UPDATE CASCADE);
		CREATE TABLE public.gold_c (id int PRIMARY KEY);
		CREATE TABLE public.kept (id int REFERENCES public.gold_c ON DELETE SET NULL);
		CREATE TABLE public.gold_d (id int PRIMARY KEY);
		CREATE TABLE public.gold_e (id int REFERENCES public.gold_d);
		CREATE TABLE public.gold_f (id int PRIMARY KEY REFERENCES public.gold_f ON DELETE CASCADE);
		CREATE TABLE public.gold_g (id int PRIMARY KEY);
		ALTER TABLE public.kept ADD FOREIGN KEY (id) REFERENCES public.gold_g ON DELETE CASCADE`)
	for _, sql := range []string{
		"DELETE FROM public.gold_a", "DELETE FROM public.gold_b", "UPDATE public.gold_a SET id = 1", "UPDATE public.gold_b SET id = 1",
		"WITH d AS (DELETE FROM public.gold_a RETURNING id) SELECT id FROM d", "INSERT INTO public.gold_a VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2",
	} {
		_, err := agent.Exec(t.Context(), sql)
		refusedFor(t, err)
	}
	must(t, agent, "PREPARE gold AS DELETE FROM public.gold_a")
	_, err := agent.Exec(t.Context(), "EXECUTE gold")
	refusedFor(t, err)
	for _, harmless := range []string{
		"INSERT INTO public.gold_a VALUES (1)", "DELETE FROM public.gold_c", "UPDATE public.gold_c SET id = 1", "DELETE FROM public.gold_d", "DELETE FROM public.gold_e", "DELETE FROM public.gold_f",
	} {
		must(t, agent, harmless)
	}
	refusedBy(t, agent, "DELETE FROM public.gold_g", `rule "keeps" blocks delete on public.kept`)
}

// An approval is of what the statement meant: not of what views, functions, triggers
// and tables have been made since.
func TestApprovalOfMeaning(t *testing.T) {
	a, agent, owner := defining(t, "wait: retry", `
		CREATE TABLE public.gold (a int, b int DEFAULT 1);
		CREATE TABLE public.gold_other (a int);
		CREATE VIEW public.gold_view AS SELECT a FROM public.gold WHERE a > 0;
		CREATE VIEW public.gold_outer AS SELECT a FROM public.gold_view;
		CREATE FUNCTION public.gold_inner() RETURNS int LANGUAGE sql AS 'SELECT 1';
		CREATE FUNCTION public.gold_rate() RETURNS int LANGUAGE sql AS 'SELECT public.gold_inner()';
		CREATE FUNCTION public.gold_worth(n int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN public.gold_inner() + n; END';
		CREATE VIEW public.gold_rated AS SELECT public.gold_rate() * a AS a FROM public.gold;
		CREATE FUNCTION public.gold_set() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
		CREATE TRIGGER gold_set BEFORE UPDATE ON public.gold FOR EACH ROW EXECUTE FUNCTION public.gold_set()`)
	for _, c := range []struct{ run, change, back string }{
		{"SELECT * FROM public.gold_view", "CREATE OR REPLACE VIEW public.gold_view AS SELECT a FROM public.gold", "CREATE OR REPLACE VIEW public.gold_view AS SELECT a FROM public.gold WHERE a > 0"},
		{"SELECT a FROM public.gold_outer", "CREATE OR REPLACE VIEW public.gold_view AS SELECT a FROM public.gold", "CREATE OR REPLACE VIEW public.gold_view AS SELECT a FROM public.gold WHERE a > 0"},
		{"SELECT public.gold_rate() FROM public.gold", "CREATE OR REPLACE FUNCTION public.gold_inner() RETURNS int LANGUAGE sql AS 'SELECT 2'", "CREATE OR REPLACE FUNCTION public.gold_inner() RETURNS int LANGUAGE sql AS 'SELECT 1'"},
		{"SELECT public.gold_worth(a) FROM public.gold", "CREATE OR REPLACE FUNCTION public.gold_inner() RETURNS int LANGUAGE sql AS 'SELECT 2'", "CREATE OR REPLACE FUNCTION public.gold_inner() RETURNS int LANGUAGE sql AS 'SELECT 1'"},
		{"SELECT a FROM public.gold_rated", "CREATE OR REPLACE FUNCTION public.gold_rate() RETURNS int LANGUAGE sql AS 'SELECT 2'", "CREATE OR REPLACE FUNCTION public.gold_rate() RETURNS int LANGUAGE sql AS 'SELECT public.gold_inner()'"},
		{"UPDATE public.gold SET a = 1", "CREATE OR REPLACE FUNCTION public.gold_set() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.b := 7; RETURN NEW; END'", "CREATE OR REPLACE FUNCTION public.gold_set() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"},
		{"INSERT INTO public.gold (a) VALUES (1)", "ALTER TABLE public.gold ALTER b SET DEFAULT 2", "ALTER TABLE public.gold ALTER b SET DEFAULT 1"},
		{"INSERT INTO public.gold (a) VALUES (2)", "ALTER TABLE public.gold ALTER b SET DEFAULT public.gold_rate()", "ALTER TABLE public.gold ALTER b SET DEFAULT 1"},
		{"EXECUTE gold", "CREATE OR REPLACE VIEW public.gold_view AS SELECT a FROM public.gold", "CREATE OR REPLACE VIEW public.gold_view AS SELECT a FROM public.gold WHERE a > 0"},
		{"EXECUTE gold_f", "CREATE OR REPLACE FUNCTION public.gold_rate() RETURNS int LANGUAGE sql AS 'SELECT 2'", "CREATE OR REPLACE FUNCTION public.gold_rate() RETURNS int LANGUAGE sql AS 'SELECT public.gold_inner()'"},
	} {
		t.Run(c.run, func(t *testing.T) {
			prepare := func() {
				t.Helper()
				must(t, agent, "DEALLOCATE ALL")
				must(t, agent, "PREPARE gold AS SELECT a FROM public.gold_view")
				must(t, agent, "PREPARE gold_f AS SELECT public.gold_rate() FROM public.gold")
			}
			run := func() error {
				t.Helper()
				prepare()
				_, err := agent.Exec(t.Context(), c.run)
				return err
			}
			id := refusedFor(t, run())
			a.decide(id, approval.Approve)
			must(t, owner, c.change)
			if got := refusedFor(t, run()); got == id {
				t.Error("it is the same request")
			}
			must(t, owner, c.back)
			must(t, owner, "CREATE TABLE IF NOT EXISTS public.gold_unrelated (a int)")
			if err := run(); err != nil {
				t.Errorf("what was approved: %v", err)
			}
		})
	}
}

// What changes while a client is held is not what was approved.
func TestApprovalOfMeaningWhileHeld(t *testing.T) {
	a, agent, owner := defining(t, "wait: 5m", `
		CREATE TABLE public.gold (a int);
		INSERT INTO public.gold VALUES (1);
		CREATE VIEW public.gold_view AS SELECT a FROM public.gold WHERE a < 0`)
	seen := func() (string, error) {
		rows, err := agent.Query(context.Background(), "SELECT a::text FROM public.gold_view")
		if err != nil {
			return "", err
		}
		out, err := pgx.CollectRows(rows, pgx.RowTo[string])
		return fmt.Sprint(out), err
	}
	done := make(chan error, 1)
	hold := func() {
		s, err := seen()
		if err == nil && s != "[]" {
			err = fmt.Errorf("it was shown %s", s)
		}
		done <- err
	}
	go hold()
	e := a.pending()
	must(t, owner, "CREATE OR REPLACE VIEW public.gold_view AS SELECT a FROM public.gold")
	a.decide(e.ID, approval.Approve)
	if err := a.end(done); err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("%v", err)
	}
	must(t, owner, "CREATE OR REPLACE VIEW public.gold_view AS SELECT a FROM public.gold WHERE a < 0")
	go hold() // what was approved is there still
	if err := a.end(done); err != nil {
		t.Error(err)
	}
}
