package rules

import (
	"fmt"
	"slices"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// Evaluate implements policy.Engine.
func (p *Policy) Evaluate(r *policy.Request) policy.Evaluation {
	v := p.viewOf(r)
	if v == nil {
		return policy.Evaluation{
			Effect: policy.EffectBlock, Rules: []string{"changed"},
			Reason: "the policy changed while the statement was analysed", Remedy: "send it again",
		}
	}
	q := &question{view: v, req: r, vars: &variables{facts: v.facts, now: r.Now, req: r}, cacheable: true}
	e := q.answer()
	e.Cacheable = q.cacheable
	return e
}

// viewOf returns what the request's scope left of the policy; nil if that was
// another policy's, which protects something else.
func (p *Policy) viewOf(r *policy.Request) *view {
	if r.Scope != nil {
		if v, ok := r.Scope.Rules.(*view); ok && v.policy == p {
			return v
		}
	}
	s := p.Scope(r.Session, r.Now)
	if r.Scope != nil && r.Scope.ID != s.ID {
		return nil
	}
	return s.Rules.(*view)
}

// question is a request being decided.
type question struct {
	*view
	req       *policy.Request
	vars      *variables
	cacheable bool

	asked  map[*candidate]answer
	almost *candidate // would allow, but for its condition

	nameless *candidate // would allow, but that subjects can't be told
}

// answer is what a candidate says of the request as a whole.
type answer struct{ holds, failed bool }

// answer decides: block before mask before allow, and what is not understood
// before any of them can allow it.
func (q *question) answer() policy.Evaluation {
	r := q.req
	switch r.Kind {
	case policy.Login, policy.StatementReq, policy.PrepareReq, policy.FunctionCall, policy.Replication, policy.Undecoded:
	default:
		return deny("this kind of request is not known", "")
	}
	if e, blocked := q.blocked(); blocked {
		return e
	}
	switch r.Kind {
	case policy.Login:
		if r.Opaque != "" && !q.opaque {
			return q.notUnderstood("login")
		}
		if len(q.allow.list) == 0 {
			return deny("no rule allows anything here to this workload", askForRule)
		}
		return policy.Evaluation{Effect: policy.EffectAllow, Rules: []string{q.allow.list[0].name}, Record: q.record}
	case policy.FunctionCall:
		return q.special(functionCall)
	case policy.Replication:
		return q.special(replication)
	case policy.Undecoded:
		return q.unread()
	}
	if r.Opaque != "" {
		return q.opaqueStatement()
	}
	if e, refused := q.clash(); refused {
		return e
	}
	if e, refused := q.untold(); refused {
		return e
	}
	if e, refused := q.renamed(); refused {
		return e
	}
	e := q.allowed()
	if e.Effect == policy.EffectAllow && len(r.Masked) > 0 {
		if slices.ContainsFunc(r.Masked, func(f events.Field) bool { return !q.masks[f].clear }) {
			e.Effect = policy.EffectMask
		}
		e.Rules = append(q.maskers(), e.Rules...)
	}
	if e.Effect != policy.EffectDeny {
		e.Limits = append(q.limited(), q.lookups()...)
		e.Rules = append(append(q.detectors(), q.filterers()...), e.Rules...)
		q.asking(&e)
	}
	return e
}

const askForRule = "ask whoever keeps the policy for a rule that allows it"

func deny(reason, remedy string) policy.Evaluation {
	return policy.Evaluation{Effect: policy.EffectDeny, Rules: []string{"default"}, Reason: reason, Remedy: remedy}
}

// opaqueStatement: only where nothing else could be decided anyway.
func (q *question) opaqueStatement() policy.Evaluation {
	if q.opaque {
		return policy.Evaluation{Effect: policy.EffectAllow, Rules: []string{q.relay().name}, Record: q.record}
	}
	return q.notUnderstood("statement")
}

func (q *question) notUnderstood(what string) policy.Evaluation {
	e := policy.Evaluation{
		Effect: policy.EffectBlock, Rules: []string{"opaque"},
		Reason: fmt.Sprintf("the %s is not understood: %s", what, q.req.Opaque), Remedy: q.req.Remedy,
	}
	if e.Remedy == "" {
		e.Remedy = "write it in another way"
	}
	return e
}

// relay returns the rule that allows everything.
func (v *view) relay() *candidate {
	return v.allow.list[slices.IndexFunc(v.allow.list, (*candidate).everything)]
}

// special decides requests that are past the language: a rule must name them,
// and nothing may be protected from the session.
func (q *question) special(command string) policy.Evaluation {
	for _, c := range q.allow.list {
		if !c.commands.named[command] || !c.every() {
			continue
		}
		if !q.opaque {
			return deny(fmt.Sprintf("%s is not understood, and other rules than those that allow everything can match here", command), "use SQL statements")
		}
		if q.ask(c, false).holds {
			return policy.Evaluation{Effect: policy.EffectAllow, Rules: []string{c.name}, Record: q.record}
		}
	}
	return deny(fmt.Sprintf("no rule allows %s by name", command), askForRule)
}

// clash refuses statements that read a field on whose mask rules disagree, or
// that were analysed under other masks.
func (q *question) clash() (policy.Evaluation, bool) {
	for _, f := range q.req.Masked {
		m := q.masks[f]
		if m == nil {
			return policy.Evaluation{
				Effect: policy.EffectBlock, Rules: []string{"changed"},
				Reason: fmt.Sprintf("%s was masked by another policy", f), Remedy: "send it again",
			}, true
		}
		if m.clash {
			return policy.Evaluation{
				Effect: policy.EffectBlock, Rules: append([]string{"conflict"}, m.rules...),
				Reason: fmt.Sprintf("rules %s give different masks for %s", quoted(m.rules), f),
				Remedy: "leave the field out, and tell whoever keeps the policy",
			}, true
		}
	}
	for _, f := range q.req.Matched {
		if m := q.masks[f]; m == nil || !m.mask.Match {
			return policy.Evaluation{
				Effect: policy.EffectBlock, Rules: []string{"changed"},
				Reason: fmt.Sprintf("%s could be looked up by another policy", f), Remedy: "send it again",
			}, true
		}
	}
	for _, rel := range q.req.Filtered {
		if q.filter[rel] == nil {
			return policy.Evaluation{
				Effect: policy.EffectBlock, Rules: []string{"changed"},
				Reason: fmt.Sprintf("rows of %s.%s were left out by another policy", rel.Schema, rel.Name), Remedy: "send it again",
			}, true
		}
	}
	return policy.Evaluation{}, false
}

// filterers are the rules that leave rows out.
func (q *question) filterers() []string {
	var out []string
	for _, rel := range q.req.Filtered {
		for _, n := range q.filter[rel] {
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}

// detectors are the rules that look at what goes out.
func (q *question) detectors() (out []string) {
	for i := range q.detect {
		if d := &q.detect[i]; d.Concerns(q.reached()) && !slices.Contains(out, d.Rule) {
			out = append(out, d.Rule)
		}
	}
	return out
}

func (q *question) maskers() []string {
	var out []string
	for _, f := range q.req.Masked {
		for _, n := range q.masks[f].rules {
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}

// ask evaluates what is still open of a candidate, once for the request.
// unsure is the answer when that fails: true for a rule that takes away.
func (q *question) ask(c *candidate, unsure bool) answer {
	if c.sure() {
		return answer{holds: true}
	}
	if a, ok := q.asked[c]; ok {
		return a
	}
	var a answer
	a.holds, a.failed = c.cond.holds(q.vars, unsure)
	q.depends(c.cond)
	for _, e := range c.pending {
		if !a.holds {
			break
		}
		q.depends(e.cond)
		excepted, failed := e.cond.holds(q.vars, !unsure)
		a.failed = a.failed || failed
		a.holds = !excepted
	}
	if q.asked == nil {
		q.asked = map[*candidate]answer{}
	}
	q.asked[c] = a
	return a
}

func (q *question) depends(c *condition) {
	if c != nil && !c.cacheable() {
		q.cacheable = false
	}
}

func quoted(names []string) string {
	s := ""
	for i, n := range names {
		switch {
		case i == 0:
		case i == len(names)-1:
			s += " and "
		default:
			s += ", "
		}
		s += fmt.Sprintf("%q", n)
	}
	return s
}
