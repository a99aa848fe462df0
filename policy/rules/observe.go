package rules

import (
	"fmt"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/policy"
)

// A rule that takes something away may only observe: what it would do is told in
// events, and not done. It is left out of a session's scope, and stands in that
// scope's Would.

// observes reads whether a rule only observes.
func (r *reader) observes(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || n.Value != "true" {
		r.bad(n, "observe: write true, or leave it out: the rule is enforced then")
		return false
	}
	return true
}

// observed checks a rule that only observes.
func (r *reader) observed(x *rule, given map[string]*yaml.Node) {
	n := given["observe"]
	if n == nil {
		return
	}
	switch {
	case x.effect == policy.EffectAllow || x.effect == policy.EffectReveal:
		r.bad(n, "observe: only what takes something away can be watched before it is enforced: leave it out, and the rule too until it is to hold")
	case given["detect"] != nil:
		r.bad(n, "observe: what detectors would find is known only where they look: leave one of detect and observe out")
	}
}

// Observing lists the rules that only observe, in words: what each is warned of.
func (p *Policy) Observing() (out []*Error) {
	for _, x := range p.rules {
		if !x.observe {
			continue
		}
		what := "what it would block goes on"
		switch x.effect {
		case policy.EffectMask:
			what = "what it would mask is SHOWN AS IT IS STORED"
		case policy.EffectApprove:
			what = "what it would have wait for an approval goes on"
		case policy.EffectFilter:
			what = "rows that it would leave out are SHOWN"
		}
		out = append(out, &Error{x.file, x.line, fmt.Sprintf("rule %q only observes: %s", x.name, what)})
	}
	return out
}
