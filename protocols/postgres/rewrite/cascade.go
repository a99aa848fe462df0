package rewrite

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// sets are the columns that updates change: a foreign key goes by those that it points
// to, and which partition a row is in by others. The zero sets are none.
type sets struct {
	any     bool // not known which
	columns map[string]bool
}

// updates notes what an update is about to set, before its target is looked at.
func (w *walker) updates(list []*pg.Node) {
	for _, n := range list {
		if w.sets.columns == nil {
			w.sets.columns = map[string]bool{}
		}
		if t := n.GetResTarget(); t != nil {
			w.sets.columns[t.Name] = true
		} else {
			w.sets.any = true
		}
	}
}

// updated adds a relation of which an update sets the columns that were noted. A
// trigger may set others.
func (w *walker) updated(r *catalog.Relation) {
	known := !w.sets.any && !w.triggered(r, map[uint32]bool{})
	w.object(r, policy.Update)
	w.sets.any = !known
}

// triggered reports a trigger or a rule on a relation, or on one whose rows are its own.
func (w *walker) triggered(r *catalog.Relation, seen map[uint32]bool) bool {
	if seen[r.OID] {
		return false
	}
	seen[r.OID] = true
	return len(r.Triggers)+len(r.Rules) > 0 || slices.ContainsFunc(r.Children, func(oid uint32) bool {
		ch := w.snap.ByOID[oid]
		return ch == nil || w.triggered(ch, seen)
	})
}

// touch reports whether an update may change one of a relation's columns: it sets it,
// or one that it is computed from.
func (s *sets) touch(r *catalog.Relation, columns []string) bool {
	return s.any || len(columns) == 0 || slices.ContainsFunc(columns, func(name string) bool {
		c := r.Column(name)
		return c == nil || c.Generated || s.columns[name]
	})
}

// move reports whether an update may take rows out of a relation: into another
// partition, for which the server deletes them here.
func (s *sets) move(snap *catalog.Snapshot, r *catalog.Relation) bool {
	return slices.ContainsFunc(r.Parents, func(oid uint32) bool {
		p := snap.ByOID[oid]
		switch {
		case p == nil:
			return true
		case p.Partitioned == nil:
			return false
		}
		return p.Partitioned.Expressions != "" || s.touch(r, p.Partitioned.Columns) || s.move(snap, p)
	})
}

// along returns what a foreign key does to the rows that point to those that are
// deleted or changed: whether it deletes them, and whether it changes them.
func (s *sets) along(snap *catalog.Snapshot, r *catalog.Relation, a policy.Access, ref *catalog.Reference) (deletes, changes bool) {
	gone := a == policy.Delete || a == policy.Update && s.move(snap, r)
	deletes = gone && ref.Cascades
	changes = gone && ref.OnDelete && !ref.Cascades || a == policy.Update && ref.OnUpdate && s.touch(r, ref.Points)
	return deletes, changes
}

// anyColumn is what a foreign key or its like sets: by the next ones it is taken for all.
var anyColumn = &sets{any: true}
