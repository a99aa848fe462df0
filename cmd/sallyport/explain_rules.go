package main

import (
	"fmt"
	"strings"

	"sallyport.dev/sallyport/policy"
)

// filters tells which rows of a relation are there: whoever asks keeps the policy.
func (x *explanation) filters(sc *policy.Scope, filtered []policy.Relation) {
	for _, r := range filtered {
		for _, f := range sc.Filters[r] {
			text := f.Unknown
			if text == "" {
				text = predicateText(&f.Rows)
			}
			x.Filtered = append(x.Filtered, r.Schema+"."+r.Name+": "+text)
		}
	}
}

var comparisons = map[policy.Op]string{
	policy.Equal: "=", policy.Differs: "<>", policy.Less: "<", policy.AtMost: "<=", policy.More: ">", policy.AtLeast: ">=",
}

// predicateText writes a predicate as a rule's where has it.
func predicateText(p *policy.Predicate) string {
	quoted := func(v string) string { return "'" + strings.ReplaceAll(v, "'", "''") + "'" }
	var args []string
	for i := range p.Args {
		text := predicateText(&p.Args[i])
		if op := p.Args[i].Op; op == policy.And || op == policy.Or {
			text = "(" + text + ")"
		}
		args = append(args, text)
	}
	switch p.Op {
	case policy.And:
		return strings.Join(args, " AND ")
	case policy.Or:
		return strings.Join(args, " OR ")
	case policy.Not:
		return "NOT " + strings.Join(args, "")
	case policy.IsNull:
		return p.Column + " IS NULL"
	case policy.In:
		var vs []string
		for _, v := range p.Values {
			vs = append(vs, quoted(v))
		}
		return p.Column + " IN (" + strings.Join(vs, ", ") + ")"
	}
	if op := comparisons[p.Op]; op != "" && len(p.Values) == 1 {
		return p.Column + " " + op + " " + quoted(p.Values[0])
	}
	return "no row"
}

// limits tells how much each rule lets through.
func (x *explanation) limits(all []policy.Limited) {
	for _, l := range all {
		var parts []string
		add := func(n int64, what, of string) {
			if n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s a %s", n, what, of))
			}
		}
		for _, a := range []struct {
			of string
			policy.Amount
		}{
			{"statement", l.Limits.Statement}, {"session", l.Limits.Session}, {"minute", l.Limits.Minute}, {"hour", l.Limits.Hour},
		} {
			add(a.Rows, "rows", a.of)
			add(a.Bytes, "bytes", a.of)
			add(a.Statements, "statements", a.of)
			add(a.Lookups, "look-ups of masked values", a.of)
		}
		if d := l.Limits.Length; d > 0 {
			parts = append(parts, "sessions of "+d.String())
		}
		x.Limits = append(x.Limits, l.Rule+": "+strings.ReplaceAll(strings.Join(parts, ", "), "a hour", "an hour"))
	}
}
