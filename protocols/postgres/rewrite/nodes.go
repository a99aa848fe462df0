package rewrite

import (
	"fmt"

	pg "github.com/pganalyze/pg_query_go/v6"
)

func typeString(v any) string { return fmt.Sprintf("%T", v) }

func str(s string) *pg.Node { return &pg.Node{Node: &pg.Node_String_{String_: &pg.String{Sval: s}}} }

func strs(names ...string) []*pg.Node {
	out := make([]*pg.Node, len(names))
	for i, n := range names {
		out[i] = str(n)
	}
	return out
}

func colRef(names ...string) *pg.Node {
	return &pg.Node{Node: &pg.Node_ColumnRef{ColumnRef: &pg.ColumnRef{Fields: strs(names...)}}}
}

func target(name string, val *pg.Node) *pg.Node {
	return &pg.Node{Node: &pg.Node_ResTarget{ResTarget: &pg.ResTarget{Name: name, Val: val}}}
}

// typedNull returns NULL::pg_catalog.typ.
func typedNull(typ string) *pg.Node {
	null := &pg.Node{Node: &pg.Node_AConst{AConst: &pg.A_Const{Isnull: true}}}
	return &pg.Node{Node: &pg.Node_TypeCast{TypeCast: &pg.TypeCast{
		Arg:      null,
		TypeName: &pg.TypeName{Names: strs("pg_catalog", typ), Typemod: -1},
	}}}
}
