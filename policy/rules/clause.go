package rules

import (
	"errors"
	"fmt"
	"strings"

	"sallyport.dev/sallyport/policy"
)

// A filter's condition is written in a small part of SQL: comparisons of a
// column with values, IN, IS NULL, AND, OR, NOT and parentheses. A value is
// text in single quotes, a number, true, false, or {identity....}. There are no
// functions, casts, columns on both sides or sub-queries: what stands there
// can't fail on a row, and no text of it is sent anywhere.

const (
	maxClause = 4 << 10 // bytes
	maxNested = 32
)

func parseClause(s string) (*clause, error) {
	if len(s) > maxClause {
		return nil, fmt.Errorf("longer than %d bytes", maxClause)
	}
	p := &clauseParser{rest: s}
	if err := p.next(); err != nil {
		return nil, err
	}
	c, err := p.or(0)
	if err == nil && p.tok.kind != clauseEnd {
		err = fmt.Errorf("%s is not expected here: conditions are joined by AND and OR", p.tok)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

type clauseKind uint8

const (
	clauseEnd clauseKind = iota
	clauseWord
	clauseName // in double quotes
	clauseText
	clauseNumber
	clauseIdentity
	clauseSign
)

type clauseToken struct {
	kind clauseKind
	text string
}

func (t clauseToken) String() string {
	if t.kind == clauseEnd {
		return "the end"
	}
	return fmt.Sprintf("%q", t.text)
}

func (t clauseToken) word(w string) bool { return t.kind == clauseWord && strings.EqualFold(t.text, w) }
func (t clauseToken) sign(s string) bool { return t.kind == clauseSign && t.text == s }

type clauseParser struct {
	rest string
	tok  clauseToken
}

func wordChar(c byte, first bool) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || !first && c >= '0' && c <= '9'
}

// next reads a token.
func (p *clauseParser) next() error {
	s := strings.TrimLeft(p.rest, " \t\r\n")
	take := func(kind clauseKind, n int) {
		p.tok, p.rest = clauseToken{kind, s[:n]}, s[n:]
	}
	if s == "" {
		p.tok, p.rest = clauseToken{}, ""
		return nil
	}
	n := 1
	switch c := s[0]; {
	case wordChar(c, true):
		for n < len(s) && wordChar(s[n], false) {
			n++
		}
		take(clauseWord, n)
	case c >= '0' && c <= '9' || c == '-':
		for n < len(s) && (s[n] >= '0' && s[n] <= '9' || s[n] == '.') {
			n++
		}
		take(clauseNumber, n)
		if !plainNumber(p.tok.text) || n < len(s) && wordChar(s[n], true) {
			return fmt.Errorf("%q is no number: write it like 7 or -1.5", p.tok.text)
		}
	case c == '\'' || c == '"':
		text, rest, ok := quotedText(s)
		if !ok || text == "" && c == '"' {
			return fmt.Errorf("a %c has no end, or nothing in it", c)
		}
		kind := clauseText
		if c == '"' {
			kind = clauseName
		}
		p.tok, p.rest = clauseToken{kind, text}, rest
	case c == '{':
		end := strings.IndexByte(s, '}')
		if end < 0 {
			return errors.New("a { has no end")
		}
		path, ok := strings.CutPrefix(strings.TrimSpace(s[1:end]), "identity.")
		if !ok || !knownPath(path) {
			return fmt.Errorf("%s: write {identity.claims.NAME}, {identity.principal_claims.NAME}, or workload, spiffe, issuer, subject, actor, principal or principal_issuer of the identity", s[:end+1])
		}
		p.tok, p.rest = clauseToken{clauseIdentity, path}, s[end+1:]
	default:
		for _, sign := range []string{"<>", "!=", "<=", ">=", "<", ">", "=", "(", ")", ","} {
			if strings.HasPrefix(s, sign) {
				take(clauseSign, len(sign))
				return nil
			}
		}
		return fmt.Errorf("%q is not taken here: compare columns with values", s[:1])
	}
	return nil
}

// quotedText reads text in the quotes that it begins with, which are doubled in
// it.
func quotedText(s string) (text, rest string, ok bool) {
	q := s[:1]
	for s = s[1:]; ; {
		i := strings.Index(s, q)
		if i < 0 {
			return "", "", false
		}
		text, s = text+s[:i], s[i+1:]
		if !strings.HasPrefix(s, q) {
			return text, s, strings.IndexByte(text, 0) < 0
		}
		text, s = text+q, s[1:]
	}
}

func plainNumber(s string) bool {
	whole, part, point := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	return whole != "" && len(s) < 40 && !strings.Contains(part, ".") && (!point || part != "")
}

func (p *clauseParser) or(depth int) (*clause, error) {
	return p.joined(depth, "or", policy.Or, (*clauseParser).and)
}

func (p *clauseParser) and(depth int) (*clause, error) {
	return p.joined(depth, "and", policy.And, (*clauseParser).not)
}

func (p *clauseParser) joined(depth int, word string, op policy.Op, part func(*clauseParser, int) (*clause, error)) (*clause, error) {
	if depth > maxNested {
		return nil, errors.New("nested too deeply")
	}
	c, err := part(p, depth)
	if err != nil {
		return nil, err
	}
	all := []*clause{c}
	for p.tok.word(word) {
		if err := p.next(); err != nil {
			return nil, err
		}
		if c, err = part(p, depth); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 1 {
		return c, nil
	}
	return &clause{op: op, args: all}, nil
}

func (p *clauseParser) not(depth int) (*clause, error) {
	switch {
	case depth > maxNested:
		return nil, errors.New("nested too deeply")
	case p.tok.word("not"):
		if err := p.next(); err != nil {
			return nil, err
		}
		c, err := p.not(depth + 1)
		return negated(c), err
	case p.tok.sign("("):
		if err := p.next(); err != nil {
			return nil, err
		}
		c, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		return c, p.expect(")")
	}
	return p.comparison()
}

func negated(c *clause) *clause { return &clause{op: policy.Not, args: []*clause{c}} }

func (p *clauseParser) expect(sign string) error {
	if !p.tok.sign(sign) {
		return fmt.Errorf("%s: a %s is missing before it", p.tok, sign)
	}
	return p.next()
}

var clauseWords = map[string]bool{"and": true, "or": true, "not": true, "in": true, "is": true, "null": true, "true": true, "false": true, "like": true, "between": true, "case": true, "exists": true, "select": true}

var clauseOps = map[string]policy.Op{
	"=": policy.Equal, "<>": policy.Differs, "!=": policy.Differs, "<": policy.Less, "<=": policy.AtMost, ">": policy.More, ">=": policy.AtLeast,
}

// comparison reads what is said of one column.
func (p *clauseParser) comparison() (*clause, error) {
	c := &clause{column: p.tok.text}
	switch p.tok.kind {
	case clauseWord:
		if clauseWords[strings.ToLower(c.column)] {
			return nil, fmt.Errorf("%s stands where a column should", p.tok)
		}
		if err := unquoted(c.column); err != nil {
			return nil, err
		}
	case clauseName:
	default:
		return nil, fmt.Errorf("%s stands where a column should: the column comes first, then what it is compared with", p.tok)
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	if p.tok.kind == clauseSign {
		if c.op = clauseOps[p.tok.text]; c.op == 0 {
			return nil, fmt.Errorf("%s stands where = or another comparison should", p.tok)
		}
		if err := p.next(); err != nil {
			return nil, err
		}
		return c, p.operand(c)
	}
	not := false
	if p.tok.word("not") {
		not = true
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	switch {
	case p.tok.word("in"):
		c.op = policy.In
		if err := p.list(c); err != nil {
			return nil, err
		}
	case p.tok.word("is") && !not:
		c.op = policy.IsNull
		if err := p.next(); err != nil {
			return nil, err
		}
		if not = p.tok.word("not"); not {
			if err := p.next(); err != nil {
				return nil, err
			}
		}
		if !p.tok.word("null") {
			return nil, errors.New("IS is followed by NULL or NOT NULL only")
		}
		if err := p.next(); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%s stands where a comparison should: there are = <> < <= > >= IN and IS NULL", p.tok)
	}
	if not {
		return negated(c), nil
	}
	return c, nil
}

// list reads what stands behind IN: values in parentheses, or one of the
// identity, which may be a list.
func (p *clauseParser) list(c *clause) error {
	if err := p.next(); err != nil {
		return err
	}
	if p.tok.kind == clauseIdentity {
		return p.operand(c)
	}
	if err := p.expect("("); err != nil {
		return err
	}
	for {
		if err := p.operand(c); err != nil {
			return err
		}
		if !p.tok.sign(",") {
			return p.expect(")")
		}
		if err := p.next(); err != nil {
			return err
		}
	}
}

func (p *clauseParser) operand(c *clause) error {
	o := operand{value: p.tok.text}
	switch {
	case p.tok.kind == clauseText, p.tok.kind == clauseNumber:
	case p.tok.word("true"), p.tok.word("false"):
		o.value = strings.ToLower(o.value)
	case p.tok.kind == clauseIdentity:
		o = operand{path: p.tok.text}
	default:
		return fmt.Errorf("%s stands where a value should: text in single quotes, a number, true, false, or {identity.claims.NAME}", p.tok)
	}
	c.operands = append(c.operands, o)
	return p.next()
}
