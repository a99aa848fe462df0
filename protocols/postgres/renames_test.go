package postgres_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

const renamePolicy = allowAll + `
  - name: asks
    effect: approve
    identity: {workload: agent}
    resource: "*"
    commands: [update, delete]
    relations: ["public.gold", "public.gold_a*"]
    approve: {by: {issuer: "https://people", subjects: [dr-lee]}, within: 1h, wait: retry}
  - name: keeps
    effect: block
    identity: {workload: agent}
    resource: "*"
    commands: delete
    relations: ["public.kept", "public.kept_view", "kept_*.*"]
  - name: by night
    effect: block
    identity: {workload: agent}
    resource: "*"
    commands: delete
    relations: "public.kept_late"
    condition: 'session.user == "nobody" || now.getHours("UTC") > 30'
  - name: later
    effect: mask
    identity: {workload: agent}
    resource: "*"
    fields: {public.kept_masked.a: "null"}
    condition: 'now < timestamp("2001-01-01T00:00:00Z")'
  - name: numbers
    effect: mask
    identity: {workload: agent}
    resource: "*"
    detect: [email]
    on: ["public.kept_mail.a", "public.kept_text"]
`

// A rule is about a name. Nobody gives a relation that it is about another one, by
// whatever statement, and whatever the rule asks or forbids besides.
func TestRuledRelationsKeepTheirNames(t *testing.T) {
	p := definingBy(t, renamePolicy, `
		CREATE TABLE public.gold (a int); CREATE TABLE public.gold_a1 (a int); CREATE TABLE public.gold_heir () INHERITS (public.gold);
		CREATE TABLE public.gold_free (a int); CREATE TABLE public.gold_parent (a int); CREATE TABLE public.gold_child () INHERITS (public.gold_parent);
		CREATE TABLE public.kept (a int PRIMARY KEY); CREATE VIEW public.kept_view AS SELECT a FROM public.gold_free;
		CREATE TABLE public.kept_late (a int); CREATE TABLE public.kept_masked (a int); CREATE TABLE public.kept_mail (a text, b text); CREATE TABLE public.kept_text (a text);
		CREATE SCHEMA kept_here; CREATE TABLE kept_here.x (a int); ALTER SCHEMA kept_here OWNER TO agent; ALTER TABLE kept_here.x OWNER TO agent`)
	t.Cleanup(func() {
		if err := server.Exec(context.Background(), "DROP SCHEMA IF EXISTS kept_here CASCADE"); err != nil {
			t.Error(err)
		}
	})
	const simple = "default_query_exec_mode=simple_protocol"
	agent, owner := connect(t, p, simple), connect(t, p, simple)
	for sql, why := range map[string]string{
		"ALTER TABLE public.gold RENAME TO plain":                                                                   `rule "asks" is about public.gold`,
		"ALTER TABLE gold RENAME TO plain":                                                                          `rule "asks" is about public.gold`,
		"ALTER TABLE IF EXISTS ONLY public.gold RENAME TO plain":                                                    `rule "asks" is about public.gold`,
		"ALTER VIEW public.gold RENAME TO plain":                                                                    `rule "asks" is about public.gold`,
		"ALTER INDEX public.gold RENAME TO plain":                                                                   `rule "asks" is about public.gold`,
		"ALTER SEQUENCE public.gold RENAME TO plain":                                                                `rule "asks" is about public.gold`,
		"ALTER MATERIALIZED VIEW public.gold RENAME TO plain":                                                       `rule "asks" is about public.gold`,
		"ALTER FOREIGN TABLE public.gold RENAME TO plain":                                                           `rule "asks" is about public.gold`,
		"ALTER TABLE public.gold_a1 RENAME TO gold_free2":                                                           `rule "asks" is about public.gold_a1`,
		"ALTER TABLE public.kept RENAME TO keeping":                                                                 `rule "keeps" is about public.kept`,
		"ALTER VIEW public.kept_view RENAME TO v":                                                                   `rule "keeps" is about public.kept_view`,
		"ALTER TABLE public.kept_late RENAME TO late":                                                               `rule "by night" is about public.kept_late`,
		"ALTER TABLE public.kept_masked RENAME TO open":                                                             `rule "later" is about public.kept_masked`,
		"ALTER TABLE public.kept_text RENAME TO open":                                                               `rule "numbers" is about public.kept_text`,
		"ALTER TABLE public.kept_mail RENAME a TO c":                                                                `looks at public.kept_mail.a`,
		"ALTER TABLE public.gold_heir NO INHERIT public.gold":                                                       `rule "asks" is about public.gold`,
		"ALTER TABLE public.gold SET SCHEMA kept_here":                                                              "not understood",
		"ALTER SCHEMA kept_here RENAME TO there":                                                                    "not understood",
		"ALTER SCHEMA public RENAME TO there":                                                                       "not understood",
		"ALTER TABLE public.gold_free RENAME TO f2; ALTER TABLE public.gold RENAME TO gold_free":                    `rule "asks" is about public.gold`,
		"DROP TABLE public.gold_a1; ALTER TABLE public.gold RENAME TO gold_a1; ALTER TABLE gold_a1 RENAME TO plain": `rule "asks" is about public.gold_a1`,
		"BEGIN; ALTER TABLE public.gold RENAME TO plain; COMMIT":                                                    `rule "asks" is about public.gold`,
		"DO $$BEGIN ALTER TABLE public.gold RENAME TO plain; END$$":                                                 "not understood",
		"/* ; */ alter /* */ table public . \"gold\" rename /**/ to \"plain\"":                                      `rule "asks" is about public.gold`,
	} {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec} {
			if mode != pgx.QueryExecModeSimpleProtocol && strings.Contains(sql, "; ALTER") {
				continue // one statement a message
			}
			if _, err := agent.Exec(t.Context(), sql, mode); err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("%s: %v, not refused: %s", sql, err, why)
			}
			must(t, agent, "ROLLBACK")
		}
	}
	must(t, agent, "PREPARE nothing AS SELECT 1") // the session goes on
	for _, sql := range []string{
		"ALTER TABLE public.gold_free RENAME TO gold_open", "ALTER TABLE public.gold_open RENAME a TO b",
		"ALTER TABLE public.gold RENAME TO gold_a2", // the same rule is about it
		"ALTER TABLE public.gold_a2 RENAME a TO c", "ALTER TABLE kept_here.x RENAME TO y", "ALTER TABLE public.kept_mail RENAME b TO c",
		"ALTER TABLE public.gold_child NO INHERIT public.gold_parent",
		"DROP TABLE public.gold_a1", "CREATE TABLE public.gold_a1 (a int)",
	} {
		must(t, agent, sql)
	}
	// Who is under no such rule may; what was renamed so is followed.
	must(t, owner, "ALTER TABLE public.kept RENAME TO keeping")
	refusedBy(t, agent, "DELETE FROM public.keeping", `rule "keeps" blocks delete`)
	refusedBy(t, agent, "ALTER TABLE public.keeping RENAME TO kept2", `rule "keeps" is about public.kept`)
	must(t, agent, "BEGIN")
	must(t, agent, "CREATE TABLE public.kept (a int)")
	refusedBy(t, agent, "ALTER TABLE public.kept RENAME TO kept3", `rule "keeps" is about public.kept`)
	must(t, agent, "ROLLBACK")
	must(t, owner, "ALTER TABLE public.keeping RENAME TO kept")
}

// An explanation is of the decision that a statement would have, and leaves none behind
// that is of less than what it reaches.
func TestExplainedIsAsDecided(t *testing.T) {
	p := definingBy(t, renamePolicy, "CREATE TABLE public.kept (a int); CREATE TABLE public.kept_heir () INHERITS (public.kept); CREATE TABLE public.gold (a int)")
	agent := connect(t, p, "default_query_exec_mode=simple_protocol")
	for _, sql := range []string{"DELETE FROM public.kept_heir", "ALTER TABLE public.gold RENAME TO plain"} {
		must(t, agent, explainOn)
		if _, x := explain(t, agent, sql); x.Verdict != "refuse" {
			t.Errorf("%s: explained as %+v", sql, x)
		}
		must(t, agent, "SET sallyport.explain = off")
		refusedBy(t, agent, sql, "rule ")
	}
}
