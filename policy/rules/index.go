package rules

import (
	"cmp"
	"slices"
	"strings"

	"sallyport.dev/sallyport/policy"
)

// fullest is how a statement is recorded that no single rule decides.
func fullest(allow []*candidate) policy.Recording {
	var out policy.Recording
	for i, c := range allow {
		var r policy.Recording
		if c.record != nil {
			r = *c.record
		}
		if i == 0 {
			out = r
		} else {
			out = fuller(out, r)
		}
	}
	return out
}

// fuller joins two recordings: the more of each.
func fuller(a, b policy.Recording) policy.Recording {
	limit := func(r policy.Recording) int64 {
		if r.Limit == 0 {
			return policy.DefaultRecordLimit
		}
		return r.Limit
	}
	switch {
	case a.Level != b.Level:
		if a.Level < b.Level {
			return a
		}
		return b
	case limit(b) > limit(a):
		return b
	}
	return a
}

// index finds the candidates that may be about a relation.
type index struct {
	list   []*candidate // in the order in which they are asked
	exact  map[policy.Relation][]*candidate
	others []*candidate // with patterns, or about whatever is touched
}

// newIndex sorts candidates: those that are sure first, then those that ask
// for the fullest recording, those that say nothing of it last, then by name.
func newIndex(list []*candidate) index {
	slices.SortFunc(list, func(a, b *candidate) int {
		if a.sure() != b.sure() {
			if a.sure() {
				return -1
			}
			return 1
		}
		return cmp.Or(byRecording(a.record, b.record), strings.Compare(a.name, b.name))
	})
	x := index{list: list, exact: map[policy.Relation][]*candidate{}}
	for i, c := range list {
		c.rank = i
		var rels []policy.Relation
		for _, r := range c.relations {
			rel, ok := r.exact()
			if !ok {
				rels = nil
				break
			}
			if !slices.Contains(rels, rel) {
				rels = append(rels, rel)
			}
		}
		if rels == nil {
			x.others = append(x.others, c)
		}
		for _, rel := range rels {
			x.exact[rel] = append(x.exact[rel], c)
		}
	}
	return x
}

func byRecording(a, b *policy.Recording) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	case *a == *b:
		return 0
	case fuller(*a, *b) == *a:
		return -1
	}
	return 1
}

// about calls f for the candidates that may be about a relation, in order,
// until it returns true.
func (x *index) about(o policy.Object, f func(*candidate) bool) bool {
	a, b := x.exact[policy.Relation{Schema: o.Schema, Name: o.Name}], x.others
	for len(a) > 0 || len(b) > 0 {
		var c *candidate
		if len(b) == 0 || len(a) > 0 && a[0].rank < b[0].rank {
			c, a = a[0], a[1:]
		} else {
			c, b = b[0], b[1:]
		}
		if f(c) {
			return true
		}
	}
	return false
}
