package rewrite

import (
	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
)

// copyOptions are the options that change the form of the data only.
var copyOptions = map[string]bool{
	"format": true, "delimiter": true, "null": true, "header": true, "quote": true, "escape": true,
	"force_quote": true, "force_not_null": true, "force_null": true, "freeze": true,
}

func (w *walker) copy(c *pg.CopyStmt) {
	if c.IsProgram || c.Filename != "" {
		w.refuse("COPY to or from a file or program of the server is not understood")
		return
	}
	for _, o := range c.Options {
		if d := o.GetDefElem(); d == nil || !copyOptions[d.Defname] {
			w.refuse("COPY option %s is not understood", d.GetDefname())
			return
		}
	}
	if c.IsFrom {
		w.commands[0] = "copy_from"
		w.copyFrom(c)
		return
	}
	w.commands[0] = "copy_to"
	if c.Query != nil {
		w.cond.top = c.Query.GetSelectStmt()
		w.query(c.Query)
		return
	}
	g, rels := w.guardOf(c.Relation)
	if g == nil {
		return
	}
	if !g.replaced() {
		w.read(rels)
		w.use(g)
		return
	}
	// COPY t TO becomes COPY (SELECT ... FROM ONLY t) TO, without generated
	// columns, which the walk then treats like any query.
	q := &pg.SelectStmt{LimitOption: pg.LimitOption_LIMIT_OPTION_DEFAULT, Op: pg.SetOperation_SETOP_NONE}
	if len(c.Attlist) > 0 {
		names, ok := parts(c.Attlist)
		if !ok {
			w.refuse("the column list of COPY is not understood")
			return
		}
		for _, n := range names {
			q.TargetList = append(q.TargetList, target("", colRef(n)))
		}
	} else {
		for _, col := range g.rel.Columns {
			if !col.Generated {
				q.TargetList = append(q.TargetList, target("", colRef(col.Name)))
			}
		}
	}
	v := c.Relation
	v.Inh = false
	q.FromClause = []*pg.Node{{Node: &pg.Node_RangeVar{RangeVar: v}}}
	c.Relation, c.Attlist = nil, nil
	c.Query = &pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: q}}
	w.changed = true
	w.cond.top = q
	w.query(c.Query)
}

func (w *walker) copyFrom(c *pg.CopyStmt) {
	if c.Relation == nil || c.Query != nil {
		w.refuse("COPY FROM is not understood")
		return
	}
	names, ok := parts(c.Attlist)
	if !ok && len(c.Attlist) > 0 {
		w.refuse("the column list of COPY is not understood")
		return
	}
	w.writeTo(c.Relation, policy.Insert, len(names) == 0)
	for _, n := range names {
		w.names[n] = true
	}
	w.expr(c.WhereClause)
}
