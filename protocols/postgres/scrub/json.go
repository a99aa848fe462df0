package scrub

import (
	"bytes"
	"encoding/json"
)

// json scrubs the strings and numbers of a document: what is found in a string
// is replaced within it, and a number in which something is found by a string.
// The key before a value counts as what it is called.
func (s *Scrubber) json(dst, doc []byte) ([]byte, bool) {
	if !json.Valid(doc) {
		return s.opaque(dst, doc)
	}
	var key []byte
	from := 0
	for i := 0; i < len(doc); {
		end := i + 1
		var out []byte
		changed := false
		switch c := doc[i]; {
		case c == '"':
			end = stringEnd(doc, i)
			plain := unquoted(doc[i:end])
			if next := bytes.TrimLeft(doc[end:], " \t\r\n"); len(next) > 0 && next[0] == ':' {
				key = plain
				out, changed = s.part(nil, plain)
			} else {
				out, changed = s.member(key, plain, true)
			}
		case c == '-' || c >= '0' && c <= '9':
			for end < len(doc) && bytes.IndexByte([]byte("+-.0123456789Ee"), doc[end]) >= 0 {
				end++
			}
			out, changed = s.member(key, doc[i:end], false)
		}
		if changed {
			dst = appendQuoted(append(dst, doc[from:i]...), out)
			from = end
		}
		i = end
	}
	return append(dst, doc[from:]...), true
}

// member scrubs a value behind its key. Of a number nothing is left where
// something is found in it.
func (s *Scrubber) member(key, value []byte, quoted bool) (out []byte, changed bool) {
	b := append(append(append(s.buf[:0], s.label...), ' '), key...)
	b = append(b, `":`...)
	if quoted {
		b = append(b, '"')
	}
	begin := len(b)
	b = append(b, value...)
	stop := len(b)
	if quoted {
		b = append(b, '"')
	}
	s.buf = b
	from := begin
	for _, f := range s.s.Scan(b) {
		at, end := max(int(f.Offset), from), min(int(f.End()), stop)
		if at >= end {
			continue
		}
		s.count(f.Kind)
		changed = true
		if quoted {
			out = append(out, b[from:at]...)
		}
		out = append(append(append(out, '['), f.Kind.String()...), ']')
		if from = end; !quoted {
			return out, true
		}
	}
	if !changed {
		return nil, false
	}
	return append(out, b[from:stop]...), true
}

// part scrubs a value within another one, and reports whether it was changed.
func (s *Scrubber) part(dst, value []byte) ([]byte, bool) {
	n := s.total
	dst = s.text(dst, value)
	return dst, s.total != n
}

// stringEnd returns the end of the string that begins at i, of a valid document.
func stringEnd(doc []byte, i int) int {
	for i++; doc[i] != '"'; i++ {
		if doc[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// unquoted returns what a string says.
func unquoted(q []byte) []byte {
	if bytes.IndexByte(q, '\\') < 0 {
		return q[1 : len(q)-1]
	}
	var v string
	if json.Unmarshal(q, &v) != nil {
		return q[1 : len(q)-1]
	}
	return []byte(v)
}

// appendQuoted appends a string of JSON.
func appendQuoted(dst, v []byte) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range v {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
