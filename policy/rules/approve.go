package rules

import (
	"crypto/sha256"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/policy"
)

// A rule that asks for an approval takes nothing away for good and grants
// nothing: what other rules allow runs once people have said so, masked and
// filtered as ever. What can't be told of it asks.

// Bounds and defaults of approvals.
const (
	defaultWithin = 15 * time.Minute
	defaultGrant  = 10 * time.Minute
	mostWithin    = 7 * 24 * time.Hour
	mostGrant     = 24 * time.Hour
	mostHold      = 10 * time.Minute
	defaultHold   = time.Minute
	mostApprovers = 10
	mostUses      = 10_000
	mostFree      = 1000 // values of one parameter
)

// approve reads who may approve, what, and for how long.
func (r *reader) approve(n *yaml.Node) *policy.Approval {
	a := &policy.Approval{Count: 1, Within: defaultWithin, Grant: defaultGrant}
	given := map[string]*yaml.Node{}
	lasts := func(key string, to *time.Duration, most time.Duration) field {
		return field{key, func(v *yaml.Node) { *to = r.lasts(v, key, most) }}
	}
	count := func(key string, to *int, most int) field {
		return field{key, func(v *yaml.Node) {
			given[key] = v
			i, ok := r.integer(v, key)
			if ok && (i < 1 || i > most) {
				r.bad(v, "%s: from 1 to %d", key, most)
			}
			*to = i
		}}
	}
	ok := r.fields(n, "approve", []field{
		{"by", func(v *yaml.Node) {
			given["by"], a.By = v, r.approvers(v)
		}},
		count("count", &a.Count, mostApprovers),
		lasts("within", &a.Within, mostWithin),
		lasts("grant", &a.Grant, mostGrant),
		count("uses", &a.Uses, mostUses),
		{"scope", func(v *yaml.Node) {
			s, ok := r.text(v, "scope")
			c, known := policy.ParseCovers(s)
			if ok && !known {
				r.bad(v, "scope %q: use statement, shape or rule", s)
			}
			a.Covers = c
		}},
		{"free", func(v *yaml.Node) {
			given["free"] = v
			a.Free = r.free(v)
		}},
		{"wait", func(v *yaml.Node) { a.Hold = r.hold(v) }},
	})
	if !ok {
		return a
	}
	if given["by"] == nil {
		r.bad(n, "approve: it has no by: say who may approve, by issuer and subjects or claims")
	}
	if a.Uses == 0 && a.Covers != policy.ARule {
		a.Uses = 1
	}
	switch v := given["free"]; {
	case a.Covers == policy.AShape && v == nil:
		r.bad(n, "approve: scope: shape has free parameters: name them with the values that they may have (free: {1: [a, b]})")
	case a.Covers != policy.AShape && v != nil:
		r.bad(v, "free: only scope: shape has free parameters")
	}
	return a
}

// lasts reads a time from a second.
func (r *reader) lasts(n *yaml.Node, key string, most time.Duration) time.Duration {
	d, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || d < time.Second || d > most {
		r.bad(n, "%s: write a time like 90s or 15m, from 1s to %s", key, most)
		return 0
	}
	return d
}

// hold reads whether a client waits: hold, retry, or how long it is held.
func (r *reader) hold(n *yaml.Node) time.Duration {
	switch s, _ := n.Value, n.Kind; s {
	case "retry":
		return 0
	case "hold":
		return defaultHold
	}
	d, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || d < time.Second || d > mostHold {
		r.bad(n, "wait %q: write retry, hold, or how long a client is held, from 1s to %s", n.Value, mostHold)
		return 0
	}
	return d
}

// approver reads who may approve. There are no patterns: each is meant by name.
func (r *reader) approver(n *yaml.Node) (a policy.Approver) {
	if !r.fields(n, "by", []field{
		{"issuer", func(v *yaml.Node) { a.Issuer, _ = r.text(v, "issuer") }},
		{"saml", func(v *yaml.Node) { a.SAML, _ = r.text(v, "saml") }},
		{"subjects", func(v *yaml.Node) { a.Subjects = r.names(v, "subjects") }},
		{"claims", func(v *yaml.Node) {
			a.Claims = map[string][]string{}
			r.each(v, "claims", func(k, v *yaml.Node) { a.Claims[k.Value] = r.names(v, "claim "+k.Value) })
		}},
	}) {
		return a
	}
	switch {
	case a.Issuer != "" && a.SAML != "":
		r.bad(n, "by: it has both issuer and saml: write an entry for each")
	case a.Issuer == "" && a.SAML == "":
		r.bad(n, "by: it has no issuer: say who vouches for approvers, one of approvals.issuers in the configuration (or, by the weaker proof, saml: the name of one of approvals.saml)")
	}
	if a.Subjects == nil && a.Claims == nil {
		r.bad(n, "by: whoever logs in there could approve: name subjects or claims")
	}
	return a
}

