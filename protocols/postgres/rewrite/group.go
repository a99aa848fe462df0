package rewrite

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// group spells out what a GROUP BY on a primary key implies: a sub-select has
// no key, so the relation's other columns that the statement mentions are
// added to the list. They depend on the key, masked or not: the groups stay
// what they were.
func (w *walker) group(s *pg.SelectStmt) {
	direct := directOf(s)
	for _, sub := range w.subs {
		r := sub.guard.rel
		if !direct[sub.node] || len(r.PrimaryKey) == 0 || len(r.Children) > 0 || len(sub.v.GetAlias().GetColnames()) > 0 {
			continue
		}
		alias := sub.v.Relname
		if sub.v.Alias != nil {
			alias = sub.v.Alias.Aliasname
		}
		var have []string
		for _, n := range s.GroupClause {
			names, ok := parts(n.GetColumnRef().GetFields())
			if !ok {
				continue // an expression, or a star
			}
			if len(names) == 1 && len(direct) == 1 || len(names) > 1 && names[len(names)-2] == alias {
				have = append(have, names[len(names)-1])
			}
		}
		if slices.ContainsFunc(r.PrimaryKey, func(k string) bool { return !slices.Contains(have, k) }) {
			continue
		}
		for _, c := range r.Columns {
			if (w.every || w.names[c.Name]) && !slices.Contains(have, c.Name) && groupable(w.b.base(c.Type)) {
				s.GroupClause = append(s.GroupClause, colRef(alias, c.Name))
			}
		}
	}
}

// directOf collects the relations of a query's FROM clause, sub-queries apart.
func directOf(s *pg.SelectStmt) map[*pg.Node]bool {
	direct := map[*pg.Node]bool{}
	for _, n := range s.FromClause {
		directItems(n, direct)
	}
	return direct
}

// directItems collects the relations of a FROM clause, sub-queries apart.
func directItems(n *pg.Node, into map[*pg.Node]bool) {
	if j := n.GetJoinExpr(); j != nil {
		directItems(j.Larg, into)
		directItems(j.Rarg, into)
		return
	}
	into[n] = true
}

// groupable reports whether the values of a type can be grouped.
func groupable(t *catalog.Type) bool {
	if t == nil {
		return false
	}
	switch t.Name {
	case "json", "xml", "point", "box", "polygon", "line", "path", "lseg", "circle", "_json", "_xml", "refcursor":
		return false
	}
	return true
}
