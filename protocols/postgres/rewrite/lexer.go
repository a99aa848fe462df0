package rewrite

import (
	"strings"
	"unicode/utf8"
)

// The lexer takes a body in PL/pgSQL apart as the server's own does
// (src/backend/parser/scan.l of PostgreSQL 13 to 18) where standard_conforming_strings
// is on. What servers of different majors end in different places, such as
// numbers, it ends as early as any of them.

type lexemeKind uint8

const (
	other lexemeKind = iota
	word
	operator
	end
)

type lexeme struct {
	kind   lexemeKind
	text   string // of a word, as the server folds and cuts it; "" of a string or a number
	quoted bool
	member bool // a dot behind what may have members
	line   int
}

type lexer struct {
	text string
	i    int
	line int
	last lexeme
}

// skip passes over n bytes.
func (l *lexer) skip(n int) {
	l.line += strings.Count(l.text[l.i:l.i+n], "\n")
	l.i += n
}

// through passes over what ends with the next s, false if there is none.
func (l *lexer) through(s string) bool {
	n := strings.Index(l.text[l.i:], s)
	if n < 0 {
		return false
	}
	l.skip(n + len(s))
	return true
}

// next returns the next lexeme, false where the text can't be taken apart.
func (l *lexer) next() (lexeme, bool) {
	if !l.space() {
		return lexeme{}, false
	}
	if l.i >= len(l.text) {
		return lexeme{kind: end, line: l.line}, true
	}
	line := l.line
	t, ok := l.token(l.text[l.i:])
	t.line = line
	t.member = t.text == "." && (l.last.kind == word || l.last.text == ")" || l.last.text == "]")
	l.last = t
	return t, ok
}

// space passes over white space and comments.
func (l *lexer) space() bool {
	for l.i < len(l.text) {
		switch rest := l.text[l.i:]; {
		case strings.IndexByte(" \t\n\r\f\v", rest[0]) >= 0:
			l.skip(1)
		case strings.HasPrefix(rest, "--"):
			n := strings.IndexAny(rest, "\n\r")
			if n < 0 {
				n = len(rest)
			}
			l.skip(n)
		case strings.HasPrefix(rest, "/*"):
			if !l.comment() {
				return false
			}
		default:
			return true
		}
	}
	return true
}

// comment passes over a comment, in which others may stand.
func (l *lexer) comment() bool {
	depth := 0
	for l.i < len(l.text) {
		switch rest := l.text[l.i:]; {
		case strings.HasPrefix(rest, "/*"):
			depth++
			l.skip(2)
		case strings.HasPrefix(rest, "*/"):
			depth--
			l.skip(2)
			if depth == 0 {
				return true
			}
		default:
			l.skip(1)
		}
	}
	return false
}

const operatorBytes = "~!@#^&|`?+-*/%<>="

func (l *lexer) token(rest string) (lexeme, bool) {
	c := rest[0]
	switch {
	case c == '\'':
		return lexeme{kind: other}, l.str(false)
	case c == '"':
		return l.quoted()
	case c == '$':
		return l.dollar(rest)
	case digit(c):
		l.skip(run(rest, digit))
		return lexeme{kind: other}, true
	case identByte(c):
		n := run(rest, identByte)
		if n == 1 && strings.HasPrefix(rest[1:], "'") { // E'', B'', X'', N''
			l.skip(1)
			return lexeme{kind: other}, l.str(c|0x20 == 'e')
		}
		if n == 1 && (strings.HasPrefix(rest, "U&") || strings.HasPrefix(rest, "u&")) && len(rest) > 2 && (rest[2] == '\'' || rest[2] == '"') {
			return lexeme{}, false
		}
		l.skip(n)
		return lexeme{kind: word, text: cut(lower(rest[:n]))}, true
	case strings.IndexByte(operatorBytes, c) >= 0:
		n := 1
		for n < len(rest) && strings.IndexByte(operatorBytes, rest[n]) >= 0 && !strings.HasPrefix(rest[n:], "--") && !strings.HasPrefix(rest[n:], "/*") {
			n++
		}
		l.skip(n)
		return lexeme{kind: operator, text: rest[:n]}, true
	case strings.HasPrefix(rest, ":="):
		l.skip(2)
		return lexeme{kind: operator, text: ":="}, true
	case strings.IndexByte("()[],;:.", c) >= 0:
		l.skip(1)
		return lexeme{kind: other, text: rest[:1]}, true
	}
	return lexeme{}, false
}

// run is how many bytes at the beginning are of a kind.
func run(s string, is func(byte) bool) int {
	n := 0
	for n < len(s) && is(s[n]) {
		n++
	}
	return n
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func identByte(c byte) bool {
	return c == '_' || c == '$' || digit(c) || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= utf8.RuneSelf
}

// lower folds ASCII letters, as the server does where the encoding is UTF8.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}

// cut shortens a name to what the server looks at (NAMEDATALEN-1 bytes), whole
// characters.
func cut(s string) string {
	if len(s) <= 63 {
		return s
	}
	n := 63
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// str passes over a string in quotes. Two with white space between them are one:
// of one with escapes the second has them too, without saying so, and is refused.
func (l *lexer) str(escapes bool) bool {
	for l.skip(1); l.i < len(l.text); {
		switch c := l.text[l.i]; {
		case c == '\\' && escapes:
			if l.i+1 >= len(l.text) {
				return false
			}
			l.skip(2)
		case c != '\'':
			l.skip(1)
		case strings.HasPrefix(l.text[l.i:], "''"):
			l.skip(2)
		default:
			l.skip(1)
			return l.space() && !(escapes && strings.HasPrefix(l.text[l.i:], "'"))
		}
	}
	return false
}

func (l *lexer) quoted() (lexeme, bool) {
	var b strings.Builder
	for l.skip(1); l.i < len(l.text); {
		c := l.text[l.i]
		l.skip(1)
		if c == '"' {
			if !strings.HasPrefix(l.text[l.i:], `"`) {
				return lexeme{kind: word, text: cut(b.String()), quoted: true}, true
			}
			l.skip(1)
		}
		b.WriteByte(c)
	}
	return lexeme{}, false
}

// dollar passes over a parameter, or a string in dollars.
func (l *lexer) dollar(rest string) (lexeme, bool) {
	if n := 1 + run(rest[1:], digit); n > 1 {
		l.skip(n)
		return lexeme{kind: other}, true
	}
	n := 1 + run(rest[1:], func(c byte) bool { return c != '$' && identByte(c) })
	if !strings.HasPrefix(rest[n:], "$") {
		return lexeme{}, false
	}
	l.skip(n + 1)
	return lexeme{kind: other}, l.through(rest[:n+1])
}
