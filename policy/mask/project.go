package mask

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sallyport.dev/sallyport/policy"
)

// steps are what is shown of a value: by step, what is shown of what the step
// leads to. nil shows all.
type steps map[string]steps

func tree(all [][]string) steps {
	root := steps{}
	for _, p := range all {
		at := root
		for i, s := range p {
			if i == len(p)-1 {
				at[s] = nil
			} else if at[s] == nil {
				at[s] = steps{}
			}
			at = at[s]
		}
	}
	return root
}

// jsonKeep shows what the paths lead to. It is a projection: what it was not
// told of can't come along. What is of another kind than the path says is null.
func jsonKeep(m policy.Mask, t Type) *form {
	if t.Name != "json" && t.Name != "jsonb" {
		return nil
	}
	all, err := paths(m.Keep)
	if err != nil {
		return nil
	}
	root := tree(all)
	return &form{
		sql: func(q string) string {
			expr := projection(q+"::pg_catalog.jsonb", root, 1)
			if t.Name == "json" {
				expr = "CASE WHEN " + strange(q) + " THEN NULL ELSE " + expr + " END"
			}
			return unlessNull(q, expr)
		},
		text: func(s string) (string, bool) {
			if t.Name == "json" && isStrange(s) {
				return "", true
			}
			d := json.NewDecoder(strings.NewReader(s))
			d.UseNumber()
			var v any
			if d.Decode(&v) != nil {
				return "", true
			}
			var b bytes.Buffer
			writeJSON(&b, project(v, root))
			return b.String(), false
		},
	}
}

// projection is what is shown of x, as SQL. level names elements of arrays
// apart.
func projection(x string, shown steps, level int) string {
	if shown == nil {
		return x
	}
	is := func(kind string) string { return op("pg_catalog.jsonb_typeof("+x+")", "=", literal(kind)) }
	s := "CASE"
	var keys []string
	for _, step := range slices.Sorted(maps.Keys(shown)) {
		if step == elementsStep {
			continue
		}
		name := literal(step[1:]) + "::pg_catalog.text"
		child := projection("("+op(x, "->", name)+")", shown[step], level)
		keys = append(keys, "CASE WHEN "+op(x, "?", name)+" THEN pg_catalog.jsonb_build_object("+name+", "+child+") ELSE '{}'::pg_catalog.jsonb END")
	}
	if len(keys) > 0 {
		s += " WHEN " + is("object") + " THEN " + strings.Join(keys, " OPERATOR(pg_catalog.||) ")
	}
	if below, ok := shown[elementsStep]; ok {
		e, n := fmt.Sprintf("e%d", level), fmt.Sprintf("n%d", level)
		s += " WHEN " + is("array") + " THEN COALESCE((SELECT pg_catalog.jsonb_agg(" + projection(e, below, level+1) + " ORDER BY " + n + ")" +
			" FROM pg_catalog.jsonb_array_elements(" + x + ") WITH ORDINALITY u" + strconv.Itoa(level) + "(" + e + ", " + n + ")), '[]'::pg_catalog.jsonb)"
	}
	return s + " ELSE 'null'::pg_catalog.jsonb END"
}

// project is the same.
func project(v any, shown steps) any {
	if shown == nil {
		return v
	}
	switch x := v.(type) {
	case map[string]any:
		out, keys := map[string]any{}, false
		for step, below := range shown {
			if step == elementsStep {
				continue
			}
			keys = true
			if val, there := x[step[1:]]; there {
				out[step[1:]] = project(val, below)
			}
		}
		if keys {
			return out
		}
	case []any:
		if below, ok := shown[elementsStep]; ok {
			out := make([]any, len(x))
			for i := range x {
				out[i] = project(x[i], below)
			}
			return out
		}
	}
	return nil
}

// A text of type json may hold what jsonb does not take: an escaped zero, half
// of a surrogate pair, a number without measure. Such texts are NULL: a cast
// that fails would tell of them, and end the statement for all other rows.
var (
	backslashes = regexp.MustCompile(`\\\\`)
	pairs       = regexp.MustCompile(`\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]`)
	badEscape   = regexp.MustCompile(`\\u(0000|[dD][89a-fA-F])`)
	bigExponent = regexp.MustCompile(`[0-9][eE][-+]?[0-9]{4}`)
	bigNumber   = regexp.MustCompile(`[0-9]{255}`)
)

