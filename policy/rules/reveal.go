package rules

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// A rule that reveals lets fields be seen in clear that others mask, by whom it
// names, while the session says why. It grants nothing else: what can't be told
// of it does not reveal.

// Bounds of how many characters a rule may ask for.
const (
	leastJustification = 10
	mostJustification  = 200
)

// revealed reads the columns that are shown in clear.
func (r *reader) revealed(n *yaml.Node) (out []events.Field) {
	for _, e := range r.list(n, "reveal") {
		s, ok := r.text(e, "reveal")
		if !ok {
			continue
		}
		f, err := parseField(s)
		if err != nil {
			r.bad(e, "reveal: %v", err)
			continue
		}
		out = append(out, f)
	}
	return out
}

// justification reads how many characters a justification must have.
func (r *reader) justification(n *yaml.Node) int {
	k, ok := r.integer(n, "justification")
	if ok && (k < 1 || k > mostJustification) {
		r.bad(n, "justification: how many characters it has at least: from 1 to %d", mostJustification)
	}
	return k
}

// reveal keeps a rule that reveals something to the session now.
func (b *builder) reveal(x *rule) {
	s := b.session
	if !x.mayReveal(s) {
		return
	}
	if x.asks != nil {
		b.asks = append(b.asks, x)
	}
	conds := []*condition{x.cond}
	for _, e := range x.except {
		if e.who.match(&s.Identity) {
			conds = append(conds, e.cond)
		}
	}
	for _, c := range conds {
		if c != nil && c.now {
			b.static = false
		}
	}
	if x.justified(s) && x.revealsBy(s, b.vars) {
		b.reveals = append(b.reveals, x)
	}
}

// mayReveal reports whether a rule that reveals is for a session.
func (x *rule) mayReveal(s *policy.Session) bool {
	return s.Identity.Workload != "" && x.who.match(&s.Identity) && x.where.match(s, true)
}

// justified reports whether the session says enough of why.
func (x *rule) justified(s *policy.Session) bool {
	return utf8.RuneCountInString(strings.TrimSpace(s.Justification())) >= x.least
}

// revealsBy reports whether nothing else than a justification is asked for. What
// can't be told does not reveal.
func (x *rule) revealsBy(s *policy.Session, vars *variables) bool {
	if ok, _ := x.cond.holds(vars, false); !ok {
		return false
	}
	for _, e := range x.except {
		if e.who.match(&s.Identity) {
			if ok, _ := e.cond.holds(vars, true); ok {
				return false
			}
		}
	}
	return true
}

// Revealing is a rule that reveals a field to a session that says why.
type Revealing struct {
	Rule  string
	Least int  // characters that its justification has at least
	Asks  bool // for an approval besides
	Said  bool // the session has given such a justification
}

// Revealing lists the rules that reveal a field to the session at now, whatever it
// has said so far, by name.
func (p *Policy) Revealing(s *policy.Session, now time.Time, f events.Field) (out []Revealing) {
	vars := factsOf(s).at(now)
	for _, x := range p.rules {
		if x.effect == policy.EffectReveal && slices.Contains(x.reveals, f) && x.mayReveal(s) && x.revealsBy(s, vars) {
			out = append(out, Revealing{x.name, x.least, x.asks != nil, x.justified(s)})
		}
	}
	return out
}

// mayApprove notes the rules that reveal with an approval only, whether the session has
// said why already or not: it is to be one whose statements may be approved from its
// beginning.
func (b *builder) mayApprove() {
	if len(b.view.masks) == 0 && !b.timed {
		return
	}
	for _, x := range b.asks {
		b.scope.Approves = true
		b.parts = append(b.parts, append([]byte("asks"), x.digest[:]...))
	}
}

// unapproved are the rules that must be asked before the fields of a request are shown
// in clear: all that reveal one, where none of them does without.
func (q *question) unapproved() (out []*policy.Approval) {
	for _, f := range q.req.Masked {
		m := q.masks[f]
		if !m.clear || m.free {
			continue
		}
		for _, a := range m.asks {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// unmask shows what rules reveal of what others mask. Where masks disagree the
// field stays what it is.
func (b *builder) unmask() {
	for _, x := range b.reveals {
		some := false
		for _, f := range x.reveals {
			m := b.view.masks[f]
			if m == nil || m.clash {
				continue
			}
			some = true
			if !m.clear {
				m.clear, m.rules = true, nil
				m.mask = policy.Mask{Kind: policy.MaskReveal}
				b.scope.Masks[policy.Relation{Schema: f.Schema, Name: f.Relation}][f.Column] = m.mask
			}
			m.rules = append(m.rules, x.name)
			if x.asks == nil {
				m.free = true
			} else {
				m.asks = append(m.asks, x.asks)
			}
			if x.named && m.named == "" {
				m.named = x.name
			}
		}
		if some {
			b.parts = append(b.parts, append([]byte("reveal"), x.digest[:]...))
		}
	}
}
