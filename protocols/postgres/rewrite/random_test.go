package rewrite_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// generator makes random statements over the clinic: every relation, every
// column, every allowed function, in every place.
type generator struct {
	r         *rand.Rand
	functions []string
	items     []item
	aliases   int
	depth     int
}

func (g *generator) pick(s ...string) string { return s[g.r.IntN(len(s))] }

// relations and their columns.
var relations = map[string]string{
	"clinic.patients": "id name ssn birth_date phone email city name_upper visits", "patients": "id name ssn email", "ONLY clinic.patients": "id name ssn",
	"clinic.archived": "id name ssn reason", "clinic.claims": "id ssn amount", "clinic.claims_1": "id ssn", "clinic.v_patients": "id name ssn city",
	"clinic.v_derived": "id s x d city", "clinic.v_nested": "number note", "clinic.v_union": "ssn", "clinic.v_cte": "ssn who m",
	"clinic.m_patients": "id name ssn", "clinic.policies": "number kind holder", "clinic.members": "id pin city", "clinic.staff": "id pin",
	"clinic.people": "id", "public.history": "id old olds", "clinic.encounters": "id patient_id note severity", "public.products": "id name tags data",
}

var names = slices.Sorted(maps.Keys(relations))

// item is a FROM item that is in scope.
type item struct {
	name    string
	columns []string
}

func (g *generator) add(name, columns string) {
	g.items = append(g.items, item{name, strings.Fields(columns)})
}

func (g *generator) column() string {
	if len(g.items) == 0 || g.r.IntN(25) == 0 {
		return g.pick("ssn", "name", "id", "pin")
	}
	it := g.items[g.r.IntN(len(g.items))]
	switch g.r.IntN(14) {
	case 0:
		return it.name
	case 1:
		return it.name + ".*"
	}
	c := it.columns[g.r.IntN(len(it.columns))]
	if g.r.IntN(8) == 0 {
		return "(" + it.name + ")." + c
	}
	return it.name + "." + c
}

func (g *generator) expr() string {
	g.depth++
	defer func() { g.depth-- }()
	if g.depth > 4 {
		return g.column()
	}
	e := func() string { return g.expr() }
	switch g.r.IntN(36) {
	case 0, 1, 2, 3, 4, 5, 24, 25, 26, 27, 28, 29, 30, 31:
		return g.column()
	case 6:
		return g.pick("1", "0", "'x'", "'911-47-0001'", "NULL", "''", "-1", "'{}'", "'%ANAR%'")
	case 7:
		return "(" + e() + ")::" + g.pick("text", "text", "text", "int", "date", "jsonb", "bytea", "numeric", "regclass", "varchar(3)", "text[]", "boolean", "name", "xml", "tsvector")
	case 8:
		return "(" + e() + " " + g.pick("||", "=", "<", ">", "+", "-", "~", "LIKE", "IS DISTINCT FROM", "->", "->>", "@>", "^@", "#>>") + " " + e() + ")"
	case 9:
		return "CASE WHEN " + e() + " IS NOT NULL THEN " + e() + " ELSE " + e() + " END"
	case 10:
		return g.pick("coalesce", "greatest", "least") + "(" + e() + ", " + e() + ")"
	case 11:
		return "(" + g.query() + ")"
	case 12:
		return "ARRAY(" + g.query() + ")"
	case 13:
		return "EXISTS (" + g.query() + ")"
	case 14:
		return "ROW(" + e() + ", " + e() + ")"
	case 15:
		return "xmlelement(name a, " + e() + ")"
	case 16:
		if g.depth > 2 {
			return g.column()
		}
		return g.pick("string_agg(%s::text, ',')", "array_agg(%s)", "json_agg(%s)", "max(%s::text)", "min(%s::text)", "count(DISTINCT %s)", "json_object_agg(1, %s)")
	case 17:
		return "(" + e() + ")[" + e() + "]"
	case 18:
		return "row_number() OVER (ORDER BY " + e() + ")"
	default:
		f := g.functions[g.r.IntN(len(g.functions))]
		args := make([]string, g.r.IntN(4))
		for i := range args {
			args[i] = e()
			if g.r.IntN(3) > 0 {
				args[i] = "(" + args[i] + ")::text"
			}
		}
		return `pg_catalog."` + f + `"(` + strings.Join(args, ", ") + ")"
	}
}

