package rewrite

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/scrub"
)

// A keyed mask has no form in SQL. Its column is redacted at the source, as any
// other, unless nothing at all can be done with the stored value but to send it:
// the outermost query shows the column itself, or what a query in its FROM or WITH
// clause passes through, and no name in the statement could mean it besides. Then
// the server sends it as it is stored, and whoever asked for the analysis masks it in
// each row.

// What RETURNING shows of the relation that is written is held to the same, and so are
// the queries of a UNION ALL: each of them must have the same field in the same place, or
// NULL. A value that is not the field's would come back under its mask, and an agent
// that has masks of its own choice knows all of them.

// listed is an item of a list that goes to the client.
type listed struct {
	sub  *substitution
	col  string
	name string // by which the list has it, "" for an expression
	ok   bool   // it is known what it is
	null bool   // it is NULL, whatever else the place has
}

// stored is a column of a relation in one place of the statement.
type stored struct {
	sub *substitution
	col string
}

// output finds the columns that are masked on output. Every name of the
// statement is known.
func (w *walker) output() {
	s := w.root
	if s == nil || !w.in.Masks || w.every || w.renamed || w.joinsAll || w.writes && w.returns == nil {
		return
	}
	all, ok := arms(s, nil)
	if !ok {
		return
	}
	p := w.passing(s)
	if p == nil {
		return
	}
	var lists [][]listed
	unknown := map[string]bool{} // names of items of which it is not known what they are
	for _, arm := range all {
		if len(arm.TargetList) != len(all[0].TargetList) { // the server will not have it
			return
		}
		list := p.listing(arm)
		for _, x := range list {
			if !x.ok {
				unknown[x.name] = true
			}
		}
		lists = append(lists, list)
	}
	outs, bad := make([]*query.Output, len(lists[0])), map[stored]bool{}
	for i := range outs {
		if w.isNamed(i) {
			outs[i] = w.place(p, lists, i, unknown)
		}
		if outs[i] == nil {
			eachStored(lists, i, func(x stored) { bad[x] = true })
		}
	}
	// A relation gives a column as it is stored to all places, or to none.
	for again := true; again; {
		again = false
		for i := range outs {
			if outs[i] == nil {
				continue
			}
			eachStored(lists, i, func(x stored) { again = again || bad[x] })
			if again {
				outs[i] = nil
				eachStored(lists, i, func(x stored) { bad[x] = true })
				break
			}
		}
	}
	for i, out := range outs {
		if out == nil {
			continue
		}
		out.Index = i
		if len(lists) > 1 {
			out.Table, out.Attnum = 0, 0 // it is of more than one
		}
		w.outputs = append(w.outputs, *out)
		eachStored(lists, i, func(x stored) {
			if x.sub.plain == nil {
				x.sub.plain = map[string]bool{}
			}
			x.sub.plain[x.col] = true
			for _, f := range x.sub.guard.columns[x.col].fields {
				w.masked[f] = true
			}
		})
	}
	if len(w.outputs) > 0 {
		w.sanitize = true
	}
}

func eachStored(lists [][]listed, i int, f func(stored)) {
	for _, l := range lists {
		if l[i].sub != nil {
			f(stored{l[i].sub, l[i].col})
		}
	}
}

// listing says what each item of a query's list is.
func (p *passing) listing(s *pg.SelectStmt) []listed {
	list := make([]listed, len(s.TargetList))
	for i, n := range s.TargetList {
		val := n.GetResTarget().GetVal()
		list[i].null = val.GetAConst().GetIsnull()
		if names, ok := parts(val.GetColumnRef().GetFields()); ok {
			list[i].name = names[len(names)-1]
			list[i].sub, list[i].col, list[i].ok = p.resolve(s, names, len(p.ctes))
		}
	}
	return list
}

// place describes what is masked at a place of the lists; nil if it can't be.
func (w *walker) place(p *passing, lists [][]listed, i int, unknown map[string]bool) (out *query.Output) {
	null := false
	for _, l := range lists {
		x := l[i]
		if x.null {
			null = true
			continue
		}
		if !x.ok || x.sub == nil {
			return nil
		}
		names, only := p.only(x.col)
		for n := range names { // whatever else it could be in must be known to be something else
			only = only && !unknown[n]
		}
		if w.chosen(x.sub, x.col) {
			return nil
		}
		o, ok := w.b.output(x.sub.guard, x.sub.guard.rel.Column(x.col))
		if !only || !ok || out != nil && !out.Alike(&o) {
			return nil
		}
		if out == nil {
			out = &o
		}
	}
	if out != nil && null && len(lists) > 2 && out.Type != "text" {
		return nil // two NULLs make a text of it
	}
	return out
}

// isNamed reports that it can be told that the header of a COPY, if it has one, is one:
// what a column is called is known.
func (w *walker) isNamed(i int) bool {
	return !slices.ContainsFunc(w.copies, func(c scrub.Copy) bool {
		return c.Header && (i >= len(c.Columns) || c.Columns[i] == "")
	})
}

// maxArms bounds the queries of a UNION ALL that are looked at.
const maxArms = 100

// arms lists the queries whose rows, as they are, are those of a query; ok is false
// where they are compared or ordered by what they show.
func arms(s *pg.SelectStmt, list []*pg.SelectStmt) (all []*pg.SelectStmt, ok bool) {
	if s.Larg == nil && s.Rarg == nil {
		return append(list, s), shows(s) && len(list) < maxArms
	}
	if s.Op != pg.SetOperation_SETOP_UNION || !s.All || s.IntoClause != nil || !sortsByName(s) {
		return nil, false
	}
	if len(s.SortClause) > 0 && slices.ContainsFunc(leftmost(s).TargetList, func(n *pg.Node) bool { return nameOfItem(n) == "" }) {
		return nil, false // the server makes up a name
	}
	for _, arm := range []*pg.SelectStmt{s.Larg, s.Rarg} {
		if arm == nil || arm.WithClause != nil {
			return nil, false
		}
		if list, ok = arms(arm, list); !ok {
			return nil, false
		}
	}
	return list, true
}

// leftmost is the query that names the columns of a set operation.
func leftmost(s *pg.SelectStmt) *pg.SelectStmt {
	for s.GetLarg() != nil {
		s = s.Larg
	}
	return s
}

// nameOfItem is what an item of a list is called, "" where the server makes a name up.
func nameOfItem(n *pg.Node) string {
	t := n.GetResTarget()
	if names, ok := parts(t.GetVal().GetColumnRef().GetFields()); ok && t.Name == "" {
		return names[len(names)-1]
	}
	return t.GetName()
}

// shows reports a SELECT that sends rows of its FROM clause as they are: it
// neither compares nor orders what it sends by its place in the list.
func shows(s *pg.SelectStmt) bool {
	return sortsByName(s) && s.Op == pg.SetOperation_SETOP_NONE && s.Larg == nil && s.Rarg == nil && s.IntoClause == nil &&
		len(s.DistinctClause) == 0 && len(s.GroupClause) == 0 && s.HavingClause == nil && len(s.WindowClause) == 0 && len(s.ValuesLists) == 0
}

// sortsByName reports that what a query orders its rows by is not told by a place in its list.
func sortsByName(s *pg.SelectStmt) bool {
	return !slices.ContainsFunc(s.SortClause, func(n *pg.Node) bool {
		by := n.GetSortBy()
		return by == nil || by.Node.GetAConst() != nil
	})
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
	if s == nil || s != w.root && s.WithClause != nil {
		return
	}
	w.spellOut(s.Larg)
	w.spellOut(s.Rarg)
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
