package rules

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// glob is a pattern: * is any run of characters, ? is one, a backslash takes
// the next one literally. All of the text must match, case and all.
type glob struct {
	source string
	tokens []token // nil: the literal
	lit    string
}

type token struct {
	r    rune
	kind byte // 'c' the character r, '?' any one, '*' any run
}

func literal(s string) glob { return glob{source: s, lit: s} }

func parseGlob(s string) (glob, error) {
	if s == "" {
		return glob{}, errors.New("an empty pattern matches nothing")
	}
	var tokens []token
	var lit strings.Builder
	wild := false
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		t := token{r, 'c'}
		switch {
		case r == '*' || r == '?':
			t.kind, wild = byte(r), true
		case r == '\\':
			if i == len(s) {
				return glob{}, errors.New("a pattern may not end in a backslash")
			}
			t.r, n = utf8.DecodeRuneInString(s[i:])
			i += n
		}
		if t.kind == '*' && len(tokens) > 0 && tokens[len(tokens)-1].kind == '*' {
			continue
		}
		tokens = append(tokens, t)
		lit.WriteRune(t.r)
	}
	if !wild {
		return glob{source: s, lit: lit.String()}, nil
	}
	return glob{source: s, tokens: tokens}, nil
}

// all reports that every text matches.
func (g glob) all() bool { return len(g.tokens) == 1 && g.tokens[0].kind == '*' }

func (g glob) match(s string) bool {
	if g.tokens == nil {
		return s == g.lit
	}
	p, back, from := 0, -1, 0
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case p < len(g.tokens) && g.tokens[p].kind == '*':
			back, from = p, i
			p++
			continue
		case p < len(g.tokens) && (g.tokens[p].kind == '?' || g.tokens[p].r == r):
			p++
			i += n
			continue
		case back < 0:
			return false
		}
		// The last run takes one more character.
		_, n = utf8.DecodeRuneInString(s[from:])
		from += n
		p, i = back+1, from
	}
	for p < len(g.tokens) && g.tokens[p].kind == '*' {
		p++
	}
	return p == len(g.tokens)
}

// overlaps reports whether some text matches both.
func (g glob) overlaps(h glob) bool {
	if g.tokens == nil {
		return h.match(g.lit)
	}
	if h.tokens == nil {
		return g.match(h.lit)
	}
	// row[j]: the rest of g from i and the rest of h from j have a common text.
	row := make([]bool, len(h.tokens)+1)
	for i := len(g.tokens); i >= 0; i-- {
		next := append([]bool(nil), row...)
		for j := len(h.tokens); j >= 0; j-- {
			gt, ht := at(g.tokens, i), at(h.tokens, j)
			switch {
			case gt.kind == 0 && ht.kind == 0:
				row[j] = true
			case gt.kind == '*':
				row[j] = next[j] || ht.kind != 0 && row[j+1]
			case ht.kind == '*':
				row[j] = row[j+1] || gt.kind != 0 && next[j]
			default:
				row[j] = gt.kind != 0 && ht.kind != 0 && (gt.kind == '?' || ht.kind == '?' || gt.r == ht.r) && next[j+1]
			}
		}
	}
	return row[0]
}

func at(t []token, i int) token {
	if i < len(t) {
		return t[i]
	}
	return token{}
}

// globs is a list of which one must match.
type globs []glob

func (gs globs) match(s string) bool {
	for _, g := range gs {
		if g.match(s) {
			return true
		}
	}
	return false
}

// matchSet is match for a fact that may be missing: what is not there matches
// no pattern.
func (gs globs) matchSet(s string) bool { return s != "" && gs.match(s) }

func (gs globs) overlap(hs globs) bool {
	for _, g := range gs {
		for _, h := range hs {
			if g.overlaps(h) {
				return true
			}
		}
	}
	return false
}