const longText = 10_000

func strange(q string) string {
	x := `(` + q + `::pg_catalog.text COLLATE pg_catalog."C")`
	rest := "pg_catalog.regexp_replace(pg_catalog.regexp_replace(" + x + ", " + literal(backslashes.String()) + ", '', 'g'), " + literal(pairs.String()) + ", '', 'g')"
	return op(rest, "~", literal(badEscape.String())) + " OR " + op(x, "~", literal(bigExponent.String())) +
		" OR " + op("pg_catalog.length("+x+")", ">", strconv.Itoa(longText)) + " AND " + op(x, "~", literal(bigNumber.String()))
}

func isStrange(s string) bool {
	rest := pairs.ReplaceAllString(backslashes.ReplaceAllString(s, ""), "")
	return badEscape.MatchString(rest) || bigExponent.MatchString(s) || len([]rune(s)) > longText && bigNumber.MatchString(s)
}

// jsonShape shows of what kind a value is, and nothing else.
func jsonShape(t Type) *form {
	shapes := []struct{ kind, first, shown string }{
		{"object", "{", "{}"},
		{"array", "[", "[]"},
		{"string", `"`, `"` + defaultConstant + `"`},
		{"number", "-0123456789", "0"},
		{"boolean", "tf", "false"},
		{"null", "n", "null"},
	}
	return &form{
		fixed: true,
		sql: func(q string) string {
			s := "CASE"
			for _, x := range shapes {
				s += " WHEN " + op("pg_catalog."+t.Name+"_typeof("+q+")", "=", literal(x.kind)) + " THEN " + literal(x.shown) + "::pg_catalog." + t.Name
			}
			return s + " END"
		},
		text: func(s string) (string, bool) {
			s = strings.TrimLeft(s, " \t\r\n")
			for _, x := range shapes {
				if s != "" && strings.IndexByte(x.first, s[0]) >= 0 {
					return x.shown, false
				}
			}
			return "", true
		},
	}
}

// writeJSON prints as jsonb does: keys by length and then by bytes, a blank
// behind colons and commas, numbers without an exponent.
func writeJSON(b *bytes.Buffer, v any) {
	switch x := v.(type) {
	case map[string]any:
		b.WriteByte('{')
		names := slices.SortedFunc(maps.Keys(x), func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
		for i, k := range names {
			if i > 0 {
				b.WriteString(", ")
			}
			writeString(b, k)
			b.WriteString(": ")
			writeJSON(b, x[k])
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, e := range x {
			if i > 0 {
				b.WriteString(", ")
			}
			writeJSON(b, e)
		}
		b.WriteByte(']')
	case string:
		writeString(b, x)
	case json.Number:
		b.WriteString(plain(string(x)))
	case bool:
		b.WriteString(strconv.FormatBool(x))
	default:
		b.WriteString("null")
	}
}

var escapes = map[rune]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}

func writeString(b *bytes.Buffer, s string) {
	b.WriteByte('"')
	for _, c := range s {
		switch e, special := escapes[c]; {
		case special:
			b.WriteString(e)
		case c < ' ':
			fmt.Fprintf(b, `\u%04x`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
}

// plain writes a number of JSON without its exponent: 1.50e1 is 15.0.
func plain(s string) string {
	s, neg := strings.CutPrefix(s, "-")
	mantissa, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	e, _ := strconv.Atoi(exponent) // "" is 0; large ones are strange
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits, at := whole+fraction, len(whole)+e
	if at < 1 {
		digits, at = strings.Repeat("0", 1-at)+digits, 1
	}
	if at > len(digits) {
		digits += strings.Repeat("0", at-len(digits))
	}
	whole, fraction = strings.TrimLeft(digits[:at], "0"), digits[at:]
	if whole == "" {
		whole = "0"
	}
	if fraction != "" {
		whole += "." + fraction
	}
	if neg && strings.ContainsAny(whole, "123456789") {
		return "-" + whole
	}
	return whole
}
