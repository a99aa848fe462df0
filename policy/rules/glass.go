package rules

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/policy"
)

// glass is an entry of break_glass. It is no rule: it grants nothing, and what rules
// that ask are lifted by it stands with these.
type glass struct {
	file  string
	line  int
	rules []*yaml.Node // of is.Rules, in its order
	is    policy.BreakGlass
}

// Bounds of emergency access.
const (
	leastOpen   = time.Minute
	mostOpen    = 24 * time.Hour
	leastReview = time.Hour
	mostReview  = 30 * 24 * time.Hour
)

// glasses reads what emergency access there is.
func (r *reader) glasses(n *yaml.Node) (out []*glass) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		r.bad(n, "break_glass: write a list of emergency accesses, or leave it out")
		return nil
	}
	for _, e := range n.Content {
		out = append(out, r.glass(e))
	}
	return out
}

func (r *reader) glass(n *yaml.Node) *glass {
	g := &glass{file: r.file, line: n.Line}
	given := map[string]bool{}
	take := func(key string, read func(*yaml.Node)) field {
		return field{key, func(v *yaml.Node) {
			given[key] = true
			read(v)
		}}
	}
	if !r.fields(n, "an entry of break_glass", []field{
		take("name", func(v *yaml.Node) { g.is.Name = r.name(v) }),
		take("by", func(v *yaml.Node) { g.is.By = r.strong(v) }),
		take("rules", func(v *yaml.Node) {
			g.is.Rules, g.rules = r.names(v, "rules"), []*yaml.Node{v}
			if v.Kind == yaml.SequenceNode {
				g.rules = v.Content
			}
		}),
		take("resources", func(v *yaml.Node) { g.is.Resources = r.literal(v, "resources") }),
		take("workloads", func(v *yaml.Node) { g.is.Workloads = r.literal(v, "workloads") }),
		take("longest", func(v *yaml.Node) { g.is.Longest = r.between(v, "longest", leastOpen, mostOpen) }),
		take("review", func(v *yaml.Node) { r.review(v, &g.is) }),
	}) {
		return g
	}
	for _, k := range [][2]string{
		{"name"},
		{"by", ": say who may open it"},
		{"rules", ": name those that ask and give way"},
		{"resources", ": name them"},
		{"workloads", ": name them"},
		{"longest", ": say how long it may be open"},
		{"review", ": say who reviews it afterwards, and within what time"},
	} {
		if !given[k[0]] {
			r.bad(n, "break_glass: an entry has no %s%s", k[0], k[1])
		}
	}
	b, err := json.Marshal(&g.is)
	if err != nil {
		r.bad(n, "break_glass: %v", err) // of texts and times it can't fail
	}
	g.is.Digest = sha256.Sum256(b)
	return g
}

// review reads who reviews, and within what time.
func (r *reader) review(n *yaml.Node, to *policy.BreakGlass) {
	given := map[string]bool{}
	if !r.fields(n, "review", []field{
		{"by", func(v *yaml.Node) { given["by"], to.Review = true, r.strong(v) }},
		{"within", func(v *yaml.Node) { given["within"], to.Within = true, r.between(v, "within", leastReview, mostReview) }},
	}) {
		return
	}
	for _, k := range []string{"by", "within"} {
		if !given[k] {
			r.bad(n, "review: it has no %s", k)
		}
	}
}

// approvers reads one, or a list of them.
func (r *reader) approvers(n *yaml.Node) (out []policy.Approver) {
	list := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		list = r.list(n, "by")
	}
	for _, e := range list {
		out = append(out, r.approver(e))
	}
	return out
}

// strong is approvers of whom ID tokens alone are proof.
func (r *reader) strong(n *yaml.Node) []policy.Approver {
	out := r.approvers(n)
	if slices.ContainsFunc(out, func(a policy.Approver) bool { return a.SAML != "" }) {
		r.bad(n, "by: emergency access is opened and reviewed by ID tokens: name an issuer, not saml")
	}
	return out
}

