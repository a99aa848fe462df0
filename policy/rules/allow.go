package rules

import (
	"fmt"
	"slices"

	"sallyport.dev/sallyport/policy"
)

// A statement needs, for every relation that it reaches, each of its commands
// that may have reached it, on that relation; and each of its commands once,
// on whatever relation. Commands that only steer the session need nothing.

// deciders collects the rules that allow a statement's parts.
type deciders struct {
	rules  []string
	record policy.Recording
	any    bool
}

func (d *deciders) add(c *candidate) {
	var r policy.Recording
	if c.record != nil {
		r = *c.record
	}
	if !d.any {
		d.record, d.any = r, true
	} else {
		d.record = fuller(d.record, r)
	}
	if !slices.Contains(d.rules, c.name) {
		d.rules = append(d.rules, c.name)
	}
}

// allowed decides a statement by the rules that allow.
func (q *question) allowed() policy.Evaluation {
	r := q.req
	if len(r.Commands) == 0 {
		return deny("what the statement does is not known", "")
	}
	var d deciders
	for _, o := range r.Objects {
		bringing := carriers(r.Commands, o.Access)
		for _, cmd := range bringing {
			if c := q.grantOn(o, cmd); c != nil {
				d.add(c)
			} else {
				return q.deny(cmd, on(o))
			}
		}
		if len(bringing) > 0 {
			continue
		}
		words := plain(o.Access)
		if c := q.grantOn(o, words...); c != nil {
			d.add(c)
		} else {
			return q.deny(words[0], on(o))
		}
	}
	for _, cmd := range r.Commands {
		k := classOf(cmd)
		switch {
		case k.session:
		case k.brings(policy.Define) && !bound(r, cmd):
			if c := q.first(func(c *candidate) bool { return c.commands.has(cmd) && c.every() }); c != nil {
				d.add(c)
			} else {
				return q.deny(cmd, ", which may reach any relation, on all of them")
			}
		case k.accesses != 0 && brought(r, k):
		default:
			if c := q.first(func(c *candidate) bool { return c.commands.has(cmd) }); c != nil {
				d.add(c)
			} else {
				return q.deny(cmd, "")
			}
		}
	}
	if !d.any {
		if len(q.view.allow.list) == 0 {
			return deny("no rule allows anything here to this workload", askForRule)
		}
		d.rules, d.record = []string{"session"}, q.view.record
	}
	return policy.Evaluation{Effect: policy.EffectAllow, Rules: d.rules, Record: d.record}
}

// carriers are the statement's commands that bring an access.
func carriers(commands []string, a policy.Access) []string {
	var out []string
	for _, c := range commands {
		if classOf(c).brings(a) && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// brought reports that a command's relations are among the objects, so that
// it was granted with them.
func brought(r *policy.Request, k class) bool {
	return slices.ContainsFunc(r.Objects, func(o policy.Object) bool { return k.brings(o.Access) })
}

// bound reports that the objects tell what a definition reaches.
func bound(r *policy.Request, command string) bool {
	return brought(r, class{accesses: 1 << policy.Define}) &&
		(reporting[command] || len(carriers(r.Commands, policy.Define)) == 1)
}

// grantOn returns the rule that allows one of the commands on an object.
func (q *question) grantOn(o policy.Object, words ...string) *candidate {
	var found *candidate
	q.view.allow.about(o, func(c *candidate) bool {
		if slices.ContainsFunc(words, c.commands.has) && slices.ContainsFunc(c.relations, func(r relation) bool { return r.match(o) }) && q.grants(c) {
			found = c
		}
		return found != nil
	})
	return found
}

// first returns the first rule that allows.
func (q *question) first(about func(*candidate) bool) *candidate {
	for _, c := range q.view.allow.list {
		if about(c) && q.grants(c) {
			return c
		}
	}
	return nil
}

func (q *question) grants(c *candidate) bool {
	if c.named && q.req.Untold != "" {
		q.nameless = c
		return false
	}
	ok := q.ask(c, false).holds
	if !ok && q.almost == nil {
		q.almost = c
	}
	return ok
}

func on(o policy.Object) string {
	if o.Schema == "" {
		return fmt.Sprintf(" on %s, whose schema is not known,", o.Name)
	}
	return " on " + o.String()
}

func (q *question) deny(command, what string) policy.Evaluation {
	e := deny(fmt.Sprintf("no rule allows %s%s", command, what), askForRule)
	if c := q.nameless; c != nil {
		e.Reason += fmt.Sprintf("; rule %q asks whose rows go out, and that can't be told: %s", c.name, q.req.Untold)
		e.Remedy = askForSubjects
		return e
	}
	if c := q.almost; c != nil {
		e.Reason += fmt.Sprintf("; the condition or an exception of rule %q forbids it", c.name)
		if q.asked[c].failed {
			e.Reason += ", since it could not be evaluated"
		}
	}
	return e
}