// names reads texts that mean themselves.
func (r *reader) names(n *yaml.Node, what string) (out []string) {
	out = []string{}
	for _, e := range r.list(n, what) {
		if s, ok := r.text(e, what); ok {
			out = append(out, s)
		}
	}
	return out
}

// free reads the parameters of a shape.
func (r *reader) free(n *yaml.Node) map[int][]string {
	out := map[int][]string{}
	r.each(n, "free", func(k, v *yaml.Node) {
		i, err := strconv.Atoi(k.Value)
		if err != nil || i < 1 || i > 1<<16-1 {
			r.bad(k, "free: %q is no parameter: write its number, from 1", k.Value)
			return
		}
		for _, e := range r.list(v, "free") {
			if e.Kind != yaml.ScalarNode || e.Tag == "!!null" {
				r.bad(e, "free: write values, as the client sends them in text")
				continue
			}
			out[i] = append(out[i], e.Value)
		}
		if len(out[i]) > mostFree {
			r.bad(v, "free: at most %d values of a parameter", mostFree)
		}
	})
	return out
}

// asks checks a rule that asks for an approval.
func (r *reader) asks(x *rule, given map[string]*yaml.Node, need, useless func(string, ...string)) {
	need(`: whom it asks of must be said; "*" is everybody, or everywhere`, "identity", "resource")
	need(`: what needs an approval must be said; "*" is all`, "commands", "relations")
	need(": say who may approve", "approve")
	useless("only a rule that masks names fields", "fields")
	useless("only a rule that masks has detectors", "detect", "on")
	useless("only a rule that filters says which rows", "where")
	useless("only a rule that allows has limits", "limits")
	useless("only a rule that allows declares them", "functions")
	useless("only a rule that allows says how much is recorded", "record", "record_limit")
	useless("who must ask is told how to wait", "remedy")
	if s := &x.commands; s.named[functionCall] || s.named[replication] || s.named[undecoded] {
		r.bad(given["commands"], "commands: function_call, replication and undecoded are not statements that somebody could be shown: block them")
	} else if s.named[login] {
		r.bad(given["commands"], "commands: a login can't be approved: only statements can")
	}
}

// sign has what rules ask for carry the digest of all rules: an approval is of
// what was in force.
func (p *Policy) sign() {
	h := sha256.New()
	for _, x := range p.rules { // by name
		h.Write(x.digest[:])
	}
	sum := [sha256.Size]byte(h.Sum(nil))
	for _, x := range p.rules {
		if x.asks != nil {
			x.asks.Policy = sum
		}
	}
}

// asking has an answer that lets a statement run wait for what rules ask for.
func (q *question) asking(e *policy.Evaluation) {
	if c := q.req.Commands; len(c) == 1 && c[0] == "prepare" {
		return // it runs nothing: what executes it is asked about
	}
	e.Approvals = q.unapproved() // by rules that are among those that decide already
	e.About = make([]policy.About, len(e.Approvals))
	var names []string
	for _, c := range q.view.ask {
		if about, ok := q.touches(c); ok && q.ask(c, true).holds {
			e.Approvals, e.About = append(e.Approvals, c.asks), append(e.About, about)
			names = append(names, c.name)
		}
	}
	if e.Approvals == nil {
		return
	}
	e.Then, e.Effect = e.Effect, policy.EffectApprove
	e.Rules = append(names, e.Rules...)
}

// touches reports whether a rule that asks is about the request, and what of it. It
// is told as for a rule that blocks: what may be meant is.
func (q *question) touches(c *candidate) (about policy.About, ok bool) {
	r := q.req
	for i, o := range q.reached() {
		if slices.ContainsFunc(c.relations, func(rel relation) bool { return rel.mayMatch(o) }) && c.hit(q.wordsOn(o)) != "" {
			about.Object = o
			if k := i - len(r.Objects); k >= 0 && k < len(r.Via) {
				about.Through = r.Via[k]
			}
			return about, true
		}
	}
	for _, cmd := range r.Commands {
		if classOf(cmd).brings(policy.Define) && !bound(r, cmd) && c.commands.has(cmd) {
			return about, true
		}
	}
	return about, false
}
