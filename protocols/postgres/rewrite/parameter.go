package rewrite

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A parameter without a type of its own gets the one that the server meets it with
// first. A cast of it to that type does nothing. To another it is a conversion,
// which in a generic plan is made, and fails, for each row.

// use is how often a statement has a parameter, and to what it casts it.
type use struct {
	n, casts int
	to       string // the type of all casts; "" if they differ, or do more than name one
}

// uses counts the parameters of the client's statement.
func uses(n *pg.Node) map[int32]use {
	out := map[int32]use{}
	eachNode(n, func(m protoreflect.Message) {
		switch x := m.Interface().(type) {
		case *pg.ParamRef:
			u := out[x.Number]
			u.n++
			out[x.Number] = u
		case *pg.TypeCast:
			p := x.Arg.GetParamRef()
			if p == nil {
				return
			}
			u := out[p.Number]
			to := castTo(x.TypeName)
			if u.casts > 0 && u.to != to {
				to = ""
			}
			u.casts, u.to = u.casts+1, to
			out[p.Number] = u
		}
	})
	return out
}

// castTo names a type that a cast gives and nothing else: no length, no array.
func castTo(t *pg.TypeName) string {
	names, ok := parts(t.GetNames())
	if !ok || t.Typemod != -1 || len(t.Typmods) > 0 || len(t.ArrayBounds) > 0 || t.Setof || t.PctType {
		return ""
	}
	return strings.Join(names, ".")
}

// alike reports whether a parameter has the type that it is cast to here: wherever
// it stands it is cast to this one.
func (c *conditions) alike(number int32) bool {
	u := c.parameters()[number]
	return !c.typed && u.to != "" && u.casts == u.n
}

// once reports whether a parameter stands in one place only.
func (c *conditions) once(number int32) bool { return c.parameters()[number].n == 1 }

// parameters are those of the statement. They are counted before anything of it is
// replaced that has some.
func (c *conditions) parameters() map[int32]use {
	if c.uses == nil {
		c.uses = uses(c.whole)
	}
	return c.uses
}
