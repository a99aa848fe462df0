package rewrite

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// passing is how columns pass from relations through queries in FROM and WITH
// clauses to the list of the outermost SELECT. A query that compares, orders or puts
// together what it shows passes nothing.
type passing struct {
	w        *walker
	ctes     []*pg.CommonTableExpr // each sees those before it
	subs     map[*pg.Node]*substitution
	mentions map[string]int      // how often a name stands in the statement
	listed   map[string]int      // and how often as an item of a list that passes it on
	goesOn   map[string][]string // under which other names
}

// passing looks at the lists of a statement, nil where nothing can be told of them.
func (w *walker) passing(s *pg.SelectStmt) *passing {
	p := &passing{
		w: w, subs: map[*pg.Node]*substitution{}, mentions: map[string]int{}, listed: map[string]int{}, goesOn: map[string][]string{},
	}
	if s.WithClause != nil && s.WithClause.Recursive {
		return nil
	}
	for _, sub := range w.subs {
		p.subs[sub.node] = sub
	}
	if w.returns != nil && w.returns.guard != nil {
		p.subs[w.returns.node] = w.returns
	}
	for _, n := range w.bare {
		p.mentions[n]++
	}
	for _, n := range s.WithClause.GetCtes() {
		c := n.GetCommonTableExpr()
		if c.GetCtequery().GetSelectStmt() == nil {
			return nil
		}
		p.ctes = append(p.ctes, c)
		p.inner(c.Ctequery.GetSelectStmt())
	}
	p.list(s)
	return p
}

// inner looks at a query within another.
func (p *passing) inner(s *pg.SelectStmt) {
	if s != nil && s.WithClause == nil && shows(s) {
		p.list(s)
	}
}

func (p *passing) list(s *pg.SelectStmt) {
	if s.Larg != nil || s.Rarg != nil {
		p.union(s)
		return
	}
	for _, n := range s.TargetList {
		t := n.GetResTarget()
		names, ok := parts(t.GetVal().GetColumnRef().GetFields())
		if !ok {
			continue
		}
		c := names[len(names)-1]
		p.listed[c]++
		if t.Name != "" && t.Name != c {
			p.goesOn[c] = append(p.goesOn[c], t.Name)
		}
	}
	for _, n := range s.FromClause {
		eachItem(n, func(n *pg.Node) { p.inner(n.GetRangeSubselect().GetSubquery().GetSelectStmt()) })
	}
}

// union looks at a set operation. It may order its rows by the names that its first
// query gives.
func (p *passing) union(s *pg.SelectStmt) {
	all, ok := arms(s, nil)
	if !ok {
		return
	}
	for _, arm := range []*pg.SelectStmt{s.Larg, s.Rarg} {
		p.list(arm)
	}
	if len(s.SortClause) == 0 {
		return
	}
	first := leftmost(s).TargetList
	for _, arm := range all {
		for i, n := range arm.TargetList[:min(len(arm.TargetList), len(first))] {
			names, ok := parts(n.GetResTarget().GetVal().GetColumnRef().GetFields())
			if !ok {
				continue
			}
			c, as := names[len(names)-1], nameOfItem(first[i])
			if as != c && !slices.Contains(p.goesOn[c], as) {
				p.goesOn[c] = append(p.goesOn[c], as)
			}
		}
	}
}

// eachItem calls f for the items of a FROM clause, through joins.
func eachItem(n *pg.Node, f func(*pg.Node)) {
	if j := n.GetJoinExpr(); j != nil {
		eachItem(j.Larg, f)
		eachItem(j.Rarg, f)
		return
	}
	f(n)
}

// only reports whether nothing is done with a column but to pass it on, and all names
// that it may go by on its way. A name that stands anywhere else may mean it.
func (p *passing) only(col string) (names map[string]bool, ok bool) {
	names = map[string]bool{col: true}
	for todo := []string{col}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if p.mentions[n] != p.listed[n] || p.w.joins[n] {
			return nil, false
		}
		for _, to := range p.goesOn[n] {
			if !names[to] {
				names[to] = true
				todo = append(todo, to)
			}
		}
	}
	return names, true
}

