package detect

import "bytes"

// prefixes begin keys that say so themselves. What follows the first '_' or
// '-' is part of the literal.
var prefixes = []struct {
	text string
	min  int // characters behind it
}{
	{"ghp_", 30},
	{"gho_", 30},
	{"ghu_", 30},
	{"ghs_", 30},
	{"ghr_", 30},
	{"github_pat_", 40},
	{"xoxb-", 20},
	{"xoxp-", 20},
	{"xoxa-", 20},
	{"xoxr-", 20},
	{"xoxs-", 20},
	{"xapp-", 20},
	{"glpat-", 20},
	{"sk_live_", 20},
	{"sk_test_", 20},
	{"rk_live_", 20},
	{"rk_test_", 20},
	{"whsec_", 20},
	{"sk-ant-", 20},
	{"sk-proj-", 20},
	{"sk-", 40},
	{"npm_", 30},
	{"hf_", 30},
	{"shpat_", 30},
	{"dop_v1_", 40},
	{"pypi-", 40},
}

var keyed = follow{class: base64}

// prefixed looks at a '_' or '-' behind the beginning of a key.
func (s *Scanner) prefixed(b []byte, i int) int {
	from := runBack(b, i, max(s.done, i-8), alnum)
	if i-from < 2 || is(b, from-1, alnum) || !s.wants(APIKey, 95) {
		return i + 1
	}
	for _, p := range prefixes {
		if i-from >= len(p.text) || p.text[i-from] != b[i] || !hasPrefix(b, from, p.text) {
			continue
		}
		end := runEnd(b, from+len(p.text), base64)
		if end-from-len(p.text) >= p.min {
			return s.token(APIKey, b, i, from, end, 95, keyed)
		}
	}
	return i + 1
}

// runEnd is run without the '.' and '-' that end a sentence, unless it reaches
// the end of what may be looked at.
func runEnd(b []byte, i int, c class) int {
	end := run(b, i, c)
	if end == len(b) && end-i > Ahead/2 {
		return end
	}
	for end > i && (b[end-1] == '.' || b[end-1] == '-') {
		end--
	}
	return end
}

// cloud looks at an 'A' that may begin a key of AWS or Google.
func (s *Scanner) cloud(b []byte, i int) int {
	if is(b, i-1, alnum) {
		return i + 1
	}
	end := i + 20
	switch {
	case hasPrefix(b, i, "AKIA") || hasPrefix(b, i, "ASIA") || hasPrefix(b, i, "ABIA") || hasPrefix(b, i, "ACCA"):
		if run(b, i, upper|digit) != end {
			return i + 1
		}
	case hasPrefix(b, i, "AIza"):
		if end = i + 39; run(b, i, base64) != end {
			return i + 1
		}
	default:
		return i + 1
	}
	if is(b, end, alnum) || !s.wants(APIKey, 95) {
		return i + 1
	}
	s.emit(APIKey, i, end, 95)
	return end
}

// jwt looks at the J of "eyJ", which is how `{"` looks in base64.
func (s *Scanner) jwt(b []byte, i int) int {
	from := i - 2
	if from < s.done || !hasPrefix(b, from, "eyJ") || is(b, from-1, alnum) || !s.wants(JWT, 95) {
		return i + 1
	}
	// Its first part is short, so that looking for the point costs little.
	dot := bytes.IndexByte(b[from:min(len(b), from+512)], '.')
	if dot < 0 {
		return i + 1
	}
	end := runEnd(b, from, base64)
	if end-from < max(dot, 30) {
		return i + 1
	}
	return s.token(JWT, b, i, from, end, 95, keyed)
}

const (
	pemBegin = "-----BEGIN "
	pemEnd   = "-----END"
	pemKey   = "PRIVATE KEY"
)

// pem looks at the first dash of a private key's first line.
func (s *Scanner) pem(b []byte, i int) int {
	k := i + len(pemBegin)
	for k-i < 64 && (is(b, k, upper|digit) || at(b, k) == ' ') {
		if hasPrefix(b, k, pemKey) {
			break
		}
		k++
	}
	if !hasPrefix(b, k, pemKey) || !s.wants(PrivateKey, 99) {
		return k
	}
	for k += len(pemKey); k < len(b); k++ {
		if b[k] == '-' && hasPrefix(b, k, pemEnd) {
			end := pemLast(b, k+len(pemEnd))
			if end < len(b) || len(b) < i+Ahead {
				s.emit(PrivateKey, i, end, 99)
				return end
			}
			break // the last line is cut off: it is followed from its beginning
		}
	}
	if len(b) < i+Ahead {
		k = run(b, k, armour)
		s.emit(PrivateKey, i, k, 99)
		return k
	}
	s.open = Finding{Offset: s.base + int64(i), Kind: PrivateKey, Confidence: 99}
	s.tail, s.done = follow{class: armour, pem: true}, k
	return k
}

// pemLast returns the end of a last line whose END was read.
func pemLast(b []byte, i int) int {
	i = run(b, i, upper|digit)
	for at(b, i) == ' ' {
		i = run(b, i+1, upper|digit)
	}
	if hasPrefix(b, i, "-----") {
		i += 5
	}
	return i
}

// named reports whether a key begins at i that says what it is.
func named(b []byte, i int) bool {
	for _, p := range prefixes {
		if hasPrefix(b, i, p.text) {
			return true
		}
	}
	return hasPrefix(b, i, "AKIA") || hasPrefix(b, i, "ASIA") || hasPrefix(b, i, "AIza") || hasPrefix(b, i, "eyJ") || hasPrefix(b, i, pemBegin)
}

// secret looks at a ':' or '=' behind a word such as password.
func (s *Scanner) secret(b []byte, i int) int {
	if !s.kinds.Has(Password) {
		return i + 1
	}
	before := i
	for before > s.done && (b[before-1] == '"' || b[before-1] == '\'' || b[before-1] == ' ') && i-before < 3 {
		before--
	}
	if !is(b, before-1, letter) || !is(b, before-2, letter) || !is(b, before-3, letter) {
		return i + 1
	}
	if c, near := s.contextBefore(b, before); c&ctxSecret == 0 || !near {
		return i + 1
	}
	from, quote := i+1, byte(0)
	for at(b, from) == ' ' || at(b, from) == '=' {
		from++
	}
	if q := at(b, from); q == '"' || q == '\'' {
		quote = q
		from++
	}
	end, odd := from, false
	for ; end < len(b) && end-from < 256; end++ {
		c := b[end]
		if c <= ' ' || c == '"' || c == '\'' || quote == 0 && (c == ',' || c == ';' || c == '&' || c == '<') {
			break
		}
		odd = odd || classes[c]&letter == 0
	}
	for quote == 0 && end > from && (b[end-1] == '.' || b[end-1] == ')' || b[end-1] == '}') {
		end--
	}
	confidence := uint8(60)
	if quote != 0 || b[i] == '=' {
		confidence = 80
	}
	// A sentence about passwords goes on with a word; a password is rarely one.
	if end-from < 6 || !odd && quote == 0 && b[i] != '=' || named(b, from) || !s.wants(Password, confidence) {
		return i + 1
	}
	s.emit(Password, from, end, confidence)
	return end
}
