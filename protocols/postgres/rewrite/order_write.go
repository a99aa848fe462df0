package rewrite

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// An UPDATE, a DELETE or a MERGE returns rows in the order in which it finds them, and an
// UPDATE leaves them so. What it writes can't be sorted; its conditions can be written
// so that no index whose order tells fits them. One that names one row is left alone.

// orderedWrite is an UPDATE, a DELETE or a MERGE of a relation with such indexes.
type orderedWrite struct {
	guard *guard
	where **pg.Node // of the statement
	name  string    // that the relation goes by
	alone bool      // the statement has no other
	all   bool      // it writes rows besides those for which that holds
}

// orderWrite notes a write whose conditions could find such an index.
func (w *walker) orderWrite(v *pg.RangeVar, where **pg.Node, alone, all bool) {
	if g, _ := w.guardOf(v); g != nil && len(g.columns) > 0 {
		name := v.Relname
		if v.Alias != nil {
			name = v.Alias.Aliasname
		}
		w.orderedWrites = append(w.orderedWrites, orderedWrite{g, where, name, alone, all})
	}
}

// hideFromIndexes puts CASE WHEN c IS NULL THEN c ELSE c END, which is c and fits no
// index, in the place of columns of conditions.
func (w *walker) hideFromIndexes() {
	for _, x := range w.orderedWrites {
		all := w.b.tellings(x.guard, w.guard)
		if len(all) == 0 || !x.all && x.pinned() {
			continue
		}
		hide := map[string]bool{}
		for _, t := range all {
			if w.b.secured(&t) {
				r := x.guard.rel
				w.refuse("row security of %s.%s could have rows of a write be found in the order of %s, which holds masked values", r.Schema, r.Name, t.index.Name)
				w.remedy = "name one row by its key"
				return
			}
			for _, c := range t.open {
				hide[c] = true
			}
			if t.unknown {
				for _, c := range x.guard.rel.Columns {
					hide[c.Name] = true
				}
			}
		}
		w.changed = hidden(*x.where, hide) || w.changed
	}
}

// hidden reports whether it changed anything.
func hidden(n *pg.Node, hide map[string]bool) bool {
	var found []*pg.Node
	eachPart(n, func(n *pg.Node) {
		if names, ok := parts(n.GetColumnRef().GetFields()); ok && hide[names[len(names)-1]] {
			found = append(found, n)
		}
	})
	for _, n := range found {
		col := &pg.Node{Node: n.Node}
		n.Node = &pg.Node_CaseExpr{CaseExpr: &pg.CaseExpr{
			Args: []*pg.Node{{Node: &pg.Node_CaseWhen{CaseWhen: &pg.CaseWhen{
				Expr:   &pg.Node{Node: &pg.Node_NullTest{NullTest: &pg.NullTest{Arg: col, Nulltesttype: pg.NullTestType_IS_NULL}}},
				Result: col,
			}}}},
			Defresult: col,
		}}
	}
	return len(found) > 0
}

// pinned reports whether the conditions can hold of one row at most: they have the
// columns of a unique key equal to values.
func (x *orderedWrite) pinned() bool {
	g := x.guard
	if len(g.bases) > 0 {
		return false // a key is of each child alone
	}
	fixed := map[string]bool{}
	for _, n := range conjuncts(*x.where, nil) {
		e := n.GetAExpr()
		if op, ok := parts(e.GetName()); !ok || e.Kind != pg.A_Expr_Kind_AEXPR_OP || op[len(op)-1] != "=" {
			continue
		}
		names, ok := parts(e.Lexpr.GetColumnRef().GetFields())
		if own := len(names) == 1 && x.alone || len(names) == 2 && names[0] == x.name; ok && own && (e.Rexpr.GetAConst() != nil || e.Rexpr.GetParamRef() != nil) {
			fixed[names[len(names)-1]] = true
		}
	}
	return slices.ContainsFunc(g.rel.Indexes, func(i *catalog.Index) bool {
		return i.Unique && i.Ordered && i.Expressions == "" && i.Predicate == "" && len(i.Columns) > 0 &&
			!slices.ContainsFunc(i.Columns, func(c string) bool { return !fixed[c] || g.stored(c) })
	})
}
