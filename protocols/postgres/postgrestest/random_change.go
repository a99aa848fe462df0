package postgrestest

import "strings"

// change is an INSERT, UPDATE, DELETE or MERGE.
func (g *random) change() string {
	var written []relation
	for _, r := range g.relations {
		if r.insert != "" {
			written = append(written, r)
		}
	}
	mark := len(g.scope)
	defer func() { g.scope = g.scope[:mark] }()
	r := &written[g.n(len(written))]
	into, target := g.written(r), r.name[strings.Index(r.name, ".")+1:]
	columns := strings.Fields(r.insert)
	it := item{target, r.columns, g.reach != OpenColumns || !r.guarded}
	last := columns[len(columns)-1]
	switch g.n(7) {
	case 1, 2:
		set := last + " = "
		s := "UPDATE " + g.pick("", "ONLY ") + into
		g.add(&it)
		set += g.pick("DEFAULT", g.become(r.kind(last)), "("+g.expand("{one "+r.kind(last)+"}")+")")
		if len(columns) > 2 && g.n(3) == 1 {
			set = "(" + columns[1] + ", " + last + ") = (" + g.become(r.kind(columns[1])) + ", " + g.become(r.kind(last)) + ")"
		}
		s += " SET " + set
		if g.n(3) == 1 {
			s += " FROM " + g.from()
		}
		return s + g.where() + g.returning()
	case 3:
		s := "DELETE FROM " + into
		g.add(&it)
		if g.n(3) == 1 {
			s += " USING " + g.from()
		}
		return s + g.where() + g.returning()
	case 4:
		s := "MERGE INTO " + into + " USING (" + g.query([]string{"int", "text"}) + ") s (n, v)"
		g.add(&it)
		g.add(&item{"s", []column{{name: "n", kind: "int"}, {name: "v", kind: "text"}}, true})
		s += " ON " + g.become("bool")
		return s + g.pick(" WHEN MATCHED THEN DELETE", " WHEN MATCHED AND "+g.become("bool")+" THEN UPDATE SET "+last+" = "+g.become(r.kind(last)), " WHEN NOT MATCHED THEN DO NOTHING")
	}
	var kinds []string
	for _, c := range columns {
		kinds = append(kinds, r.kind(c))
	}
	s := "INSERT INTO " + into + " (" + strings.Join(columns, ", ") + ") " + g.pick("VALUES ("+g.values(kinds)+")", g.query(kinds))
	switch g.n(5) {
	case 1:
		s += " ON CONFLICT DO NOTHING"
	case 2:
		s = strings.Replace(s, into, r.name+" AS "+quotedTarget, 1)
		s += " ON CONFLICT (" + columns[0] + ") DO UPDATE SET " + last + " = " + g.pick("excluded."+last, quotedTarget+"."+last, "DEFAULT")
		it.name = quotedTarget
	}
	g.add(&it)
	return s + g.returning()
}

const quotedTarget = `"the target"`

func (r *relation) kind(name string) string {
	for _, c := range r.columns {
		if c.name == name {
			return c.kind
		}
	}
	return "text"
}

func (g *random) where() string {
	if g.n(3) == 0 {
		return ""
	}
	return " WHERE " + g.become("bool")
}

// returning asks for what was changed.
func (g *random) returning() string {
	switch g.n(4) {
	case 1:
		return " RETURNING " + g.become("any") + ", " + g.become("text")
	case 2:
		if s := g.star(); s != "" {
			return " RETURNING " + s
		}
	case 3:
		return " RETURNING " + g.row()
	}
	return ""
}