// literal reads names, and refuses what is meant for a pattern.
func (r *reader) literal(n *yaml.Node, what string) []string {
	out := r.names(n, what)
	for _, s := range out {
		if g, err := parseGlob(s); err != nil || g.tokens != nil {
			r.bad(n, "%s: %q is a pattern: emergency access is for what it names", what, s)
		}
	}
	return out
}

func (r *reader) between(n *yaml.Node, key string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || d < least || d > most {
		r.bad(n, "%s: write a time like 90m or 72h, from %s to %s", key, least, most)
		return 0
	}
	return d
}

// glassRules refuses two entries of one name, and rules that are not there or do not
// ask.
func (p *Policy) glassRules() (errs []*Error) {
	first := map[string]*glass{}
	for _, g := range p.glass {
		if o := first[g.is.Name]; o != nil && g.is.Name != "" {
			errs = append(errs, &Error{g.file, g.line, fmt.Sprintf("break_glass %q: the name is taken by the entry at %s:%d", g.is.Name, o.file, o.line)})
			continue
		}
		first[g.is.Name] = g
		for _, n := range g.rules {
			i := slices.IndexFunc(p.rules, func(x *rule) bool { return x.name == n.Value })
			switch {
			case i < 0:
				errs = append(errs, &Error{g.file, n.Line, fmt.Sprintf("rules: there is no rule %q", n.Value)})
			case p.rules[i].effect != policy.EffectApprove:
				errs = append(errs, &Error{g.file, n.Line, fmt.Sprintf("rules: rule %q does not ask for an approval: emergency access lifts only what asks, no block and no mask", n.Value)})
			}
		}
	}
	return errs
}

// giveWay has rules that ask carry the emergency accesses that they give way to.
func (p *Policy) giveWay() {
	for _, x := range p.rules {
		for _, g := range p.glass {
			if x.asks != nil && slices.Contains(g.is.Rules, x.name) {
				x.asks.Glass = append(x.asks.Glass, g.is.Digest)
			}
		}
	}
}

// BreakGlass lists what emergency access there is, in the order of the files.
func (p *Policy) BreakGlass() (out []policy.BreakGlass) {
	for _, g := range p.glass {
		out = append(out, g.is)
	}
	return out
}

func (p *Policy) unmatchedGlass(resources, workloads []string) (out []*Error) {
	check := func(g *glass, what string, want, have []string) {
		for _, w := range want {
			if !slices.Contains(have, w) {
				out = append(out, &Error{g.file, g.line, fmt.Sprintf("break_glass %q: no %s %q here", g.is.Name, what, w)})
			}
		}
	}
	for _, g := range p.glass {
		check(g, "resource", g.is.Resources, resources)
		check(g, "workload", g.is.Workloads, workloads)
	}
	return out
}

// glassForm is an entry of break_glass, for editors.
func glassForm() form {
	lasts := form{"type": "string", "pattern": `^[0-9]`}
	review := mapping(map[string]form{
		"by":     about("Who may review it; never who opened it, or whom it was for.", oneOrMore(approverForm(false))),
		"within": about("Of its end it must be reviewed, like 72h.", lasts),
	}, form{"required": []string{"by", "within"}})
	return about("Emergency access: rules that ask for an approval give way while it is open.", form{"type": "array", "minItems": 1, "items": mapping(map[string]form{
		"name":      about("What it is opened by.", form{"type": "string", "pattern": `^[\p{L}\p{N}][\p{L}\p{N} _./:()+-]{0,99}$`}),
		"by":        about("Who may open it.", oneOrMore(approverForm(false))),
		"rules":     about("Rules that ask for an approval, and give way.", globsForm),
		"resources": about("Of which one is opened.", globsForm),
		"workloads": about("For which it may be opened.", globsForm),
		"longest":   about("How long it may be open at most, like 1h.", lasts),
		"review":    about("Who reviews it afterwards.", review),
	}, form{"required": []string{"name", "by", "rules", "resources", "workloads", "longest", "review"}})})
}