// resolve says which column of a relation a name in the list of a query must be, if
// the server takes it at all. ctes is how many WITH queries are in scope. ok is false
// where that can't be told, or the name is of an outer query; sub is nil for a relation
// that is not guarded.
func (p *passing) resolve(s *pg.SelectStmt, names []string, ctes int) (sub *substitution, column string, ok bool) {
	col, found := names[len(names)-1], 0
	take := func(of *substitution, as string, known bool) {
		sub, column, ok = of, as, known
		found++
	}
	goesBy := func(own string, a *pg.Alias) bool {
		if a != nil {
			own = a.Aliasname
		}
		return len(names) == 1 || own == names[len(names)-2]
	}
	hidden := false
	var item func(n *pg.Node)
	item = func(n *pg.Node) {
		switch x := n.GetNode().(type) {
		case *pg.Node_JoinExpr:
			hidden = hidden || x.JoinExpr.Alias != nil // the names of the others
			item(x.JoinExpr.Larg)
			item(x.JoinExpr.Rarg)
		case *pg.Node_RangeVar:
			v := x.RangeVar
			if !goesBy(v.Relname, v.Alias) {
				return
			}
			written := p.w.returns != nil && p.w.returns.node == n // never a WITH query
			if i := p.cte(v, ctes); i >= 0 && !written {
				if of, as, there, known := p.through(p.ctes[i].Ctequery.GetSelectStmt(), col, i); there {
					take(of, as, known && len(names) < 3)
				}
				return
			}
			p.relation(n, v, names, take)
		case *pg.Node_RangeTableSample:
			if v := x.RangeTableSample.Relation.GetRangeVar(); v != nil && goesBy(v.Relname, v.Alias) {
				p.relation(n, v, names, take)
			}
		case *pg.Node_RangeSubselect:
			if !goesBy("", x.RangeSubselect.Alias) {
				return
			}
			if of, as, there, known := p.through(x.RangeSubselect.Subquery.GetSelectStmt(), col, ctes); there {
				take(of, as, known)
			}
		}
	}
	for _, n := range s.FromClause {
		item(n)
	}
	if found != 1 || hidden {
		return nil, "", false
	}
	return sub, column, ok
}

// cte is the place of the WITH query that a relation's name means, -1 for none.
func (p *passing) cte(v *pg.RangeVar, ctes int) int {
	if v.Schemaname != "" || v.Catalogname != "" {
		return -1
	}
	for i := range ctes {
		if p.ctes[i].Ctename == v.Relname {
			return i
		}
	}
	return -1
}

// relation takes a column of a relation.
func (p *passing) relation(n *pg.Node, v *pg.RangeVar, names []string, take func(*substitution, string, bool)) {
	col := names[len(names)-1]
	if sub := p.subs[n]; sub != nil {
		if sub.guard.rel.Column(col) != nil {
			take(sub, col, len(names) < 3 || v.Alias == nil && sub.guard.rel.Schema == names[0])
		}
		return
	}
	for _, r := range p.w.snap.ByName[v.Relname] {
		if (v.Schemaname == "" || v.Schemaname == r.Schema) && r.Column(col) != nil {
			take(nil, col, true)
			return
		}
	}
}

// through finds what a query in a FROM or WITH clause shows under a name that it
// gives. there is false where it gives none such, as far as can be told: an expression
// may still go by it, and of two of a name the server takes neither.
func (p *passing) through(s *pg.SelectStmt, name string, ctes int) (sub *substitution, column string, there, known bool) {
	if s == nil || s.Larg != nil || s.WithClause != nil {
		return nil, "", false, false
	}
	for _, n := range s.TargetList {
		t := n.GetResTarget()
		names, isColumn := parts(t.GetVal().GetColumnRef().GetFields())
		as := t.GetName()
		if as == "" && isColumn {
			as = names[len(names)-1]
		}
		switch {
		case as != name:
		case there:
			return nil, "", true, false
		case !isColumn:
			there = true
		default:
			there = true
			sub, column, known = p.resolve(s, names, ctes)
		}
	}
	return sub, column, there, known
}
