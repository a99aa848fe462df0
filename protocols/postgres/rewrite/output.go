package rewrite

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// A keyed mask has no form in SQL. Its column is redacted at the source, as any
// other, unless nothing at all can be done with the stored value but to send it:
// the outermost SELECT shows the column itself, or what a query in its FROM or WITH
// clause passes through, and no name in the statement could mean it besides. Then
// the server sends it as it is stored, and whoever asked for the analysis masks it in
// each row.

// output finds the columns that are masked on output. Every name of the
// statement is known.
func (w *walker) output() {
	s := w.root
	if s == nil || !w.in.Masks || w.every || w.renamed || w.joinsAll || w.writes || !shows(s) {
		return
	}
	p := w.passing(s)
	if p == nil {
		return
	}
	type shown struct {
		sub  *substitution
		col  string
		name string // by which the list has it, "" for an expression
		ok   bool   // it is known what it is
	}
	list := make([]shown, len(s.TargetList))
	for i, n := range s.TargetList {
		if names, ok := parts(n.GetResTarget().GetVal().GetColumnRef().GetFields()); ok {
			list[i].name = names[len(names)-1]
			list[i].sub, list[i].col, list[i].ok = p.resolve(s, names, len(p.ctes))
		}
	}
	for i, x := range list {
		if !x.ok || x.sub == nil {
			continue
		}
		names, only := p.only(x.col)
		// Whatever else of the result it could be in must be known to be something else.
		if !only || slices.ContainsFunc(list, func(y shown) bool { return names[y.name] && !y.ok }) {
			continue
		}
		out, ok := w.b.output(x.sub.guard, x.sub.guard.rel.Column(x.col))
		if !ok {
			continue
		}
		out.Index = i
		w.outputs = append(w.outputs, out)
		if x.sub.plain == nil {
			x.sub.plain = map[string]bool{}
		}
		x.sub.plain[x.col] = true
	}
	if len(w.outputs) > 0 {
		w.sanitize = true
	}
}

// shows reports a SELECT that sends rows of its FROM clause as they are: it
// neither compares nor orders what it sends by its place in the list.
func shows(s *pg.SelectStmt) bool {
	for _, n := range s.SortClause {
		if by := n.GetSortBy(); by == nil || by.Node.GetAConst() != nil {
			return false
		}
	}
	return s.Op == pg.SetOperation_SETOP_NONE && s.Larg == nil && s.Rarg == nil && s.IntoClause == nil &&
		len(s.DistinctClause) == 0 && len(s.GroupClause) == 0 && s.HavingClause == nil && len(s.WindowClause) == 0 && len(s.ValuesLists) == 0
}

// output describes a column that can be masked on output.
func (b *binding) output(g *guard, c *catalog.Column) (out query.Output, ok bool) {
	p := g.columns[c.Name]
	if p == nil || p.derived || len(p.fields) != 1 || g.rel.System() {
		return out, false
	}
	t := b.base(c.Type)
	if t == nil || t.Schema != "pg_catalog" || !mask.HasOutput(p.mask, t.Name) {
		return out, false
	}
	f := p.fields[0]
	return query.Output{
		Table: g.rel.OID, Attnum: c.Num, OID: t.OID, Type: t.Name, Length: maskType(b.snap, c).Length(), Mask: p.mask,
		Of: policy.Relation{Schema: f.Schema, Name: f.Relation}, Column: f.Column,
	}, true
}

// leaf is a relation in a FROM clause.
type leaf struct {
	name, schema string // that it goes by; schema is "" behind an alias
	guard        *guard
}

// spellOut puts names in the place of the stars in the outermost select list, and
// those of queries in its FROM and WITH clauses, where relations have columns that can
// be masked on output. Otherwise nobody could say which column of the result is which.
func (w *walker) spellOut(s *pg.SelectStmt) {
	if s == nil || s.Larg != nil || s != w.root && s.WithClause != nil {
		return
	}
	for _, n := range s.WithClause.GetCtes() {
		w.spellOut(n.GetCommonTableExpr().GetCtequery().GetSelectStmt())
	}
	for _, n := range s.FromClause {
		eachItem(n, func(n *pg.Node) { w.spellOut(n.GetRangeSubselect().GetSubquery().GetSelectStmt()) })
	}
	if !hasStar(s.TargetList) {
		return
	}
	leaves, ok := w.leaves(s.FromClause)
	found := false
	for _, l := range leaves {
		for _, c := range l.guard.rel.Columns {
			_, is := w.b.output(l.guard, c)
			found = found || is
		}
		found = found || w.in.Subjects && w.hidesKey(l.guard)
	}
	if !ok || !found {
		return
	}
	var list []*pg.Node
	for _, n := range s.TargetList {
		fields := n.GetResTarget().GetVal().GetColumnRef().GetFields()
		if !isStar(n) {
			list = append(list, n)
			continue
		}
		of, ok := starOf(fields, leaves)
		if !ok {
			return
		}
		for _, l := range of {
			for _, c := range l.guard.rel.Columns {
				list = append(list, target("", colRef(l.name, c.Name)))
			}
		}
	}
	s.TargetList = list
}

func hasStar(list []*pg.Node) bool {
	for _, n := range list {
		if isStar(n) {
			return true
		}
	}
	return false
}

func isStar(n *pg.Node) bool {
	f := n.GetResTarget().GetVal().GetColumnRef().GetFields()
	return len(f) > 0 && f[len(f)-1].GetAStar() != nil
}

// leaves lists the relations of a FROM clause in the order of their columns. ok
// is false where it has other items, or joins that merge columns.
func (w *walker) leaves(from []*pg.Node) (out []leaf, ok bool) {
	for _, n := range from {
		v := n.GetRangeVar()
		switch x := n.GetNode().(type) {
		case *pg.Node_JoinExpr:
			j := x.JoinExpr
			if j.IsNatural || len(j.UsingClause) > 0 || j.Alias != nil || j.JoinUsingAlias != nil {
				return nil, false
			}
			inner, ok := w.leaves([]*pg.Node{j.Larg, j.Rarg})
			if !ok {
				return nil, false
			}
			out = append(out, inner...)
			continue
		case *pg.Node_RangeTableSample:
			v = x.RangeTableSample.Relation.GetRangeVar()
		}
		if v == nil || len(v.Alias.GetColnames()) > 0 || v.Schemaname == "" && w.ofWith(v.Relname) || w.snap.ByName[v.Relname] == nil {
			return nil, false
		}
		g, rels := w.guardOf(v)
		if g == nil || len(rels) != 1 {
			return nil, false
		}
		l := leaf{name: v.Relname, schema: g.rel.Schema, guard: g}
		if v.Alias != nil {
			l.name, l.schema = v.Alias.Aliasname, ""
		}
		out = append(out, l)
	}
	return out, true
}

// ofWith reports whether a name is that of a query in the outermost WITH clause.
func (w *walker) ofWith(name string) bool {
	return slices.ContainsFunc(w.root.GetWithClause().GetCtes(), func(n *pg.Node) bool { return n.GetCommonTableExpr().GetCtename() == name })
}
