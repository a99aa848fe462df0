package rewrite

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sort"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// rowFilter is what must hold of a relation's rows.
type rowFilter struct {
	of    []policy.Relation  // as the policy names them
	rows  []policy.Predicate // all of them
	types map[string]*catalog.Type
}

func (f *rowFilter) reads(col string) bool { return f.types[col] != nil }

// filterRows works out which relations' rows are filtered. A relation whose rows
// include a filtered one's, and a filter that can't be told, make opaque.
func (b *binding) filterRows() {
	own := map[uint32][]policy.Relation{}
	for name, filters := range b.scope.Filters {
		now := b.a.pinned(b.snap, name)
		b.refuseParted(name, now, func(n policy.Relation) bool { return b.scope.Filters[n] != nil }, b.hide)
		for _, r := range now {
			if r.Schema != name.Schema || r.Name != name.Name {
				b.hide(r, fmt.Sprintf("relation %s.%s was renamed: the policy filters it as %s.%s", r.Schema, r.Name, name.Schema, name.Name))
			}
			if r.System() {
				b.hide(r, fmt.Sprintf("%s.%s can't be filtered", r.Schema, r.Name))
			}
			for _, f := range filters {
				if f.Unknown != "" {
					b.hide(r, f.Unknown)
				}
			}
			b.inherit(r, name, own, map[uint32]bool{})
		}
	}
	for oid, names := range own {
		r := b.snap.ByOID[oid]
		sort.Slice(names, func(i, j int) bool { return names[i].Schema+"."+names[i].Name < names[j].Schema+"."+names[j].Name })
		f := &rowFilter{of: names, types: map[string]*catalog.Type{}}
		for _, n := range names {
			for _, x := range b.scope.Filters[n] {
				f.rows = append(f.rows, x.Rows)
				x.Rows.Columns(func(col string) { b.filterColumn(f, r, n, col) })
			}
		}
		for i := range f.rows {
			if err := f.checkValues(&f.rows[i]); err != nil {
				b.hide(r, fmt.Sprintf("the rows of %s.%s can't be told: %v", r.Schema, r.Name, err))
			}
		}
		b.filters[oid] = f
	}
	for oid, names := range own {
		b.above(b.snap.ByOID[oid], names, own, map[uint32]bool{})
	}
}

// inherit gives a filter to a relation and all whose rows are its rows too.
func (b *binding) inherit(r *catalog.Relation, name policy.Relation, own map[uint32][]policy.Relation, seen map[uint32]bool) {
	if r == nil || seen[r.OID] {
		return
	}
	seen[r.OID] = true
	if !slices.Contains(own[r.OID], name) {
		own[r.OID] = append(own[r.OID], name)
	}
	for _, oid := range r.Children {
		b.inherit(b.snap.ByOID[oid], name, own, seen)
	}
}

// above hides the relations through which rows would be read unfiltered.
func (b *binding) above(r *catalog.Relation, names []policy.Relation, own map[uint32][]policy.Relation, seen map[uint32]bool) {
	for _, oid := range r.Parents {
		p := b.snap.ByOID[oid]
		if p == nil || seen[oid] {
			continue
		}
		seen[oid] = true
		for _, n := range names {
			if !slices.Contains(own[oid], n) {
				b.hide(p, fmt.Sprintf("%s.%s shows rows of %s.%s, which are filtered", p.Schema, p.Name, n.Schema, n.Name))
			}
		}
		b.above(p, names, own, seen)
	}
}

func (b *binding) hide(r *catalog.Relation, why string) {
	if b.hidden[r.OID] == "" {
		b.hidden[r.OID] = why
	}
}

// filterColumn finds a column that a filter reads.
func (b *binding) filterColumn(f *rowFilter, r *catalog.Relation, name policy.Relation, col string) {
	field := events.Field{Schema: name.Schema, Relation: name.Name, Column: col}
	c := r.Column(col)
	if own := r.Schema == name.Schema && r.Name == name.Name; own && b.a.moved(r, field) || c == nil {
		if own && !slices.Contains(b.unbound, field) {
			b.unbound = append(b.unbound, field)
		}
		b.hide(r, fmt.Sprintf("the policy filters rows by %s, which relation %s.%s no longer has under that name", field, r.Schema, r.Name))
		return
	}
	t := b.base(c.Type)
	if t == nil || !comparesSafely(t) && (t.Schema != "pg_catalog" || t.Name != "numeric") {
		b.hide(r, fmt.Sprintf("the policy filters rows by %s, whose type can't be compared with a value", field))
		return
	}
	f.types[col] = t
}

