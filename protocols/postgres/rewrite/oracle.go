package rewrite

import (
	"context"
	"slices"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// oracle refuses writes whose outcome is decided by a protected value: a
// unique index, a check or a foreign key over a protected column together
// with what the statement chooses.
func (w *walker) oracle(x written, whole bool) {
	r := x.rel
	prot := w.guard(r).columns
	// Columns that the statement sets, as far as names can tell.
	sets := func(col string) bool { return x.access == policy.Insert || whole || w.every || w.names[col] }
	// Columns that it gives values, for keys that lead to rows that are left out.
	gives := func(col string) bool { return x.access == policy.Insert || whole || w.assigned[col] }
	refuse := func(what string) {
		w.refuse("the outcome of a write on %s.%s could tell of a protected value: %s", r.Schema, r.Name, what)
	}
	mixed := func(cols []string) bool {
		p, open := false, false
		for _, c := range cols {
			if prot[c] != nil {
				p = true
			} else if sets(c) {
				open = true
			}
		}
		return p && open
	}
	if x.access != policy.Delete && len(prot) > 0 {
		for _, i := range r.Indexes {
			cols := append(slices.Clone(i.Columns), w.b.columnsOf(i.Expressions)...)
			if i.Unique && mixed(append(cols, w.b.columnsOf(i.Predicate)...)) {
				refuse("a unique index holds it")
			}
		}
		for _, e := range r.Checks {
			if mixed(w.b.columnsOf(e)) {
				refuse("a check reads it")
			}
		}
	}
	for _, f := range r.References { // does such a key exist there?
		if to := w.snap.ByOID[f.To]; to != nil && x.access != policy.Delete &&
			(w.anyProtected(to, f.Points) && slices.ContainsFunc(f.Columns, sets) || w.filters(to) && slices.ContainsFunc(f.Columns, gives)) {
			refuse("a foreign key points to it")
		}
	}
	for _, f := range r.Referenced { // does a row there hold this key?
		if from := w.snap.ByOID[f.From]; from != nil &&
			(w.anyProtected(from, f.Columns) && (x.access == policy.Delete || slices.ContainsFunc(f.Points, sets) && x.access == policy.Update) ||
				w.filters(from) && (x.access == policy.Delete || slices.ContainsFunc(f.Points, gives) && x.access == policy.Update)) {
			refuse("a foreign key holds it")
		}
	}
}

// filters reports that rows of a relation may be there that are left out.
func (w *walker) filters(r *catalog.Relation) bool {
	return w.guard(r).filter != nil || w.b.hidden[r.OID] != ""
}

func (w *walker) anyProtected(r *catalog.Relation, cols []string) bool {
	g := w.guard(r)
	return slices.ContainsFunc(cols, func(c string) bool { return g.columns[c] != nil })
}

// columnsOf lists the columns of an expression that the catalog printed; of
// one that is not understood, a name that no column has.
func (b *binding) columnsOf(sql string) []string {
	if sql == "" {
		return nil
	}
	n, err := b.a.expression(context.Background(), "ROW("+sql+")")
	if err != nil {
		return nil // written refuses it already
	}
	var out []string
	eachColumn(n, func(names []string, star bool) {
		if !star {
			out = append(out, names[len(names)-1])
		}
	})
	return out
}
