package rewrite

import (
	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"

	"sallyport.dev/sallyport/events"
)

// lineage follows protected columns through a view's definition, as
// pg_get_viewdef prints it: stars expanded, names qualified. A column that
// passes a protected one through takes its protection, one that is computed
// from any is derived, and what does not resolve counts as computed.
type lineage struct{ b *binding }

// lcol is a column of a query or a FROM item.
type lcol struct {
	name string
	p    *protection // nil: nothing protected
}

// litem is a FROM item.
type litem struct {
	name string
	cols []lcol
	any  *protection // of columns that are not listed (functions)
	open bool        // may have columns that are not listed
}

type lenv struct {
	outer *lenv
	ctes  map[string][]lcol // nil slice: unknown columns
	items []litem

	windows *protection // of what the windows are made of that the query names
}

var unresolved = &protection{derived: true}

func derived(ps ...*protection) *protection {
	var out *protection
	for _, p := range ps {
		if p != nil {
			if out == nil {
				out = &protection{derived: true}
			}
			out.fields = append(out.fields, p.fields...)
		}
	}
	return out
}

// all lists the policy's fields that a definition could show.
func (l *lineage) all(w *walker) []events.Field {
	var out []events.Field
	for _, s := range w.subs {
		for _, p := range s.guard.columns {
			out = append(out, p.fields...)
		}
	}
	return out
}

// query returns the columns of a query, nil when they are not understood.
func (l *lineage) query(s *pg.SelectStmt, outer *lenv) []lcol {
	if s == nil {
		return nil
	}
	env := &lenv{outer: outer, ctes: map[string][]lcol{}}
	if s.WithClause != nil {
		for _, n := range s.WithClause.Ctes {
			c := n.GetCommonTableExpr()
			var cols []lcol
			if !s.WithClause.Recursive && len(c.GetAliascolnames()) == 0 {
				cols = l.query(c.GetCtequery().GetSelectStmt(), env)
			}
			env.ctes[c.GetCtename()] = cols
		}
	}
	if s.Larg != nil {
		left, right := l.query(s.Larg, env), l.query(s.Rarg, env)
		if len(left) != len(right) {
			return nil
		}
		for i := range left {
			if !sameProtection(left[i].p, right[i].p) {
				left[i].p = derived(left[i].p, right[i].p)
			}
		}
		return left
	}
	for _, n := range s.FromClause {
		l.from(n, env)
	}
	if len(s.ValuesLists) > 0 {
		var out []lcol
		for i, row := range s.ValuesLists {
			items := row.GetList().GetItems()
			if i == 0 {
				out = make([]lcol, len(items))
			}
			if len(items) != len(out) {
				return nil
			}
			for j, v := range items {
				out[j].p = derived(out[j].p, l.expr(v, env))
			}
		}
		return out
	}
	for _, n := range s.WindowClause {
		env.windows = derived(env.windows, l.expr(n, env))
	}
	var out []lcol
	for _, n := range s.TargetList {
		t := n.GetResTarget()
		name := t.GetName()
		if name == "" {
			if ref, ok := parts(t.GetVal().GetColumnRef().GetFields()); ok {
				name = ref[len(ref)-1]
			}
		}
		if f := t.GetVal().GetColumnRef().GetFields(); len(f) > 0 && f[len(f)-1].GetAStar() != nil {
			return nil
		}
		out = append(out, lcol{name: name, p: l.expr(t.GetVal(), env)})
	}
	return out
}

func sameProtection(a, b *protection) bool {
	if a == nil || b == nil {
		return a == b
	}
	return !a.derived && !b.derived && a.mask == b.mask
}

