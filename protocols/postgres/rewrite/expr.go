package rewrite

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// kindOf names a node's type.
func kindOf(n *pg.Node) string {
	if n.GetNode() == nil {
		return "an empty node"
	}
	return strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(typeString(n.GetNode()), "*pg_query."), "Node_"), "A_")
}

func (w *walker) exprs(list []*pg.Node) {
	for _, n := range list {
		w.expr(n)
	}
}

// expr walks an expression. Whatever has no case here refuses.
func (w *walker) expr(n *pg.Node) {
	if n.GetNode() == nil {
		return
	}
	defer w.leave()
	if !w.enter() {
		return
	}
	w.cond.note(n)
	switch x := n.GetNode().(type) {
	case *pg.Node_AConst, *pg.Node_ParamRef, *pg.Node_SetToDefault, *pg.Node_SqlvalueFunction:
	case *pg.Node_ColumnRef:
		w.columnRef(x.ColumnRef)
	case *pg.Node_List:
		w.exprs(x.List.Items)
	case *pg.Node_AExpr:
		w.aExpr(x.AExpr)
	case *pg.Node_BoolExpr:
		w.exprs(x.BoolExpr.Args)
	case *pg.Node_FuncCall:
		w.funcCall(n, x.FuncCall)
	case *pg.Node_TypeCast:
		w.expr(x.TypeCast.Arg)
		w.typeName(x.TypeCast.TypeName)
	case *pg.Node_CollateClause:
		w.expr(x.CollateClause.Arg)
	case *pg.Node_NullTest:
		w.expr(x.NullTest.Arg)
	case *pg.Node_BooleanTest:
		w.expr(x.BooleanTest.Arg)
	case *pg.Node_CaseExpr:
		if x.CaseExpr.Arg != nil {
			w.overloaded("=")
		}
		w.expr(x.CaseExpr.Arg)
		w.exprs(x.CaseExpr.Args)
		w.expr(x.CaseExpr.Defresult)
	case *pg.Node_CaseWhen:
		w.expr(x.CaseWhen.Expr)
		w.expr(x.CaseWhen.Result)
	case *pg.Node_CoalesceExpr:
		w.exprs(x.CoalesceExpr.Args)
	case *pg.Node_MinMaxExpr:
		w.exprs(x.MinMaxExpr.Args)
	case *pg.Node_RowExpr:
		w.exprs(x.RowExpr.Args)
	case *pg.Node_AArrayExpr:
		w.exprs(x.AArrayExpr.Elements)
	case *pg.Node_AIndirection:
		w.expr(x.AIndirection.Arg)
		w.indirection(x.AIndirection.Indirection)
	case *pg.Node_SubLink:
		w.subLink(x.SubLink)
	case *pg.Node_NamedArgExpr:
		w.expr(x.NamedArgExpr.Arg)
	case *pg.Node_GroupingFunc:
		w.exprs(x.GroupingFunc.Args)
	case *pg.Node_GroupingSet:
		w.exprs(x.GroupingSet.Content)
	case *pg.Node_SortBy:
		if len(x.SortBy.UseOp) > 0 {
			w.operator(x.SortBy.UseOp)
		}
		w.expr(x.SortBy.Node)
	case *pg.Node_MergeSupportFunc:
		if w.major() < 17 { // no keyword there: any on the path
			w.function([]string{"merge_action"})
		}
	case *pg.Node_XmlExpr:
		w.xml(x.XmlExpr)
	case *pg.Node_XmlSerialize:
		w.expr(x.XmlSerialize.Expr)
		w.typeName(x.XmlSerialize.TypeName)
	default:
		w.refuse("%s is not understood", kindOf(n))
	}
}

// columnRef notes the names of a reference; what they mean is decided when
// all FROM items are known.
func (w *walker) columnRef(c *pg.ColumnRef) {
	fields := c.Fields
	if len(fields) == 0 || len(fields) > 3 {
		w.refuse("a column reference is not understood")
		return
	}
	last := fields[len(fields)-1]
	star := last.GetAStar() != nil
	if star {
		w.every, w.stars = true, w.stars+1
		fields = fields[:len(fields)-1]
	}
	if len(fields) == 0 {
		return
	}
	names, ok := parts(fields)
	if !ok {
		w.refuse("a column reference is not understood")
		return
	}
	name := names[len(names)-1]
	if star {
		w.refs = append(w.refs, reference{node: c, qualifier: name, name: "*"})
		return
	}
	if _, ok := w.backs[c]; ok { // its mask is
		w.bare = append(w.bare, name)
		return
	}
	w.names[name] = true
	w.bare = append(w.bare, name)
	if len(names) > 1 {
		w.refs = append(w.refs, reference{node: c, qualifier: names[len(names)-2], name: name})
	}
}

