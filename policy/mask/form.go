package mask

import (
	"cmp"
	"fmt"
	"strings"
	"unicode/utf8"

	"sallyport.dev/sallyport/policy"
)

// form is what a mask does to the values of a type, told twice: one table of
// tests holds both together. Both are total: no value makes them fail.
type form struct {
	// sql is an expression over q, which is a name or the like and may stand
	// in it several times. It is NULL where q is, and of the type, but for
	// the modifier. Names and operators in it are qualified, so that nothing
	// of a search path can change what it means, and nothing in it depends on
	// a setting that a session may change. nil: there is none.
	sql func(q string) string
	// text is the same over the text of a value that is not NULL; null
	// reports that NULL takes the value's place.
	text func(s string) (out string, null bool)
	// fixed: all rows show the same, or nearly.
	fixed bool
	// collated: sql has a collation of its own.
	collated bool
}

// find returns what m does to the values of a type, nil for NULL.
func find(m policy.Mask, t Type) *form {
	if Check(m) != nil {
		return nil
	}
	if f := kinds[m.Kind](m, t); f != nil {
		return f
	}
	if e, ok := t.element(); ok {
		return each(kinds[m.Kind](m, e))
	}
	return nil
}

// Fits reports why a mask is not one for a type: it shows NULL.
func Fits(m policy.Mask, t Type) error {
	if err := Check(m); err != nil || m.Kind == Null || find(m, t) != nil || HasOutput(m, t.Name) {
		return err
	}
	name := "type " + cmp.Or(t.SQL, t.Name)
	if name == "type " {
		name = "a type that is not built in"
	}
	if m.Kind == Redact && m.Constant != "" {
		return fmt.Errorf("the constant of mask redact is no value of %s: NULL is shown", name)
	}
	return fmt.Errorf("mask %s is not for %s: NULL is shown", m.Kind, name)
}

// SQL returns the PostgreSQL expression that stands in place of a column, ""
// for NULL. It has the column's type and modifier. fixed reports that every
// row shows the same, or nearly so.
func SQL(m policy.Mask, column string, t Type) (sql string, fixed bool, err error) {
	if err := Check(m); err != nil {
		return "", false, err
	}
	f := find(m, t)
	if f == nil || f.sql == nil {
		return "", false, nil
	}
	sql = "(" + f.sql(quote(column)) + ")::" + t.Cast()
	if f.collated {
		c := t.Collation
		if c == "" {
			c = `pg_catalog."default"`
		}
		sql += " COLLATE " + c
	}
	return sql, f.fixed, nil
}

// Apply is the output form: what m shows of a value that is not NULL, given as
// the text that PostgreSQL prints with DateStyle ISO; moments come back in UTC.
// null reports that NULL takes the value's place, as it does for a mask or a
// text that is not understood.
func Apply(m policy.Mask, t Type, text string) (out string, null bool) {
	f := find(m, t)
	if f == nil {
		return "", true
	}
	return f.text(text)
}

// Describe says what m is, for people: "partial, last 4".
func Describe(m policy.Mask) string {
	s := m.Kind
	for _, p := range []struct {
		name  string
		value any
		given bool
	}{
		{"first", m.First, m.First != 0},
		{"last", m.Last, m.Last != 0},
		{"constant", m.Constant, m.Constant != ""},
		{"width", m.Width, m.Width != 0},
		{"unit", m.Unit, m.Unit != ""},
		{"earliest", m.Earliest, m.Earliest != 0},
		{"of", m.Of, m.Of != ""},
		{"match", "equality", m.Match},
		{"keep", strings.ReplaceAll(m.Keep, "\n", " "), m.Keep != ""},
	} {
		if p.given {
			s += fmt.Sprintf(", %s %v", p.name, p.value)
		}
	}
	return s
}

// quote quotes an identifier.
func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// literal quotes a text that holds no backslash, as a literal without a type.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// op qualifies an operator.
func op(a, operator, b string) string { return a + " OPERATOR(pg_catalog." + operator + ") " + b }

// number is a literal of a type.
func number(n int64, typ string) string { return fmt.Sprintf("'%d'::pg_catalog.%s", n, typ) }

func lastRune(s string) (rune, int) { return utf8.DecodeLastRuneInString(s) }

// unlessNull is an expression that is NULL where q is.
func unlessNull(q, expr string) string {
	return "CASE WHEN " + q + " IS NULL THEN NULL ELSE " + expr + " END"
}
