package postgrestest

import (
	"fmt"
	"slices"
	"strings"
)

// query is a query whose columns have the given types: "any" is any of them,
// "row" a whole row, "given" no column but the parameters $1 text and $2 int.
func (g *random) query(want []string) string {
	mark := len(g.scope)
	defer func() { g.scope = g.scope[:mark] }()
	want = slices.Clone(want)
	if last := len(want) - 1; want[last] == "given" {
		want = want[:last]
		g.scope = append(g.scope, item{columns: []column{{name: "$1", kind: "text"}, {name: "$2", kind: "int"}}})
	}
	for i, k := range want {
		if k == "any" {
			want[i] = g.pick(kinds...)
		}
	}
	if g.depth >= deep {
		return "SELECT " + g.list(want, "")
	}
	g.depth++
	defer func() { g.depth-- }()
	switch g.n(14) {
	case 1:
		g.locks = ""
		if want[0] != "row" {
			return g.selects(want) + g.pick(" UNION ", " UNION ALL ", " INTERSECT ", " EXCEPT ", " EXCEPT ALL ") + g.selects(want) + g.order(want)
		}
	case 2:
		if want[0] != "row" {
			return "VALUES (" + g.values(want) + "), (" + g.values(want) + ")"
		}
	case 3, 4:
		return g.with(want)
	case 5:
		return "(" + g.selects(want) + ")" + g.order(want)
	}
	return g.selects(want) + g.order(want)
}

func (g *random) values(want []string) string {
	var list []string
	for _, k := range want {
		list = append(list, g.become(k))
	}
	return strings.Join(list, ", ")
}

// order mostly asks for one, so that an answer is the same each time.
func (g *random) order(want []string) string {
	locks := g.locks
	g.locks = ""
	if want[0] == "row" || g.n(4) == 3 {
		return locks
	}
	s := " ORDER BY 1"
	for i := range want[1:] {
		s += fmt.Sprintf(", %d", i+2)
	}
	return s + g.pick("", "", "", " DESC", " NULLS FIRST", " LIMIT 3", " OFFSET 1", " FETCH FIRST 2 ROWS ONLY") + locks
}

// list is a list of outputs; prefix is put before the type of each.
func (g *random) list(want []string, prefix string) string {
	var list []string
	for _, k := range want {
		var e string
		switch {
		case k == "row":
			if e = g.star(); e == "" {
				e = g.row()
			}
		case prefix != "" && grammar[prefix+k] != nil && g.n(3) > 0:
			e = g.become(prefix + k)
		default:
			e = g.become(k)
		}
		if k != "row" {
			e += g.pick("", "", " AS x", " y", ` AS "a b"`, ` AS "naïve"`, " AS ssn", " AS id")
		}
		list = append(list, e)
	}
	return strings.Join(list, ", ")
}

// star is one, where all that it stands for may be shown.
func (g *random) star() string {
	all := true
	for _, it := range g.scope {
		all = all && it.whole
	}
	if all && len(g.scope) > 0 && g.n(2) == 0 {
		return "*"
	}
	for _, it := range g.scope {
		if it.whole && it.name != "" {
			return it.name + ".*"
		}
	}
	return ""
}

// with has common table expressions before it.
func (g *random) with(want []string) string {
	mark := len(g.relations)
	defer func() { g.relations = g.relations[:mark] }()
	name := g.name()
	kind := g.pick("text", "int")
	if g.n(3) == 1 && want[0] != "row" {
		seed := g.selects([]string{"int", "text"})
		g.relations = append(slices.Clip(g.relations), relation{name: name, columns: []column{{name: "n", kind: "int"}, {name: "v", kind: "text"}}})
		clause := g.pick("", "", " SEARCH DEPTH FIRST BY n SET o", " CYCLE n SET looped USING way")
		return "WITH RECURSIVE " + name + " (n, v) AS (" + seed + " UNION ALL SELECT n + 1, left(v || '.', 20) FROM " + name + " WHERE n BETWEEN 0 AND 3)" + clause + " " + g.selectFrom(want, name+" q", item{"q", g.relations[mark].columns, false}) + g.order(want)
	}
	body := g.query([]string{kind, "int"})
	c := []column{{name: "c1", kind: kind}, {name: "c2", kind: "int"}}
	s := "WITH " + name + " (c1, c2) AS " + g.pick("", "MATERIALIZED ", "NOT MATERIALIZED ") + "(" + body + ") "
	return s + g.selectFrom(want, name+" q", item{"q", c, true}) + g.order(want)
}

