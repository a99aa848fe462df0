package rewrite

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The parser reads a text as PostgreSQL 17 does. What servers of other majors
// read as something else, and not merely refuse, is here.

// major is the server's.
func (w *walker) major() int { return w.snap.Server / 10000 }

// called returns the name of the function that the server calls where the
// parser found names.
func (w *walker) called(names []string) []string {
	if w.in == nil || len(names) != 2 || names[0] != "pg_catalog" {
		return names // of a definition, as the server itself printed it
	}
	switch m := w.major(); {
	case names[1] == "extract" && m < 14: // EXTRACT(year FROM day)
		return []string{"pg_catalog", "date_part"}
	case names[1] == "json_object" && m < 16: // no keyword there: any on the path
		return names[1:]
	}
	return names
}

// parted has an expression of our own call date_part, which servers before 14
// have in place of extract. Of a date it casts to a timestamp, so that one after
// the year 294276 is an error there.
func parted(n *pg.Node) {
	eachNode(n, func(m protoreflect.Message) {
		f, ok := m.Interface().(*pg.FuncCall)
		if !ok {
			return
		}
		if names, ok := parts(f.Funcname); ok && strings.Join(names, ".") == "pg_catalog.extract" {
			f.Funcname = strs("pg_catalog", "date_part")
		}
	})
}

// typed is called for types.
func (w *walker) typed(names []string) []string {
	if w.in != nil && w.major() < 17 && len(names) == 2 && names[0] == "pg_catalog" && names[1] == "json" {
		return names[1:] // no keyword there: any on the path
	}
	return names
}

// versions brings into scope what RETURNING can name besides the target: both
// versions of its row, from 18 on.
func (w *walker) versions() {
	if w.major() >= 18 {
		w.addItem("old", &item{})
		w.addItem("new", &item{})
	}
}

// laterNumber reports that a statement has a number which servers before 15
// read as one that ends sooner, and a name: 1_000 is 1 AS _000, 0x1F is 0 AS
// x1F. (15 refuses them.)
func laterNumber(sql string, n *pg.Node) (found bool) {
	eachNode(n, func(m protoreflect.Message) {
		c, ok := m.Interface().(*pg.A_Const)
		if !ok || c.GetIval() == nil && c.GetFval() == nil {
			return
		}
		rest, minus := strings.CutPrefix(sql[min(max(int(c.Location), 0), len(sql)):], "-")
		rest = strings.TrimLeft(rest, " \t\n\r\f\v")
		if rest == "" || !strings.ContainsRune("0123456789.", rune(rest[0])) {
			found = found || minus // a comment stands in between
			return                 // else a word: BEGIN READ ONLY
		}
		end := strings.IndexFunc(rest, func(r rune) bool { return !strings.ContainsRune("0123456789.eE", r) })
		found = found || end > 0 && strings.ContainsRune("_xXoObB", rune(rest[end]))
	})
	return found
}
