package rewrite

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// A masked column that may be matched is compared by its stored value in one
// place: a condition that must hold of every row of the result, of the outermost
// SELECT, by which the column is one of given values. Such conditions are lifted
// out of the statement before anything else of it is looked at, and put beside
// the stored rows; all that is left of it sees masks, as ever. Each value is a
// look-up, and whoever asked for the analysis counts them.

// place is something in the FROM clause of the outermost SELECT.
type place struct {
	name, schema string   // that it goes by
	node         *pg.Node // to be replaced
	guard        *guard   // nil: its columns are not known
	inner        bool     // what holds of its rows holds of the result's
}

// match lifts conditions on stored values out of the outermost SELECT.
func (w *walker) match(s *pg.SelectStmt) {
	if w.in == nil || s.Larg != nil || len(s.FromClause) == 0 || !w.matches() {
		return
	}
	var ctes []string
	for _, n := range s.WithClause.GetCtes() {
		ctes = append(ctes, n.GetCommonTableExpr().GetCtename())
	}
	var all []place
	for _, n := range s.FromClause {
		all = w.places(n, true, ctes, all)
	}
	lift := func(cond *pg.Node) *pg.Node {
		parts := conjuncts(cond, nil)
		var kept []*pg.Node
		for _, c := range parts {
			if !w.lift(c, all) {
				kept = append(kept, c)
			}
		}
		switch {
		case len(kept) == len(parts):
			return cond
		case len(kept) == 0:
			return nil
		}
		return joined(pg.BoolExprType_AND_EXPR, kept)
	}
	s.WhereClause = lift(s.WhereClause)
	for _, n := range s.FromClause {
		innerJoins(n, func(j *pg.JoinExpr) {
			if j.Quals == nil {
				return // USING, or NATURAL
			}
			if j.Quals = lift(j.Quals); j.Quals == nil {
				j.Quals = boolean(true)
			}
		})
	}
}

// matches reports whether anything may be matched at all.
func (w *walker) matches() bool {
	for _, cols := range w.scope.Masks {
		for _, m := range cols {
			if m.Match {
				return true
			}
		}
	}
	return false
}

// places lists what a FROM item brings.
func (w *walker) places(n *pg.Node, inner bool, ctes []string, all []place) []place {
	switch x := n.GetNode().(type) {
	case *pg.Node_JoinExpr:
		j := x.JoinExpr
		left, right := inner, inner
		switch j.Jointype {
		case pg.JoinType_JOIN_INNER:
		case pg.JoinType_JOIN_LEFT:
			right = false
		case pg.JoinType_JOIN_RIGHT:
			left = false
		default:
			left, right = false, false
		}
		if j.Alias != nil { // behind which the names of the others are hidden
			all = append(all, place{name: j.Alias.Aliasname})
			left, right = false, false
		}
		return w.places(j.Rarg, right, ctes, w.places(j.Larg, left, ctes, all))
	case *pg.Node_RangeVar:
		v := x.RangeVar
		p := place{name: v.Relname, node: n, inner: inner}
		if v.Alias != nil {
			p.name = v.Alias.Aliasname
		}
		if len(v.GetAlias().GetColnames()) > 0 || v.Schemaname == "" && slices.Contains(ctes, v.Relname) || w.snap.ByName[v.Relname] == nil {
			return append(all, p)
		}
		if g, rels := w.guardOf(v); len(rels) == 1 {
			p.guard = g
			if v.Alias == nil && g != nil {
				p.schema = g.rel.Schema
			}
		}
		return append(all, p)
	case *pg.Node_RangeSubselect:
		return append(all, place{name: x.RangeSubselect.Alias.GetAliasname()})
	case *pg.Node_RangeFunction:
		return append(all, place{name: x.RangeFunction.Alias.GetAliasname()})
	}
	return append(all, place{})
}

// innerJoins calls f for the joins whose conditions must hold of every row of the
// result.
func innerJoins(n *pg.Node, f func(*pg.JoinExpr)) {
	if j := n.GetJoinExpr(); j != nil && j.Jointype == pg.JoinType_JOIN_INNER && j.Alias == nil {
		innerJoins(j.Larg, f)
		innerJoins(j.Rarg, f)
		f(j)
	}
}

