package rules

import (
	"fmt"
	"slices"
	"strings"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// Rules know relations by name, and what a catalog remembers of former names ends with
// the process. So nobody takes a relation out of a rule by giving it another name.

// names keeps a rule that is about relations by name. Its condition and those of its
// exceptions may hold at another time, or in another session of the same identity.
func (b *builder) names(x *rule) {
	switch {
	case x.effect == policy.EffectReveal, x.effect == policy.EffectAllow && x.limits == nil:
		return
	}
	for _, e := range x.except {
		if e.cond == nil && e.who.match(&b.session.Identity) {
			return
		}
	}
	b.view.naming = append(b.view.naming, x)
	b.scope.Named = append(b.scope.Named, x.knows...)
}

// naming are the names by which a rule knows relations.
func (x *rule) naming() (out []policy.Named) {
	add := func(as string, rel policy.Relation, is, keeps func(policy.Relation) bool) {
		if !slices.ContainsFunc(out, func(n policy.Named) bool { return n.As == as }) {
			out = append(out, policy.Named{Rule: x.name, As: as, Relation: rel, Is: is, Keeps: keeps})
		}
	}
	exactly := func(rel policy.Relation, keeps func(policy.Relation) bool) {
		add(rel.Schema+"."+rel.Name, rel, func(r policy.Relation) bool { return r == rel }, keeps)
	}
	nobody := func(policy.Relation) bool { return false }
	object := func(r policy.Relation) policy.Object { return policy.Object{Schema: r.Schema, Name: r.Name} }
	about := func(r policy.Relation) bool {
		return slices.ContainsFunc(x.relations, func(p relation) bool { return p.match(object(r)) })
	}
	switch x.effect {
	case policy.EffectFilter:
		for _, rel := range x.filters {
			exactly(rel, nobody)
		}
	case policy.EffectMask:
		for f := range x.masks {
			exactly(policy.Relation{Schema: f.Schema, Name: f.Relation}, nobody)
		}
		if x.detect == nil {
			break
		}
		for _, f := range x.detect.On {
			if f.Relation != "" {
				rel := policy.Relation{Schema: f.Schema, Name: f.Relation}
				exactly(rel, func(r policy.Relation) bool { return looks(x.detect.On, r, true) })
			}
		}
	default:
		for _, p := range x.relations {
			switch rel, one := p.exact(); {
			case one:
				exactly(rel, about)
			case !p.all():
				add(p.String(), policy.Relation{}, func(r policy.Relation) bool { return p.match(object(r)) }, about)
			}
		}
	}
	slices.SortFunc(out, func(a, b policy.Named) int { return strings.Compare(a.As, b.As) })
	return out
}

// renamed refuses what would take a relation out of a rule by its name.
func (q *question) renamed() (policy.Evaluation, bool) {
	if len(q.req.Renames) == 0 {
		return policy.Evaluation{}, false
	}
	q.cacheable = false // rules that are not of the scope's ID are asked too
	for _, n := range q.req.Renames {
		for _, x := range q.naming {
			if !x.loses(n) {
				continue
			}
			return policy.Evaluation{
				Effect: policy.EffectBlock, Rules: []string{x.name},
				Reason: fmt.Sprintf("rule %q is about %s.%s by its name, and not in the same way about %s.%s, which it would become",
					x.name, n.From.Schema, n.From.Name, n.To.Schema, n.To.Name),
				Remedy: "leave the relation what it is, or ask whoever keeps the policy to name both first",
			}, true
		}
	}
	return policy.Evaluation{}, false
}

// loses reports that a rule is about a relation and would not be about it any more.
func (x *rule) loses(n policy.Rename) bool {
	is := func(r policy.Relation) func(relation) bool {
		return func(p relation) bool { return p.mayMatch(policy.Object{Schema: r.Schema, Name: r.Name}) }
	}
	switch x.effect {
	case policy.EffectFilter:
		return slices.Contains(x.filters, n.From)
	case policy.EffectMask:
		for f := range x.masks {
			if f.Schema == n.From.Schema && f.Relation == n.From.Name {
				return true
			}
		}
		return x.detect != nil && looks(x.detect.On, n.From, false) && !looks(x.detect.On, n.To, true)
	}
	return slices.ContainsFunc(x.relations, is(n.From)) && !slices.ContainsFunc(x.relations, is(n.To))
}

// looks reports that a detector looks at a relation, or at all of it.
func looks(on []events.Field, r policy.Relation, all bool) bool {
	return slices.ContainsFunc(on, func(f events.Field) bool {
		return (f.Schema == "" || f.Schema == r.Schema) && (f.Relation == "" || f.Relation == r.Name) && (f.Column == "" || !all)
	})
}
