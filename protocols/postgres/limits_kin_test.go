package postgres_test

import (
	"strings"
	"testing"
)

// A limit on a table is on its rows: through whichever partition, child or parent
// they are read, and by whatever name.
func TestLimitsFollowRows(t *testing.T) {
	p := definingBy(t, allowAll+`
  - name: few
    effect: allow
    identity: "*"
    resource: "*"
    commands: [select, update]
    relations: "public.gold"
    limits: {statement: {rows: 2}}
  - name: found
    effect: mask
    identity: "*"
    resource: "*"
    fields: {public.gold.b: {mask: redact, match: equality}}
    limits: {minute: {lookups: 2}}
`, `CREATE TABLE public.gold_top (a int);
		CREATE TABLE public.gold (a int, b text) INHERITS (public.gold_top) ;
		CREATE TABLE public.gold_heir () INHERITS (public.gold);
		CREATE TABLE public.gold_free (a int);
		INSERT INTO public.gold_heir SELECT g, 'x' FROM generate_series(1, 5) g; INSERT INTO public.gold_free SELECT a FROM public.gold_heir`)
	agent := connect(t, p, "default_query_exec_mode=simple_protocol")
	const limit = `rule "few" lets at most 2 rows of a statement through`
	for _, sql := range []string{
		"SELECT a FROM public.gold", "SELECT a FROM public.gold_heir", "SELECT a FROM public.gold_top", "SELECT a FROM ONLY public.gold_heir",
		"WITH h AS (SELECT a FROM public.gold_heir) SELECT a FROM h", "UPDATE public.gold_heir SET a = a RETURNING a",
	} {
		refusedBy(t, agent, sql, limit)
	}
	must(t, agent, "SELECT a FROM public.gold_free")
	must(t, agent, "SELECT a FROM public.gold_heir LIMIT 2")
	// Look-ups too: of the field of the table, wherever its rows are.
	for range 2 {
		must(t, agent, "SELECT count(*) FROM public.gold_heir WHERE b = 'y'")
	}
	for _, of := range []string{"gold_heir", "gold"} {
		if _, err := agent.Exec(t.Context(), "SELECT count(*) FROM public."+of+" WHERE b = 'z'"); err == nil || !strings.Contains(err.Error(), `rule "found"`) {
			t.Errorf("%s is looked up without limit: %v", of, err)
		}
	}
}
