package rewrite

import (
	"context"
	"fmt"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// oracle refuses writes whose outcome is decided by a protected value: a
// unique index, a check, row security or a foreign key over a protected column
// together with what the statement chooses, or what is computed of the two and
// can fail. The rows are those of partitions and children too, and foreign keys
// go on to others.
func (w *walker) oracle(x written, whole bool) {
	w.tells(x, effect{
		// Columns that the statement sets, as far as names can tell.
		sets: func(col string) bool { return x.access == policy.Insert || whole || w.every || w.names[col] },
		// Columns that it gives values, for keys that lead to rows that are left out.
		gives: func(col string) bool { return x.access == policy.Insert || whole || w.assigned[col] },
	}, map[string]bool{})
}

// effect says which columns a write sets.
type effect struct{ sets, gives func(col string) bool }

// tells refuses what the outcome of a write on one relation could tell of, and goes
// on to all others whose rows it writes. seen is of relations, accesses and columns.
func (w *walker) tells(x written, e effect, seen map[string]bool) {
	r := x.rel
	key := fmt.Sprint(r.OID, x.access)
	for _, c := range r.Columns {
		key += fmt.Sprint(e.sets(c.Name), e.gives(c.Name))
	}
	if seen[key] {
		return
	}
	seen[key] = true
	refuse := func(what string) {
		w.refuse("the outcome of a write on %s.%s could tell of a protected value: %s", r.Schema, r.Name, what)
	}
	if x.access != policy.Delete {
		w.mixes(r, e.sets, refuse)
	}
	for _, f := range r.References { // does such a key exist there?
		cols := w.b.madeOf(r, f.Columns)
		if to := w.snap.ByOID[f.To]; to != nil && x.access != policy.Delete &&
			(w.anyProtected(to, f.Points) && slices.ContainsFunc(cols, e.sets) || w.filters(to) && slices.ContainsFunc(cols, e.gives)) {
			refuse("a foreign key points to it")
		}
	}
	for _, f := range r.Referenced { // does a row there hold this key?
		from := w.snap.ByOID[f.From]
		if from == nil {
			continue
		}
		points := w.b.madeOf(r, f.Points)
		updates := x.access == policy.Update && slices.ContainsFunc(points, e.sets)
		if w.anyProtected(from, f.Columns) && (x.access == policy.Delete || updates) ||
			w.filters(from) && (x.access == policy.Delete || slices.ContainsFunc(points, e.gives) && x.access == policy.Update) {
			refuse("a foreign key holds it")
		}
		key := func(col string) bool { return slices.Contains(f.Columns, col) }
		switch {
		case x.access == policy.Delete && f.Cascades:
			w.tells(written{from, policy.Delete}, effect{key, key}, seen)
		case x.access == policy.Delete && f.OnDelete, updates && f.OnUpdate:
			w.tells(written{from, policy.Update}, effect{key, key}, seen)
		}
	}
	if x.access == policy.Insert && r.Kind != 'p' {
		return // it has its new rows itself
	}
	for _, oid := range r.Children {
		if child := w.snap.ByOID[oid]; child != nil {
			w.tells(written{child, x.access}, e, seen)
		}
	}
}

// mixes refuses what is decided by a protected column of a row together with one
// that is set.
func (w *walker) mixes(r *catalog.Relation, sets func(col string) bool, refuse func(what string)) {
	prot := w.guard(r).columns
	if len(prot) == 0 {
		return
	}
	mixed := func(cols []string) bool {
		p, open := false, false
		for _, c := range w.b.madeOf(r, cols) {
			if prot[c] != nil {
				p = true
			} else if sets(c) {
				open = true
			}
		}
		return p && open
	}
	for _, i := range r.Indexes {
		made := append(w.b.columnsOf(i.Expressions), w.b.columnsOf(i.Predicate)...)
		switch {
		case i.Unique && mixed(append(slices.Clone(i.Columns), made...)):
			refuse("a unique index holds it")
		case mixed(w.b.columnsOf(i.Expressions)) && !w.b.total(r, i.Expressions), mixed(w.b.columnsOf(i.Predicate)) && !w.b.total(r, i.Predicate):
			refuse("an index computes with it, and can fail")
		}
	}
	for _, f := range r.References {
		if mixed(f.Columns) {
			refuse("a foreign key holds it with others")
		}
	}
	for _, c := range r.Columns {
		if c.Generated && mixed(w.b.columnsOf(c.Expr)) && (c.NotNull || !(keepsWhole(w.snap.TypeByOID[c.Type]) && w.b.total(r, c.Expr))) {
			refuse("a generated column computes with it, and can fail")
		}
	}
	for _, e := range r.Checks {
		if mixed(w.b.columnsOf(e)) {
			refuse("a check reads it")
		}
	}
	if !r.RowSecurity {
		return
	}
	for _, e := range r.Policies {
		if mixed(w.b.columnsOf(e)) {
			refuse("row security reads it")
		}
	}
}

// total reports that an expression of a relation's columns, as the catalog prints it,
// can't fail: it is made of comparisons of plain values and a few functions of texts.
func (b *binding) total(r *catalog.Relation, sql string) bool {
	n, err := b.a.expression(context.Background(), "ROW("+sql+")")
	if err != nil {
		return false
	}
	ok := true
	eachPart(n, func(n *pg.Node) {
		switch x := n.GetNode().(type) {
		case *pg.Node_RowExpr, *pg.Node_AConst, *pg.Node_BoolExpr, *pg.Node_NullTest, *pg.Node_BooleanTest, *pg.Node_CoalesceExpr,
			*pg.Node_CaseExpr, *pg.Node_CaseWhen, *pg.Node_String_, *pg.Node_List:
		case *pg.Node_ColumnRef:
			names, plain := parts(x.ColumnRef.Fields)
			ok = ok && plain && comparesSafely(typeOf(b, r, names[len(names)-1]))
		case *pg.Node_AExpr:
			op, plain := parts(x.AExpr.Name)
			ok = ok && plain && len(op) == 1 && x.AExpr.Kind == pg.A_Expr_Kind_AEXPR_OP && x.AExpr.Lexpr != nil && (comparing(x.AExpr.Name) || op[0] == "||")
		case *pg.Node_TypeCast: // of a constant, once; a text keeps its length
			ok = ok && (x.TypeCast.Arg.GetAConst() != nil || isText(x.TypeCast.TypeName))
		case *pg.Node_FuncCall:
			names, plain := parts(x.FuncCall.Funcname)
			ok = ok && plain && len(names) == 1 && textual[names[0]]
		default:
			ok = false
		}
	})
	return ok
}

// keepsWhole reports a type of generated columns in which nothing is too long or out of
// range: how a value becomes one of the column's type the catalog does not print.
func keepsWhole(t *catalog.Type) bool {
	return t != nil && t.Schema == "pg_catalog" && (t.Name == "text" || t.Name == "bool" || t.Name == "tsvector")
}

// textual are functions of texts that give a value for any.
var textual = map[string]bool{"lower": true, "upper": true, "md5": true, "length": true, "btrim": true, "ltrim": true, "rtrim": true, "to_tsvector": true, "setweight": true}

func typeOf(b *binding, r *catalog.Relation, col string) *catalog.Type {
	if c := r.Column(col); c != nil {
		if t := b.base(c.Type); t != nil {
			return t
		}
	}
	return &catalog.Type{}
}

func isText(t *pg.TypeName) bool {
	names, ok := parts(t.GetNames())
	return ok && names[len(names)-1] == "text" && len(t.Typmods) == 0 && len(t.ArrayBounds) == 0
}

// filters reports that rows of a relation may be there that are left out.
func (w *walker) filters(r *catalog.Relation) bool {
	return w.guard(r).filter != nil || w.b.hidden[r.OID] != ""
}

func (w *walker) anyProtected(r *catalog.Relation, cols []string) bool {
	g := w.guard(r)
	return slices.ContainsFunc(cols, func(c string) bool { return g.columns[c] != nil })
}

// madeOf adds to columns those that the generated ones among them are computed from.
func (b *binding) madeOf(r *catalog.Relation, cols []string) []string {
	out := slices.Clone(cols)
	for _, name := range cols {
		if c := r.Column(name); c != nil && c.Generated {
			out = append(out, b.columnsOf(c.Expr)...)
		}
	}
	return out
}

// columnsOf lists the columns of an expression that the catalog printed; of
// one that is not understood, a name that no column has.
func (b *binding) columnsOf(sql string) []string {
	if sql == "" {
		return nil
	}
	n, err := b.a.expression(context.Background(), "ROW("+sql+")")
	if err != nil {
		return nil // written refuses it already
	}
	var out []string
	eachColumn(n, func(names []string, star bool) {
		if !star {
			out = append(out, names[len(names)-1])
		}
	})
	return out
}
