package rewrite

import (
	"fmt"
	"maps"
	"slices"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// A partition, or a child table, is protected as what it is a part of. Once it is
// detached it holds the same rows, and nothing in the catalog says whose they were. It
// is refused until it is gone, or the policy names it.

// parted returns the relations that were parts of what a policy's name protects, now,
// and no longer are. now is what pinned returned. The caller holds the Analyzer's lock.
func (a *Analyzer) parted(s *catalog.Snapshot, name policy.Relation, now []*catalog.Relation) []*catalog.Relation {
	parts := map[uint32]bool{}
	for _, r := range now {
		below(s, r, parts)
	}
	key := events.Field{Schema: name.Schema, Relation: name.Name}
	p := a.pins[key]
	var out []*catalog.Relation
	for _, oid := range p.parts {
		if r := s.ByOID[oid]; r != nil && !parts[oid] && !slices.Contains(now, r) {
			out = append(out, r)
		}
	}
	for _, r := range out {
		parts[r.OID] = true
	}
	if all := slices.Sorted(maps.Keys(parts)); !slices.Equal(all, p.parts) {
		p.parts = all
		a.pins[key] = p
	}
	return out
}

// below adds the relations whose rows are r's too.
func below(s *catalog.Snapshot, r *catalog.Relation, parts map[uint32]bool) {
	for _, oid := range r.Children {
		if ch := s.ByOID[oid]; ch != nil && !parts[oid] {
			parts[oid] = true
			below(s, ch, parts)
		}
	}
}

// refuseParted has refuse told of relations that were parts of what a name protects,
// and of those through which they are read, unless the policy says itself, by a name
// that named knows, what is protected of them.
func (b *binding) refuseParted(name policy.Relation, now []*catalog.Relation, named func(policy.Relation) bool, refuse func(r *catalog.Relation, why string)) {
	for _, r := range b.a.parted(b.snap, name, now) {
		over := b.over(r, nil)
		if slices.ContainsFunc(over, func(r *catalog.Relation) bool {
			return named(policy.Relation{Schema: r.Schema, Name: r.Name})
		}) {
			continue
		}
		for _, o := range over {
			refuse(o, fmt.Sprintf("relation %s.%s was a part of %s.%s, which the policy protects: it holds the same rows", r.Schema, r.Name, name.Schema, name.Name))
		}
	}
}

// over appends r and the relations that it is a part of.
func (b *binding) over(r *catalog.Relation, out []*catalog.Relation) []*catalog.Relation {
	if r == nil || slices.Contains(out, r) {
		return out
	}
	out = append(out, r)
	for _, oid := range r.Parents {
		out = b.over(b.snap.ByOID[oid], out)
	}
	return out
}
