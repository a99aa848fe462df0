package rewrite

import (
	"context"
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// Where nobody asks for an order, rows come in the one that they are read in. An
// index that holds a protected column would give them in the order of its stored
// values, behind whatever open columns come before it. The planner takes such an
// index
//
//   - because all that the statement needs of the relation is in it. That is
//     never so for a statement that reads tableoid: a condition that always holds
//     does, at no cost to any other plan.
//   - because a condition, a join or an order is on one of its other columns, or a
//     condition implies its predicate. A statement that does more with such a
//     column than to show it gets the rows in the order of the table: conditions
//     still find their indexes, joins no longer do.
//
// A view has no order of a table. Its rows are put in the order of all that is shown
// of them. So are those of a relation that is partitioned by a protected column:
// partitions are read one after the other.

// telling is an index whose order tells of protected columns.
type telling struct {
	index     *catalog.Index
	of        *catalog.Relation
	open      []string
	protected []string
	unknown   bool // it is not known what else is in it
}

// stored reports whether a column's stored value is not to be told.
func (g *guard) stored(col string) bool {
	p := g.columns[col]
	return p != nil && (p.derived || p.mask.Kind != policy.MaskReveal)
}

// tellings lists the indexes of a relation, and of those whose rows are its rows
// too, whose order tells.
func (b *binding) tellings(g *guard, guardOf func(*catalog.Relation) *guard) (out []telling) {
	for _, r := range append([]*catalog.Relation{g.rel}, g.bases...) {
		if r.System() {
			continue
		}
		of := g
		if r != g.rel {
			of = guardOf(r)
		}
		for _, i := range r.Indexes {
			if t := b.tells(i, of); i.Ordered && t != nil {
				out = append(out, *t)
			}
		}
	}
	return out
}

// tells returns what an index tells of; nil: nothing.
func (b *binding) tells(i *catalog.Index, g *guard) *telling {
	if len(g.columns) == 0 {
		return nil
	}
	t := telling{index: i, of: g.rel}
	cols := slices.Clone(i.Columns)
	for _, e := range []string{i.Expressions, i.Predicate} {
		more := b.columnsOf(e)
		t.unknown = t.unknown || e != "" && len(more) == 0
		cols = append(cols, more...)
	}
	for _, c := range cols {
		if g.stored(c) {
			t.protected = append(t.protected, c)
		} else {
			t.open = append(t.open, c)
		}
	}
	if len(t.protected) == 0 && !t.unknown {
		return nil
	}
	return &t
}

// byProtected reports whether a relation is partitioned by a protected column.
func (b *binding) byProtected(g *guard) bool {
	p := g.rel.Partitioned
	if p == nil || len(g.columns) == 0 {
		return false
	}
	cols := append(slices.Clone(p.Columns), b.columnsOf(p.Expressions)...)
	return slices.ContainsFunc(cols, g.stored) || p.Expressions != "" && len(cols) == len(p.Columns)
}

// readInOrder reports whether a view's rows could come in the order of an index that
// tells, as its conditions or those on it have it. What it orders itself is its owner's.
func (b *binding) readInOrder(g *guard) bool {
	if strings.Contains(strings.ToUpper(g.rel.Definition), "ORDER BY") {
		return false
	}
	return slices.ContainsFunc(b.tellings(g, b.guardLocked), func(t telling) bool { return t.unknown || len(t.open) > 0 })
}

// partitions hides those of a relation that is partitioned by a protected column:
// which rows are in one tells of their values.
func (b *binding) partitions() {
	var hide func(of, r *catalog.Relation)
	hide = func(of, r *catalog.Relation) {
		for _, oid := range r.Children {
			if g := b.guards[oid]; g != nil && g.opaque == "" {
				g.opaque = fmt.Sprintf("%s.%s is a partition by a masked column of %s.%s: name that one", g.rel.Schema, g.rel.Name, of.Schema, of.Name)
				hide(of, g.rel)
			}
		}
	}
	for _, g := range b.guards {
		if b.byProtected(g) {
			hide(g.rel, g.rel)
		}
	}
}

// usage is what a statement does with columns besides showing them.
type usage struct {
	all    bool // or may do
	listed map[string]int
	bare   map[string]int
}

// used looks at the whole statement. What stands in the list of the outermost
// SELECT is shown; what stands anywhere else, or may mean something else, is used.
func (w *walker) used() *usage {
	u := &usage{listed: map[string]int{}, bare: map[string]int{}}
	stars := 0
	if s := w.cond.top; s != nil && shows(s) {
		for _, n := range s.TargetList {
			t := n.GetResTarget()
			if isStar(n) {
				stars++
				continue
			}
			if names, ok := parts(t.GetVal().GetColumnRef().GetFields()); ok && (t.Name == "" || t.Name == names[len(names)-1]) {
				u.listed[names[len(names)-1]]++
			}
		}
	}
	for _, n := range w.bare {
		u.bare[n]++
		u.all = u.all || len(w.items[n]) > 0 // a whole row
	}
	u.all = u.all || w.renamed || w.joinsAll || w.selects || w.stars > stars
	return u
}

// uses reports whether a statement does more with a column of a relation than to
// show it.
func (w *walker) uses(u *usage, s *substitution, col string) bool {
	if u.all || u.bare[col] > u.listed[col] || w.joins[col] {
		return true
	}
	f := s.guard.filter
	return f != nil && f.reads(col)
}

// secured reports whether row security has a condition on a column: the server adds
// it to the statement's own.
func (b *binding) secured(t *telling) bool {
	for _, e := range t.of.Policies {
		cols := b.columnsOf(e)
		if len(cols) == 0 || slices.ContainsFunc(cols, func(c string) bool { return slices.Contains(t.open, c) }) {
			return true
		}
	}
	return false
}

// looksUp reports whether stored values of a column are compared.
func (w *walker) looksUp(s *substitution, col string) bool {
	found := false
	for _, c := range w.lifted[s.node] {
		eachColumn(c, func(names []string, star bool) { found = found || star || names[len(names)-1] == col })
	}
	return found
}

// unordered has the rows that take a relation's place come in an order that tells of
// nothing protected.
func (w *walker) unordered(s *substitution, inner *pg.SelectStmt) {
	g := s.guard
	if g.rel.System() {
		return
	}
	if g.sorted || w.b.byProtected(g) {
		w.byShown(s, inner)
		return
	}
	all := w.b.tellings(g, w.guard)
	if len(all) == 0 || g.rel.Kind == 'v' {
		return
	}
	u := w.used()
	for _, t := range all {
		matched := func(col string) bool { return w.looksUp(s, col) }
		if t.unknown || w.b.secured(&t) || slices.ContainsFunc(t.open, func(col string) bool { return w.uses(u, s, col) }) ||
			slices.ContainsFunc(t.protected, matched) && !(len(t.protected) == 1) {
			if len(g.bases) > 0 {
				inner.SortClause = append(inner.SortClause, sortBy(colRef("tableoid")))
			}
			inner.SortClause = append(inner.SortClause, sortBy(colRef("ctid")))
			return
		}
	}
	always := &pg.Node{Node: &pg.Node_BooleanTest{BooleanTest: &pg.BooleanTest{
		Arg:          &pg.Node{Node: &pg.Node_NullTest{NullTest: &pg.NullTest{Arg: colRef("tableoid"), Nulltesttype: pg.NullTestType_IS_NULL}}},
		Booltesttype: pg.BoolTestType_IS_NOT_TRUE,
	}}}
	if own := inner.WhereClause; own.GetNode() != nil {
		always = &pg.Node{Node: &pg.Node_BoolExpr{BoolExpr: &pg.BoolExpr{Boolop: pg.BoolExprType_AND_EXPR, Args: andArgs(own, always)}}}
	}
	inner.WhereClause = always
}

// byShown puts rows in the order of what is shown of them, so that those which it
// leaves side by side look the same. A column that is masked on output is not looked
// at: it is there as it is stored.
func (w *walker) byShown(s *substitution, inner *pg.SelectStmt) {
	for _, n := range inner.TargetList {
		t := n.GetResTarget()
		name := t.Name
		if name == "" {
			name = t.Val.GetColumnRef().Fields[0].GetString_().GetSval()
		}
		if s.plain[name] {
			continue
		}
		by := t.Val
		if c := s.guard.rel.Column(name); c == nil || !comparesSafely(w.baseOf(c)) {
			by = &pg.Node{Node: &pg.Node_TypeCast{TypeCast: &pg.TypeCast{Arg: by, TypeName: &pg.TypeName{Names: strs("pg_catalog", "text"), Typemod: -1}}}}
		}
		if by.GetAConst() == nil {
			inner.SortClause = append(inner.SortClause, sortBy(by))
		}
	}
}

func (w *walker) baseOf(c *catalog.Column) *catalog.Type {
	if t := w.b.base(c.Type); t != nil {
		return t
	}
	return &catalog.Type{}
}

func sortBy(n *pg.Node) *pg.Node {
	return &pg.Node{Node: &pg.Node_SortBy{SortBy: &pg.SortBy{
		Node: n, SortbyDir: pg.SortByDir_SORTBY_DEFAULT, SortbyNulls: pg.SortByNulls_SORTBY_NULLS_DEFAULT,
	}}}
}

// Telling is something by which the order of rows may tell of masked values.
type Telling struct {
	Relation, Index string // schema.name; the index is "" of partitions
	Masked          []string
	Open            []string // besides: statements that use them are put in order
	Clustered       bool
}

// Tellings lists those of a scope.
func (a *Analyzer) Tellings(sc *policy.Scope) ([]Telling, error) {
	b, err := a.binding(context.Background(), sc)
	if err != nil {
		return nil, err
	}
	var out []Telling
	for _, r := range b.snap.ByOID {
		if r.System() || r.Kind != 'r' && r.Kind != 'p' && r.Kind != 'm' {
			continue
		}
		g, name := b.guard(r), r.Schema+"."+r.Name
		for _, i := range r.Indexes {
			if t := b.tells(i, g); t != nil && i.Ordered {
				out = append(out, Telling{Relation: name, Index: i.Name, Masked: t.protected, Open: t.open, Clustered: i.Clustered})
			}
		}
		if b.byProtected(g) {
			out = append(out, Telling{Relation: name, Masked: slices.DeleteFunc(slices.Clone(r.Partitioned.Columns), func(c string) bool { return !g.stored(c) })})
		}
	}
	slices.SortFunc(out, func(x, y Telling) int { return strings.Compare(x.Relation+" "+x.Index, y.Relation+" "+y.Index) })
	return out, nil
}