// indirection walks subscripts and field selections.
func (w *walker) indirection(list []*pg.Node) {
	for _, n := range list {
		switch x := n.GetNode().(type) {
		case *pg.Node_AStar:
			w.every, w.selects = true, true
		case *pg.Node_AIndices:
			w.expr(x.AIndices.Lidx)
			w.expr(x.AIndices.Uidx)
		case *pg.Node_String_:
			w.field(x.String_.GetSval())
		default:
			w.refuse("%s is not understood in a field selection", kindOf(n))
		}
	}
}

// field is a name after a dot that may be a column, or a function that is
// called with what stands before the dot.
func (w *walker) field(name string) {
	w.every, w.selects = true, true
	w.names[name] = true
	if w.snap.Builtin[name] || len(w.snap.Functions[name]) > 0 {
		w.function([]string{name})
	}
}

func (w *walker) aExpr(e *pg.A_Expr) {
	switch e.Kind {
	case pg.A_Expr_Kind_AEXPR_OP, pg.A_Expr_Kind_AEXPR_OP_ANY, pg.A_Expr_Kind_AEXPR_OP_ALL,
		pg.A_Expr_Kind_AEXPR_DISTINCT, pg.A_Expr_Kind_AEXPR_NOT_DISTINCT, pg.A_Expr_Kind_AEXPR_NULLIF,
		pg.A_Expr_Kind_AEXPR_IN, pg.A_Expr_Kind_AEXPR_LIKE, pg.A_Expr_Kind_AEXPR_ILIKE, pg.A_Expr_Kind_AEXPR_SIMILAR:
		w.operator(e.Name)
	case pg.A_Expr_Kind_AEXPR_BETWEEN, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN,
		pg.A_Expr_Kind_AEXPR_BETWEEN_SYM, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM:
		for _, op := range []string{"<", "<=", ">", ">="} {
			w.overloaded(op)
		}
	default:
		w.refuse("the expression %s is not understood", e.Kind)
	}
	start := len(w.bare)
	w.expr(e.Lexpr)
	middle := len(w.bare)
	w.expr(e.Rexpr)
	w.compared(start, middle)
}

// compared notes the columns of a comparison of columns with columns: over a
// constant it would be a cross product.
func (w *walker) compared(start, middle int) {
	if start == middle || middle == len(w.bare) {
		return
	}
	for _, n := range w.bare[start:] {
		w.joins[n] = true
	}
}

func (w *walker) subLink(s *pg.SubLink) {
	start := len(w.bare)
	w.expr(s.Testexpr)
	if len(s.OperName) > 0 {
		w.operator(s.OperName)
	} else if s.Testexpr != nil {
		w.overloaded("=")
	}
	middle := len(w.bare)
	w.query(s.Subselect)
	w.compared(start, middle)
}

func (w *walker) funcCall(n *pg.Node, f *pg.FuncCall) {
	names, ok := parts(f.Funcname)
	if !ok {
		w.refuse("a function's name is not understood")
		return
	}
	if w.settingCall(names, f) {
		return
	}
	w.callsAggregate(f, names)
	w.calledAt = f.Location
	replace := w.function(names)
	w.calledAt = -1
	if replace {
		// A definition that may hold constants: nothing of it is shown. The
		// arguments are names and numbers of catalogs, and still walked.
		w.exprs(f.Args)
		n.Node = typedNull("text").Node
		w.changed = true
		return
	}
	w.exprs(f.Args)
	w.exprs(f.AggOrder)
	w.expr(f.AggFilter)
	if f.Over != nil {
		w.window(f.Over)
	}
}

func (w *walker) window(d *pg.WindowDef) {
	if d == nil {
		w.refuse("a window is not understood")
		return
	}
	w.exprs(d.PartitionClause)
	w.exprs(d.OrderClause)
	w.expr(d.StartOffset)
	w.expr(d.EndOffset)
}

func (w *walker) xml(x *pg.XmlExpr) {
	for _, n := range x.NamedArgs {
		t := n.GetResTarget()
		if t == nil {
			w.refuse("an XML expression is not understood")
			return
		}
		w.expr(t.Val)
	}
	w.exprs(x.Args)
}
