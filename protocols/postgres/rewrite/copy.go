package rewrite

import (
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/scrub"
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
	form := copyForm(c.Options)
	if isLineEnd(form.Quote) || isLineEnd(form.Escape) {
		w.refuse("COPY with the end of a line for a quote is not understood") // nobody could read it
		return
	}
	shows := form.Keeps() && w.in != nil && w.in.Masks // what is masked on output
	switch {
	case c.Query != nil && shows:
		w.goesOut(c.Query)
	case c.Query != nil && w.in != nil && w.in.Subjects && len(w.b.subjects) > 0:
		w.spellOut(c.Query.GetSelectStmt())
	}
	form.Columns = w.copyColumns(c)
	w.copies = append(w.copies, form)
	w.byValue = w.byValue || len(c.Options) > 0
	if c.Query != nil {
		w.cond.top = c.Query.GetSelectStmt()
		w.query(c.Query)
		return
	}
	g, rels := w.guardOf(c.Relation)
	if g == nil {
		return
	}
	if !g.replaced() && !w.tellsCopied(rels) {
		w.read(rels)
		w.use(g)
		return
	}
	if k := g.rel.Kind; k != 'r' {
		// The server copies tables only: so does what is sent in its place.
		w.refuse("COPY of %s.%s, which is not a table, is not understood", g.rel.Schema, g.rel.Name)
		w.remedy = "use COPY (SELECT ...) TO"
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
	if shows {
		w.goesOut(c.Query)
		w.copies[len(w.copies)-1].Columns = w.copyColumns(c)
	}
	w.query(c.Query)
}

// copyForm is how a COPY with these options writes its rows; the zero Copy where
// they are not understood. What the server refuses needs no answer here.
func copyForm(options []*pg.Node) scrub.Copy {
	c := scrub.Copy{Format: scrub.CopyText, Delimiter: '\t', Null: `\N`}
	given, named := map[string]string{}, map[string]bool{}
	for _, o := range options {
		d, ok := o.GetDefElem(), true
		if named[d.Defname] {
			return scrub.Copy{} // the server takes none twice
		}
		named[d.Defname] = true
		switch d.Defname {
		case "header":
			if c.Header, ok = isOn(d.Arg); ok && d.Arg.GetInteger() != nil { // which is not written again
				d.Arg = str(strconv.FormatBool(c.Header))
			}
		case "force_quote":
			if c.QuotesAll = d.Arg.GetAStar() != nil; !c.QuotesAll {
				c.Quotes, ok = parts(d.Arg.GetList().GetItems())
			}
		case "format", "delimiter", "null", "quote", "escape":
			s := d.GetArg().GetString_()
			given[d.Defname], ok = s.GetSval(), s != nil
		}
		if !ok {
			return scrub.Copy{}
		}
	}
	switch given["format"] {
	case "", "text":
	case "binary":
		return scrub.Copy{Format: scrub.CopyBinary}
	case "csv":
		c.Format, c.Delimiter, c.Quote, c.Escape, c.Null = scrub.CopyCSV, ',', '"', '"', ""
	default:
		return scrub.Copy{}
	}
	one := func(name string, to *byte) bool {
		v, ok := given[name]
		if ok && len(v) == 1 {
			*to = v[0]
		}
		return !ok || len(v) == 1
	}
	ok := one("delimiter", &c.Delimiter) && one("quote", &c.Quote)
	if given["quote"] != "" {
		c.Escape = c.Quote
	}
	if named["null"] {
		c.Null = given["null"]
	}
	if !ok || !one("escape", &c.Escape) {
		return scrub.Copy{}
	}
	return c
}

func isLineEnd(b byte) bool { return b == '\n' || b == '\r' }

// isOn reads an option that is on or off; ok is false for anything else.
func isOn(arg *pg.Node) (on, ok bool) {
	switch x := arg.GetNode().(type) {
	case nil:
		return true, true
	case *pg.Node_Boolean:
		return x.Boolean.Boolval, true
	case *pg.Node_Integer:
		return x.Integer.Ival == 1, x.Integer.Ival == 0 || x.Integer.Ival == 1
	case *pg.Node_String_:
		switch strings.ToLower(x.String_.Sval) {
		case "true", "on":
			return true, true
		case "false", "off":
			return false, true
		}
	}
	return false, false
}

// copyColumns returns what the columns of a COPY are called, nil where that is
// not plain.
func (w *walker) copyColumns(c *pg.CopyStmt) (out []string) {
	if c.Query == nil {
		if names, ok := parts(c.Attlist); ok && len(names) > 0 {
			return names
		}
		if rels := w.snap.ByName[c.Relation.GetRelname()]; len(rels) == 1 {
			for _, col := range rels[0].Columns {
				if !col.Generated {
					out = append(out, col.Name)
				}
			}
		}
		return out
	}
	list := c.Query.GetSelectStmt().GetTargetList()
	if w.root != nil {
		list = leftmost(w.root).TargetList
	}
	for _, t := range list {
		r := t.GetResTarget()
		name := r.GetName()
		if fields := r.GetVal().GetColumnRef().GetFields(); name == "" && len(fields) > 0 {
			last := fields[len(fields)-1]
			if last.GetAStar() != nil {
				return nil
			}
			name = last.GetString_().GetSval()
		}
		out = append(out, name)
	}
	return out
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
	w.writeTo(c.Relation, len(names) == 0, policy.Insert)
	for _, n := range names {
		w.names[n] = true
	}
	w.expr(c.WhereClause)
}
