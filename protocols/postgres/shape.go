package postgres

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A shape is a text whose plain literals are taken out, so that texts which
// differ only in these share one analysis. It is a key, so it must never be
// the same for two texts that the server's lexer takes apart differently:
// whatever could be read in two ways, or would need more than a look, has no
// shape and is kept by its exact text.
//
// Plain literals are strings in single quotes without a backslash, and whole
// numbers of at most nine digits (all of them int4).

// span is a literal's place in the text. One that is not plain is kept: it
// stands in the key as it is.
type span struct {
	start, end int
	kept       bool
}

const (
	maxShapeLiterals = 64
	intMark          = 1 // in place of a literal in the key
	textMark         = 2
	keptMark         = 3
)

// shape appends the key of sql's shape to dst and the literals' places to
// lits.
func shape(dst, sql []byte, lits []span) (key []byte, places []span, ok bool) {
	if !shaped(sql) {
		return dst, lits, false
	}
	high, after := false, byte(0) // after: the mark of the token before
	for i := 0; i < len(sql); {
		c := sql[i]
		end, mark := i+1, byte(0)
		switch {
		case c == '\'':
			// Behind another one it may be the rest of it.
			if end = plainString(sql, i); end < 0 || after == textMark || i > 0 && (identPart(sql[i-1]) || sql[i-1] == '&') {
				return dst, lits, false
			}
			mark = textMark
		case digit(c):
			if end, mark = number(sql, i); end < 0 {
				return dst, lits, false
			}
		case identStart(c):
			for end < len(sql) && identPart(sql[end]) {
				end++
			}
		case c == '$': // a parameter, or a dollar quote
			if end >= len(sql) || !digit(sql[end]) {
				return dst, lits, false
			}
			for end < len(sql) && digit(sql[end]) {
				end++
			}
		case c == '"':
			n := bytes.IndexByte(sql[end:], '"')
			if n < 0 {
				return dst, lits, false
			}
			end += n + 1
		case c == '.' && end < len(sql) && digit(sql[end]):
			if end, mark = number(sql, end); end < 0 {
				return dst, lits, false
			}
		case c == '-' && end < len(sql) && sql[end] == '-', c == '/' && end < len(sql) && sql[end] == '*',
			c == '\\', c < ' ' && c != '\n' && c != '\t' && c != '\r', c == 0x7f:
			return dst, lits, false
		}
		if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			after = mark
		}
		if mark != 0 {
			if len(lits) == maxShapeLiterals {
				return dst, lits, false
			}
			lits = append(lits, span{i, end, mark == keptMark})
		}
		if mark == intMark || mark == textMark {
			dst = append(dst, mark)
		} else {
			dst = append(dst, sql[i:end]...)
		}
		for ; i < end; i++ {
			high = high || sql[i] >= utf8.RuneSelf
		}
	}
	if high && !utf8.Valid(sql) {
		return dst, lits, false
	}
	return dst, lits, true
}

// shaped reports whether the text begins with a command whose meaning is not
// in its literals.
func shaped(sql []byte) bool {
	sql = bytes.TrimLeft(sql, " \t\r\n(")
	for _, w := range [...]string{"select", "insert", "update", "delete", "with", "values"} {
		if len(sql) > len(w) && bytes.EqualFold(sql[:len(w)], []byte(w)) && !identPart(sql[len(w)]) {
			return true
		}
	}
	return false
}

// plainString returns the end of a string literal, -1 when it is not plain.
func plainString(sql []byte, i int) int {
	for i++; i < len(sql); i++ {
		switch sql[i] {
		case '\\':
			return -1
		case '\'':
			if i+1 >= len(sql) || sql[i+1] != '\'' {
				return i + 1
			}
			i++
		}
	}
	return -1
}

