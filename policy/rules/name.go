package rules

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// relation is a pattern for schema.name.
type relation struct{ schema, name glob }

var everyRelation = relation{schema: mustGlob("*"), name: mustGlob("*")}

func mustGlob(s string) glob {
	g, err := parseGlob(s)
	if err != nil {
		panic(err)
	}
	return g
}

func (r relation) all() bool { return r.schema.all() && r.name.all() }

// String returns it as a policy has it.
func (r relation) String() string { return r.schema.source + "." + r.name.source }

// exact returns the one relation that the pattern names, if it is one.
func (r relation) exact() (policy.Relation, bool) {
	return policy.Relation{Schema: r.schema.lit, Name: r.name.lit}, r.schema.tokens == nil && r.name.tokens == nil
}

// match decides whether a rule that grants reaches an object. A schema that
// is not known is reached only by a pattern for all of them.
func (r relation) match(o policy.Object) bool {
	return r.schema.match(o.Schema) && r.name.match(o.Name)
}

// mayMatch decides the same for a rule that takes away.
func (r relation) mayMatch(o policy.Object) bool {
	return (o.Schema == "" || r.schema.match(o.Schema)) && r.name.match(o.Name)
}

func parseRelation(s string) (relation, error) {
	if s == "*" {
		return everyRelation, nil
	}
	parts, err := nameParts(s, "schema.relation", 2)
	if err != nil {
		return relation{}, err
	}
	var r relation
	for i, g := range []*glob{&r.schema, &r.name} {
		if parts[i].quoted {
			*g = literal(parts[i].text)
			continue
		}
		if *g, err = parseGlob(parts[i].text); err != nil {
			return relation{}, err
		}
	}
	return r, nil
}

func parseField(s string) (events.Field, error) {
	p, err := exactParts(s, "schema.relation.column", 3)
	if err != nil {
		return events.Field{}, err
	}
	return events.Field{Schema: p[0], Relation: p[1], Column: p[2]}, nil
}

// parseFunction returns the form of policy.Scope.Functions.
func parseFunction(s string) (string, error) {
	p, err := exactParts(s, "schema.function", 2)
	if err != nil {
		return "", err
	}
	return p[0] + "." + p[1], nil
}

func exactParts(s, form string, n int) ([]string, error) {
	parts, err := nameParts(s, form, n)
	if err != nil {
		return nil, err
	}
	out := make([]string, n)
	for i, p := range parts {
		if !p.quoted && strings.ContainsAny(p.text, `*?\`) {
			return nil, fmt.Errorf("%s: patterns are not taken here; name each one as %s", s, form)
		}
		out[i] = p.text
	}
	return out, nil
}

type part struct {
	text   string
	quoted bool
}

// nameParts splits a dotted name whose parts may be quoted as in SQL.
func nameParts(s, form string, n int) ([]part, error) {
	var parts []part
	rest := s
	for {
		var p part
		if strings.HasPrefix(rest, `"`) {
			p.quoted = true
			for {
				end := strings.IndexByte(rest[1:], '"')
				if end < 0 {
					return nil, fmt.Errorf("%s: a quoted name has no end", s)
				}
				p.text += rest[1 : 1+end]
				rest = rest[end+2:]
				if !strings.HasPrefix(rest, `"`) {
					break
				}
				p.text += `"` // "" stands for one
			}
		} else {
			end := strings.IndexByte(rest, '.')
			if end < 0 {
				end = len(rest)
			}
			p.text, rest = rest[:end], rest[end:]
			if err := unquoted(p.text); err != nil {
				return nil, fmt.Errorf("%s: %w", s, err)
			}
		}
		if p.text == "" {
			return nil, fmt.Errorf("%q: write %s", s, form)
		}
		parts = append(parts, p)
		if rest == "" {
			break
		}
		if rest[0] != '.' {
			return nil, fmt.Errorf("%s: a quoted name is followed by something else than a dot", s)
		}
		rest = rest[1:]
	}
	if len(parts) != n {
		return nil, fmt.Errorf("%s: write %s: a name without its schema could mean any", s, form)
	}
	return parts, nil
}

// unquoted: the server folds unquoted names to lower case, so a rule with a
// capital letter would protect nothing.
func unquoted(s string) error {
	for _, r := range s {
		switch {
		case unicode.IsUpper(r):
			return fmt.Errorf(`%q has capital letters: write it in lower case, or in double quotes if that is its name`, s)
		case r == '"' || unicode.IsSpace(r) || unicode.IsControl(r):
			return errors.New("put a name that is no plain word in double quotes")
		}
	}
	return nil
}