// conjuncts takes a condition apart.
func conjuncts(n *pg.Node, out []*pg.Node) []*pg.Node {
	b := n.GetBoolExpr()
	switch {
	case n.GetNode() == nil:
		return out
	case b == nil || b.Boolop != pg.BoolExprType_AND_EXPR:
		return append(out, n)
	}
	for _, a := range b.Args {
		out = conjuncts(a, out)
	}
	return out
}

// lift takes a condition over, where it is one that may go to the stored value.
func (w *walker) lift(cond *pg.Node, all []place) bool {
	e := cond.GetAExpr()
	if e == nil {
		return false
	}
	op, ok := parts(e.Name)
	if !ok || op[len(op)-1] != "=" || len(op) > 2 || len(op) == 2 && op[0] != "pg_catalog" {
		return false
	}
	col, values := e.Lexpr, []*pg.Node{e.Rexpr}
	switch e.Kind {
	case pg.A_Expr_Kind_AEXPR_OP:
		if col.GetColumnRef() == nil {
			col, values[0] = e.Rexpr, e.Lexpr
		}
	case pg.A_Expr_Kind_AEXPR_IN:
		values = e.Rexpr.GetList().GetItems()
	default:
		return false
	}
	names, ok := parts(col.GetColumnRef().GetFields())
	if !ok || len(values) == 0 {
		return false
	}
	p := placeOf(names, all)
	if p == nil || !p.inner || p.guard.opaque != "" {
		return false
	}
	name := names[len(names)-1]
	fields, ok := w.matchable(p.guard.rel, name)
	if !ok || p.guard.rel.System() {
		return false
	}
	t := w.b.base(p.guard.rel.Column(name).Type)
	given := make([]*pg.Node, len(values))
	for i, v := range values {
		if given[i] = w.given(v, t); given[i] == nil {
			return false
		}
	}
	stored := &pg.A_Expr{Kind: pg.A_Expr_Kind_AEXPR_OP, Name: strs("pg_catalog", "="), Lexpr: colRef(name), Rexpr: given[0]}
	if len(given) > 1 {
		stored.Kind = pg.A_Expr_Kind_AEXPR_OP_ANY
		stored.Rexpr = &pg.Node{Node: &pg.Node_AArrayExpr{AArrayExpr: &pg.A_ArrayExpr{Elements: given}}}
	}
	// What was written is looked at as everywhere.
	w.operator(e.Name)
	w.behindConditions(func() { w.exprs(values) })
	if w.lifted == nil {
		w.lifted = map[*pg.Node][]*pg.Node{}
	}
	w.lifted[p.node] = append(w.lifted[p.node], &pg.Node{Node: &pg.Node_AExpr{AExpr: stored}})
	w.looked(fields, int64(len(values)))
	w.sanitize = true
	return true
}

// matchable returns the fields whose stored values are compared where a column of
// a relation is: those of its children and partitions too, each of which may have
// a mask of its own. false: one of these may not be matched.
func (w *walker) matchable(r *catalog.Relation, name string) (fields []events.Field, ok bool) {
	prot := w.guard(r).columns[name]
	if c := r.Column(name); prot == nil || prot.derived || !prot.mask.Match || c == nil || c.Loose {
		return nil, false
	}
	fields = slices.Clone(prot.fields)
	for _, oid := range r.Children {
		child := w.snap.ByOID[oid]
		if child == nil {
			return nil, false
		}
		more, ok := w.matchable(child, name)
		if !ok {
			return nil, false
		}
		fields = append(fields, more...)
	}
	return fields, true
}

// placeOf returns what a column must be of, nil where that can't be told.
func placeOf(names []string, all []place) *place {
	var found *place
	n := 0
	for i := range all {
		p := &all[i]
		col := names[len(names)-1]
		switch len(names) {
		case 1:
			if p.guard == nil {
				return nil // it may have any
			}
			if p.guard.rel.Column(col) == nil {
				continue
			}
		case 2, 3:
			if p.name != names[len(names)-2] {
				continue
			}
			if p.guard == nil || p.guard.rel.Column(col) == nil || len(names) == 3 && p.schema != names[0] {
				return nil
			}
		default:
			return nil
		}
		found = p
		n++
	}
	if n != 1 {
		return nil
	}
	return found
}

