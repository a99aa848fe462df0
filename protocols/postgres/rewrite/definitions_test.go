package rewrite_test

import (
	"fmt"
	"os"
	"sort"
	"strings"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/query"
)

// No relation of the server's own shows a constant of a definition, nor does
// any allowed function that is called with the numbers of all objects.
func TestDefinitionsShowNoConstants(t *testing.T) {
	cat := openCatalog(t)
	a := newAnalyzer(t)
	g := newAgent(t, nil)
	run := func(sql string) (understood bool) {
		t.Helper()
		an, err := a.Analyze(t.Context(), query.Input{SQL: sql, Scope: masked()})
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if an.Opaque != "" {
			return false
		}
		if an.SQL != "" {
			sql = an.SQL
		}
		g.seen.Reset()
		g.send(sql, simple)
		if i := strings.Index(g.seen.String(), "CANARY"); i >= 0 { // as the definitions write it: there are Canary Islands too
			t.Errorf("%s\nshows %.100q", sql, g.seen.String()[max(i-40, 0):])
		}
		return true
	}
	var rels []string
	for _, r := range cat.Snapshot().ByOID {
		if r.System() {
			rels = append(rels, r.Schema+"."+r.Name)
		}
	}
	sort.Strings(rels)
	open := 0
	for _, r := range rels {
		if run("SELECT * FROM " + r) {
			open++
			run("SELECT x::text FROM " + r + " x")
			run("COPY " + r + " TO STDOUT")
		}
	}
	if open < 60 || open > 120 {
		t.Errorf("%d of %d catalog relations are open", open, len(rels))
	}

	const oids = "(SELECT oid, oid::regclass c FROM pg_class UNION ALL SELECT oid, 0::regclass FROM pg_proc UNION ALL SELECT oid, 0::regclass FROM pg_constraint UNION ALL SELECT oid, 0::regclass FROM pg_type UNION ALL " +
		"SELECT oid, 0::regclass FROM pg_rewrite UNION ALL SELECT oid, 0::regclass FROM pg_trigger UNION ALL SELECT oid, 0::regclass FROM pg_policy UNION ALL SELECT oid, 0::regclass FROM pg_statistic_ext UNION ALL SELECT oid, 0::regclass FROM pg_roles) o"
	b, err := os.ReadFile("functions.txt")
	if err != nil {
		t.Fatal(err)
	}
	functions := strings.Fields(string(b) + ` pg_get_indexdef pg_get_constraintdef pg_get_viewdef pg_get_ruledef pg_get_triggerdef pg_get_functiondef
		pg_get_function_arguments pg_get_function_sqlbody pg_get_function_arg_default pg_get_partkeydef pg_get_partition_constraintdef pg_get_statisticsobjdef
		pg_get_statisticsobjdef_columns pg_get_statisticsobjdef_expressions`)
	g.send("SET statement_timeout = 2000", simple)
	for _, f := range functions {
		if !strings.HasPrefix(f, "pg_") && !strings.HasSuffix(f, "_description") && !strings.HasPrefix(f, "to_reg") || f == "pg_sleep" {
			continue // what knows nothing of objects
		}
		for _, args := range []string{"o.oid", "o.c", "o.oid, true", "o.oid, 1", "o.oid, 0, true", "o.c::text", "o.oid, 'pg_class'", "o.oid, 'pg_proc'"} {
			run(fmt.Sprintf(`SELECT pg_catalog."%s"(%s)::text FROM %s`, f, args, oids))
		}
	}
}
