package postgres_test

import (
	"context"
	"strings"
	"testing"
)

// A dry run leaves nothing that the statement goes by, when it runs.
func TestDryRunLeavesNothing(t *testing.T) {
	t.Cleanup(func() { _ = server.Exec(context.Background(), "DROP TABLE IF EXISTS public.gold") })
	_, agent, _ := defining(t, "wait: retry", `
		CREATE TABLE public.gold (a int) PARTITION BY RANGE (a);
		CREATE TABLE public.gold_one PARTITION OF public.gold FOR VALUES FROM (0) TO (10);
		CREATE TABLE public.gold_up (id int PRIMARY KEY);
		CREATE TABLE public.kept (id int REFERENCES public.gold_up ON DELETE CASCADE);
		INSERT INTO public.gold VALUES (1); INSERT INTO public.gold_up VALUES (1); INSERT INTO public.kept VALUES (1)`)
	dry := func(sql, want string) {
		t.Helper()
		must(t, agent, "SET sallyport.explain = on")
		rows, err := agent.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		said := ""
		for rows.Next() {
			for _, v := range rows.RawValues() {
				said += string(v) + " "
			}
		}
		if err := rows.Err(); err != nil || !strings.Contains(said, want) {
			t.Errorf("%s: %s (%v), not %s", sql, said, err, want)
		}
		must(t, agent, "SET sallyport.explain = off")
	}
	dry("DELETE FROM public.gold_up", "keeps")
	refusedBy(t, agent, "DELETE FROM public.gold_up", `rule "keeps" blocks delete on public.kept`)
	dry("SELECT * FROM public.gold_one", "asks")
	_, err := agent.Exec(t.Context(), "SELECT * FROM public.gold_one")
	refusedFor(t, err)
}

// Under subjects: required, one that can't be told of is refused, dry run or not.
func TestDryRunOfSubjects(t *testing.T) {
	p := start(t, strings.Replace(allowAll, `relations: ["*.*"]`, `relations: ["*.*"]`+"\n    subjects: required", 1)+whose)
	c := connect(t, p, "default_query_exec_mode=simple_protocol")
	for _, sql := range []string{"SET sallyport.explain = on", "SELECT min(ssn) FROM clinic.patients WHERE id < 5", "SET sallyport.explain = off"} {
		must(t, c, sql)
	}
	if _, err := c.Exec(t.Context(), "SELECT min(ssn) FROM clinic.patients WHERE id < 4"); err == nil {
		t.Error("it is not refused")
	}
}

// What a text has moved, dropped or tied together before is not what it names behind
// that.
func TestDefinitionsInOneText(t *testing.T) {
	_, agent, _ := defining(t, "wait: retry", `
		CREATE TABLE public.gold (a int); INSERT INTO public.gold VALUES (1);
		CREATE TABLE public.gold_h (a int);
		CREATE TABLE public.kept (a int); INSERT INTO public.kept VALUES (1)`)
	for _, sql := range []string{
		"ALTER TABLE public.gold_h RENAME TO gold_h2; ALTER TABLE public.kept RENAME TO gold_h; DELETE FROM public.gold_h",
		"ALTER TABLE public.gold_h RENAME TO gold_h2; ALTER TABLE public.gold RENAME TO gold_h; SELECT * FROM public.gold_h",
		"ALTER TABLE public.gold INHERIT public.gold_h; SELECT * FROM public.gold_h",
		"BEGIN; ALTER TABLE public.gold INHERIT public.gold_h; COMMIT; SELECT * FROM public.gold_h",
	} {
		refusedBy(t, agent, sql, "may be something else by then")
		_, _ = agent.Exec(t.Context(), "ROLLBACK")
	}
	must(t, agent, "CREATE TABLE public.gold_more (a int); CREATE INDEX ON public.gold_h (a)")
	if got := count(t, "SELECT count(*)::text FROM public.kept"); got != "1" {
		t.Error(got)
	}
}

// Foreign keys are followed from a relation that was known as an ancestor before.
func TestRulesFollowForeignKeysOfAncestors(t *testing.T) {
	_, agent, _ := defining(t, "wait: retry", `
		CREATE TABLE public.gold_p (id int PRIMARY KEY, t1 int);
		CREATE TABLE public.gold_sub (PRIMARY KEY (id)) INHERITS (public.gold_p);
		CREATE TABLE public.gold_t1 (id int PRIMARY KEY, s int REFERENCES public.gold_sub ON DELETE CASCADE);
		ALTER TABLE public.gold_p ADD FOREIGN KEY (t1) REFERENCES public.gold_t1 ON DELETE CASCADE;
		CREATE TABLE public.kept (id int REFERENCES public.gold_p ON DELETE CASCADE)`)
	for _, sql := range []string{"DELETE FROM public.gold_sub", "DELETE FROM public.gold_t1", "DELETE FROM public.gold_p"} {
		refusedBy(t, agent, sql, `rule "keeps" blocks delete on public.kept`)
	}
}

// Detectors look at the rows of a relation whatever it is reached by.
func TestDetectorsFollowRows(t *testing.T) {
	administer(t, `DROP TABLE IF EXISTS public.gold; CREATE TABLE public.gold (a int, b text) PARTITION BY RANGE (a);
		CREATE TABLE public.gold_one PARTITION OF public.gold FOR VALUES FROM (0) TO (10); INSERT INTO public.gold VALUES (1, 'number 219-09-9998')`)
	t.Cleanup(func() { _ = server.Exec(context.Background(), "DROP TABLE IF EXISTS public.gold, public.gold_x") })
	p := start(t, allowAll+`
  - name: numbers
    effect: mask
    identity: "*"
    resource: "*"
    detect: [ssn]
    on: [public.gold.b]
`)
	c := connect(t, p, "default_query_exec_mode=simple_protocol")
	shows := func(sql string) {
		t.Helper()
		var s string
		if err := c.QueryRow(t.Context(), sql).Scan(&s); err != nil || s != "number [ssn]" {
			t.Errorf("%s: %q, %v", sql, s, err)
		}
	}
	shows("SELECT b FROM public.gold")
	shows("SELECT b FROM public.gold_one")
	refusedBy(t, c, "ALTER TABLE public.gold RENAME TO gold_x", "by its name")
	shows("SELECT x.b FROM public.gold_one x")
}