func (l *lineage) from(n *pg.Node, env *lenv) {
	switch x := n.GetNode().(type) {
	case *pg.Node_RangeTableSample:
		l.from(x.RangeTableSample.Relation, env)
	case *pg.Node_JoinExpr:
		l.from(x.JoinExpr.Larg, env)
		l.from(x.JoinExpr.Rarg, env)
		if a := x.JoinExpr.Alias; a != nil {
			env.items = append(env.items, litem{name: a.Aliasname, open: true, any: unresolved})
		}
	case *pg.Node_RangeSubselect:
		cols := l.query(x.RangeSubselect.Subquery.GetSelectStmt(), env)
		env.items = append(env.items, itemOf(x.RangeSubselect.Alias, "", cols))
	case *pg.Node_RangeVar:
		v := x.RangeVar
		if v.Schemaname == "" {
			for e := env; e != nil; e = e.outer {
				if cols, ok := e.ctes[v.Relname]; ok {
					env.items = append(env.items, itemOf(v.Alias, v.Relname, cols))
					return
				}
			}
		}
		var cols []lcol
		for _, r := range l.b.snap.ByName[v.Relname] {
			if v.Schemaname != "" && r.Schema != v.Schemaname || v.Schemaname == "" && r.Schema != "pg_catalog" {
				continue
			}
			g := l.b.guardLocked(r)
			for _, c := range r.Columns {
				cols = append(cols, lcol{c.Name, g.columns[c.Name]})
			}
		}
		env.items = append(env.items, itemOf(v.Alias, v.Relname, cols))
	case *pg.Node_RangeFunction:
		f := x.RangeFunction
		it := litem{open: true}
		if f.Alias != nil {
			it.name = f.Alias.Aliasname
		}
		for _, n := range f.Functions {
			it.any = derived(it.any, l.expr(n, env))
		}
		env.items = append(env.items, it)
	default:
		env.items = append(env.items, litem{open: true, any: unresolved})
	}
}

// itemOf names a FROM item and its columns. nil columns are not understood.
func itemOf(a *pg.Alias, name string, cols []lcol) litem {
	it := litem{name: name, cols: cols}
	if cols == nil {
		it.open, it.any = true, unresolved
	}
	if a == nil {
		return it
	}
	it.name = a.Aliasname
	it.cols = append([]lcol(nil), cols...)
	for i, n := range a.Colnames {
		if i < len(it.cols) {
			it.cols[i].name = n.GetString_().GetSval()
		}
	}
	return it
}

// expr returns the protection of an expression's value.
func (l *lineage) expr(n *pg.Node, env *lenv) *protection {
	if ref := n.GetColumnRef(); ref != nil {
		names, ok := parts(ref.Fields)
		if !ok {
			return l.star(ref, env)
		}
		return l.resolve(names, env)
	}
	var found []*protection
	eachNode(n, func(m protoreflect.Message) {
		switch x := m.Interface().(type) {
		case *pg.SubLink:
			found = append(found, unresolved)
		case *pg.WindowDef:
			if x.Name != "" || x.Refname != "" { // of a window by its name
				found = append(found, env.windows)
			}
		case *pg.ColumnRef:
			if names, ok := parts(x.Fields); ok {
				found = append(found, l.resolve(names, env))
			} else {
				found = append(found, l.star(x, env))
			}
		}
	})
	return derived(found...)
}

// star is a whole row in an expression.
func (l *lineage) star(*pg.ColumnRef, *lenv) *protection { return unresolved }

func (l *lineage) resolve(names []string, env *lenv) *protection {
	col, item := names[len(names)-1], ""
	if len(names) > 1 {
		item = names[len(names)-2]
	}
	for e := env; e != nil; e = e.outer {
		var found []*protection
		hit := false
		for _, it := range e.items {
			if item != "" && it.name != item {
				continue
			}
			listed := false
			for _, c := range it.cols {
				if c.name == col {
					listed, hit = true, true
					found = append(found, c.p)
				}
			}
			if !listed && it.open {
				hit = true
				found = append(found, it.any)
			}
		}
		switch {
		case hit && len(found) == 1:
			return found[0]
		case hit:
			return derived(found...)
		}
	}
	return unresolved
}

// eachNode calls f for every message below n.
func eachNode(n *pg.Node, f func(protoreflect.Message)) {
	if n == nil {
		return
	}
	var walk func(m protoreflect.Message)
	walk = func(m protoreflect.Message) {
		f(m)
		m.Range(func(d protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			if d.Message() == nil {
				return true
			}
			if d.IsList() {
				for i := range v.List().Len() {
					walk(v.List().Get(i).Message())
				}
			} else {
				walk(v.Message())
			}
			return true
		})
	}
	walk(n.ProtoReflect())
}

// eachPart calls f for every node from n on.
func eachPart(n *pg.Node, f func(*pg.Node)) {
	eachNode(n, func(m protoreflect.Message) {
		if n, ok := m.Interface().(*pg.Node); ok {
			f(n)
		}
	})
}

// eachColumn calls f for every column reference below n.
func eachColumn(n *pg.Node, f func(names []string, star bool)) {
	eachNode(n, func(m protoreflect.Message) {
		if c, ok := m.Interface().(*pg.ColumnRef); ok {
			names, ok := parts(c.Fields)
			f(names, !ok)
		}
	})
}