// Classes of types whose values are compared with each other without a
// conversion that can fail, or that makes two values one.
var matchClasses = map[string]string{
	"text": "text", "varchar": "text", "bpchar": "text",
	"int2": "number", "int4": "number", "int8": "number", "numeric": "number",
	"uuid": "uuid", "date": "date", "timestamp": "timestamp", "timestamptz": "timestamptz",
}

func matchClass(t *catalog.Type) string {
	if t == nil || t.Schema != "pg_catalog" {
		return ""
	}
	return matchClasses[t.Name]
}

// given returns what a stored value of type t is compared with; nil where v is no
// given value of such a type. What has no type of its own gets the column's, as it
// would from the server.
func (w *walker) given(v *pg.Node, t *catalog.Type) *pg.Node {
	class := matchClass(t)
	if class == "" {
		return nil
	}
	typed := func() *pg.Node {
		to := t.Name
		if to == "varchar" {
			to = "text" // by which varchar is compared
		}
		return &pg.Node{Node: &pg.Node_TypeCast{TypeCast: &pg.TypeCast{Arg: v, TypeName: &pg.TypeName{Names: strs("pg_catalog", to), Typemod: -1}}}}
	}
	switch x := v.GetNode().(type) {
	case *pg.Node_AConst:
		switch x.AConst.Val.(type) {
		case *pg.A_Const_Sval:
			return typed()
		case *pg.A_Const_Ival, *pg.A_Const_Fval:
			if class == "number" {
				return v
			}
		}
	case *pg.Node_ParamRef:
		own, known := w.paramClass(x.ParamRef.Number)
		switch {
		case !known && w.cond.once(x.ParamRef.Number): // else it has the type of another place
			return typed()
		case known && own == class:
			return v
		}
	case *pg.Node_TypeCast:
		c := x.TypeCast
		if class != w.classOf(c.TypeName) {
			return nil
		}
		if p := c.Arg.GetParamRef(); p != nil {
			if _, known := w.paramClass(p.Number); !known && w.cond.alike(p.Number) { // else it converts, row by row
				return v
			}
		} else if c.Arg.GetAConst() != nil {
			return v
		}
	}
	return nil
}

// paramClass is the class of a parameter's type; known is false where it has none
// of its own.
func (w *walker) paramClass(n int32) (class string, known bool) {
	i := int(n) - 1
	switch {
	case i < 0:
		return "", true
	case i < len(w.params):
		return w.classOf(w.params[i]), true
	case i < len(w.in.ParamTypes) && w.in.ParamTypes[i] != 0:
		return matchClass(w.snap.TypeByOID[w.in.ParamTypes[i]]), true
	}
	return "", false
}

func (w *walker) classOf(t *pg.TypeName) string {
	names, ok := parts(t.GetNames())
	if !ok || len(names) > 2 || len(names) == 2 && names[0] != "pg_catalog" || len(t.ArrayBounds) > 0 || t.Setof {
		return ""
	}
	name := names[len(names)-1]
	for _, t := range w.snap.Types[name] {
		if len(names) == 1 && t.Schema != "pg_catalog" {
			return "" // which one is meant is the server's to say
		}
	}
	return matchClasses[name]
}

// looked notes that fields are compared by their stored values.
func (w *walker) looked(fields []events.Field, n int64) {
	w.lookups += n
	for _, f := range fields {
		if w.matched == nil {
			w.matched = map[events.Field]bool{}
		}
		w.matched[f], w.masked[f] = true, true
	}
}

// lookUp puts what was lifted for a relation beside its stored rows.
func (w *walker) lookUp(s *substitution, inner *pg.SelectStmt) {
	for _, c := range w.lifted[s.node] {
		if own := inner.WhereClause; own.GetNode() != nil {
			c = &pg.Node{Node: &pg.Node_BoolExpr{BoolExpr: &pg.BoolExpr{Boolop: pg.BoolExprType_AND_EXPR, Args: andArgs(own, c)}}}
		}
		inner.WhereClause = c
	}
	delete(w.lifted, s.node)
}

// allLifted refuses a statement that has lost a condition.
func (w *walker) allLifted() {
	if len(w.lifted) > 0 {
		w.refuse("a condition on a masked column is not understood")
	}
}

func boolean(b bool) *pg.Node {
	return &pg.Node{Node: &pg.Node_AConst{AConst: &pg.A_Const{Val: &pg.A_Const_Boolval{Boolval: &pg.Boolean{Boolval: b}}}}}
}
