package rewrite

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
)

// A MERGE reads a source, which is substituted as any item of a FROM clause, and writes a
// target, which is held to what INSERT, UPDATE and DELETE are: ON and WHEN are its
// conditions. What is not matched in rows that are left out would be taken for new,
// and row security refuses aloud what the others pass over; neither is understood.

func (w *walker) merge(s *pg.MergeStmt) {
	w.command("merge")
	defer w.with(s.WithClause)()
	if s.Relation == nil {
		w.refuse("MERGE is not understood")
		return
	}
	var accesses []policy.Access
	whole, unmatched := false, false
	does := func(a policy.Access) {
		if !slices.Contains(accesses, a) {
			accesses = append(accesses, a)
		}
	}
	for _, n := range s.MergeWhenClauses {
		c := n.GetMergeWhenClause()
		switch c.GetCommandType() {
		case pg.CmdType_CMD_NOTHING:
		case pg.CmdType_CMD_INSERT:
			does(policy.Insert)
			whole = whole || len(c.TargetList) == 0
		case pg.CmdType_CMD_UPDATE:
			does(policy.Update)
			w.updates(c.TargetList)
		case pg.CmdType_CMD_DELETE:
			does(policy.Delete)
		default:
			w.refuse("MERGE is not understood")
			return
		}
		unmatched = unmatched || c.MatchKind == pg.MergeMatchKind_MERGE_WHEN_NOT_MATCHED_BY_SOURCE
	}
	rels := w.writeTo(s.Relation, whole, accesses...)
	for _, r := range rels {
		w.object(r, policy.Read)
		if g := w.guard(r); w.opaque == "" && (g.filter != nil || len(g.columns) > 0 && r.RowSecurity) {
			w.refuse("MERGE into %s.%s, of which rows are left out, is not understood", r.Schema, r.Name)
			w.remedy = "use INSERT, UPDATE or DELETE"
		}
	}
	w.fromItem(s.SourceRelation)
	w.expr(s.JoinCondition)
	for _, n := range s.MergeWhenClauses {
		c := n.GetMergeWhenClause()
		w.expr(c.Condition)
		w.behindConditions(func() {
			w.setTargets(c.TargetList)
			w.exprs(c.Values)
		})
	}
	w.versions()
	w.behindConditions(func() { w.returning(&s.ReturningList, s.Relation, []*pg.Node{s.SourceRelation}) })
	w.orderWrite(s.Relation, &s.JoinCondition, false, unmatched)
}
