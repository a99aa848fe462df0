package rewrite

import (
	pg "github.com/pganalyze/pg_query_go/v6"
)

// goesOut notes that the rows of a query are what the client is sent, if they are, and
// puts names in the place of its stars. What a write returns is a list like that of a
// SELECT from the relation that it writes and the items of its FROM or USING.
func (w *walker) goesOut(n *pg.Node) {
	if !w.outermost {
		return
	}
	var list *[]*pg.Node
	write := func(target *pg.RangeVar, from []*pg.Node, with *pg.WithClause, returning *[]*pg.Node) {
		if target == nil || len(*returning) == 0 {
			return
		}
		item := &pg.Node{Node: &pg.Node_RangeVar{RangeVar: target}}
		w.returns = &substitution{node: item, v: target}
		w.root = &pg.SelectStmt{Op: pg.SetOperation_SETOP_NONE, TargetList: *returning, FromClause: append([]*pg.Node{item}, from...), WithClause: with}
		list = returning
	}
	switch x := n.GetNode().(type) {
	case *pg.Node_SelectStmt:
		w.root = x.SelectStmt
	case *pg.Node_InsertStmt:
		s := x.InsertStmt
		write(s.Relation, nil, s.WithClause, &s.ReturningList)
	case *pg.Node_UpdateStmt:
		s := x.UpdateStmt
		write(s.Relation, s.FromClause, s.WithClause, &s.ReturningList)
	case *pg.Node_DeleteStmt:
		s := x.DeleteStmt
		write(s.Relation, s.UsingClause, s.WithClause, &s.ReturningList)
	}
	if w.root == nil || !w.in.Masks && !w.in.Subjects {
		return
	}
	w.spellOut(w.root)
	if list != nil {
		*list = w.root.TargetList
	}
}

// returned reports that a write does nothing with a protected column of what it writes
// but to return it, to be masked on output. A generated one is computed from what the
// statement sets.
func (w *walker) returned(g *guard, col string) bool {
	return w.returns != nil && w.returns.guard == g && w.returns.plain[col] && !w.assigned[col] && !g.rel.Column(col).Generated
}
