package rewrite

import (
	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/protocols/postgres/query"
)

// A masked column is an expression, and the server says of it that it is of no
// table. What the client's own statement would have been told is noted here, for
// drivers and their users that ask of which table a column is.

// describe notes, with all names of the statement known, of which relations the
// columns of the result are, and how many there are.
func (w *walker) describe() {
	s := w.root
	if s != nil && s.Larg != nil { // which the server attributes to nothing
		w.width = len(leftmost(s).TargetList)
		return
	}
	if s == nil || len(s.TargetList) == 0 {
		return
	}
	leaves, listed := w.leaves(s.FromClause)
	p := w.passing(s)
	width := 0
	var out []query.Origin
	note := func(g *guard, col string) {
		if c := g.rel.Column(col); c != nil && g.columns[col] != nil && !g.rel.System() {
			out = append(out, query.Origin{Index: width, Table: g.rel.OID, Attnum: c.Num})
		}
		width++
	}
	for _, n := range s.TargetList {
		fields := n.GetResTarget().GetVal().GetColumnRef().GetFields()
		if isStar(n) {
			of, ok := starOf(fields, leaves)
			if !ok || !listed {
				return
			}
			for _, l := range of {
				for _, c := range l.guard.rel.Columns {
					note(l.guard, c.Name)
				}
			}
			continue
		}
		names, ok := parts(fields)
		if ok && !w.renamed && p != nil {
			if sub, col, ok := p.resolve(s, names, len(p.ctes)); ok && sub != nil && !sub.plain[col] {
				note(sub.guard, col)
				continue
			}
		}
		width++
	}
	w.origins, w.width = out, width
}

// starOf lists the relations whose columns a star stands for. ok is false where
// that can't be told.
func starOf(fields []*pg.Node, leaves []leaf) (of []leaf, ok bool) {
	if len(fields) == 1 {
		return leaves, true
	}
	names, ok := parts(fields[:len(fields)-1])
	if !ok || len(names) > 2 {
		return nil, false
	}
	for _, l := range leaves {
		if l.name == names[len(names)-1] && (len(names) == 1 || l.schema == names[0]) {
			of = append(of, l)
		}
	}
	return of, len(of) == 1
}
