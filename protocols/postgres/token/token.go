// Package token walks SQL text as PostgreSQL's lexer does (scan.l of
// PostgreSQL 15, standard_conforming_strings on), only to tell literals from
// the rest: events carry a statement without its literals.
//
// It decides nothing. Where a text can be read in two ways it takes the one
// that hides more.
package token

import "strings"

// Literal is one literal's place in the text: [Start, End), quotes and
// prefix included.
type Literal struct{ Start, End int }

// Normalize appends the statement to dst with each literal as ?, comments
// gone and white space as one blank, and appends the literals' places to
// lits. Neither escapes to the heap beyond what the two slices need. An
// unterminated literal or comment runs to the end of the text.
func Normalize(dst []byte, sql string, lits []Literal) ([]byte, []Literal) {
	start := len(dst)
	gap := false // white space or a comment waits to be written
	for i := 0; i < len(sql); {
		c := sql[i]
		if n := skipSpace(sql, i); n > i {
			gap, i = true, n
			continue
		}
		if gap && len(dst) > start {
			dst = append(dst, ' ')
		}
		gap = false
		end, literal := next(sql, i, c)
		if !literal {
			dst = append(dst, sql[i:end]...)
		} else {
			dst = append(dst, '?')
			lits = append(lits, Literal{i, end})
		}
		i = end
	}
	return dst, lits
}

// Comments returns what stands in the statement's comments, without their marks,
// where there is anything.
func Comments(sql string) (out []string) {
	for i := 0; i < len(sql); {
		end := i
		switch {
		case strings.HasPrefix(sql[i:], "--"):
			end = i + len(sql[i:])
			if n := strings.IndexAny(sql[i:], "\r\n"); n >= 0 {
				end = i + n
			}
		case strings.HasPrefix(sql[i:], "/*"):
			end = blockComment(sql, i+2)
		}
		if end > i {
			if s := strings.TrimSpace(strings.TrimSuffix(sql[i+2:max(end, i+2)], "*/")); s != "" {
				out = append(out, s)
			}
			i = end
			continue
		}
		if n := skipSpace(sql[:i+1], i); n > i {
			i = n
			continue
		}
		i, _ = next(sql, i, sql[i])
	}
	return out
}

