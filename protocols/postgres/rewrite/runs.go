package rewrite

import (
	"fmt"

	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// runs refuses values of a type on which functions run that nothing names and the policy
// does not declare: DISTINCT, ORDER BY and their like compare by those of an operator
// class, also what is in an array, a range or a row, and JSON is made by those of a cast.
func (w *walker) runs(oid uint32) {
	if len(w.b.unnamed) > 0 {
		w.runsIn(oid, map[uint32]bool{})
	}
}

func (w *walker) runsIn(oid uint32, seen map[uint32]bool) {
	t := w.snap.TypeByOID[oid]
	if t == nil || seen[oid] {
		return
	}
	seen[oid] = true
	for _, f := range w.b.unnamed[oid] {
		w.calls = true
		w.bodies.add(w.scope, f)
		if !w.scope.Functions[f.String()] {
			w.refuse("function %s runs on values of type %s.%s without being named, and is not declared harmless by the policy", f, t.Schema, t.Name)
			return
		}
	}
	w.runsIn(t.Elem, seen)
	w.runsIn(t.Base, seen)
	for _, c := range w.snap.Casts {
		if c.Source == oid && c.Function == nil && c.Context == 'i' {
			w.runsIn(c.Target, seen) // the server may compare it as one of those
		}
	}
	if t.Kind == 'c' {
		w.runsInRow(t, seen)
	}
}

func (w *walker) runsInRow(t *catalog.Type, seen map[uint32]bool) {
	for _, r := range w.snap.ByName[t.Name] {
		if r.RowType == t.OID {
			for _, c := range r.Columns {
				w.runsIn(c.Type, seen)
			}
			return
		}
	}
	if w.b.undeclared {
		w.refuse("what is in type %s.%s is not known, and on values of some types functions run without being named that are not declared harmless by the policy", t.Schema, t.Name)
	}
}

// findUnnamed finds those functions, but for an extension's.
func (b *binding) findUnnamed() {
	own := map[uint32]*catalog.Function{}
	for _, t := range b.snap.TypeByOID {
		for _, oid := range t.Runs {
			own[oid] = &catalog.Function{OID: oid, Name: "that is not known"}
		}
	}
	if len(own) == 0 {
		return
	}
	for _, all := range b.snap.Functions {
		for _, f := range all {
			if own[f.OID] != nil {
				own[f.OID] = f
			}
		}
	}
	b.unnamed = map[uint32][]*catalog.Function{}
	for _, t := range b.snap.TypeByOID {
		for _, oid := range t.Runs {
			f := own[oid]
			if f.Extension {
				continue
			}
			b.undeclared = b.undeclared || !b.scope.Functions[f.String()]
			b.unnamed[t.OID] = append(b.unnamed[t.OID], f)
			if of := t.Elem; of != 0 { // whose values an expression makes arrays of
				b.unnamed[of] = append(b.unnamed[of], f)
			}
			if t.Kind == 'm' {
				b.unnamed[t.Base] = append(b.unnamed[t.Base], f)
			}
		}
	}
}

// firstOwn is from where on objects are not those that the server came with.
const firstOwn = 16384

// hostileOrder finds one that runs on values of a type of the server's, which any
// expression may have.
func (b *binding) hostileOrder() string {
	for oid, all := range b.unnamed {
		for _, f := range all {
			if t := b.snap.TypeByOID[oid]; oid < firstOwn && t != nil && !b.scope.Functions[f.String()] {
				return fmt.Sprintf("function %s runs on values of type %s.%s, which any expression may have, and is not declared harmless by the policy", f, t.Schema, t.Name)
			}
		}
	}
	return ""
}
