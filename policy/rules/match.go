package rules

import (
	"encoding/json"
	"strconv"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
)

// who selects identities: all that is given must match. The zero who is
// anybody with a proved identity.
type who struct {
	Workload, SPIFFE, Issuer, Subject, Actor, Principal, PrincipalIssuer, Proof globs
	Claims                                                                      map[string]globs
}

func (w *who) match(id *intercept.Identity) bool {
	if w == nil {
		return true
	}
	for _, x := range []struct {
		want globs
		is   string
	}{
		{w.Workload, id.Workload},
		{w.Issuer, id.Issuer},
		{w.Subject, id.Subject},
		{w.Actor, id.Actor()},
		{w.Principal, id.Principal()},
		{w.SPIFFE, id.SPIFFE},
		{w.PrincipalIssuer, id.PrincipalIssuer()},
		{w.Proof, id.Proof},
	} {
		if x.want != nil && !x.want.matchSet(x.is) {
			return false
		}
	}
	for name, want := range w.Claims {
		if !matchClaim(want, id.Claims[name]) {
			return false
		}
	}
	return true
}

// matchClaim: of a list one element must match.
func matchClaim(want globs, v any) bool {
	switch x := v.(type) {
	case []any:
		for _, e := range x {
			if _, nested := e.([]any); !nested && matchClaim(want, e) {
				return true
			}
		}
		return false
	case string:
		return want.matchSet(x)
	case bool:
		return want.match(strconv.FormatBool(x))
	case float64:
		return want.match(formatNumber(x))
	case json.Number:
		return want.match(x.String())
	}
	return false
}

func formatNumber(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// where selects resources and databases. A nil list is any.
type where struct {
	Name, Database globs
	Labels         map[string]globs
}

// match: a database that is not known (the client named none) is any for a
// rule that takes away, and none for one that grants.
func (w *where) match(s *policy.Session, grants bool) bool {
	if w == nil {
		return true
	}
	if w.Name != nil && !w.Name.matchSet(s.Resource) {
		return false
	}
	if w.Database != nil && !w.Database.matchSet(s.Database) && (grants || s.Database != "") {
		return false
	}
	for name, want := range w.Labels {
		if !want.matchSet(s.Labels[name]) {
			return false
		}
	}
	return true
}

// surelyOverlap reports that two rules' identities and resources meet: what both
// restrict has something in common, and only one of them restricts more.
func surelyOverlap(as, bs map[string]globs) bool {
	shared := 0
	for k, x := range as {
		if y, ok := bs[k]; ok {
			shared++
			if !x.overlap(y) {
				return false
			}
		}
	}
	return shared == len(as) || shared == len(bs)
}

func (r *rule) restrictions() map[string]globs {
	m := map[string]globs{}
	if w := r.who; w != nil {
		m["workload"], m["issuer"], m["subject"], m["actor"], m["principal"] = w.Workload, w.Issuer, w.Subject, w.Actor, w.Principal
		m["spiffe"], m["principal_issuer"], m["proof"] = w.SPIFFE, w.PrincipalIssuer, w.Proof
		for k, v := range w.Claims {
			m["claim "+k] = v
		}
	}
	if w := r.where; w != nil {
		m["resource"], m["database"] = w.Name, w.Database
		for k, v := range w.Labels {
			m["label "+k] = v
		}
	}
	for k, v := range m {
		if v == nil {
			delete(m, k)
		}
	}
	return m
}
