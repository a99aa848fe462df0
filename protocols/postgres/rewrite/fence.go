package rewrite

import (
	"maps"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// The planner tries conditions in the order that it likes: the client's may run
// on rows that a filter leaves out. One that can fail there, or do something,
// tells of them. What stands in a condition is therefore held against a short
// list of what can't; if anything else does, the filter gets a fence (OFFSET 0)
// through which the planner moves no condition.
//
// Conditions are WHERE, ON, USING and HAVING, and every expression of a query
// within another, since one outside may be moved into it. The outermost query's
// output, order and groups, and what UPDATE sets, are computed from rows that
// are there.

// conditions is what a statement's conditions are made of.
type conditions struct {
	behind  int             // in what is computed behind all conditions
	leaky   bool            // something may fail or act
	tested  map[string]bool // columns
	aliased map[string]bool // names that queries within give to their output
	read    []*catalog.Relation
	top     *pg.SelectStmt
	typed   bool // parameters have types that the client chose
	locks   bool // FOR UPDATE and the like
	whole   *pg.Node
	uses    map[int32]use
}

// behindConditions walks what is computed behind all conditions.
func (w *walker) behindConditions(walk func()) {
	w.cond.behind++
	walk()
	w.cond.behind--
}

// within begins a query within another, until the returned function is called.
func (w *walker) within() func() {
	was := w.cond.behind
	w.cond.behind = 0
	return func() { w.cond.behind = was }
}

// note looks at one node of an expression.
func (c *conditions) note(n *pg.Node) {
	if c.behind == 0 && !c.leaky {
		c.leaky = !c.harmless(n)
	}
}

func (c *conditions) harmless(n *pg.Node) bool {
	switch x := n.GetNode().(type) {
	case *pg.Node_AConst, *pg.Node_ParamRef, *pg.Node_SetToDefault, *pg.Node_SqlvalueFunction, *pg.Node_List,
		*pg.Node_BoolExpr, *pg.Node_NullTest, *pg.Node_BooleanTest, *pg.Node_RowExpr, *pg.Node_AArrayExpr:
		return true
	case *pg.Node_ColumnRef:
		names, ok := parts(x.ColumnRef.Fields)
		if ok {
			c.tested[names[len(names)-1]] = true
		}
		return ok
	case *pg.Node_AExpr:
		switch x.AExpr.Kind {
		case pg.A_Expr_Kind_AEXPR_OP, pg.A_Expr_Kind_AEXPR_OP_ANY, pg.A_Expr_Kind_AEXPR_OP_ALL, pg.A_Expr_Kind_AEXPR_IN,
			pg.A_Expr_Kind_AEXPR_DISTINCT, pg.A_Expr_Kind_AEXPR_NOT_DISTINCT:
			return comparing(x.AExpr.Name)
		case pg.A_Expr_Kind_AEXPR_BETWEEN, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN,
			pg.A_Expr_Kind_AEXPR_BETWEEN_SYM, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM:
			return true
		}
	case *pg.Node_SubLink:
		switch x.SubLink.SubLinkType {
		case pg.SubLinkType_EXISTS_SUBLINK:
			return true
		case pg.SubLinkType_ANY_SUBLINK, pg.SubLinkType_ALL_SUBLINK:
			return len(x.SubLink.OperName) == 0 || comparing(x.SubLink.OperName)
		}
	case *pg.Node_TypeCast:
		return c.constant(x.TypeCast.Arg) && plainType(x.TypeCast.TypeName)
	case *pg.Node_FuncCall:
		names, ok := parts(x.FuncCall.Funcname)
		return ok && len(x.FuncCall.Args) == 0 && names[len(names)-1] == "now"
	}
	return false
}

// constant reports what a cast is applied to once, while a statement is planned.
func (c *conditions) constant(n *pg.Node) bool {
	switch x := n.GetNode().(type) {
	case *pg.Node_AConst:
		return true
	case *pg.Node_ParamRef:
		return c.alike(x.ParamRef.Number) // the cast says what the parameter is
	case *pg.Node_AArrayExpr:
		for _, e := range x.AArrayExpr.Elements {
			if e.GetAConst() == nil {
				return false
			}
		}
		return true
	}
	return false
}

func comparing(op []*pg.Node) bool {
	names, ok := parts(op)
	if !ok {
		return false
	}
	switch names[len(names)-1] {
	case "=", "<>", "!=", "<", "<=", ">", ">=":
		return true
	}
	return false
}

// plainType reports a type by whose values nothing else is converted.
func plainType(t *pg.TypeName) bool {
	names, ok := parts(t.GetNames())
	return ok && (len(names) == 1 || names[0] == "pg_catalog") && comparesSafely(&catalog.Type{Schema: "pg_catalog", Name: names[len(names)-1]})
}

// fenced reports whether the statement's conditions may tell of rows that they
// are tried on.
func (w *walker) fenced() bool {
	c := &w.cond
	if c.leaky || w.renamed || w.joinsAll {
		return true
	}
	for name := range c.tested {
		known := false
		for _, r := range c.read {
			col := r.Column(name)
			if col == nil {
				continue
			}
			known = true
			if t := w.b.base(col.Type); t == nil || !comparesSafely(t) || w.guard(r).columns[name] != nil {
				return true // of a mask that is tried on rows nothing is known either
			}
			if col.Virtual || r.Kind == 'v' {
				return true // it may be computed where it is read, and fail there
			}
		}
		if !known || c.aliased[name] {
			return true
		}
	}
	return false
}

// filteredWrite is an UPDATE or a DELETE of a filtered relation.
type filteredWrite struct {
	guard *guard
	name  string    // that its columns are qualified by
	where **pg.Node // of the statement
	sets  []*pg.Node
}

// filterWrites puts filters into the conditions of writes. There is no fence
// there, so that the client's own must be harmless; and the outcome must be the
// same whatever other rows there are.
func (w *walker) filterWrites() {
	for _, x := range w.filteredWrites {
		r := x.guard.rel
		refuse := func(what string) {
			w.refuse("a write on %s.%s, of which rows are filtered, %s", r.Schema, r.Name, what)
		}
		if w.fenced() {
			refuse("may have comparisons of plain values only as its conditions")
			return
		}
		for _, n := range systemColumns {
			if w.names[n] {
				refuse("may not name system column " + n)
				return
			}
		}
		by := w.b.madeOf(r, slices.Collect(maps.Keys(x.guard.filter.types)))
		for _, n := range x.sets {
			col := n.GetResTarget().GetName()
			if slices.Contains(by, col) {
				refuse("may not set " + col + ", by which they are")
				return
			}
			if w.inUnique(r, col) {
				refuse("may not set " + col + ", which is in a unique index")
				return
			}
		}
		f := x.guard.filter.where(x.name)
		if own := *x.where; own.GetNode() != nil {
			f = &pg.Node{Node: &pg.Node_BoolExpr{BoolExpr: &pg.BoolExpr{Boolop: pg.BoolExprType_AND_EXPR, Args: andArgs(own, f)}}}
		}
		*x.where = f
		w.filteredBy(x.guard.filter)
		w.changed = true
	}
}

// andArgs are the arguments of own AND f, as the grammar has them.
func andArgs(own, f *pg.Node) []*pg.Node {
	if b := own.GetBoolExpr(); b != nil && b.Boolop == pg.BoolExprType_AND_EXPR {
		return append(append([]*pg.Node(nil), b.Args...), f)
	}
	return []*pg.Node{own, f}
}

// inUnique reports whether a column decides a unique index, of the relation or
// of one whose rows are its rows too.
func (w *walker) inUnique(r *catalog.Relation, col string) bool {
	for _, i := range r.Indexes {
		if !i.Unique {
			continue
		}
		cols := append(append(append([]string(nil), i.Columns...), w.b.columnsOf(i.Expressions)...), w.b.columnsOf(i.Predicate)...)
		if slices.Contains(w.b.madeOf(r, cols), col) {
			return true
		}
	}
	for _, oid := range r.Children {
		if ch := w.snap.ByOID[oid]; ch != nil && w.inUnique(ch, col) {
			return true
		}
	}
	return false
}

func (w *walker) filteredBy(f *rowFilter) {
	for _, n := range f.of {
		w.filtered[n] = true
	}
}
