package rewrite

import (
	"maps"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// statement dispatches on the kind of a top-level statement. Each kind is
// decided here; what has no case refuses.
func (w *walker) statement(n *pg.Node, an *analysis) {
	w.commands = append(w.commands, commandOf(n))
	w.cond.whole = n
	switch x := n.GetNode().(type) {
	case *pg.Node_SelectStmt:
		if into := firstInto(x.SelectStmt); into != nil {
			w.commands[0] = "select_into"
			w.refuse("SELECT INTO is not understood: use CREATE TABLE AS")
			return
		}
		w.cond.top = x.SelectStmt
		w.match(x.SelectStmt)
		w.goesOut(n)
		w.query(n)
	case *pg.Node_InsertStmt, *pg.Node_UpdateStmt, *pg.Node_DeleteStmt, *pg.Node_MergeStmt:
		w.goesOut(n)
		w.query(n)
	case *pg.Node_CopyStmt:
		w.copy(x.CopyStmt)
	case *pg.Node_ExplainStmt:
		w.explain(x.ExplainStmt, an)
	case *pg.Node_PrepareStmt:
		w.prepare(x.PrepareStmt, an)
	case *pg.Node_ExecuteStmt:
		w.execute(x.ExecuteStmt, an)
	case *pg.Node_DeallocateStmt:
		w.deallocate(x.DeallocateStmt, an)
	case *pg.Node_DeclareCursorStmt:
		w.declare(x.DeclareCursorStmt, an)
	case *pg.Node_FetchStmt:
		w.fetch(x.FetchStmt, an)
	case *pg.Node_ClosePortalStmt:
		an.Closes = drop(an.Closes, an.Declares, x.ClosePortalStmt.Portalname)
	case *pg.Node_TransactionStmt:
		w.transaction(x.TransactionStmt)
	case *pg.Node_VariableSetStmt:
		w.set(x.VariableSetStmt)
	case *pg.Node_VariableShowStmt:
		w.show(x.VariableShowStmt)
	case *pg.Node_DiscardStmt:
		all := x.DiscardStmt.Target == pg.DiscardMode_DISCARD_ALL
		if all {
			an.Deallocates = drop(an.Deallocates, an.Prepares, "")
			an.Closes = drop(an.Closes, an.Declares, "")
		}
		w.ddl = all || x.DiscardStmt.Target == pg.DiscardMode_DISCARD_TEMP // temporary tables go
	case *pg.Node_LockStmt:
		for _, r := range x.LockStmt.Relations {
			w.relation(r.GetRangeVar(), policy.Lock)
		}
	default:
		w.define(n)
	}
}

// firstInto finds the INTO of a SELECT or of the first arm of a set operation.
func firstInto(s *pg.SelectStmt) *pg.IntoClause {
	for ; s != nil; s = s.Larg {
		if s.IntoClause != nil {
			return s.IntoClause
		}
	}
	return nil
}

// relation resolves a name that is used whole, not read by columns.
func (w *walker) relation(v *pg.RangeVar, a policy.Access) *guard {
	if v == nil {
		w.refuse("a relation's name is not understood")
		return nil
	}
	g, rels := w.guardOf(v)
	for _, r := range rels {
		w.object(r, a)
	}
	return g
}

// inner walks a statement that another one holds, with a walker of its own.
// params are the types of its parameters, where it says so; outermost, that its rows
// will go to the client as they come.
func (w *walker) inner(n *pg.Node, an *analysis, params []*pg.TypeName, outermost bool) *walker {
	i := newWalker(w.b, w.in)
	i.cond.typed = i.cond.typed || len(params) > 0
	i.outermost = outermost
	i.params = params
	i.statement(n, an)
	i.finish()
	i.target.check(i)
	w.absorb(i)
	i.overlooked()
	w.sights.tell(&i.sights)
	return i
}

func (w *walker) absorb(i *walker) {
	for _, o := range i.objects {
		w.objectNamed(o.Schema, o.Name, o.Access)
	}
	for f := range i.masked {
		w.masked[f] = true
	}
	for _, n := range i.becoming {
		w.becomes(n)
	}
	maps.Copy(w.filtered, i.filtered)
	w.bodies.join(i.bodies)
	if i.opaque != "" && w.opaque == "" {
		w.opaque, w.remedy, w.code, w.at = i.opaque, i.remedy, i.code, i.at
	}
	for _, c := range i.commands[1:] { // what it runs besides its own
		w.command(c)
	}
	w.unknown = w.unknown || i.unknown
	w.calls = w.calls || i.calls
	w.writes = w.writes || i.writes
	w.ddl = w.ddl || i.ddl
	w.sanitize = w.sanitize || i.sanitize
	w.changed = w.changed || i.changed
	w.local = w.local || i.local
	w.byValue = w.byValue || i.byValue
}

// absorbAnalysis takes over what was known of a named statement or cursor.
func (w *walker) absorbAnalysis(what, name string, p *query.Analysis) {
	if p.Opaque != "" {
		if w.opaque == "" {
			w.remedy = p.Remedy
		}
		w.refuse("%s %q: %s", what, name, p.Opaque)
	} else if p.ScopeID != w.scope.ID {
		w.refuse("%s %q was made before the policy changed", what, name)
		w.remedy = "make it again"
	}
	for _, o := range p.Objects {
		w.objectNamed(o.Schema, o.Name, o.Access)
	}
	for _, n := range p.Renames {
		w.becomes(n)
	}
	for _, f := range p.Masked {
		w.masked[f] = true
	}
	for _, r := range p.Filtered {
		w.filtered[r] = true
	}
	if len(p.Outputs)+len(p.Subjects) > 0 && !w.outermost {
		w.refuse("%s %q has columns that are masked on output, or say whose its rows are", what, name)
		w.remedy = "run it alone in its message"
	}
	w.outputs, w.origins, w.width = p.Outputs, p.Origins, p.Width
	w.sights.told, w.sights.shown = true, p.Subjects
	if p.Untold != "" {
		w.sights.why = []string{p.Untold}
	}
	w.bodies.took(p.Bodies)
	w.calls = w.calls || p.Calls
	w.looked(p.Matched, p.Lookups)
	w.writes = w.writes || p.Writes
	w.sanitize = w.sanitize || p.Sanitize
	w.ddl = w.ddl || p.DDL
}

// analysisOf makes the analysis that a name stands for.
func (w *walker) analysisOf(i *walker) *query.Analysis {
	return &query.Analysis{
		Commands: i.commands, Objects: i.objects, Renames: i.becoming, Bodies: i.bodies.list(), Masked: sorted(i.masked), Filtered: sortedRelations(i.filtered), Writes: i.writes,
		Matched: sorted(i.matched), Lookups: i.lookups, Subjects: i.sights.shown, Untold: i.sights.untold(),
		Calls: i.calls, Outputs: i.outputs, Origins: i.origins, Width: i.width, Opaque: i.opaque, Remedy: i.remedy, Sanitize: i.sanitize, DDL: i.ddl, Version: w.snap.Version, ScopeID: w.scope.ID,
	}
}

func (w *walker) prepare(s *pg.PrepareStmt, an *analysis) {
	var params []*pg.TypeName
	for _, t := range s.Argtypes {
		w.typeName(t.GetTypeName())
		params = append(params, t.GetTypeName())
	}
	i := w.inner(s.Query, an, params, w.outermost)
	if an.Prepares == nil {
		an.Prepares = map[string]*query.Analysis{}
	}
	an.Prepares[s.Name] = w.analysisOf(i)
}

func (w *walker) execute(s *pg.ExecuteStmt, an *analysis) {
	w.exprs(s.Params)
	p := w.named("prepared statement", query.NoStatement, s.Name, an.Prepares, an.Deallocates, w.in.Prepared)
	if p == nil {
		return
	}
	w.absorbAnalysis("prepared statement", s.Name, p)
	if p.Version != w.snap.Version {
		w.refuse("prepared statement %q was made before the catalog changed", s.Name)
		w.remedy = "prepare it again"
	}
	if len(p.Commands) > 0 {
		w.commands = p.Commands
	}
}

// named finds what a name stands for when its statement runs: what the text
// itself did with the name before counts.
func (w *walker) named(what, code, name string, made map[string]*query.Analysis, gone []string, session func(string) *query.Analysis) *query.Analysis {
	w.local = true
	p := made[name]
	dropped := slices.Contains(gone, name) || slices.Contains(gone, "*")
	switch {
	case dropped:
		p = nil // made again or not: one text is not taken at its word
	case p == nil && session != nil:
		p = session(name)
	}
	switch {
	case p != nil:
	case dropped:
		w.refuse("%s %q is dropped by this text", what, name)
	case w.opaque == "":
		w.code = code
		w.refuse("%s \"%s\" does not exist", what, name[:min(len(name), 256)])
	}
	return p
}

func (w *walker) deallocate(s *pg.DeallocateStmt, an *analysis) {
	name := s.Name
	if s.Isall {
		name = ""
	}
	an.Deallocates = drop(an.Deallocates, an.Prepares, name)
}

// drop notes that a text drops a name, or all ("") of them, and forgets what
// the text itself made of it before.
func drop(gone []string, made map[string]*query.Analysis, name string) []string {
	if name == "" {
		clear(made)
		return append(gone, "*")
	}
	delete(made, name)
	return append(gone, name)
}

func (w *walker) declare(s *pg.DeclareCursorStmt, an *analysis) {
	const hold = 0x20 // CURSOR_OPT_HOLD: the server stores its rows
	i := w.inner(s.Query, an, nil, w.outermost && s.Options&hold == 0)
	if an.Declares == nil {
		an.Declares = map[string]*query.Analysis{}
	}
	p := w.analysisOf(i)
	p.Matched, p.Lookups = nil, 0 // it has looked, whatever is fetched of it
	an.Declares[s.Portalname] = p
	w.looked(sorted(i.matched), i.lookups)
}

// fetch: an open cursor keeps the plan that it was opened with, whatever
// becomes of the catalog. Portals of the protocol that do not are opaque.
func (w *walker) fetch(s *pg.FetchStmt, an *analysis) {
	if p := w.named("cursor", query.NoCursor, s.Portalname, an.Declares, an.Closes, w.in.Cursor); p != nil {
		w.absorbAnalysis("cursor", s.Portalname, p)
	}
}

func (w *walker) transaction(s *pg.TransactionStmt) {
	switch s.Kind {
	case pg.TransactionStmtKind_TRANS_STMT_PREPARE, pg.TransactionStmtKind_TRANS_STMT_COMMIT_PREPARED, pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_PREPARED:
		w.refuse("two-phase commit is not understood")
	}
}