// selects is a SELECT.
func (g *random) selects(want []string) string {
	mark := len(g.scope)
	defer func() { g.scope = g.scope[:mark] }()
	from := g.from()
	if g.n(5) == 4 {
		from += ", " + g.from()
	}
	return g.selected(want, from, mark)
}

// selectFrom is a SELECT from one item, perhaps joined to others.
func (g *random) selectFrom(want []string, from string, it item) string {
	mark := len(g.scope)
	defer func() { g.scope = g.scope[:mark] }()
	g.scope = append(g.scope, it)
	if g.n(3) == 1 {
		from += " CROSS JOIN " + g.from()
	}
	return g.selected(want, from, mark)
}

// selected is a SELECT whose FROM is written: its items are in scope from mark
// on.
func (g *random) selected(want []string, from string, mark int) string {
	from = " FROM " + from
	where := ""
	if g.n(2) == 1 {
		where = " WHERE " + g.become("bool")
	}
	if want[0] == "row" {
		return "SELECT " + g.list(want, "") + from + where
	}
	switch g.n(12) {
	case 1, 2:
		return "SELECT " + g.list(want, "window-") + from + where
	case 3:
		return "SELECT " + g.aggregates(want, nil) + from + where + g.pick("", " HAVING count(*) > 1")
	case 4, 5:
		return g.grouped(want, from, where)
	case 6:
		return "SELECT DISTINCT " + g.list(want, "") + from + where
	case 7:
		first := g.become(want[0])
		rest := ""
		if len(want) > 1 {
			rest = ", " + g.list(want[1:], "")
		}
		return "SELECT DISTINCT ON (" + first + ") " + first + rest + from + where
	case 8:
		if g.scope[mark].name != "" {
			s := "SELECT " + g.list(want, "") + from + where
			g.locks = g.pick("", " FOR UPDATE", " FOR SHARE OF "+g.scope[mark].name, " FOR KEY SHARE SKIP LOCKED", " FOR NO KEY UPDATE NOWAIT")
			return s
		}
	}
	return "SELECT " + g.list(want, "") + from + where
}

// aggregates is a list of aggregates, and of keys where one has the type.
func (g *random) aggregates(want []string, keys map[string]string) string {
	var list []string
	for _, k := range want {
		switch key := keys[k]; {
		case key != "" && g.n(3) > 0:
			list = append(list, key)
		case grammar["aggregate-"+k] != nil:
			list = append(list, g.become("aggregate-"+k))
		default:
			list = append(list, g.become("literal-"+k))
		}
	}
	return strings.Join(list, ", ")
}

func (g *random) grouped(want []string, from, where string) string {
	keys := map[string]string{}
	var all []string
	for _, k := range []string{want[0], "int"} {
		if keys[k] == "" {
			keys[k] = g.become(k)
			all = append(all, keys[k])
		}
	}
	list := strings.Join(all, ", ")
	by := g.pick(list, list, list, "ROLLUP ("+list+")", "CUBE ("+list+")", "GROUPING SETS (("+list+"), ("+all[0]+"), ())")
	having := ""
	if g.n(3) == 1 {
		having = " HAVING " + g.pick("count(*) > 1", "max("+g.become("text")+") > 'A'")
	}
	return "SELECT " + g.aggregates(want, keys) + from + where + " GROUP BY " + by + having
}

