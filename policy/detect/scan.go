package detect

// follow says how an open finding goes on.
type follow struct {
	class class
	pem   bool // ends with its last line
}

// look notices what there is in b from i on, and returns where to go on. Unless
// b ends the text it stops where a candidate could reach beyond b.
func (s *Scanner) look(b []byte, i int, final bool) int {
	stop := len(b)
	if !final {
		stop -= Ahead
	}
	for i < stop {
		if s.open.Kind != 0 {
			if i = s.goOn(b, i, stop); s.open.Kind != 0 {
				return i
			}
			continue
		}
		for i < stop && classes[b[i]]&noted == 0 {
			i++
		}
		if i < stop {
			i = s.notice(b[:min(len(b), i+Ahead)], i)
		}
	}
	return i
}

// goOn follows the open finding, and closes it where it ends.
func (s *Scanner) goOn(b []byte, i, stop int) int {
	if i = run(b, i, s.tail.class); i == len(b) {
		return i
	}
	if s.tail.pem && b[i] == ' ' && i >= len(pemEnd) && hasPrefix(b, i-len(pemEnd), pemEnd) {
		if i >= stop {
			return i
		}
		i = pemLast(b[:min(len(b), i+Ahead)], i)
	}
	s.shut(s.base + int64(i))
	s.done = i
	return i
}

// token records b[from:to], which goes on if it reaches the end of what a
// candidate may look at.
func (s *Scanner) token(k Kind, b []byte, noticed, from, to int, confidence uint8, f follow) int {
	if to < len(b) || len(b) < noticed+Ahead {
		s.emit(k, from, to, confidence)
		return to
	}
	s.open = Finding{Offset: s.base + int64(from), Kind: k, Confidence: confidence}
	s.tail, s.done = f, to
	return to
}

// wants reports whether a finding of this kind and confidence is asked for.
func (s *Scanner) wants(k Kind, confidence uint8) bool {
	return s.kinds.Has(k) && confidence >= s.min
}

// notice looks at what b[i] may be the middle of, and returns where to go on:
// behind what was found, or behind what can be nothing else.
func (s *Scanner) notice(b []byte, i int) int {
	switch c := b[i]; c {
	case '@':
		return s.email(b, i)
	case ':':
		if hasPrefix(b, i, "://") {
			return s.scheme(b, i)
		}
		if end := s.colons(b, i); end > 0 {
			return end
		}
		return s.secret(b, i)
	case '=':
		return s.secret(b, i)
	case '.':
		if at(b, i-1)|0x20 == 'w' {
			return s.www(b, i)
		}
		return i + 1
	case '-', '_':
		if c == '-' && hasPrefix(b, i, pemBegin) {
			return s.pem(b, i)
		}
		return s.prefixed(b, i)
	case 'A':
		return s.cloud(b, i)
	case 'J':
		return s.jwt(b, i)
	}
	return s.number(b, i)
}

// atom returns the letters and digits around i, whole reports that they
// are all there.
func (s *Scanner) atom(b []byte, i int) (from, to int, whole bool) {
	low := max(s.done, i-maxAtom)
	from, to = runBack(b, i, low, alnum), run(b, i, alnum)
	return from, to, !is(b, from-1, alnum) && to-from <= maxAtom
}

const maxAtom = 64

// number looks at what has digits.
func (s *Scanner) number(b []byte, i int) int {
	from, to, whole := s.atom(b, i)
	if !whole {
		return to
	}
	if end := s.colonsFrom(b, from, to); end > 0 {
		return end
	}
	var end int
	if run(b, from, digit) == to {
		end = s.digits(b, from, to)
	} else {
		end = s.mixed(b, from, to)
	}
	return max(end, to)
}
