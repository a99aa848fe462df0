package rules

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
)

// clause is a predicate as a rule has it: with the names of what is not known
// before a session is. It has as many Values as operands.
type clause struct {
	op       policy.Op
	args     []*clause
	column   string
	operands []operand
}

// operand is a value, or where in an identity it comes from.
type operand struct {
	value string
	path  string // of identity, "" for a value
}

// Bounds of what an identity brings into a filter.
const (
	maxFilterValue  = 1 << 10 // bytes
	maxFilterValues = 1000
)

// predicate fills in who asks. The error says what of the identity is not
// there, or can't be compared.
func (c *clause) predicate(id *intercept.Identity) (policy.Predicate, error) {
	p := policy.Predicate{Op: c.op, Column: c.column}
	for _, a := range c.args {
		q, err := a.predicate(id)
		if err != nil {
			return policy.Predicate{}, err
		}
		p.Args = append(p.Args, q)
	}
	for _, o := range c.operands {
		if o.path == "" {
			p.Values = append(p.Values, o.value)
			continue
		}
		vs, err := o.values(id, c.op == policy.In)
		if err != nil {
			return policy.Predicate{}, err
		}
		p.Values = append(p.Values, vs...)
	}
	return p, nil
}

// values reads the operand off an identity. Only IN takes a list.
func (o operand) values(id *intercept.Identity, list bool) ([]string, error) {
	v := valueAt(id, o.path)
	entries, isList := v.([]any)
	switch {
	case isList && !list:
		return nil, fmt.Errorf("identity.%s is a list", o.path)
	case !isList:
		entries = []any{v}
	}
	if len(entries) > maxFilterValues {
		return nil, fmt.Errorf("identity.%s has more than %d entries", o.path, maxFilterValues)
	}
	out := make([]string, 0, len(entries))
	for _, e := range entries {
		s, ok := filterText(e)
		switch {
		case e == nil || e == "":
			return nil, fmt.Errorf("the identity has no %s", o.path)
		case !ok:
			return nil, fmt.Errorf("identity.%s is not text, a number, true or false", o.path)
		case len(s) > maxFilterValue || strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s):
			return nil, fmt.Errorf("identity.%s is too long, or no text", o.path)
		}
		out = append(out, s)
	}
	return out, nil
}

func filterText(v any) (string, bool) {
	switch x := v.(type) {
	case string:
		return x, true
	case bool:
		return fmt.Sprint(x), true
	case float64:
		return formatNumber(x), true
	case json.Number:
		return x.String(), true
	}
	return "", false
}

// identityPaths are what filters may take from an identity, besides claims.
var identityPaths = map[string]func(*intercept.Identity) string{
	"workload":         func(id *intercept.Identity) string { return id.Workload },
	"spiffe":           func(id *intercept.Identity) string { return id.SPIFFE },
	"issuer":           func(id *intercept.Identity) string { return id.Issuer },
	"subject":          func(id *intercept.Identity) string { return id.Subject },
	"actor":            (*intercept.Identity).Actor,
	"principal":        (*intercept.Identity).Principal,
	"principal_issuer": (*intercept.Identity).PrincipalIssuer,
}

// claimsAt are the two sets of claims, by the beginning of a path.
var claimsAt = map[string]func(*intercept.Identity) map[string]any{
	"claims.":           func(id *intercept.Identity) map[string]any { return id.Claims },
	"principal_claims.": (*intercept.Identity).PrincipalClaims,
}

func valueAt(id *intercept.Identity, path string) any {
	if f := identityPaths[path]; f != nil {
		return f(id)
	}
	for prefix, claims := range claimsAt {
		if name, ok := strings.CutPrefix(path, prefix); ok {
			return claims(id)[name]
		}
	}
	return nil
}

func knownPath(path string) bool {
	if identityPaths[path] != nil {
		return true
	}
	for prefix := range claimsAt {
		if name, ok := strings.CutPrefix(path, prefix); ok {
			return name != ""
		}
	}
	return false
}

// filterRelations reads the relations of a rule that filters: each by its name.
func (r *reader) filterRelations(n *yaml.Node, rels []relation) (out []policy.Relation) {
	for _, rel := range rels {
		exact, ok := rel.exact()
		if !ok {
			r.bad(n, "relations: a filter is about columns: name each relation, without patterns")
			return nil
		}
		if !slices.Contains(out, exact) {
			out = append(out, exact)
		}
	}
	return out
}

func (r *reader) rowsWhere(n *yaml.Node) *clause {
	s, ok := r.text(n, "where")
	if !ok {
		return nil
	}
	c, err := parseClause(s)
	if err != nil {
		r.bad(n, "where: %v", err)
	}
	return c
}
