package rewrite

import (
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// eachKin calls f for what an object is a part of, or made of: ancestors and
// descendants by inheritance, partitions among them.
func (w *walker) eachKin(o policy.Object, f func(policy.Object)) {
	for _, r := range w.snap.ByName[o.Name] {
		if r.Schema != o.Schema || len(r.Parents)+len(r.Children) == 0 {
			continue
		}
		seen := map[uint32]bool{r.OID: true}
		var walk func(r *catalog.Relation, next func(*catalog.Relation) []uint32)
		walk = func(r *catalog.Relation, next func(*catalog.Relation) []uint32) {
			for _, oid := range next(r) {
				if k := w.snap.ByOID[oid]; k != nil && !seen[oid] {
					seen[oid] = true
					f(policy.Object{Schema: k.Schema, Name: k.Name, Access: o.Access})
					walk(k, next)
				}
			}
		}
		walk(r, func(r *catalog.Relation) []uint32 { return r.Parents })
		walk(r, func(r *catalog.Relation) []uint32 { return r.Children })
	}
}