// Fingerprint is the 64-bit FNV-1a hash of a normalised statement.
func Fingerprint(normalized []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range normalized {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// Command returns the first keyword in lower case, "" when the text does not
// begin with a letter.
func Command(normalized []byte) string {
	var buf [24]byte
	n := 0
	for n < len(normalized) && n < len(buf) && letter(normalized[n]) {
		c := normalized[n]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		buf[n] = c
		n++
	}
	switch string(buf[:n]) { // the frequent ones without allocation
	case "select":
		return "select"
	case "insert":
		return "insert"
	case "update":
		return "update"
	case "delete":
		return "delete"
	case "begin":
		return "begin"
	case "commit":
		return "commit"
	default:
		return string(buf[:n])
	}
}

// Next returns the next token at i or behind it, sql[start:end], and whether it is
// a literal; start is len(sql) where there is none. Each character of an operator
// is a token.
func Next(sql string, i int) (start, end int, literal bool) {
	start = skipSpace(sql, i)
	if start >= len(sql) {
		return len(sql), len(sql), false
	}
	end, literal = next(sql, start, sql[start])
	return start, end, literal
}

// next returns the end of the token at i and whether it is a literal.
func next(sql string, i int, c byte) (end int, literal bool) {
	switch {
	case c == '\'':
		return quoted(sql, i+1, false), true
	case c == '"':
		return identQuoted(sql, i+1), false
	case c == '$':
		return dollar(sql, i)
	case digit(c), c == '.' && i+1 < len(sql) && digit(sql[i+1]):
		return number(sql, i), true
	case identStart(c):
		return word(sql, i, c)
	}
	return i + 1, false
}

// word is an identifier, a keyword, or the prefix of a literal.
func word(sql string, i int, c byte) (int, bool) {
	if i+1 < len(sql) {
		switch q := sql[i+1]; {
		case q == '\'' && (c == 'e' || c == 'E'):
			return quoted(sql, i+2, true), true
		case q == '\'' && (c == 'b' || c == 'B' || c == 'x' || c == 'X' || c == 'n' || c == 'N'):
			return quoted(sql, i+2, false), true
		case q == '&' && (c == 'u' || c == 'U') && i+2 < len(sql) && sql[i+2] == '\'':
			return quoted(sql, i+3, false), true
		case q == '&' && (c == 'u' || c == 'U') && i+2 < len(sql) && sql[i+2] == '"':
			return identQuoted(sql, i+3), false
		}
	}
	for i++; i < len(sql) && identPart(sql[i]); i++ {
	}
	return i, false
}

// quoted returns the end of a string literal whose text begins at i.
func quoted(sql string, i int, escapes bool) int {
	for i < len(sql) {
		switch sql[i] {
		case '\\':
			if escapes {
				i++
			} else if i+1 < len(sql) && sql[i+1] == '\'' {
				// With standard_conforming_strings off the literal goes on
				// here, with it on it ends: hide all that follows.
				return len(sql)
			}
		case '\'':
			if i+1 >= len(sql) || sql[i+1] != '\'' {
				return i + 1
			}
			i++
		}
		i++
	}
	return len(sql)
}

// identQuoted returns the end of a quoted identifier whose text begins at i.
func identQuoted(sql string, i int) int {
	for ; i < len(sql); i++ {
		if sql[i] == '"' {
			if i+1 >= len(sql) || sql[i+1] != '"' {
				return i + 1
			}
			i++
		}
	}
	return len(sql)
}

// dollar is a parameter, a dollar-quoted literal, or a lone dollar sign.
func dollar(sql string, i int) (int, bool) {
	j := i + 1
	if j < len(sql) && digit(sql[j]) {
		for ; j < len(sql) && digit(sql[j]); j++ {
		}
		return j, false
	}
	if j < len(sql) && identStart(sql[j]) {
		for j++; j < len(sql) && (identStart(sql[j]) || digit(sql[j])); j++ {
		}
	}
	if j >= len(sql) || sql[j] != '$' {
		return i + 1, false
	}
	tag := sql[i : j+1]
	for k := j + 1; k+len(tag) <= len(sql); k++ {
		if sql[k:k+len(tag)] == tag {
			return k + len(tag), true
		}
	}
	return len(sql), true
}

// number covers integers, decimals, exponents, and the radix and underscore
// forms of later servers.
func number(sql string, i int) int {
	for i < len(sql) {
		c := sql[i]
		switch {
		case digit(c), c == '_', letter(c) && c != 'e' && c != 'E':
		case c == '.':
			if i+1 < len(sql) && sql[i+1] == '.' {
				return i
			}
		case c == 'e', c == 'E':
			if i+1 < len(sql) && (sql[i+1] == '+' || sql[i+1] == '-') {
				i++
			}
		default:
			return i
		}
		i++
	}
	return i
}

// skipSpace passes over white space and comments.
func skipSpace(sql string, i int) int {
	for i < len(sql) {
		switch c := sql[i]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			i++
		case c == '-' && i+1 < len(sql) && sql[i+1] == '-':
			for i += 2; i < len(sql) && sql[i] != '\n' && sql[i] != '\r'; i++ {
			}
		case c == '/' && i+1 < len(sql) && sql[i+1] == '*':
			i = blockComment(sql, i+2)
		default:
			return i
		}
	}
	return i
}

// blockComment returns the end of a comment, which may hold others, whose
// text begins at i.
func blockComment(sql string, i int) int {
	for depth := 1; i+1 < len(sql); {
		switch {
		case sql[i] == '/' && sql[i+1] == '*':
			depth++
			i += 2
		case sql[i] == '*' && sql[i+1] == '/':
			depth--
			i += 2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return len(sql)
}

func digit(c byte) bool      { return c >= '0' && c <= '9' }
func letter(c byte) bool     { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func identStart(c byte) bool { return letter(c) || c == '_' || c >= 0x80 }
func identPart(c byte) bool  { return identStart(c) || digit(c) || c == '$' }
