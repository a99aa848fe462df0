package rules

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
)

const (
	// costLimit ends an evaluation that takes too long, some milliseconds; it
	// then counts as one that failed.
	costLimit = 1_000_000
	// maxCondition is the size of an expression, in characters.
	maxCondition = 8 << 10
)

var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(append(zoned(),
		native[identityVar]("identity", "Identity"),
		native[processVar]("process", "Process"),
		native[resourceVar]("resource", "Resource"),
		native[sessionVar]("session", "Session"),
		native[statementVar]("statement", "Statement"),
		native[requestVar]("request", "Request"),
		cel.Variable("now", cel.TimestampType),
		ext.Strings(),
		cel.CrossTypeNumericComparisons(true),
		cel.ParserRecursionLimit(64),
		cel.ParserExpressionSizeLimit(maxCondition),
	)...)
})

// condition is a compiled CEL expression, and what its value depends on.
type condition struct {
	source string
	prg    cel.Program

	session   bool // identity, process, resource or session
	claims    bool // what the client says of itself: session
	now       bool
	statement bool
	text      bool // the statement's exact text, or all of it
	request   bool
}

// static reports that the session alone decides.
func (c *condition) static() bool { return !c.now && !c.statement && !c.request }

// ofRequest reports that a request is needed.
func (c *condition) ofRequest() bool { return c.statement || c.request }

// cacheable reports that every evaluation for one analysis gives the same,
// whoever asks and when.
func (c *condition) cacheable() bool {
	return c.statement && !c.text && !c.session && !c.now && !c.request
}

// eval fails on anything but true and false.
func (c *condition) eval(v *variables) (bool, error) {
	out, _, err := c.prg.Eval(v)
	if err != nil {
		return false, err
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, errors.New("neither true nor false")
	}
	return bool(b), nil
}

// problem is an error at a line of the expression, from 1.
type problem struct {
	line int
	text string
}

func (p problem) Error() string { return p.text }

func compile(source string) (*condition, []problem) {
	env, err := environment()
	if err != nil {
		return nil, []problem{{1, err.Error()}}
	}
	ast, iss := env.Compile(source)
	if iss.Err() != nil {
		var out []problem
		for _, e := range iss.Errors() {
			out = append(out, problem{max(e.Location.Line(), 1), e.Message})
		}
		return nil, out
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && t.Kind() != types.DynKind {
		return nil, []problem{{1, fmt.Sprintf("it gives a %s: compare it with something, so that it is true or false", t)}}
	}
	c := &condition{source: source}
	if p := c.learn(ast.NativeRep()); len(p) > 0 {
		return nil, p
	}
	if c.prg, err = env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(costLimit)); err != nil {
		return nil, []problem{{1, err.Error()}}
	}
	return c, nil
}

// learn finds what the value depends on. A name that a macro binds counts as
// the variable that it hides.
func (c *condition) learn(a *celast.AST) (problems []problem) {
	celast.PostOrderVisit(a.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		switch e.Kind() {
		case celast.IdentKind:
			switch e.AsIdent() {
			case "identity", "process", "resource", "session":
				c.session = true
				c.claims = c.claims || e.AsIdent() == "session"
			case "now":
				c.now = true
			case "request":
				c.request = true
			case "statement":
				c.statement = true
				c.text = c.text || !fieldOf(a, e)
			}
		case celast.SelectKind:
			if s := e.AsSelect(); s.FieldName() == "text" {
				c.text = true
			}
		case celast.CallKind:
			call := e.AsCall()
			if err := misspelt(call); err != nil {
				problems = append(problems, problem{max(a.SourceInfo().GetStartLocation(e.ID()).Line(), 1), err.Error()})
			}
			if _, ok := accessors[call.FunctionName()]; !ok || len(call.Args()) != 1 {
				return
			}
			arg := call.Args()[0]
			line := a.SourceInfo().GetStartLocation(e.ID()).Line()
			if arg.Kind() != celast.LiteralKind || arg.AsLiteral().Type() != types.StringType {
				problems = append(problems, problem{line, fmt.Sprintf("the time zone of %s must be written out", call.FunctionName())})
			} else if err := learnZone(arg.AsLiteral().Value().(string)); err != nil {
				problems = append(problems, problem{line, err.Error()})
			}
		}
	}))
	return problems
}

// fieldOf reports that an identifier is used for one of its fields only.
func fieldOf(a *celast.AST, ident celast.Expr) bool {
	only := false
	celast.PostOrderVisit(a.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		if e.Kind() == celast.SelectKind && e.AsSelect().Operand().ID() == ident.ID() {
			only = true
		}
	}))
	return only
}

// exception is one entry of except. who is nil for anybody.
type exception struct {
	who  *who
	cond *condition
}

// holds evaluates a condition for one request: unsure is the answer when it
// fails.
func (c *condition) holds(v *variables, unsure bool) (ok bool, failed bool) {
	if c == nil {
		return true, false
	}
	ok, err := c.eval(v)
	if err != nil {
		return unsure, true
	}
	return ok, false
}

// at is the variables for a session at a time, without a request.
func (f *facts) at(now time.Time) *variables { return &variables{facts: f, now: now} }
