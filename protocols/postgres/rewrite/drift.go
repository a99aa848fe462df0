package rewrite

import (
	"cmp"
	"slices"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// Lost is what a rule is about by a name that has gone from it.
type Lost struct {
	policy.Named

	// Was and Now are a relation's names: it was renamed. Zero: nothing has the name.
	Was, Now policy.Relation
}

// Lost lists the relations that the rules of a scope know by names that they had, and
// the names that no relation has. It protects nothing by itself: see kin and pins.
func (a *Analyzer) Lost(sc *policy.Scope) []Lost {
	s := a.o.Catalog.Snapshot()
	var out []Lost
	for _, n := range sc.Named {
		renamed := false
		for oid, former := range s.Former {
			r := s.ByOID[oid]
			if r == nil || r.Temp {
				continue
			}
			now := policy.Relation{Schema: r.Schema, Name: r.Name}
			for _, was := range former {
				if w := (policy.Relation{Schema: was.Schema, Name: was.Name}); w != now && n.Is(w) && !n.Keeps(now) {
					out = append(out, Lost{n, w, now})
					renamed = true
				}
			}
		}
		if !renamed && !found(s, &n) {
			out = append(out, Lost{Named: n})
		}
	}
	slices.SortFunc(out, func(x, y Lost) int {
		return cmp.Or(cmp.Compare(x.Rule, y.Rule), cmp.Compare(x.As, y.As), cmp.Compare(x.Now.Schema, y.Now.Schema), cmp.Compare(x.Now.Name, y.Now.Name), cmp.Compare(x.Was.Name, y.Was.Name))
	})
	return out
}

// found reports that a relation has a name that a rule knows.
func found(s *catalog.Snapshot, n *policy.Named) bool {
	is := func(r *catalog.Relation) bool {
		return !r.Temp && n.Is(policy.Relation{Schema: r.Schema, Name: r.Name})
	}
	if n.Relation != (policy.Relation{}) {
		return slices.ContainsFunc(s.ByName[n.Relation.Name], is)
	}
	for _, r := range s.ByOID {
		if is(r) {
			return true
		}
	}
	return false
}