// number returns the end of what begins with a digit, and intMark when it is a
// plain int4. Decimals, exponents, radixes and trailing junk are kept.
func number(sql []byte, i int) (int, byte) {
	end := i
	for end < len(sql) && digit(sql[end]) {
		end++
	}
	plain := end == len(sql) || !identPart(sql[end]) && sql[end] != '.'
	if plain && (i == 0 || sql[i-1] != '.') {
		if end-i <= 9 {
			return end, intMark
		}
		return end, keptMark
	}
	for end < len(sql) && (identPart(sql[end]) || sql[end] == '.' && !dots(sql, end) || exponentSign(sql, end)) {
		end++
	}
	if end < len(sql) && (sql[end] == '\'' || sql[end] == '"') {
		return -1, 0
	}
	return end, keptMark
}

// dots reports whether two dots stand at i: they end a number.
func dots(sql []byte, i int) bool { return i+1 < len(sql) && sql[i+1] == '.' }

// exponentSign reports whether the byte at i is the sign in 1e+5.
func exponentSign(sql []byte, i int) bool {
	return (sql[i] == '+' || sql[i] == '-') && sql[i-1]|0x20 == 'e' && i+1 < len(sql) && digit(sql[i+1])
}

func digit(c byte) bool { return c >= '0' && c <= '9' }
func identStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= utf8.RuneSelf
}
func identPart(c byte) bool { return identStart(c) || digit(c) || c == '$' }

// Stand-ins take the literals' places in the text that is analysed for a
// shape. Nobody can guess them, so nothing else in a text looks like one.
var (
	textStandIn string
	intStandIn  uint32 // of nine digits, as are the next 63
)

func init() {
	var b [20]byte
	rand.Read(b[:]) // never fails
	textStandIn = "sallyport_" + hex.EncodeToString(b[4:]) + "_"
	intStandIn = 100_000_000 + binary.BigEndian.Uint32(b[:])%800_000_000
}

func standIn(dst []byte, sql []byte, lit span, i int) []byte {
	if sql[lit.start] == '\'' {
		dst = append(append(dst, '\''), textStandIn...)
		return append(append(dst, byte('A'+i/26), byte('a'+i%26)), '\'')
	}
	return strconv.AppendUint(dst, uint64(intStandIn)+uint64(i), 10)
}

// canonical returns the text with a stand-in for each literal.
func canonical(sql []byte, lits []span) []byte {
	out := make([]byte, 0, len(sql)+32*len(lits))
	at := 0
	for i, l := range lits {
		if l.kept {
			continue
		}
		out = append(out, sql[at:l.start]...)
		out = standIn(out, sql, l, i)
		at = l.end
	}
	return append(out, sql[at:]...)
}

// piece is a part of a generated text: text, then the literal of that number
// (-1: none).
type piece struct {
	text string
	lit  int
}

// template takes a text that was generated from a canonical one apart. It
// fails unless each stand-in is there as a whole token.
func template(generated string, sql []byte, lits []span) ([]piece, bool) {
	type place struct{ at, n, lit int }
	var places []place
	for i, l := range lits {
		if l.kept {
			continue
		}
		tok := string(standIn(nil, sql, l, i))
		found := false
		for at := 0; ; {
			k := strings.Index(generated[at:], tok)
			if k < 0 {
				break
			}
			k += at
			end := k + len(tok)
			if touches(generated, k-1) || touches(generated, end) {
				return nil, false
			}
			places = append(places, place{k, len(tok), i})
			found, at = true, end
		}
		if !found {
			return nil, false
		}
	}
	for i := 1; i < len(places); i++ { // few, and nearly in order
		for k := i; k > 0 && places[k].at < places[k-1].at; k-- {
			places[k], places[k-1] = places[k-1], places[k]
		}
	}
	var out []piece
	at := 0
	for _, p := range places {
		out = append(out, piece{generated[at:p.at], p.lit})
		at = p.at + p.n
	}
	out = append(out, piece{generated[at:], -1})
	for _, p := range out {
		if strings.Contains(p.text, textStandIn) {
			return nil, false // in a literal that was put together
		}
	}
	return out, true
}

// touches reports whether the byte at i would make a token beside it another.
func touches(s string, i int) bool {
	if i < 0 || i >= len(s) {
		return false
	}
	c := s[i]
	return identPart(c) || c == '\'' || c == '"' || c == '&' || c == '.'
}
