package rules

import "strings"

// OfClaims lists the rules that look at claims of a token, by name.
func (p *Policy) OfClaims() (out []string) {
	for _, x := range p.rules {
		if x.ofClaims() {
			out = append(out, x.name)
		}
	}
	return out
}

func (x *rule) ofClaims() bool {
	of := func(w *who, c *condition) bool { return w != nil && len(w.Claims) > 0 || c != nil && c.claims }
	for _, e := range x.except {
		if of(e.who, e.cond) {
			return true
		}
	}
	return of(x.who, x.cond) || x.rows.ofClaims()
}

func (c *clause) ofClaims() bool {
	if c == nil {
		return false
	}
	for _, a := range c.args {
		if a.ofClaims() {
			return true
		}
	}
	for _, o := range c.operands {
		if strings.Contains(o.path, "claims.") {
			return true
		}
	}
	return false
}
