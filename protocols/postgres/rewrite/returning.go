package rewrite

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
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
		items := append([]*pg.Node{item}, from...)
		if n.GetMergeStmt() != nil { // whose star has its source first
			items = append(slices.Clone(from), item)
		}
		w.root = &pg.SelectStmt{Op: pg.SetOperation_SETOP_NONE, TargetList: *returning, FromClause: items, WithClause: with}
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
	case *pg.Node_MergeStmt:
		s := x.MergeStmt
		write(s.Relation, []*pg.Node{s.SourceRelation}, s.WithClause, &s.ReturningList)
	}
	if w.root == nil || !w.in.Masks && !w.in.Subjects {
		return
	}
	w.spellOut(w.root)
	if list != nil {
		*list = w.root.TargetList
	}
}

// back is an item of a RETURNING list that is a protected column of what is written.
type back struct {
	item  *pg.ResTarget
	v     *pg.RangeVar // that is written
	guard *guard
	of    string // that its columns are qualified by
	col   string
}

// returning walks what a write of v returns; from is what it reads besides. What is for
// certain a protected column of what it writes is not looked at as a name that could be
// tested: its mask takes its place.
func (w *walker) returning(list *[]*pg.Node, v *pg.RangeVar, from []*pg.Node) {
	g, rels := w.guardOf(v)
	if g == nil || len(rels) != 1 || len(g.columns) == 0 || len(*list) == 0 {
		w.targets(*list)
		return
	}
	of, schema := v.Relname, g.rel.Schema
	if v.Alias != nil {
		of, schema = v.Alias.Aliasname, ""
	}
	alone, others := len(from) == 0, map[string]bool{}
	for _, n := range from {
		goBy(n, others)
	}
	// is reports whether names that qualify something mean what is written.
	is := func(names []string) bool {
		switch len(names) {
		case 0:
			return alone
		case 1:
			return names[0] == of && !others[of]
		case 2:
			return names[0] == schema && names[1] == of && !others[of]
		}
		return false
	}
	var out []*pg.Node
	for _, n := range *list {
		t := n.GetResTarget()
		fields := t.GetVal().GetColumnRef().GetFields()
		if len(fields) == 0 {
			out = append(out, n)
			continue
		}
		qualifier, ok := parts(fields[:len(fields)-1])
		ok = (ok || len(fields) == 1) && is(qualifier)
		if !ok || !isStar(n) {
			out = append(out, n)
			if col := fields[len(fields)-1].GetString_().GetSval(); ok && g.columns[col] != nil {
				w.gives(t, back{t, v, g, of, col})
			}
			continue
		}
		for _, c := range g.rel.Columns {
			n := target("", colRef(of, c.Name))
			out = append(out, n)
			if g.columns[c.Name] != nil {
				t := n.GetResTarget()
				w.gives(t, back{t, v, g, of, c.Name})
			}
		}
	}
	*list = out
	if w.returns != nil && w.returns.v == v {
		w.root.TargetList = out
	}
	w.targets(out)
}

func (w *walker) gives(t *pg.ResTarget, x back) {
	if w.backs == nil {
		w.backs = map[*pg.ColumnRef]back{}
	}
	w.backs[t.Val.GetColumnRef()] = x
}

// goBy adds the names that an item of a FROM clause may go by.
func goBy(n *pg.Node, names map[string]bool) {
	add := func(own string, a *pg.Alias) {
		if a != nil {
			own = a.Aliasname
		}
		names[own] = true
	}
	switch x := n.GetNode().(type) {
	case *pg.Node_RangeVar:
		add(x.RangeVar.Relname, x.RangeVar.Alias)
	case *pg.Node_RangeTableSample:
		goBy(x.RangeTableSample.Relation, names)
	case *pg.Node_RangeSubselect:
		add("", x.RangeSubselect.Alias)
	case *pg.Node_RangeTableFunc:
		add("", x.RangeTableFunc.Alias)
	case *pg.Node_RangeFunction:
		add("", x.RangeFunction.Alias)
		for _, f := range x.RangeFunction.Functions {
			for _, c := range f.GetList().GetItems() { // goes by the function's name
				if call, ok := parts(c.GetFuncCall().GetFuncname()); ok {
					names[call[len(call)-1]] = true
				}
			}
		}
	case *pg.Node_JoinExpr:
		add("", x.JoinExpr.Alias)
		add("", x.JoinExpr.JoinUsingAlias)
		goBy(x.JoinExpr.Larg, names)
		goBy(x.JoinExpr.Rarg, names)
	}
}

// maskReturned puts masks in the place of protected columns that writes return, but of
// those that are masked on output.
func (w *walker) maskReturned() {
	for _, x := range w.backs {
		if w.returns != nil && w.returns.v == x.v && w.returns.plain[x.col] {
			continue
		}
		p := x.guard.columns[x.col]
		val := proto.Clone(w.shown(x.col, p)).(*pg.Node)
		eachNode(val, func(m protoreflect.Message) {
			if c, ok := m.Interface().(*pg.ColumnRef); ok {
				c.Fields = append(strs(x.of), c.Fields...)
			}
		})
		x.item.Val = val
		if x.item.Name == "" {
			x.item.Name = x.col
		}
		for _, f := range p.fields {
			w.masked[f] = true
		}
		w.changed = true
	}
}

// returned reports that a write does nothing with a protected column of what it writes
// but to return it, to be masked on output.
func (w *walker) returned(g *guard, col string) bool {
	return w.returns != nil && w.returns.guard == g && w.returns.plain[col]
}

// chosen reports that a column of what is written may hold what the statement sets: a
// generated one is computed of that. The mask of a value of the agent's choice, with a
// key in it, would tell of all that are the same.
func (w *walker) chosen(sub *substitution, col string) bool {
	return sub == w.returns && (w.assigned[col] || sub.guard.rel.Column(col).Generated)
}
