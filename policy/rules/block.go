package rules

import (
	"fmt"

	"sallyport.dev/sallyport/policy"
)

// blocked looks for a rule that blocks the request.
func (q *question) blocked() (policy.Evaluation, bool) {
	if len(q.view.block.list) == 0 {
		return policy.Evaluation{}, false
	}
	r := q.req
	words := q.words()
	var by *candidate
	what := ""
	try := func(c *candidate, w string) bool {
		if q.ask(c, true).holds {
			by, what = c, w
		}
		return by != nil
	}
	// Whatever is touched.
	for _, c := range q.view.block.others {
		if len(c.relations) == 0 {
			if w := c.hit(words); w != "" && try(c, w) {
				return q.block(by, what), true
			}
		}
	}
	for _, o := range q.reached() {
		ws := q.wordsOn(o)
		check := func(c *candidate) bool {
			for _, rel := range c.relations {
				if rel.mayMatch(o) {
					w := c.hit(ws)
					return w != "" && try(c, w+" on "+o.String())
				}
			}
			return false
		}
		if o.Schema == "" { // any of that name
			for _, c := range q.view.block.list {
				if check(c) {
					return q.block(by, what), true
				}
			}
		} else if q.view.block.about(o, check) {
			return q.block(by, what), true
		}
	}
	// Definitions that may reach what is not listed.
	for _, cmd := range r.Commands {
		if !classOf(cmd).brings(policy.Define) || bound(r, cmd) {
			continue
		}
		for _, c := range q.view.block.list {
			if len(c.relations) > 0 && c.commands.has(cmd) && try(c, cmd) {
				return q.block(by, what), true
			}
		}
	}
	return policy.Evaluation{}, false
}

// reached is what a request touches, and what that is a part of or made of.
func (q *question) reached() []policy.Object {
	if r := q.req; len(r.Kin) > 0 {
		return append(r.Objects[:len(r.Objects):len(r.Objects)], r.Kin...)
	}
	return q.req.Objects
}

// words are the commands that a request is, for rules that block: its own,
// and the plain names of what it does.
func (q *question) words() []string {
	r := q.req
	switch r.Kind {
	case policy.Login:
		return []string{login}
	case policy.FunctionCall:
		return append([]string{functionCall}, r.Commands...)
	case policy.Undecoded:
		return []string{undecoded}
	case policy.Replication:
		return append([]string{replication}, r.Commands...)
	}
	words := append([]string(nil), r.Commands...)
	for _, o := range r.Objects {
		words = append(words, plain(o.Access)[0])
	}
	if len(words) == 0 {
		words = []string{definition} // not known: whatever it is
	}
	return words
}

// wordsOn are the commands that may have reached an object: those that bring
// its access, its plain name, and those whose own objects are not listed.
func (q *question) wordsOn(o policy.Object) []string {
	words := append(carriers(q.req.Commands, o.Access), plain(o.Access)[0])
	for _, c := range q.req.Commands {
		if !brought(q.req, classOf(c)) {
			words = append(words, c)
		}
	}
	return words
}

// hit returns the first of the commands that the rule is about.
func (c *candidate) hit(words []string) string {
	for _, w := range words {
		if c.commands.has(w) {
			return w
		}
	}
	return ""
}

func (q *question) block(c *candidate, what string) policy.Evaluation {
	e := policy.Evaluation{
		Effect: policy.EffectBlock, Rules: []string{c.name}, Remedy: c.remedy,
		Reason: fmt.Sprintf("rule %q blocks %s", c.name, what),
	}
	if c.reason != "" {
		e.Reason += ": " + c.reason
	}
	if q.asked[c].failed {
		e.Reason += " (its condition could not be evaluated)"
	}
	if e.Remedy == "" {
		e.Remedy = "leave it out, or ask whoever keeps the policy"
	}
	return e
}
