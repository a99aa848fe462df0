package rewrite

import (
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// Where policy says whose the rows of a relation are, rows that go out must tell it to
// the record, whatever of them was selected. So the outermost SELECT, or RETURNING,
// over such a relation gets the key as one more column, in front of its own, which
// whoever asked for the analysis takes off each row. Where rows are put together, or
// come from a query within, whose they are can't be told, and that is said.

// subjectPrefix begins the names of columns that are added. No statement may use one.
const subjectPrefix = "sallyport_subject_"

// subjectKey is a column that says whose the rows of a relation are.
type subjectKey struct {
	policy.Subject
	of  policy.Relation // as the policy names it
	why string          // it does not; "" if it does
}

// bindSubjects works out which relations' rows are whose: those that policy names, and
// what holds a part of them.
func (b *binding) bindSubjects() {
	if len(b.scope.Subjects) == 0 {
		return
	}
	b.subjects = map[uint32][]subjectKey{}
	for name, all := range b.scope.Subjects {
		for _, r := range b.a.pinned(b.snap, name) {
			for _, s := range all {
				b.inheritSubject(r, subjectKey{Subject: s, of: name}, map[uint32]bool{})
			}
		}
	}
	for _, keys := range b.subjects {
		slices.SortFunc(keys, func(x, y subjectKey) int { return strings.Compare(x.Name, y.Name) })
	}
}

func (b *binding) inheritSubject(r *catalog.Relation, k subjectKey, visited map[uint32]bool) {
	if r == nil || visited[r.OID] {
		return
	}
	visited[r.OID] = true
	own := r.Schema == k.of.Schema && r.Name == k.of.Name
	if !own && slices.ContainsFunc(b.subjects[r.OID], func(have subjectKey) bool { return have.Name == k.Name }) {
		return // it has one of its own
	}
	k.why = b.unfitSubject(r, k, own)
	b.subjects[r.OID] = append(slices.DeleteFunc(b.subjects[r.OID], func(have subjectKey) bool { return have.Name == k.Name }), k)
	for _, oid := range r.Children {
		b.inheritSubject(b.snap.ByOID[oid], k, visited)
	}
}

// unfitSubject says why a column can't tell whose row it is.
func (b *binding) unfitSubject(r *catalog.Relation, k subjectKey, own bool) string {
	f := k.Field(k.of)
	c := r.Column(k.Column)
	if own && b.a.moved(r, f) || c == nil {
		if own && !slices.Contains(b.unbound, f) {
			b.unbound = append(b.unbound, f)
		}
		return fmt.Sprintf("column %s is not there any more", k.Column)
	}
	if t := b.base(c.Type); t == nil || !tellsSubject(t) {
		return fmt.Sprintf("column %s is of a type that names nobody", k.Column)
	}
	return ""
}

// tellsSubject reports the types whose text is the same in every session.
func tellsSubject(t *catalog.Type) bool {
	if t.Schema != "pg_catalog" {
		return false
	}
	switch t.Name {
	case "int2", "int4", "int8", "numeric", "text", "varchar", "bpchar", "uuid":
		return true
	}
	return false
}

// sightings is what a walker finds of whose rows a statement reaches.
type sightings struct {
	refs  []sighting
	level int  // of queries, one within the other
	folds bool // an aggregate of the outermost query puts its rows together
	told  bool // what a name stands for has told it
	done  map[uint32]bool
	why   []string
	shown []query.Subject
}

// sighting is a reference to a relation by its name.
type sighting struct {
	v    *pg.RangeVar
	rel  *catalog.Relation
	keys []subjectKey
}

// sight notes a reference to a relation that says whose its rows are, or is made of one.
func (w *walker) sight(v *pg.RangeVar, rels []*catalog.Relation) {
	if len(w.b.subjects) == 0 || w.in == nil {
		return
	}
	for _, r := range rels {
		keys := w.b.subjects[r.OID]
		if keys != nil {
			w.sights.refs = append(w.sights.refs, sighting{v, r, keys})
			continue
		}
		for _, base := range w.guard(r).bases {
			if w.b.subjects[base.OID] != nil && !w.covered(base) {
				w.unseen(base, "through %s.%s", r.Schema, r.Name)
			}
		}
	}
}

// unseen notes that it can't be told whose the rows of a relation are that go out.
func (w *walker) unseen(r *catalog.Relation, format string, args ...any) {
	w.cover(r)
	w.sights.add(fmt.Sprintf("%s.%s: ", r.Schema, r.Name) + fmt.Sprintf(format, args...))
}

// cover notes that it is told of a relation's rows, and so of all that they are made
// of, whose they are, or that this is not known.
func (w *walker) cover(r *catalog.Relation) {
	if w.sights.done == nil {
		w.sights.done = map[uint32]bool{}
	}
	w.sights.done[r.OID] = true
	for _, base := range w.guard(r).bases {
		w.sights.done[base.OID] = true
	}
}

func (w *walker) covered(r *catalog.Relation) bool { return w.sights.done[r.OID] }

// maxUnseen bounds the reasons that are told.
const maxUnseen = 4

func (s *sightings) add(why string) {
	if !slices.Contains(s.why, why) && len(s.why) < maxUnseen {
		s.why = append(s.why, why)
	}
}

// callsAggregate notes a call of an aggregate in the outermost query.
func (w *walker) callsAggregate(f *pg.FuncCall, names []string) {
	if w.sights.level > 1 || f.Over != nil || len(w.b.subjects) == 0 {
		return
	}
	name := names[len(names)-1]
	w.sights.folds = w.sights.folds || f.AggStar || f.AggDistinct || f.AggWithinGroup || len(f.AggOrder) > 0 || f.AggFilter != nil ||
		aggregates[name] || len(w.snap.Functions[name]) > 0 // which may be one
}

// subjects adds the keys of whose rows go out, with all names of the statement known.
func (w *walker) subjects() {
	if w.in == nil || len(w.b.subjects) == 0 {
		return
	}
	for n := range w.names {
		if strings.HasPrefix(n, subjectPrefix) {
			w.refuse("column %s is sallyport's own", n)
			return
		}
	}
	if len(w.sights.refs) == 0 {
		return
	}
	out := w.outlet()
	for _, ref := range w.sights.refs {
		w.cover(ref.rel)
		for _, k := range ref.keys {
			why := k.why
			if why == "" {
				why = out.show(ref, k)
			}
			if why != "" {
				w.unseen(ref.rel, "%s", why)
			}
		}
	}
	out.put()
}

// outlet is where rows of a statement go out, and can be given columns.
type outlet struct {
	w     *walker
	why   string // it can't be given any
	query *pg.SelectStmt
	list  *[]*pg.Node // of what goes out
	from  map[*pg.RangeVar]bool
	names map[string]int // that items of its FROM clause go by
	added []*pg.Node

	copies bool // rows go out as data of COPY
}

// outlet finds where the rows of the statement go out.
func (w *walker) outlet() *outlet {
	o := &outlet{w: w, from: map[*pg.RangeVar]bool{}, names: map[string]int{}}
	if !w.in.Subjects {
		o.why = "there is no key to name subjects by"
		return o
	}
	if !w.outermost {
		o.why = "it is not alone in its text, or what it shows is stored"
		return o
	}
	switch x := w.cond.whole.GetNode().(type) {
	case *pg.Node_SelectStmt:
		o.query = x.SelectStmt
		o.ofSelect(x.SelectStmt)
	case *pg.Node_CopyStmt:
		o.ofCopy(x.CopyStmt)
	case *pg.Node_InsertStmt:
		o.ofWrite(x.InsertStmt.Relation, &x.InsertStmt.ReturningList, nil)
	case *pg.Node_UpdateStmt:
		o.ofWrite(x.UpdateStmt.Relation, &x.UpdateStmt.ReturningList, x.UpdateStmt.FromClause)
	case *pg.Node_DeleteStmt:
		o.ofWrite(x.DeleteStmt.Relation, &x.DeleteStmt.ReturningList, x.DeleteStmt.UsingClause)
	case *pg.Node_MergeStmt:
		o.ofWrite(x.MergeStmt.Relation, &x.MergeStmt.ReturningList, []*pg.Node{x.MergeStmt.SourceRelation})
	default:
		o.why = "its rows do not go out as they are"
	}
	return o
}

func (o *outlet) ofSelect(s *pg.SelectStmt) {
	o.list = &s.TargetList
	switch {
	case s.Larg != nil || s.Op != pg.SetOperation_SETOP_NONE:
		o.why = "in a set operation"
	case len(s.GroupClause) == 0 && (o.w.sights.folds || s.HavingClause != nil):
		o.why = "an aggregate puts rows together"
	}
	o.items(s.FromClause)
}

func (o *outlet) ofCopy(c *pg.CopyStmt) {
	s := c.Query.GetSelectStmt()
	switch {
	case c.IsFrom || s == nil:
		o.why = "its rows do not go out as they are"
		return
	case len(o.w.copies) != 1 || !o.w.copies[0].Leads() || s.Larg == nil && len(s.TargetList) == 0:
		o.why = "the form of COPY leaves no room for whose they are"
		return
	}
	o.query, o.copies = s, true
	o.ofSelect(s)
}

func (o *outlet) ofWrite(target *pg.RangeVar, returning *[]*pg.Node, from []*pg.Node) {
	o.list = returning
	if len(*returning) == 0 {
		o.why = "a write without RETURNING"
	}
	o.item(&pg.Node{Node: &pg.Node_RangeVar{RangeVar: target}})
	o.items(from)
}

// items notes what stands in a FROM clause itself.
func (o *outlet) items(from []*pg.Node) {
	for _, n := range from {
		eachItem(n, o.item)
	}
}

func (o *outlet) item(n *pg.Node) {
	v := n.GetRangeVar()
	alias := v.GetAlias()
	switch x := n.GetNode().(type) {
	case *pg.Node_RangeTableSample:
		v = x.RangeTableSample.Relation.GetRangeVar()
		alias = v.GetAlias()
	case *pg.Node_RangeSubselect:
		alias = x.RangeSubselect.Alias
	case *pg.Node_RangeFunction:
		alias = x.RangeFunction.Alias
	case *pg.Node_RangeTableFunc:
		alias = x.RangeTableFunc.Alias
	}
	name := v.GetRelname()
	if alias != nil {
		name = alias.Aliasname
	}
	o.names[name]++
	if v != nil {
		o.from[v] = true
	}
}

// show adds a key of a relation's rows, and returns why it can't.
func (o *outlet) show(ref sighting, k subjectKey) (why string) {
	w, v := o.w, ref.v
	name := v.Relname
	if v.Alias != nil {
		name = v.Alias.Aliasname
	}
	switch {
	case o.why != "":
		return o.why
	case !o.from[v]:
		return "in a query within another"
	case len(v.GetAlias().GetColnames()) > 0:
		return "its columns are renamed"
	case o.names[name] > 1 || o.aliasedJoin():
		return "its name could mean another"
	}
	as := fmt.Sprintf("%s%d", subjectPrefix, len(o.added))
	column := k.Column
	sub := w.substitutionOf(v)
	masked := sub != nil && sub.guard.columns[k.Column] != nil
	if masked {
		p := sub.guard.columns[k.Column]
		masked = p.derived || p.mask.Kind != policy.MaskReveal
	}
	if o.query != nil && (len(o.query.GroupClause) > 0 || distinct(o.query)) && (masked || !o.apart(name, k.Column)) {
		return "rows are put together, and not by whose they are"
	}
	if masked && (w.every || w.joinsAll) {
		return "rows are shown whole, and their key is masked"
	}
	if masked || sub != nil && !w.every && !w.names[k.Column] {
		column = as // of the sub-select, which would not have it
		sub.keys = append(sub.keys, target(as, colRef(k.Column)))
	}
	value := textOf(colRef(name, column))
	if o.copies {
		value = digits(value)
	}
	o.added = append(o.added, target(as, value))
	w.sights.shown = append(w.sights.shown, query.Subject{Name: k.Name, As: as})
	return ""
}

// aliasedJoin reports that a join hides the names of what it joins.
func (o *outlet) aliasedJoin() bool {
	if o.query == nil {
		return false
	}
	var hides func(n *pg.Node) bool
	hides = func(n *pg.Node) bool {
		j := n.GetJoinExpr()
		return j != nil && (j.Alias != nil || hides(j.Larg) || hides(j.Rarg))
	}
	return slices.ContainsFunc(o.query.FromClause, hides)
}

func distinct(s *pg.SelectStmt) bool {
	return slices.ContainsFunc(s.DistinctClause, func(n *pg.Node) bool { return n.GetNode() == nil }) // else it is DISTINCT ON
}

// apart reports that rows of different keys are never put together: it is grouped by
// the key, or shows it where only different rows are shown.
func (o *outlet) apart(name, column string) bool {
	is := func(n *pg.Node) bool {
		names, ok := parts(n.GetColumnRef().GetFields())
		switch {
		case !ok || names[len(names)-1] != column:
			return false
		case len(names) == 1:
			return len(o.names) == 1
		}
		return names[len(names)-2] == name
	}
	s := o.query
	if len(s.GroupClause) > 0 && !slices.ContainsFunc(s.GroupClause, is) {
		return false
	}
	shown := func(n *pg.Node) bool { return is(n.GetResTarget().GetVal()) }
	return !distinct(s) || len(s.GroupClause) == 0 && slices.ContainsFunc(s.TargetList, shown)
}

// put puts what was added in front of what goes out.
func (o *outlet) put() {
	k := len(o.added)
	if k == 0 {
		return
	}
	w := o.w
	*o.list = append(slices.Clone(o.added), *o.list...)
	if o.query != nil {
		for _, list := range [][]*pg.Node{o.query.SortClause, o.query.GroupClause, o.query.DistinctClause} {
			for _, n := range list {
				w.later(n, k)
			}
		}
	}
	for i := range w.outputs {
		w.outputs[i].Index += k
	}
	for i := range w.origins {
		w.origins[i].Index += k
	}
	if w.width > 0 {
		w.width += k
	}
	w.changed = true
}

// later has a number that stands for a column mean the same one behind k others.
func (w *walker) later(n *pg.Node, k int) {
	if by := n.GetSortBy(); by != nil {
		n = by.Node
	}
	if c, ok := n.GetAConst().GetVal().(*pg.A_Const_Ival); ok {
		c.Ival.Ival += int32(k)
		w.byValue = true
	}
}

// textOf returns CAST(n AS pg_catalog.text): the same in text and in binary.
func textOf(n *pg.Node) *pg.Node {
	return &pg.Node{Node: &pg.Node_TypeCast{TypeCast: &pg.TypeCast{
		Arg: n, TypeName: &pg.TypeName{Names: strs("pg_catalog", "text"), Typemod: -1},
	}}}
}

// digits returns pg_catalog.concat('k', encode(convert_to(n, 'UTF8'), 'hex')): letters
// and digits that no format of COPY quotes or escapes, and never NULL.
func digits(n *pg.Node) *pg.Node {
	call := func(name string, args ...*pg.Node) *pg.Node {
		return &pg.Node{Node: &pg.Node_FuncCall{FuncCall: &pg.FuncCall{
			Funcname: strs("pg_catalog", name), Args: args, Funcformat: pg.CoercionForm_COERCE_EXPLICIT_CALL,
		}}}
	}
	text := func(s string) *pg.Node {
		return &pg.Node{Node: &pg.Node_AConst{AConst: &pg.A_Const{Val: &pg.A_Const_Sval{Sval: &pg.String{Sval: s}}}}}
	}
	return call("concat", text("k"), call("encode", call("convert_to", n, text("UTF8")), text("hex")))
}

// tellsCopied reports that a COPY of a relation must say whose its rows are.
func (w *walker) tellsCopied(rels []*catalog.Relation) bool {
	return w.in != nil && w.in.Subjects && len(rels) == 1 && rels[0].Kind == 'r' && w.b.subjects[rels[0].OID] != nil
}

// substitutionOf is the sub-select that takes the place of a reference, nil for none.
func (w *walker) substitutionOf(v *pg.RangeVar) *substitution {
	for _, s := range w.subs {
		if s.v == v {
			return s
		}
	}
	return nil
}

// hidesKey reports that rows of a relation say whose they are by a column that is
// masked.
func (w *walker) hidesKey(g *guard) bool {
	return slices.ContainsFunc(w.b.subjects[g.rel.OID], func(k subjectKey) bool { return g.columns[k.Column] != nil })
}

// overlooked finds what a statement reaches of whose rows it is not told otherwise.
func (w *walker) overlooked() {
	if w.in == nil || len(w.b.subjects) == 0 || w.sights.told {
		return
	}
	for _, o := range w.objects {
		if o.Access == policy.Define || o.Access == policy.Lock {
			continue
		}
		for _, r := range w.snap.ByName[o.Name] {
			if r.Schema == o.Schema && w.b.subjects[r.OID] != nil && !w.covered(r) {
				w.unseen(r, "its rows do not go out as they are")
			}
		}
	}
}

// tell takes over what an inner statement tells of whose rows go out.
func (s *sightings) tell(i *sightings) {
	s.told = true
	for _, why := range i.why {
		s.add(why)
	}
}

// untold is why it is not known of all rows whose they are.
func (s *sightings) untold() string { return strings.Join(s.why, "; ") }
