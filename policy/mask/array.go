package mask

import "strings"

// each is a mask of the elements of an array as a mask of the array.
// Arrays of several dimensions come back with one; their bounds are lost.
func each(f *form) *form {
	if f == nil || f.sql == nil {
		return nil
	}
	return &form{
		fixed:    f.fixed,
		collated: f.collated,
		sql: func(q string) string {
			return unlessNull(q, "ARRAY(SELECT ("+f.sql("e")+") FROM pg_catalog.unnest("+q+") WITH ORDINALITY u(e, n) ORDER BY n)")
		},
		text: func(s string) (string, bool) {
			in, ok := elements(s)
			if !ok {
				return "", true
			}
			out := make([]string, len(in))
			for i, x := range in {
				out[i] = "NULL"
				if x == nil {
					continue
				}
				if v, null := f.text(*x); !null {
					out[i] = quoteElement(v)
				}
			}
			return "{" + strings.Join(out, ",") + "}", false
		},
	}
}

// elements takes the text of an array apart, of any dimensions, in order. nil
// is NULL.
func elements(s string) ([]*string, bool) {
	if strings.HasPrefix(s, "[") { // bounds: [0:1]={...}
		_, after, ok := strings.Cut(s, "=")
		if !ok {
			return nil, false
		}
		s = after
	}
	var out []*string
	depth := 0
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '{':
			depth++
			i++
		case c == '}':
			depth--
			i++
			if depth == 0 {
				return out, i == len(s)
			}
		case depth == 0:
			return nil, false
		case c == ',':
			i++
		case c == '"':
			var b strings.Builder
			for i++; i < len(s) && s[i] != '"'; i++ {
				if s[i] == '\\' && i+1 < len(s) {
					i++
				}
				b.WriteByte(s[i])
			}
			if i == len(s) {
				return nil, false
			}
			i++
			v := b.String()
			out = append(out, &v)
		default:
			n := strings.IndexAny(s[i:], ",}")
			if n < 0 {
				return nil, false
			}
			v := s[i : i+n]
			i += n
			if v == "NULL" {
				out = append(out, nil)
				continue
			}
			out = append(out, &v)
		}
	}
	return nil, false
}

// quoteElement writes an element as the server does.
func quoteElement(s string) string {
	if s != "" && !strings.EqualFold(s, "NULL") && !strings.ContainsAny(s, "{},\"\\ \t\n\r\v\f") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
