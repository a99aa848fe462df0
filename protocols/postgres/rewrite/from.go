package rewrite

import (
	pg "github.com/pganalyze/pg_query_go/v6"
)

// from walks items of a FROM clause.
func (w *walker) from(list []*pg.Node) {
	for _, n := range list {
		w.fromItem(n)
	}
}

func (w *walker) fromItem(n *pg.Node) {
	defer w.leave()
	if !w.enter() {
		return
	}
	switch x := n.GetNode().(type) {
	case *pg.Node_RangeVar:
		w.rangeVar(n, x.RangeVar, nil)
	case *pg.Node_RangeTableSample:
		s := x.RangeTableSample
		v := s.Relation.GetRangeVar()
		names, ok := parts(s.Method)
		if v == nil || !ok || len(names) > 2 || len(names) == 2 && names[0] != "pg_catalog" {
			w.refuse("TABLESAMPLE is not understood")
			return
		}
		if m := names[len(names)-1]; m != "system" && m != "bernoulli" || len(w.snap.Functions[m]) > 0 {
			w.refuse("sampling method %s is not built in", m)
		}
		w.exprs(s.Args)
		w.expr(s.Repeatable)
		w.rangeVar(n, v, s)
	case *pg.Node_JoinExpr:
		w.join(x.JoinExpr)
	case *pg.Node_RangeSubselect:
		s := x.RangeSubselect
		w.query(s.Subquery)
		w.alias(s.Alias, nil)
	case *pg.Node_RangeFunction:
		w.rangeFunction(x.RangeFunction)
	case *pg.Node_RangeTableFunc:
		w.tableFunc(x.RangeTableFunc)
	default:
		w.refuse("%s is not understood in FROM", kindOf(n))
	}
}

// rangeVar walks a relation's name. n is the node that a sub-select would
// take the place of: the name's own, or its TABLESAMPLE.
func (w *walker) rangeVar(n *pg.Node, v *pg.RangeVar, sample *pg.RangeTableSample) {
	goesBy := v.Relname
	if v.Alias != nil {
		goesBy = v.Alias.Aliasname
	}
	if v.Schemaname == "" && v.Catalogname == "" && w.inScope(v.Relname) {
		w.alias(v.Alias, nil)
		w.addItem(goesBy, &item{})
		return
	}
	g, rels := w.guardOf(v)
	if len(rels) == 0 || g == nil {
		return
	}
	w.read(rels)
	w.use(g)
	it := &item{columns: columnSet(rels)}
	if v.Alias != nil {
		if len(v.Alias.Colnames) > 0 {
			w.every, it.columns = true, nil // renamed by position
		}
		w.aliasColumns(v.Alias)
	}
	w.addItem(goesBy, it)
	w.sight(v, rels)
	w.cond.read = append(w.cond.read, rels...)
	if g.filter != nil && sample != nil {
		w.refuse("TABLESAMPLE of %s.%s, of which rows are filtered, is not understood", g.rel.Schema, g.rel.Name)
	}
	if g.replaced() {
		w.subs = append(w.subs, &substitution{node: n, v: v, sample: sample, guard: g})
	}
}

// alias notes the name that an item goes by.
func (w *walker) alias(a *pg.Alias, columns map[string]bool) {
	if a == nil {
		return
	}
	w.aliasColumns(a)
	if len(a.Colnames) > 0 {
		columns = nil
	}
	w.addItem(a.Aliasname, &item{columns: columns})
}

func (w *walker) aliasColumns(a *pg.Alias) {
	if _, ok := parts(a.Colnames); !ok && len(a.Colnames) > 0 {
		w.refuse("the column aliases of %s are not understood", a.Aliasname)
	}
	if len(a.Colnames) > 0 {
		w.renamed = true
	}
}

func (w *walker) inScope(cte string) bool {
	for _, c := range w.ctes {
		if c == cte {
			return true
		}
	}
	return false
}

func (w *walker) join(j *pg.JoinExpr) {
	w.fromItem(j.Larg)
	w.fromItem(j.Rarg)
	if j.IsNatural {
		w.every, w.joinsAll = true, true
		w.overloaded("=")
	}
	if len(j.UsingClause) > 0 {
		w.overloaded("=")
		names, ok := parts(j.UsingClause)
		if !ok {
			w.refuse("a USING list is not understood")
		}
		for _, n := range names {
			w.names[n] = true
			w.joins[n] = true
			w.cond.tested[n] = true
		}
	}
	w.expr(j.Quals)
	w.alias(j.JoinUsingAlias, nil)
	w.alias(j.Alias, nil)
}

func (w *walker) rangeFunction(f *pg.RangeFunction) {
	for _, n := range f.Functions {
		pair := n.GetList().GetItems()
		if len(pair) == 0 || len(pair) > 2 {
			w.refuse("a function in FROM is not understood")
			return
		}
		w.expr(pair[0])
		if f.Alias == nil {
			// Goes by the function's name.
			if names, ok := parts(pair[0].GetFuncCall().GetFuncname()); ok {
				w.addItem(names[len(names)-1], &item{})
			}
		}
		if len(pair) == 2 && pair[1].GetNode() != nil {
			w.columnDefs(pair[1].GetList().GetItems())
		}
	}
	w.columnDefs(f.Coldeflist)
	w.alias(f.Alias, nil)
}

// columnDefs walks the column definitions of a function that returns records.
func (w *walker) columnDefs(list []*pg.Node) {
	for _, n := range list {
		d := n.GetColumnDef()
		if d == nil || d.RawDefault != nil || len(d.Constraints) > 0 || d.CookedDefault != nil || len(d.Fdwoptions) > 0 {
			w.refuse("a column definition is not understood")
			return
		}
		w.typeName(d.TypeName)
	}
}

func (w *walker) tableFunc(t *pg.RangeTableFunc) {
	w.expr(t.Docexpr)
	w.expr(t.Rowexpr)
	for _, n := range t.Namespaces {
		r := n.GetResTarget()
		if r == nil {
			w.refuse("XMLTABLE is not understood")
			return
		}
		w.expr(r.Val)
	}
	for _, n := range t.Columns {
		c := n.GetRangeTableFuncCol()
		if c == nil {
			w.refuse("XMLTABLE is not understood")
			return
		}
		w.typeName(c.TypeName)
		w.expr(c.Colexpr)
		w.expr(c.Coldefexpr)
	}
	w.alias(t.Alias, nil)
}