// comparesSafely reports the types whose comparisons among each other never fail,
// so that a condition of these alone tells nothing of the rows that it is tried on.
func comparesSafely(t *catalog.Type) bool {
	if t.Kind == 'e' {
		return true
	}
	if t.Schema != "pg_catalog" {
		return false
	}
	switch t.Name {
	case "bool", "int2", "int4", "int8", "text", "varchar", "bpchar", "uuid", "date", "timestamp", "timestamptz":
		return true
	}
	return false
}

// Forms of times that mean the same whatever the session's DateStyle and
// TimeZone are: these are the client's to set.
var isoForms = map[string]*regexp.Regexp{
	"date":        regexp.MustCompile(`^\d{4}-\d\d-\d\d$`),
	"timestamp":   regexp.MustCompile(`^\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?$`),
	"timestamptz": regexp.MustCompile(`^\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)$`),
}

func (f *rowFilter) checkValues(p *policy.Predicate) error {
	for i := range p.Args {
		if err := f.checkValues(&p.Args[i]); err != nil {
			return err
		}
	}
	t := f.types[p.Column]
	if t == nil || t.Schema != "pg_catalog" {
		return nil
	}
	form := isoForms[t.Name]
	for _, v := range p.Values {
		if form != nil && !form.MatchString(v) {
			return errors.New("a " + t.Name + " is not written as year-month-day, with the time and zone that it has")
		}
	}
	return nil
}

// where returns the condition, with the columns qualified where qualifier is not
// empty. Operators and types are named by their schema: no search path decides.
func (f *rowFilter) where(qualifier string) *pg.Node {
	all := make([]*pg.Node, len(f.rows))
	for i := range f.rows {
		all[i] = f.predicate(&f.rows[i], qualifier)
	}
	return joined(pg.BoolExprType_AND_EXPR, all)
}

func joined(op pg.BoolExprType, args []*pg.Node) *pg.Node {
	if len(args) == 1 && op != pg.BoolExprType_NOT_EXPR {
		return args[0]
	}
	// The grammar flattens what stands on the left.
	if op != pg.BoolExprType_NOT_EXPR {
		if first := args[0].GetBoolExpr(); first != nil && first.Boolop == op {
			args = append(slices.Clone(first.Args), args[1:]...)
		}
	}
	return &pg.Node{Node: &pg.Node_BoolExpr{BoolExpr: &pg.BoolExpr{Boolop: op, Args: args}}}
}

var comparisons = map[policy.Op]string{
	policy.Equal: "=", policy.Differs: "<>", policy.Less: "<", policy.AtMost: "<=", policy.More: ">", policy.AtLeast: ">=",
}

func (f *rowFilter) predicate(p *policy.Predicate, qualifier string) *pg.Node {
	var args []*pg.Node
	for i := range p.Args {
		args = append(args, f.predicate(&p.Args[i], qualifier))
	}
	col := colRef(p.Column)
	if qualifier != "" {
		col = colRef(qualifier, p.Column)
	}
	compare := func(op, value string) *pg.Node {
		return &pg.Node{Node: &pg.Node_AExpr{AExpr: &pg.A_Expr{
			Kind: pg.A_Expr_Kind_AEXPR_OP, Name: strs("pg_catalog", op), Lexpr: col, Rexpr: literalOf(value, f.types[p.Column]),
		}}}
	}
	switch {
	case p.Op == policy.And && len(args) > 0:
		return joined(pg.BoolExprType_AND_EXPR, args)
	case p.Op == policy.Or && len(args) > 0:
		return joined(pg.BoolExprType_OR_EXPR, args)
	case p.Op == policy.Not && len(args) == 1:
		return joined(pg.BoolExprType_NOT_EXPR, args)
	case p.Op == policy.IsNull:
		return &pg.Node{Node: &pg.Node_NullTest{NullTest: &pg.NullTest{Arg: col, Nulltesttype: pg.NullTestType_IS_NULL}}}
	case p.Op == policy.In && len(p.Values) > 0:
		for _, v := range p.Values {
			args = append(args, compare("=", v))
		}
		return joined(pg.BoolExprType_OR_EXPR, args)
	case comparisons[p.Op] != "" && len(p.Values) == 1:
		return compare(comparisons[p.Op], p.Values[0])
	}
	return &pg.Node{Node: &pg.Node_AConst{AConst: &pg.A_Const{Val: &pg.A_Const_Boolval{Boolval: &pg.Boolean{}}}}}
}

// literalOf returns 'value'::type.
func literalOf(value string, t *catalog.Type) *pg.Node {
	return &pg.Node{Node: &pg.Node_TypeCast{TypeCast: &pg.TypeCast{
		Arg:      &pg.Node{Node: &pg.Node_AConst{AConst: &pg.A_Const{Val: &pg.A_Const_Sval{Sval: &pg.String{Sval: value}}}}},
		TypeName: &pg.TypeName{Names: strs(t.Schema, t.Name), Typemod: -1},
	}}}
}
