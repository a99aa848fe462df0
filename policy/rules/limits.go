package rules

import (
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/policy"
)

// limits reads how much a rule lets through.
func (r *reader) limits(n *yaml.Node) *policy.Limits {
	l := &policy.Limits{}
	count := func(key string, to *int64) field {
		return field{key, func(v *yaml.Node) {
			i, ok := r.integer(v, key)
			if ok && (i == 0 || i > 1<<53) {
				r.bad(v, "%s: from 1 to 2^53: what lets nothing through is a rule that blocks", key)
			}
			*to = int64(i)
		}}
	}
	amount := func(key string, a *policy.Amount, more ...field) field {
		fields := append([]field{count("rows", &a.Rows), {"bytes", func(v *yaml.Node) { a.Bytes = r.size(v, "bytes") }}}, more...)
		fields = append(fields, count("lookups", &a.Lookups))
		if key != "statement" {
			fields = append(fields, count("statements", &a.Statements))
		}
		return field{key, func(v *yaml.Node) {
			if r.fields(v, key, fields) && len(v.Content) == 0 {
				r.bad(v, "%s: it is empty: say how much, or leave it out", key)
			}
		}}
	}
	if r.fields(n, "limits", []field{
		amount("statement", &l.Statement),
		amount("session", &l.Session, field{"length", func(v *yaml.Node) {
			d, err := time.ParseDuration(v.Value)
			if v.Kind != yaml.ScalarNode || err != nil || d < time.Second {
				r.bad(v, "length: write a time like 30m or 8h, from 1s")
			}
			l.Length = d
		}}),
		amount("minute", &l.Minute), amount("hour", &l.Hour),
	}) && len(n.Content) == 0 {
		r.bad(n, "limits: it is empty: say how much, or leave it out")
	}
	return l
}

// limited are the limits of a statement that is allowed: those of all rules that
// could have allowed a part of it. Each has a budget of its own, so that the
// smallest counts; one that can't be told counts too.
func (q *question) limited() (out []policy.Limited) {
	for _, c := range q.allow.list {
		if c.limits == nil || !q.about(c) {
			continue
		}
		if a := q.ask(c, false); a.holds || a.failed {
			out = append(out, policy.Limited{Rule: c.name, Limits: c.limits})
		}
	}
	return out
}

// about reports whether a rule that allows could have to do with the statement: rows of
// a partition are its table's, whichever of them was named.
func (q *question) about(c *candidate) bool {
	if len(q.req.Objects) == 0 {
		return c.hit(q.words()) != ""
	}
	return slices.ContainsFunc(q.reached(), func(o policy.Object) bool {
		return slices.ContainsFunc(c.relations, func(r relation) bool { return r.mayMatch(o) }) && c.hit(q.wordsOn(o)) != ""
	})
}
