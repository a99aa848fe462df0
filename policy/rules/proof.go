package rules

import (
	"fmt"
	"slices"
	"strings"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/intercept"
)

// words are the fields of identity that hold one of few words. A condition
// that compares them with another word is a mistake: it would hold for nobody,
// or for everybody.
var words = map[string][]string{
	"proof": intercept.Strengths(), "workload_proof": intercept.Strengths(),
	"actor_proof": intercept.Strengths(), "principal_proof": intercept.Strengths(),
	"bindings": intercept.Bindings(), "principal_bindings": intercept.Bindings(),
}

// misspelt tells of words that a comparison can't find.
func misspelt(call celast.CallExpr) error {
	switch call.FunctionName() {
	case operators.Equals, operators.NotEquals, operators.In:
	default:
		return nil
	}
	args := call.Args()
	for i, a := range args {
		if a.Kind() != celast.SelectKind || len(args) != 2 {
			continue
		}
		s := a.AsSelect()
		if o := s.Operand(); o.Kind() != celast.IdentKind || o.AsIdent() != "identity" {
			continue
		}
		known := words[s.FieldName()]
		if known == nil {
			continue
		}
		for _, w := range literals(args[1-i]) {
			if w != "" && !slices.Contains(known, w) {
				return fmt.Errorf("identity.%s is never %q: use one of %s", s.FieldName(), w, strings.Join(known, ", "))
			}
		}
	}
	return nil
}

// literals returns the texts of a literal, or of a list of them.
func literals(e celast.Expr) (out []string) {
	switch e.Kind() {
	case celast.LiteralKind:
		if s, ok := e.AsLiteral().(types.String); ok {
			out = append(out, string(s))
		}
	case celast.ListKind:
		for _, x := range e.AsList().Elements() {
			out = append(out, literals(x)...)
		}
	}
	return out
}

// proofs reads patterns of which each must match some proof.
func (r *reader) proofs(n *yaml.Node) globs {
	out := r.globs(n, "proof")
	for _, g := range out {
		if !slices.ContainsFunc(intercept.Strengths(), g.match) {
			r.bad(n, "proof %q: matches none of %s", g.source, strings.Join(intercept.Strengths(), ", "))
		}
	}
	return out
}
