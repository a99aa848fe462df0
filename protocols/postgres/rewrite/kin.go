package rewrite

import (
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// Rules name relations, and what they are about goes further than the names in a
// statement: rows are of a partition, of its table and of its children at once, a
// relation that was renamed is the one that it was, and a foreign key deletes and
// changes rows of others. Rules that take away are told of all of it.

// eachKin calls f for what else an object is: the relations that it is a part of, or
// made of, by inheritance, those whose rows foreign keys change with it, and the names
// that any of them had before.
func (w *walker) eachKin(o policy.Object, f func(policy.Object)) {
	k := newKin(w.snap, f)
	k.sets = &w.sets
	for _, r := range w.snap.ByName[o.Name] {
		if r.Schema == o.Schema {
			k.family(r, o.Access)
		}
	}
}

// kin tells of relations once for each access.
type kin struct {
	snap     *catalog.Snapshot
	told     map[written]bool
	followed map[written]bool // with what foreign keys do then
	sets     *sets            // by an update
	f        func(policy.Object)
}

func newKin(snap *catalog.Snapshot, f func(policy.Object)) *kin {
	return &kin{snap, map[written]bool{}, map[written]bool{}, anyColumn, f}
}

func (k *kin) tell(r *catalog.Relation, a policy.Access) {
	if k.told[written{r, a}] {
		return
	}
	k.told[written{r, a}] = true
	k.f(policy.Object{Schema: r.Schema, Name: r.Name, Access: a})
	for _, n := range k.snap.Former[r.OID] {
		k.f(policy.Object{Schema: n.Schema, Name: n.Name, Access: a})
	}
}

// family tells of a relation with its ancestors and descendants.
func (k *kin) family(r *catalog.Relation, a policy.Access) {
	k.ancestors(r, a)
	k.descendants(r, a, map[uint32]bool{})
}

func (k *kin) ancestors(r *catalog.Relation, a policy.Access) {
	for _, oid := range r.Parents {
		if p := k.snap.ByOID[oid]; p != nil { // which has no circle
			k.tell(p, a)
			k.ancestors(p, a)
		}
	}
}

func (k *kin) descendants(r *catalog.Relation, a policy.Access, below map[uint32]bool) {
	if below[r.OID] {
		return
	}
	below[r.OID] = true
	k.tell(r, a)
	k.follows(r, a)
	for _, oid := range r.Children {
		if c := k.snap.ByOID[oid]; c != nil {
			k.descendants(c, a, below)
		}
	}
}

// follows tells of what foreign keys do when rows of a relation are deleted or changed.
func (k *kin) follows(r *catalog.Relation, a policy.Access) {
	if k.followed[written{r, a}] {
		return
	}
	k.followed[written{r, a}] = true
	for _, ref := range r.Referenced {
		from := k.snap.ByOID[ref.From]
		if from == nil {
			continue
		}
		deletes, changes := k.sets.along(k.snap, r, a, ref)
		if deletes {
			k.behind(from, policy.Delete)
		}
		if changes {
			k.behind(from, policy.Update)
		}
	}
}

// behind tells of a relation that a foreign key reaches, with whatever that sets.
func (k *kin) behind(from *catalog.Relation, a policy.Access) {
	if k.sets != anyColumn {
		was, followed := k.sets, k.followed
		k.sets, k.followed = anyColumn, map[written]bool{}
		defer func() { k.sets, k.followed = was, followed }()
	}
	k.family(from, a)
}
