package postgres_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A relation that gets a name which a rule allows stays under the rules that were about
// the name that it had.
func TestRenamedIntoAnAllowedName(t *testing.T) {
	p := definingBy(t, `
rules:
  - {name: open, effect: allow, identity: {workload: agent}, resource: "*", commands: [read, session, write], relations: ["public.gold_open*", "public.gold_rows"]}
  - {name: all, effect: allow, identity: {workload: owner}, resource: "*", commands: ["*"], relations: "*"}
  - {name: shuts, effect: block, identity: {workload: agent}, resource: "*", commands: [select, update], relations: "public.gold_shut"}
  - {name: hides, effect: mask, identity: {workload: agent}, resource: "*", fields: {public.gold_masked.a: redact}}
  - {name: leaves out, effect: filter, identity: {workload: agent}, resource: "*", relations: public.gold_rows, where: "a = 'mine'"}
  - {name: looks, effect: mask, identity: {workload: agent}, resource: "*", detect: [email], on: [public.gold_mail]}
`, `
		CREATE TABLE public.gold_shut (a text); CREATE TABLE public.gold_masked (a text); CREATE TABLE public.gold_rows (a text); CREATE TABLE public.gold_mail (a text); CREATE TABLE public.gold_plain (a text);
		INSERT INTO public.gold_shut VALUES ('CANARY'); INSERT INTO public.gold_masked VALUES ('CANARY'); INSERT INTO public.gold_rows VALUES ('mine'), ('CANARY'); INSERT INTO public.gold_mail VALUES ('canary@example.org')`)
	agent := connect(t, p, "default_query_exec_mode=simple_protocol")
	owner := connect(t, p, "default_query_exec_mode=simple_protocol")
	seen := func(sql string) (string, error) {
		rows, err := agent.Query(context.Background(), sql)
		if err != nil {
			return "", err
		}
		out, err := pgx.CollectRows(rows, pgx.RowTo[string])
		return strings.Join(out, " "), err
	}
	if out, err := seen("SELECT a FROM public.gold_rows"); err != nil || out != "mine" { // it is pinned from here on
		t.Fatal(out, err)
	}
	for i, from := range []string{"gold_shut", "gold_masked", "gold_rows", "gold_mail"} {
		to := "gold_open" + string(rune('a'+i))
		must(t, owner, "ALTER TABLE public."+from+" RENAME TO "+to)
		for _, sql := range []string{
			"SELECT a FROM public." + to, "SELECT a FROM " + to, "TABLE public." + to, "COPY public." + to + " TO STDOUT", "SELECT t::text FROM public." + to + " t",
			"UPDATE public." + to + " SET a = a RETURNING a", "WITH x AS (SELECT a FROM public." + to + ") SELECT a FROM x",
		} {
			if out, err := seen(sql); strings.Contains(strings.ToLower(out), "canary") || err == nil && from != "gold_mail" {
				t.Errorf("it was %s: %s: %q %v", from, sql, out, err)
			}
		}
	}
	must(t, owner, "ALTER TABLE public.gold_plain RENAME TO gold_openly")
	if _, err := seen("SELECT a FROM public.gold_openly"); err != nil { // no rule was about it
		t.Error(err)
	}
}
