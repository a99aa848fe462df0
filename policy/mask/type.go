package mask

import (
	"regexp"
	"strconv"
	"strings"
)

// Type is the type of a column: a built-in one of PostgreSQL, an enum, or one of
// Extensions. A domain is what it is made of. Of the zero Type, nothing is known.
type Type struct {
	Name      string   // pg_type.typname of a built-in type: "varchar", "_int4"
	SQL       string   // as format_type prints it, qualified if it is not built in, with its modifier: "character varying(20)"; "" has none
	Collation string   // qualified and quoted: pg_catalog."C"; "" is the database's
	Labels    []string // of an enum
	Extension bool     // Name is one of Extensions, and SQL says in which schema
}

// Extensions are the types of extensions that masks know, in whatever schema.
var Extensions = []string{"citext", "hstore"}

// Cast is the type's name with its modifier, as casts have it: qualified, so
// that no search path leads it elsewhere.
func (t Type) Cast() string {
	if t.Name == "" || t.Extension || strings.ContainsAny(t.SQL, "( ") { // words of the grammar mean what they mean
		return t.SQL
	}
	return "pg_catalog." + quote(t.Name)
}

var modifier = regexp.MustCompile(`\((\d+)(?:,(-?\d+))?\)`)

// mods returns the numbers of the modifier: a length, a precision and a scale.
func (t Type) mods() (first, second int, ok bool) {
	m := modifier.FindStringSubmatch(t.SQL)
	if m == nil {
		return 0, 0, false
	}
	first, _ = strconv.Atoi(m[1])
	second, _ = strconv.Atoi(m[2]) // "" is 0
	return first, second, true
}

// Length is how many characters a text of the type has at most, 0 where nothing
// limits it.
func (t Type) Length() int {
	if n, _, limited := t.mods(); limited && isText(t.Name) {
		return n
	}
	return 0
}

// element returns the type of an array's elements.
func (t Type) element() (Type, bool) {
	name, ok := strings.CutPrefix(t.Name, "_")
	if !ok {
		return Type{}, false
	}
	return Type{Name: name, SQL: strings.TrimSuffix(t.SQL, "[]"), Collation: t.Collation, Extension: t.Extension}, true
}

// isText reports the types of text that columns of one's own have.
func isText(typ string) bool { return typ == "text" || typ == "varchar" || typ == "bpchar" }

func (t Type) isText() bool {
	return isText(t.Name) || t.Name == "name" || t.Name == "citext" && t.Extension
}

// fit gives a text the length that the type has: longer ones are cut, as an
// explicit cast does.
func (t Type) fit(s string) string {
	n, _, limited := t.mods()
	switch {
	case t.Name == "name":
		for len(s) > 63 { // bytes, but whole characters
			_, size := lastRune(s)
			s = s[:len(s)-size]
		}
	case !limited:
	default:
		chars := []rune(s)
		if len(chars) > n {
			chars = chars[:n]
		}
		s = string(chars)
		if t.Name == "bpchar" {
			s += strings.Repeat(" ", n-len(chars))
		}
	}
	return s
}
