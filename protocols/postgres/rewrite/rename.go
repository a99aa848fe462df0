package rewrite

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// Rules name relations. What gives one another name, or takes one out of the family by
// which a rule reaches it, is told with both names: the rules say whether it may be.

// rename walks ALTER ... RENAME of a relation or of something of it.
func (w *walker) rename(s *pg.RenameStmt) {
	if s.Relation == nil {
		w.refuse("this ALTER is not understood")
		return
	}
	rels := w.lookup(s.Relation)
	switch s.RenameType {
	case pg.ObjectType_OBJECT_COLUMN, pg.ObjectType_OBJECT_ATTRIBUTE:
		for _, r := range rels {
			w.renameColumn(r, s.Subname)
		}
		return
	case pg.ObjectType_OBJECT_TABCONSTRAINT, pg.ObjectType_OBJECT_POLICY, pg.ObjectType_OBJECT_RULE, pg.ObjectType_OBJECT_TRIGGER:
		return
	}
	for _, r := range rels {
		to := policy.Relation{Schema: r.Schema, Name: s.Newname}
		w.loses(r, to)
		if name := (policy.Relation{Schema: r.Schema, Name: r.Name}); len(w.scope.Subjects[name]) > 0 && name != to {
			w.refuse("the policy says of %s.%s by its name whose its rows are", r.Schema, r.Name)
		}
	}
}

// renameColumn: masks and filters are not here. Detectors look at columns by name, and
// so does what says whose rows are.
func (w *walker) renameColumn(r *catalog.Relation, name string) {
	f := events.Field{Schema: r.Schema, Relation: r.Name, Column: name}
	for i := range w.scope.Detects {
		if d := &w.scope.Detects[i]; slices.Contains(d.On, f) {
			w.refuse("rule %q looks at %s by its name", d.Rule, f)
		}
	}
	for _, s := range w.scope.Subjects[policy.Relation{Schema: r.Schema, Name: r.Name}] {
		if s.Column == name {
			w.refuse("the policy says by %s whose the rows of its relation are", f)
		}
	}
}

// disinherit: the rows of a child, and of its own children, are not its parent's any
// more.
func (w *walker) disinherit(child, parent *pg.RangeVar) {
	if child == nil || parent == nil {
		return
	}
	for _, c := range w.lookup(child) {
		k := newKin(w.snap, func(o policy.Object) {
			w.becomes(policy.Rename{From: policy.Relation{Schema: o.Schema, Name: o.Name}, To: policy.Relation{Schema: c.Schema, Name: c.Name}})
		})
		for _, p := range w.lookup(parent) {
			k.tell(p, policy.Define)
			k.ancestors(p, policy.Define)
		}
	}
}

// loses tells that a relation is to be another one to rules, by all names that it has
// and had.
func (w *walker) loses(r *catalog.Relation, to policy.Relation) {
	w.becomes(policy.Rename{From: policy.Relation{Schema: r.Schema, Name: r.Name}, To: to})
	for _, n := range w.snap.Former[r.OID] {
		w.becomes(policy.Rename{From: policy.Relation{Schema: n.Schema, Name: n.Name}, To: to})
	}
}

func (w *walker) becomes(n policy.Rename) {
	if n.From != n.To && !slices.Contains(w.becoming, n) {
		w.becoming = append(w.becoming, n)
	}
}