// from is an item in FROM, which it puts into scope.
func (g *random) from() string {
	if g.depth >= deep {
		return g.table()
	}
	g.depth++
	defer func() { g.depth-- }()
	outer := len(g.scope)
	switch g.n(18) {
	case 6:
		return g.derived()
	case 7:
		return g.called()
	case 8:
		l, r := g.from(), g.from()
		return l + g.pick(" JOIN ", " LEFT JOIN ", " RIGHT OUTER JOIN ") + r + " ON " + g.on(outer)
	case 9:
		l := g.from()
		return l + " CROSS JOIN " + g.from()
	case 10:
		l, r := g.from(), g.from()
		return l + g.pick(" JOIN ", " LEFT JOIN ", " FULL JOIN ") + r + g.pick(" USING (id)", " USING (id) AS u")
	case 11:
		if g.reach != OpenColumns {
			l, r := g.from(), g.from()
			return l + g.pick(" NATURAL JOIN ", " NATURAL LEFT JOIN ") + r
		}
	case 12:
		l := g.from()
		name, kind := g.name(), g.pick("text", "int")
		g.scope = append(g.scope, item{}) // takes part in what it may refer to
		body := g.query([]string{kind})
		g.scope[len(g.scope)-1] = item{name, []column{{name: "v", kind: kind}}, true}
		return l + " CROSS JOIN LATERAL (" + body + ") AS " + name + " (v)"
	case 13:
		l, r := g.from(), g.from()
		name, first := g.name(), g.scope[outer]
		g.scope = append(g.scope[:outer], item{name, first.columns, false})
		return "(" + l + " CROSS JOIN " + r + ") AS " + name
	}
	return g.table()
}

// on joins by what the two sides have.
func (g *random) on(outer int) string {
	scope := g.scope
	defer func() { g.scope = scope }()
	g.scope = slices.Clone(scope[outer:])
	return g.become("bool")
}

// table is a relation.
func (g *random) table() string {
	r, written := g.relation()
	it := item{columns: r.columns, whole: g.reach != OpenColumns || !r.guarded}
	only := ""
	if strings.Contains(r.name, ".") {
		only = g.pick("", "", "", "", "", "ONLY ")
	}
	switch g.n(6) {
	case 1:
		it.name = r.name[strings.Index(r.name, ".")+1:]
		g.add(&it)
		return only + written
	case 2:
		it.name = r.name
		g.add(&it)
		return only + r.name
	case 3:
		it.name = g.name()
		g.add(&it)
		return only + written + " AS " + it.name + g.pick("", " TABLESAMPLE BERNOULLI (100)", " TABLESAMPLE SYSTEM (100) REPEATABLE (1)")
	case 4:
		if it.whole {
			it.name = g.name()
			it.columns = slices.Clone(r.columns)
			renamed := []string{"c1", "c2", "c3"}[:min(3, len(r.columns))]
			for i, n := range renamed {
				it.columns[i].name = n
			}
			g.add(&it)
			return only + written + " " + it.name + " (" + strings.Join(renamed, ", ") + ")"
		}
	}
	it.name = g.name()
	g.add(&it)
	return only + written + g.pick(" ", " AS ") + it.name
}

func (g *random) add(it *item) { g.scope = append(g.scope, *it) }

// derived is a query in FROM. It does not see what stands beside it.
func (g *random) derived() string {
	name, scope := g.name(), g.scope
	kind := g.pick("text", "int", "any")
	if kind == "any" {
		kind = g.pick(kinds...)
	}
	g.scope = nil
	body := g.query([]string{kind, "text"})
	g.scope = append(scope, item{name, []column{{name: "c1", kind: kind}, {name: "c2", kind: "text"}}, true})
	return "(" + body + ") " + g.pick("", "AS ") + name + " (c1, c2)"
}

// called is a function in FROM.
func (g *random) called() string {
	of := grammar["function"]
	columns, call, _ := strings.Cut(of[g.n(len(of))][1:], "] ")
	it := item{whole: true}
	var names []string
	for i, k := range strings.Fields(columns) {
		it.columns = append(it.columns, column{name: fmt.Sprintf("f%d", i+1), kind: k})
		names = append(names, it.columns[i].name)
	}
	call = g.expand(call)
	it.name = g.name()
	g.add(&it)
	return call + " AS " + it.name + " (" + strings.Join(names, ", ") + ")"
}
