package rules

import (
	"slices"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/policy"
)

// A masked field may be looked up by its stored value where its mask says so
// (match: equality). Who may ask whether somebody is there can ask for one after
// the other: how often is limited, by the rule or by default.

// defaultLookups hold where a rule gives no limits of look-ups.
var defaultLookups = policy.Limits{Minute: policy.Amount{Lookups: 30}, Hour: policy.Amount{Lookups: 300}}

// lookups are the limits of a rule that masks.
func (x *rule) lookups() *policy.Limits {
	if x.limits == nil {
		return &defaultLookups
	}
	return x.limits
}

// equality reads how a masked field may be looked up.
func (r *reader) equality(n *yaml.Node) bool {
	s, ok := r.text(n, "match")
	if ok && s != "equality" {
		r.bad(n, "match %q: write equality: there is no other way to look a masked field up", s)
	}
	return ok && s == "equality"
}

// matches checks the limits of a rule that masks: they are of look-ups only.
func (r *reader) matches(x *rule, given map[string]*yaml.Node) {
	n := given["limits"]
	if n == nil {
		return
	}
	match := false
	for _, m := range x.masks {
		match = match || m.Match
	}
	l := x.limits
	switch {
	case !match:
		r.bad(n, "limits: only a rule that allows, or lets what it masks be looked up (match: equality), has limits")
	case l.Length != 0 || slices.ContainsFunc(amounts(l), func(a policy.Amount) bool { return a.Rows != 0 || a.Bytes != 0 || a.Statements != 0 }):
		r.bad(n, "limits: a rule that masks limits lookups only: rows, bytes, statements and length are for rules that allow")
	case l.Minute.Lookups == 0 && l.Hour.Lookups == 0:
		r.bad(n, "limits: give lookups of a minute or an hour: a session's can be had anew by another session")
	}
}

func amounts(l *policy.Limits) []policy.Amount {
	return []policy.Amount{l.Statement, l.Session, l.Minute, l.Hour}
}

// lookupsIn reports whether limits are of look-ups.
func lookupsIn(l *policy.Limits) bool {
	return slices.ContainsFunc(amounts(l), func(a policy.Amount) bool { return a.Lookups != 0 })
}

// lookups are the limits of what a statement looks up, by all rules that let it.
func (q *question) lookups() (out []policy.Limited) {
	for _, f := range q.req.Matched {
		for _, l := range q.masks[f].match {
			if !slices.ContainsFunc(out, func(have policy.Limited) bool { return have.Rule == l.Rule }) {
				out = append(out, l)
			}
		}
	}
	return out
}