func (g *generator) from() string {
	g.aliases++
	alias := fmt.Sprintf("t%d", g.aliases)
	rel := g.pick(names...)
	switch g.r.IntN(10) {
	case 0:
		if g.depth < 3 {
			lateral := g.pick("", "LATERAL ")
			inner := g.query()
			g.add(alias, "ssn x")
			return lateral + "(" + inner + ") " + alias
		}
	case 1, 2:
		l, r := g.from(), g.from()
		return l + g.pick(" CROSS JOIN "+r, " NATURAL JOIN "+r, " JOIN "+r+" ON true", " LEFT JOIN "+r+" USING (id)")
	case 3:
		rel = "clinic.patients"
		g.add(alias, relations[rel])
		return rel + " " + alias + " TABLESAMPLE BERNOULLI (100)"
	case 4:
		g.add(rel[strings.LastIndexAny(rel, ". ")+1:], relations[rel])
		return rel
	case 5:
		n := len(strings.Fields(relations[rel]))
		g.add(alias, strings.Join([]string{"a", "b", "c"}[:min(n, 3)], " "))
		return rel + " AS " + alias + " (" + strings.Join([]string{"a", "b", "c"}[:min(n, 3)], ", ") + ")"
	}
	g.add(alias, relations[rel])
	return rel + " " + alias
}

func (g *generator) query() string {
	g.depth++
	saved := g.items
	defer func() { g.depth--; g.items = saved }()
	from := g.from()
	if g.depth < 3 && g.r.IntN(3) == 0 {
		from += ", " + g.from()
	}
	var list []string
	for range 1 + g.r.IntN(2) {
		list = append(list, strings.ReplaceAll(g.expr(), "%s", g.column())+g.pick("", "", " AS ssn", " AS x"))
	}
	q := "SELECT " + g.pick("", "", "DISTINCT ") + strings.Join(list, ", ") + " FROM " + from
	if g.r.IntN(4) == 0 {
		q += " WHERE " + strings.ReplaceAll(g.expr(), "%s", "id") + g.pick("", " IS NULL", " IS NOT NULL")
	}
	if g.r.IntN(8) == 0 {
		q += " GROUP BY " + g.column()
	}
	if g.r.IntN(6) == 0 {
		q += " ORDER BY " + strings.ReplaceAll(g.expr(), "%s", "1")
	}
	if g.depth < 3 && g.r.IntN(10) == 0 {
		q += g.pick(" UNION ", " EXCEPT ", " UNION ALL ") + g.query()
	}
	return q
}

// Random statements over protected relations show nothing protected, in rows
// or in errors.
func TestRandomStatements(t *testing.T) {
	a := newAnalyzer(t)
	g := newAgent(t, nil)
	b, err := os.ReadFile("functions.txt")
	if err != nil {
		t.Fatal(err)
	}
	var functions []string
	for _, f := range strings.Fields(string(b)) {
		if f != "pg_sleep" && f != "repeat" && f != "generate_series" && f != "lpad" && f != "rpad" && f != "array_fill" {
			functions = append(functions, f)
		}
	}
	g.send("SET statement_timeout = 300; SET work_mem = '4MB'; SET default_transaction_read_only = on", simple)
	g.seen.Reset()
	ran, rows := 0, 0
	n := 4000
	if testing.Short() {
		n = 500
	}
	for i := range n {
		gen := &generator{r: rand.New(rand.NewPCG(uint64(i), 7)), functions: functions}
		sql := strings.ReplaceAll(gen.query(), "%s", "id")
		switch i % 7 {
		case 0:
			sql = "COPY (" + sql + ") TO STDOUT"
		case 1:
			sql = "WITH w AS (" + sql + ") SELECT * FROM w"
		case 2:
			sql = "SELECT to_jsonb(q), q::text FROM (" + sql + ") q"
		}
		an, err := a.Analyze(t.Context(), query.Input{SQL: sql, Scope: masked(), Simple: true})
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if an.Opaque != "" {
			continue
		}
		ran++
		out := sql
		if an.SQL != "" {
			out = an.SQL
		}
		g.seen.Reset()
		g.send(out, simple)
		seen := g.seen.String()
		if an.Sanitize && strings.Contains(seen, "error ") {
			continue // the session replaces the message
		}
		if !strings.Contains(seen, "error ") {
			rows++
		}
		if found := postgrestest.Planted([]byte(seen), sql); found != "" && !strings.Contains(sql, seen) {
			t.Errorf("%s comes back from\n%s\nsent as\n%s\n%.2000s", found, sql, out, seen)
		}
	}
	t.Logf("%d of %d ran, %d gave rows", ran, n, rows)
	if ran < n/4 || rows < n/20 {
		t.Errorf("only %d of %d ran, %d gave rows", ran, n, rows)
	}
}
