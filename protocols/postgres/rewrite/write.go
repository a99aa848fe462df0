package rewrite

import (
	"maps"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// targetCheck is what must hold, once all names of a statement are known, of
// the relations that it writes.
type targetCheck struct {
	guards []*guard // with protected columns
	all    []written
	whole  bool // columns by position
}

// written is a relation that is written, and how.
type written struct {
	rel    *catalog.Relation
	access policy.Access
}

// check refuses a write on a relation with protected columns unless nothing
// in the statement can name one of them: then it neither shows, tests nor
// changes a protected value. What it returns and is masked on output may be named
// there, and nowhere else.
func (t targetCheck) check(w *walker) {
	if w.opaque != "" {
		return
	}
	for _, x := range t.all {
		w.oracle(x, t.whole)
	}
	for _, g := range t.guards {
		rel := g.rel.Schema + "." + g.rel.Name
		if t.whole || w.every {
			w.refuse("a write on %s may reach its protected columns: name the columns", rel)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(g.columns)) {
			if w.names[name] && !w.returned(g, name) {
				w.refuse("a write on %s names its protected column %s", rel, name)
				return
			}
		}
		for _, name := range systemColumns {
			if w.names[name] {
				w.refuse("system column %s of a protected relation is not shown", name)
				return
			}
		}
	}
}

// writeTo resolves the target of a write, and looks at all that is done to it. whole
// says that columns are given by position.
func (w *walker) writeTo(v *pg.RangeVar, whole bool, accesses ...policy.Access) []*catalog.Relation {
	w.writes = true
	if w.locked { // in a definition
		w.refuse("it writes")
		return nil
	}
	g, rels := w.guardOf(v)
	if g == nil {
		return nil
	}
	if g.opaque != "" {
		w.refuse("%s", g.opaque)
	}
	for _, r := range rels {
		for _, a := range accesses {
			if a == policy.Update {
				w.updated(r)
			} else {
				w.object(r, a)
			}
		}
		if r.Kind != 'r' && r.Kind != 'p' {
			w.refuse("a write on %s.%s, which is not a table, is not understood", r.Schema, r.Name)
			continue
		}
		if r.System() {
			w.refuse("a write on %s.%s is not understood", r.Schema, r.Name)
			continue
		}
		if why := w.b.written(r); why != "" {
			w.refuse("%s", why)
		}
		w.neighbours(r)
		for _, a := range accesses {
			w.acts(r, a, &w.sets, map[written]bool{})
			w.target.all = append(w.target.all, written{r, a})
		}
	}
	if g.filter != nil {
		w.sanitize = true
		if slices.Contains(accesses, policy.Insert) {
			w.refuse("rows of %s.%s are filtered: whether a new one can be there would tell of others", g.rel.Schema, g.rel.Name)
		}
	}
	w.cond.read = append(w.cond.read, rels...)
	if len(g.columns) > 0 {
		if w.returns != nil && w.returns.v == v {
			w.returns.guard = g
		}
		w.sanitize = true
		w.target.guards = append(w.target.guards, g)
	}
	w.target.whole = w.target.whole || whole
	it := &item{columns: columnSet(rels)}
	name := v.Relname
	if v.Alias != nil {
		name = v.Alias.Aliasname
		w.aliasColumns(v.Alias)
	}
	w.addItem(name, it)
	w.sight(v, rels)
	return rels
}

// storesNothingRevealed: what is revealed is shown to who said why. Where it is
// stored, others would see it, and later.
func (w *walker) storesNothingRevealed() {
	if !w.writes {
		return
	}
	for f := range w.masked {
		if w.scope.Mask(f).Kind == policy.MaskReveal {
			w.refuse("it writes, and %s is revealed: a revealed value may be shown, not stored", f)
			w.remedy = "RESET sallyport.justification first"
			return
		}
	}
}

// neighbours sanitizes errors of writes on relations whose rows are checked
// together with protected ones: over foreign keys, in parents and children.
func (w *walker) neighbours(r *catalog.Relation) {
	near := append(append([]uint32(nil), r.Parents...), r.Children...)
	for _, f := range r.References {
		near = append(near, f.To)
	}
	for _, f := range r.Referenced {
		near = append(near, f.From)
	}
	for _, oid := range near {
		if o := w.snap.ByOID[oid]; o != nil && w.guard(o).replaced() {
			w.sanitize = true
		}
	}
}

// acts looks at what foreign keys change along with a relation's rows.
func (w *walker) acts(r *catalog.Relation, a policy.Access, by *sets, seen map[written]bool) {
	if a != policy.Update && a != policy.Delete || seen[written{r, a}] {
		return
	}
	seen[written{r, a}] = true
	for _, f := range r.Referenced {
		deletes, changes := by.along(w.snap, r, a, f)
		from := w.snap.ByOID[f.From]
		if from == nil || !deletes && !changes {
			continue
		}
		if why := w.b.written(from); why != "" {
			w.refuse("a foreign key changes %s.%s: %s", from.Schema, from.Name, why)
			return
		}
		next := seen
		if by != anyColumn {
			next = map[written]bool{}
		}
		w.acts(from, policy.Update, anyColumn, next)
		w.acts(from, policy.Delete, anyColumn, next)
	}
	for _, oid := range r.Children {
		if ch := w.snap.ByOID[oid]; ch != nil {
			w.acts(ch, a, by, seen)
		}
	}
}

func (w *walker) insert(s *pg.InsertStmt) {
	w.command("insert")
	defer w.with(s.WithClause)()
	if s.Relation == nil {
		w.refuse("INSERT is not understood")
		return
	}
	rels := w.writeTo(s.Relation, len(s.Cols) == 0, policy.Insert)
	w.setTargets(s.Cols)
	if s.SelectStmt != nil {
		w.query(s.SelectStmt)
	}
	if c := s.OnConflictClause; c != nil {
		if len(w.target.guards) > 0 {
			w.refuse("ON CONFLICT on a protected relation tells of stored values")
			return
		}
		if c.Action == pg.OnConflictAction_ONCONFLICT_UPDATE {
			w.command("update")
			w.updates(c.TargetList)
			for _, r := range rels {
				w.updated(r)
				w.acts(r, policy.Update, &w.sets, map[written]bool{})
			}
		}
		w.addItem("excluded", &item{})
		if f := c.Infer; f != nil {
			for _, n := range f.IndexElems {
				e := n.GetIndexElem()
				if e == nil || len(e.Opclassopts) > 0 {
					w.refuse("ON CONFLICT is not understood")
					return
				}
				w.expr(e.Expr)
			}
			w.expr(f.WhereClause)
		}
		w.setTargets(c.TargetList)
		w.expr(c.WhereClause)
	}
	w.versions()
	w.returning(&s.ReturningList, s.Relation, nil)
	w.seen(rels, s.OnConflictClause.GetWhereClause(), s.ReturningList)
}

// setTargets walks assignments, or an INSERT's column list.
func (w *walker) setTargets(list []*pg.Node) {
	for _, n := range list {
		t := n.GetResTarget()
		if t == nil {
			w.refuse("an assignment is not understood")
			return
		}
		w.names[t.Name], w.assigned[t.Name] = true, true
		for _, i := range t.Indirection {
			switch x := i.GetNode().(type) {
			case *pg.Node_AIndices:
				w.expr(x.AIndices.Lidx)
				w.expr(x.AIndices.Uidx)
			case *pg.Node_String_:
				w.names[x.String_.Sval] = true
			default:
				w.refuse("an assignment is not understood")
			}
		}
		if m := t.Val.GetMultiAssignRef(); m != nil {
			w.expr(m.Source)
		} else {
			w.expr(t.Val)
		}
	}
}

func (w *walker) update(s *pg.UpdateStmt) {
	w.command("update")
	defer w.with(s.WithClause)()
	if s.Relation == nil {
		w.refuse("UPDATE is not understood")
		return
	}
	w.updates(s.TargetList)
	rels := w.writeTo(s.Relation, false, policy.Update)
	w.from(s.FromClause)
	w.behindConditions(func() { w.setTargets(s.TargetList) })
	w.expr(s.WhereClause)
	w.versions()
	w.behindConditions(func() { w.returning(&s.ReturningList, s.Relation, s.FromClause) })
	w.filterWrite(s.Relation, &s.WhereClause, s.TargetList)
	w.orderWrite(s.Relation, &s.WhereClause, len(s.FromClause) == 0, false)
	w.seen(rels, s.WhereClause, s.ReturningList)
}

func (w *walker) delete(s *pg.DeleteStmt) {
	w.command("delete")
	defer w.with(s.WithClause)()
	if s.Relation == nil {
		w.refuse("DELETE is not understood")
		return
	}
	rels := w.writeTo(s.Relation, false, policy.Delete)
	w.from(s.UsingClause)
	w.expr(s.WhereClause)
	w.versions()
	w.behindConditions(func() { w.returning(&s.ReturningList, s.Relation, s.UsingClause) })
	w.filterWrite(s.Relation, &s.WhereClause, nil)
	w.orderWrite(s.Relation, &s.WhereClause, len(s.UsingClause) == 0, false)
	w.seen(rels, s.WhereClause, s.ReturningList)
}

// filterWrite notes a write on a relation of which rows are left out.
func (w *walker) filterWrite(v *pg.RangeVar, where **pg.Node, sets []*pg.Node) {
	g, _ := w.guardOf(v)
	if g == nil || g.filter == nil {
		return
	}
	name := v.Relname
	if v.Alias != nil {
		name = v.Alias.Aliasname
	}
	w.filteredWrites = append(w.filteredWrites, filteredWrite{g, name, where, sets})
}

// seen: a write that tests rows or returns them reads them, as the server's own
// privileges have it.
func (w *walker) seen(rels []*catalog.Relation, where *pg.Node, returning []*pg.Node) {
	if where.GetNode() != nil || len(returning) > 0 {
		for _, r := range rels {
			w.object(r, policy.Read)
		}
	}
}
