package scrub

import (
	"bytes"
	"encoding/binary"
)

// array scrubs the elements of an array as the server writes it.
func (s *Scrubber) array(dst, value []byte) ([]byte, bool) {
	begin, before, total := len(dst), s.found, s.total
	i := 0
	if len(value) > 0 && value[0] == '[' { // its bounds
		for i < len(value) && value[i] != '=' {
			i++
		}
		i++
	}
	depth, from := 0, 0
	for i < len(value) {
		switch c := value[i]; c {
		case '{':
			depth++
			i++
		case '}':
			depth--
			i++
		case ',':
			i++
		default:
			at := i
			plain, end, ok := arrayElement(value, i, s.plain[:0])
			s.plain = plain
			if !ok || depth == 0 {
				i = len(value) + 1
				break
			}
			i = end
			if c != '"' && string(plain) == "NULL" {
				break
			}
			if out, changed := s.element(plain); changed {
				dst = append(dst, value[from:at]...)
				dst = appendElement(dst, out)
				from = end
			}
		}
		if depth < 0 || depth == 0 && i < len(value) {
			i = len(value) + 1
		}
	}
	if i > len(value) || depth != 0 {
		s.found, s.total = before, total
		return s.opaque(dst[:begin], value)
	}
	return append(dst, value[from:]...), true
}

// element scrubs an element or a field, which may have a form of its own.
func (s *Scrubber) element(plain []byte) ([]byte, bool) {
	n := s.total
	if len(plain) == 0 || bytes.IndexByte([]byte("{[("), plain[0]) < 0 {
		if len(s.s.Scan(plain)) == 0 {
			return nil, false
		}
		return s.part(nil, plain)
	}
	own := s.plain
	s.plain = nil // of what is in it
	out := s.guess(nil, plain)
	s.plain = own
	return out, s.total != n
}

// arrayElement reads the element at i into plain.
func arrayElement(value []byte, i int, plain []byte) (_ []byte, end int, ok bool) {
	if value[i] != '"' {
		for i < len(value) && value[i] != ',' && value[i] != '}' {
			if c := value[i]; c == '"' || c == '{' || c == '\\' {
				return plain, i, false
			}
			plain = append(plain, value[i])
			i++
		}
		return plain, i, i < len(value)
	}
	for i++; i < len(value); i++ {
		switch value[i] {
		case '\\':
			i++
			if i == len(value) {
				return plain, i, false
			}
		case '"':
			i++
			return plain, i, i < len(value) && (value[i] == ',' || value[i] == '}')
		}
		plain = append(plain, value[i])
	}
	return plain, i, false
}

func appendElement(dst, v []byte) []byte {
	dst = append(dst, '"')
	for _, c := range v {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// row scrubs the fields of a row as the server writes it; ok is false for what
// is none.
func (s *Scrubber) row(dst, value []byte) (out []byte, ok bool) {
	last := len(value) - 1
	for i, from := 1, 1; ; {
		at := i
		plain, quotes := s.plain[:0], false
		for ; i < last && (quotes || value[i] != ','); i++ {
			switch c := value[i]; {
			case c == '"' && quotes && i+1 < last && value[i+1] == '"':
				i++
			case c == '"':
				quotes = !quotes
				continue
			case c == '\\':
				if i++; i == last {
					return dst, false
				}
			}
			plain = append(plain, value[i])
		}
		s.plain = plain
		if quotes {
			return dst, false
		}
		if at == 1 {
			dst = append(dst, '(')
		}
		if out, changed := s.element(plain); changed {
			dst = append(dst, value[from:at]...)
			dst = append(dst, '"')
			for _, c := range out {
				if c == '"' || c == '\\' {
					dst = append(dst, c)
				}
				dst = append(dst, c)
			}
			dst = append(dst, '"')
			from = i
		}
		if i == last {
			return append(dst, value[from:]...), true
		}
		i++
	}
}

// arrays scrubs the elements of an array in binary form: dimensions, whether one
// is NULL, the type of its elements, the size and lower bound of each dimension,
// and the elements, each with its length.
func (s *Scrubber) arrays(dst, value []byte) ([]byte, bool) {
	head, n, form, ok := arrayHead(value)
	if !ok {
		return s.opaque(dst, value)
	}
	begin, before, total := len(dst), s.found, s.total
	dst = append(dst, value[:head]...)
	i := head
	for range n {
		if len(value)-i < 4 {
			ok = false
			break
		}
		size := int(int32(binary.BigEndian.Uint32(value[i:])))
		i += 4
		if size == -1 {
			dst = append(dst, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		if size < 0 || size > len(value)-i {
			ok = false
			break
		}
		var there bool
		if dst, there = s.sized(dst, value[i:i+size], form); !there {
			binary.BigEndian.PutUint32(dst[begin+4:], 1)
		}
		i += size
	}
	if !ok || i != len(value) {
		s.found, s.total = before, total
		return s.opaque(dst[:begin], value)
	}
	return dst, true
}

// sized appends a scrubbed value behind its length, -1 for NULL.
func (s *Scrubber) sized(dst, value []byte, f Form) ([]byte, bool) {
	at := len(dst)
	out, ok := s.Append(append(dst, 0, 0, 0, 0), value, f)
	if !ok {
		return append(dst[:at], 0xff, 0xff, 0xff, 0xff), false
	}
	binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-4))
	return out, true
}

// maxDimensions is MAXDIM of the server.
const maxDimensions = 6

// arrayHead reads the beginning of an array: how long that is, how many elements
// follow, and in which form.
func arrayHead(v []byte) (head, n int, f Form, ok bool) {
	if len(v) < 12 {
		return 0, 0, 0, false
	}
	dims := int(int32(binary.BigEndian.Uint32(v)))
	f = FormOf(binary.BigEndian.Uint32(v[8:]), true)
	head = 12 + 8*dims
	if dims < 0 || dims > maxDimensions || len(v) < head {
		return 0, 0, 0, false
	}
	for d := range dims {
		size := int(int32(binary.BigEndian.Uint32(v[12+8*d:])))
		if size < 0 || size > len(v) {
			return 0, 0, 0, false
		}
		if d == 0 {
			n = 1
		}
		if n *= size; n > len(v)/4 {
			return 0, 0, 0, false
		}
	}
	return head, n, f, true
}
