package rewrite

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// The plan of a statement over protected relations tells of stored values, by
// estimates, by what the planner folds, by counts, and prints what definitions and
// filters hold. Which nodes it is made of may be seen where no masked column has a
// part in that: the statement only shows it.

func (w *walker) explain(s *pg.ExplainStmt, an *analysis) {
	i := newWalker(w.b, w.in)
	if s.Query.GetExecuteStmt() == nil {
		an = &analysis{} // what it explains is not done
	}
	i.statement(s.Query, an)
	if i.masks() {
		tells := !w.tellsNothing(s, i)
		for _, sub := range i.subs {
			if tells && !sub.guard.rel.System() {
				w.refuse("EXPLAIN of a statement on protected relation %s.%s tells of stored values", sub.guard.rel.Schema, sub.guard.rel.Name)
				w.remedy = "use EXPLAIN (COSTS OFF) of a SELECT from tables that does no more with masked columns than to show them"
			}
		}
		for _, x := range i.filteredWrites {
			w.refuse("EXPLAIN of a statement on protected relation %s.%s tells of rows that are filtered", x.guard.rel.Schema, x.guard.rel.Name)
		}
		w.printsDefinitions(s, i)
	}
	switch s.Query.GetNode().(type) {
	case *pg.Node_SelectStmt, *pg.Node_InsertStmt, *pg.Node_UpdateStmt, *pg.Node_DeleteStmt, *pg.Node_MergeStmt:
	case *pg.Node_ExecuteStmt: // of which nothing is known here but what it names
		for _, o := range i.objects {
			for _, r := range w.snap.ByName[o.Name] {
				if i.masks() && !r.System() && !w.guard(r).free() {
					w.refuse("EXPLAIN of a statement on protected relation %s.%s tells of stored values", r.Schema, r.Name)
				}
			}
		}
	default:
		w.refuse("EXPLAIN of %s is not understood", commandOf(s.Query))
	}
	i.finish()
	i.target.check(i)
	for _, c := range i.commands {
		w.command(c)
	}
	w.absorb(i)
}

// tellsNothing reports an EXPLAIN whose answer depends on no protected value.
func (w *walker) tellsNothing(s *pg.ExplainStmt, i *walker) bool {
	if s.Query.GetSelectStmt() == nil || !withoutFigures(s.Options) || i.writes || i.calls || len(i.lifted) > 0 {
		return false
	}
	u := i.used()
	if u.all {
		return false
	}
	for _, sub := range i.subs {
		g := sub.guard
		if g.filter != nil || g.sorted || w.b.byProtected(g) {
			return false
		}
		for col := range g.columns {
			if i.uses(u, sub, col) {
				return false
			}
		}
	}
	return true
}

// printsDefinitions refuses plans that hold what definitions do: those of views, of
// functions, of row security, of columns that are computed as they are read, predicates
// of indexes, options of foreign tables, and in the lists of writes defaults. Any may hold a
// protected value.
func (w *walker) printsDefinitions(s *pg.ExplainStmt, i *walker) {
	if i.calls {
		w.refuse("EXPLAIN could print what the definition of a function holds")
		w.remedy = "explain it without functions that are not built in"
	}
	verbose := slices.ContainsFunc(s.Options, func(n *pg.Node) bool {
		on, ok := isOn(n.GetDefElem().GetArg())
		return n.GetDefElem().GetDefname() == "verbose" && (on || !ok)
	})
	for _, o := range i.objects {
		for _, r := range w.snap.ByName[o.Name] {
			if r.Schema != o.Schema || r.System() || !w.planned(r) && !(verbose && o.Access != policy.Read) {
				continue
			}
			w.refuse("EXPLAIN could print what a definition of %s.%s holds", r.Schema, r.Name)
			w.remedy = "explain it on tables, without VERBOSE"
		}
	}
}

// planned reports whether something of a relation's definition becomes a part of the plan.
func (w *walker) planned(r *catalog.Relation) bool {
	if r.Kind == 'v' || r.Kind == 'f' || r.RowSecurity {
		return true
	}
	constant := func(expr string) bool { return strings.ContainsAny(expr, "'0123456789") }
	if w.major() >= 18 && slices.ContainsFunc(r.Columns, func(c *catalog.Column) bool { return c.Generated && constant(c.Expr) }) {
		return true // it may be VIRTUAL
	}
	if slices.ContainsFunc(r.Indexes, func(i *catalog.Index) bool { return constant(i.Predicate) }) {
		return true // rows of a bitmap are checked against it again
	}
	return slices.ContainsFunc(r.Children, func(oid uint32) bool {
		ch := w.snap.ByOID[oid]
		return ch != nil && w.planned(ch)
	})
}

// withoutFigures reports options by which EXPLAIN prints no estimate, runs nothing, and
// shows no list of columns.
func withoutFigures(options []*pg.Node) bool {
	off := map[string]bool{}
	for _, n := range options {
		d := n.GetDefElem()
		if _, twice := off[d.GetDefname()]; d == nil || twice { // the last one counts
			return false
		}
		on, ok := isOn(d.Arg)
		off[d.Defname] = ok && !on
		switch d.Defname {
		case "format":
		case "costs", "analyze", "verbose", "buffers", "settings", "wal", "timing", "summary", "memory":
			if !off[d.Defname] {
				return false
			}
		default:
			return false
		}
	}
	return off["costs"]
}
