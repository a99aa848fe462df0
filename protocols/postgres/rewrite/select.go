package rewrite

import (
	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
)

// query walks a statement that returns rows, or a data-modifying one in WITH.
func (w *walker) query(n *pg.Node) {
	defer w.leave()
	defer w.within()()
	w.sights.level++
	defer func() { w.sights.level-- }()
	if !w.enter() {
		return
	}
	switch x := n.GetNode().(type) {
	case *pg.Node_SelectStmt:
		w.selectStmt(x.SelectStmt)
	case *pg.Node_InsertStmt:
		w.insert(x.InsertStmt)
	case *pg.Node_UpdateStmt:
		w.update(x.UpdateStmt)
	case *pg.Node_DeleteStmt:
		w.delete(x.DeleteStmt)
	case *pg.Node_MergeStmt:
		w.merge(x.MergeStmt)
	default:
		w.refuse("%s is not understood as a query", kindOf(n))
	}
}

func (w *walker) selectStmt(s *pg.SelectStmt) {
	defer w.leave()
	if !w.enter() {
		return
	}
	if s.IntoClause != nil {
		w.refuse("SELECT INTO is not understood here")
		return
	}
	defer w.with(s.WithClause)()
	if s.Larg != nil {
		w.selectStmt(s.Larg)
	}
	if s.Rarg != nil {
		w.selectStmt(s.Rarg)
	}
	w.from(s.FromClause)
	// Of the outermost query these see only rows for which all conditions hold.
	output := func(walk func()) { walk() }
	if s == w.cond.top && s.Larg == nil {
		output = w.behindConditions
	}
	output(func() {
		for _, n := range s.DistinctClause {
			w.expr(n) // an empty node is DISTINCT without ON
		}
		w.targets(s.TargetList)
	})
	w.expr(s.WhereClause)
	output(func() { w.exprs(s.GroupClause) })
	if len(s.GroupClause) > 0 {
		w.groups = append(w.groups, s)
	}
	w.expr(s.HavingClause)
	output(func() {
		for _, n := range s.WindowClause {
			w.window(n.GetWindowDef())
		}
	})
	for _, n := range s.ValuesLists {
		w.exprs(n.GetList().GetItems())
	}
	output(func() { w.exprs(s.SortClause) })
	w.behindConditions(func() { // there are no columns in these
		w.expr(s.LimitOffset)
		w.expr(s.LimitCount)
	})
	for _, n := range s.LockingClause {
		w.cond.locks = true
		l := n.GetLockingClause()
		if l == nil {
			w.refuse("a locking clause is not understood")
			return
		}
		for _, r := range l.LockedRels { // names of FROM items
			if v := r.GetRangeVar(); v == nil || v.Schemaname != "" {
				w.refuse("a locking clause is not understood")
			}
		}
		for _, o := range w.objects {
			if o.Access == policy.Read {
				w.objectNamed(o.Schema, o.Name, policy.Lock)
			}
		}
	}
}

// with walks the common table expressions and brings their names into scope
// until the returned function is called.
func (w *walker) with(c *pg.WithClause) (leave func()) {
	outer := len(w.ctes)
	leave = func() { w.ctes = w.ctes[:outer] }
	if c == nil {
		return leave
	}
	if c.Recursive { // every name is in scope in every query
		for _, n := range c.Ctes {
			w.ctes = append(w.ctes, n.GetCommonTableExpr().GetCtename())
		}
	}
	for _, n := range c.Ctes {
		e := n.GetCommonTableExpr()
		if e == nil {
			w.refuse("a WITH clause is not understood")
			return leave
		}
		if len(e.Aliascolnames) > 0 {
			w.renamed = true
		}
		if c := e.SearchClause; c != nil {
			w.follows(c.SearchColList)
		}
		if c := e.CycleClause; c != nil {
			w.follows(c.CycleColList)
			w.expr(c.CycleMarkValue)
			w.expr(c.CycleMarkDefault)
		}
		w.query(e.Ctequery)
		if !c.Recursive {
			w.ctes = append(w.ctes, e.Ctename)
		}
	}
	return leave
}

// follows walks the columns of a SEARCH or CYCLE clause, which makes new ones of them
// and compares them with each other.
func (w *walker) follows(columns []*pg.Node) {
	names, ok := parts(columns)
	if !ok {
		w.refuse("SEARCH and CYCLE are not understood")
		return
	}
	w.overloaded("=")
	w.overloaded("<>")
	w.every, w.renamed = true, true
	for _, n := range names {
		w.names[n], w.joins[n] = true, true
	}
}

// targets walks a select list or a RETURNING list.
func (w *walker) targets(list []*pg.Node) {
	for _, n := range list {
		t := n.GetResTarget()
		if t == nil || len(t.Indirection) > 0 {
			w.refuse("an item of the select list is not understood")
			return
		}
		start := len(w.bare)
		call, _ := parts(t.Val.GetFuncCall().GetFuncname())
		w.expr(t.Val)
		if t.Name != "" && w.cond.behind == 0 {
			w.cond.aliased[t.Name] = true
		}
		if t.Name != "" {
			w.renames[t.Name] = append(w.renames[t.Name], w.bare[start:]...)
		} else if len(call) > 0 && t.Val.GetFuncCall() == nil {
			t.Name = call[len(call)-1] // the call gave way to NULL: keep its name
		}
	}
}
