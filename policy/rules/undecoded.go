package rules

import (
	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/policy"
)

// A session that can't be read may be one only if nothing that it does could be
// decided otherwise: as whatever user, in whatever database, by whatever command.

// could reports that a rule that takes away, of this identity and resource, holds
// for some user, database or time.
func (b *builder) could(x *rule) bool {
	open := func(c *condition) bool { return c != nil && (!c.static() || c.claims) }
	if !open(x.cond) {
		if ok, _ := x.cond.holds(b.vars, true); !ok {
			return false
		}
	}
	for _, e := range x.except {
		if !e.who.match(&b.session.Identity) || open(e.cond) {
			continue
		}
		if ok, _ := e.cond.holds(b.vars, false); ok {
			return false
		}
	}
	return true
}

// unread finds the rule that lets the session go undecoded, if nothing is in its
// way.
func (b *builder) unread() {
	if !b.view.opaque || b.taken {
		return
	}
	for _, c := range b.allow {
		if c.commands.named[undecoded] && c.everything() && c.unreadable() == "" {
			b.view.unread, b.scope.Undecoded = c, true
			return
		}
	}
}

// unreadable is why a rule that allows can't allow what is not read, "" if it can.
func (x *rule) unreadable() string {
	switch {
	case !x.commands.all || !x.commands.named[functionCall] || !x.commands.named[replication] || !x.every():
		return `it must allow everything: commands: ["*", function_call, replication, undecoded] and relations: "*"`
	case x.where != nil && x.where.Database != nil:
		return "which database it will be is not known: leave resource.database out"
	}
	if x.limits != nil {
		return "what is not read can't be counted: leave limits out"
	}
	conds := []*condition{x.cond}
	for _, e := range x.except {
		conds = append(conds, e.cond)
	}
	for _, c := range conds {
		if c != nil && (!c.static() || c.claims) {
			return "nothing is known but who connects, and to what: conditions may use identity, process and resource only"
		}
	}
	return ""
}

// unread answers for a session that can't be read.
func (q *question) unread() policy.Evaluation {
	if c := q.view.unread; c != nil {
		return policy.Evaluation{Effect: policy.EffectAllow, Rules: []string{c.name}, Record: q.record}
	}
	return deny("no rule lets this workload speak TLS with the server itself, or another rule could decide what it says", askForRule)
}

// unread checks a rule that names undecoded.
func (r *reader) unread(x *rule, given map[string]*yaml.Node) {
	if x.effect != policy.EffectAllow || !x.commands.named[undecoded] {
		return
	}
	if why := x.unreadable(); why != "" {
		r.bad(given["commands"], "commands: undecoded: what it allows can't be read, and nothing of it refused: %s", why)
	}
}
