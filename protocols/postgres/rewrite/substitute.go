package rewrite

import (
	pg "github.com/pganalyze/pg_query_go/v6"
)

// finish decides, with all names of the statement known, what each reference
// can mean, and puts sub-selects in the place of guarded relations.
func (w *walker) finish() {
	if w.conversions(); w.opaque != "" {
		return
	}
	for _, n := range w.bare {
		if len(w.items[n]) > 0 {
			w.every = true // may be a whole row
		}
	}
	for _, r := range w.refs {
		if r.name != "*" {
			w.attribute(r)
		}
	}
	if w.opaque == "" {
		w.filterWrites()
		w.hideFromIndexes()
	}
	if w.opaque != "" {
		return
	}
	defer w.allLifted()
	if len(w.subs) == 0 && len(w.backs) == 0 && (w.returns == nil || w.returns.guard == nil) {
		w.subjects()
		return
	}
	for _, n := range systemColumns {
		if w.names[n] && len(w.subs) > 0 {
			w.refuse("system column %s of a protected relation is not shown", n)
			return
		}
	}
	w.spread()
	for _, s := range w.groups {
		w.group(s)
	}
	w.output()
	w.describe()
	w.maskReturned()
	w.subjects()
	for _, s := range w.subs {
		if !w.needed(s) {
			continue
		}
		w.unqualify(s)
		w.substitute(s)
	}
}

// attribute checks a.name where name may be no column but a function that is
// called with the whole row.
func (w *walker) attribute(r reference) {
	items := w.items[r.qualifier]
	for _, it := range items {
		if it.columns == nil || !it.columns[r.name] {
			items = nil
			break
		}
	}
	switch own := len(w.snap.Functions[r.name]) > 0; {
	case items == nil && (own || w.snap.Builtin[r.name]):
		w.field(r.name)
	case own:
		// A column, if the server finds the relation that the catalog has. An agent
		// that makes and drops relations may see to it that it finds another.
		w.function([]string{r.name})
	}
}

// spread follows renamed columns into comparisons.
func (w *walker) spread() {
	for again := true; again; {
		again = false
		for to, from := range w.renames {
			if !w.joins[to] {
				continue
			}
			for _, n := range from {
				if !w.joins[n] {
					w.joins[n], again = true, true
				}
			}
		}
	}
}

// needed reports whether a reference must give way. A catalog relation may
// stay when nothing in the statement can name what it hides.
func (w *walker) needed(s *substitution) bool {
	return !s.guard.rel.System() || w.hides(s)
}

// unqualify shortens schema.relation.column to relation.column: a sub-select
// has no schema.
func (w *walker) unqualify(s *substitution) {
	if s.v.Alias != nil {
		return
	}
	for _, r := range w.refs {
		f := r.node.Fields
		if len(f) != 3 || r.qualifier != s.v.Relname || f[0].GetString_().GetSval() != s.guard.rel.Schema {
			continue
		}
		if len(w.items[r.qualifier]) > 1 {
			w.refuse("%s.%s could mean more than one relation: give each an alias", f[0].GetString_().GetSval(), r.qualifier)
			return
		}
		r.node.Fields = f[1:]
	}
}

// substitute puts (SELECT columns FROM schema.relation) in place of the
// reference: masked columns show their mask, and nothing else of the row can
// be reached.
func (w *walker) substitute(s *substitution) {
	inner := &pg.SelectStmt{LimitOption: pg.LimitOption_LIMIT_OPTION_DEFAULT, Op: pg.SetOperation_SETOP_NONE}
	for _, c := range s.guard.rel.Columns {
		if !w.every && !w.names[c.Name] {
			continue
		}
		p := s.guard.columns[c.Name]
		if p == nil {
			inner.TargetList = append(inner.TargetList, target("", colRef(c.Name)))
			continue
		}
		if s.plain[c.Name] {
			inner.TargetList = append(inner.TargetList, target("", colRef(c.Name)))
			for _, f := range p.fields {
				w.masked[f] = true
			}
			continue
		}
		inner.TargetList = append(inner.TargetList, target(c.Name, w.shown(c.Name, p)))
		for _, f := range p.fields {
			w.masked[f] = true
		}
	}
	inner.TargetList = append(inner.TargetList, s.keys...)
	v := &pg.RangeVar{Schemaname: s.guard.rel.Schema, Relname: s.guard.rel.Name, Inh: s.v.Inh, Relpersistence: "p"}
	from := &pg.Node{Node: &pg.Node_RangeVar{RangeVar: v}}
	if f := s.guard.filter; f != nil {
		inner.WhereClause = f.where("")
		w.filteredBy(f)
		if w.fenced() {
			if w.cond.locks {
				w.refuse("rows of %s.%s are filtered: with FOR UPDATE, conditions may be comparisons of plain values only", s.guard.rel.Schema, s.guard.rel.Name)
			}
			inner.LimitOffset = &pg.Node{Node: &pg.Node_AConst{AConst: &pg.A_Const{Val: &pg.A_Const_Ival{Ival: &pg.Integer{}}}}}
			inner.LimitOption = pg.LimitOption_LIMIT_OPTION_COUNT
		}
	}
	w.unordered(s, inner)
	w.lookUp(s, inner)
	if s.sample != nil {
		from = &pg.Node{Node: &pg.Node_RangeTableSample{RangeTableSample: &pg.RangeTableSample{
			Relation: from, Method: s.sample.Method, Args: s.sample.Args, Repeatable: s.sample.Repeatable,
		}}}
	}
	inner.FromClause = []*pg.Node{from}
	alias := s.v.Alias
	if alias == nil {
		alias = &pg.Alias{Aliasname: s.v.Relname}
	}
	s.node.Node = &pg.Node_RangeSubselect{RangeSubselect: &pg.RangeSubselect{
		Subquery: &pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: inner}}, Alias: alias,
	}}
	w.changed = true
}

// shown is what takes a protected column's place. One that shows the same everywhere is
// NULL where relations are joined by it.
func (w *walker) shown(name string, p *protection) *pg.Node {
	if !p.constant || !w.joins[name] && !w.joinsAll && !w.renamed {
		return p.value
	}
	several := 0
	for _, its := range w.items {
		several += len(its)
	}
	if several > 1 {
		return p.null
	}
	return p.value
}
