package rules

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// view is what is left of a policy for one session: the rules that can match
// it, sorted so that a statement costs the same among many as among few.
type view struct {
	policy *Policy
	facts  *facts
	allow  index
	block  index
	ask    []*candidate // that ask for approvals
	naming []*rule      // that take something away by names of relations; see rename.go
	masks  map[events.Field]*masked
	filter map[policy.Relation][]string // the rules that leave rows out
	detect []policy.Detection
	opaque bool       // see policy.Scope.Opaque
	unread *candidate // that lets a session go undecoded; nil: none does
	record policy.Recording
}

// masked is what stands before a field, and by which rules.
type masked struct {
	mask  policy.Mask
	rules []string
	match []policy.Limited   // how often it may be looked up, by each rule
	clash bool               // they disagree
	clear bool               // it is revealed, by rules
	named string             // one of them, which asks for subjects to be told
	asks  []*policy.Approval // of rules that reveal it with an approval
	free  bool               // a rule reveals it without one
}

// candidate is a rule that can match a session.
type candidate struct {
	*rule
	rank    int
	cond    *condition  // still to be asked; nil: holds
	pending []exception // still to be asked
}

// sure reports that nothing is left to be asked.
func (c *candidate) sure() bool { return c.cond == nil && len(c.pending) == 0 }

// Scope implements policy.Engine.
func (p *Policy) Scope(s *policy.Session, now time.Time) *policy.Scope {
	sc, observers := p.scope(s, now, false)
	if len(observers) > 0 {
		sc.Would, _ = p.scope(s, now, true)
		sc.Would.Observers = observers
		sc.Static = sc.Static && sc.Would.Static
	}
	return sc
}

// scope makes a scope of the rules that are enforced, or, with all, of those that
// only observe too; observers are those of them that may be for the session.
func (p *Policy) scope(s *policy.Session, now time.Time, all bool) (sc *policy.Scope, observers []string) {
	b := builder{
		session: s, vars: factsOf(s).at(now), static: true,
		view: &view{policy: p, masks: map[events.Field]*masked{}, filter: map[policy.Relation][]string{}},
		scope: &policy.Scope{
			Masks: map[policy.Relation]map[string]policy.Mask{}, Filters: map[policy.Relation][]policy.Filter{}, Functions: map[string]bool{},
		},
	}
	b.view.facts = b.vars.facts
	for _, rules := range [][]*rule{p.literal[s.Identity.Workload], p.general} {
		for _, x := range rules {
			if x.observe && x.who.match(&s.Identity) && x.where.match(s, false) {
				observers = append(observers, x.name)
			}
			if !x.observe || all {
				b.consider(x)
			}
		}
	}
	b.named(p)
	return b.finish(), observers
}

// builder makes one session's scope.
type builder struct {
	session *policy.Session
	vars    *variables
	view    *view
	scope   *policy.Scope
	static  bool
	allow   []*candidate
	block   []*candidate
	ask     []*candidate
	parts   [][]byte // what the scope's identity is made of
	timed   bool     // a mask or a filter may be there at another time
	reveals []*rule  // that show something in clear
	asks    []*rule  // that do with an approval, once it is said why
	taken   bool     // a rule that takes away holds for some user, database or time
}

// consider keeps a rule if it can match the session.
func (b *builder) consider(x *rule) {
	if x.effect == policy.EffectReveal {
		b.reveal(x)
		return
	}
	grants := x.effect == policy.EffectAllow
	if grants && b.session.Identity.Workload == "" {
		return // nobody
	}
	if !x.who.match(&b.session.Identity) || !x.where.match(b.session, false) {
		return
	}
	b.names(x)
	// What is not read is not counted either.
	if (!grants || x.limits != nil) && b.could(x) {
		b.taken = true
	}
	if grants && !x.where.match(b.session, true) {
		return
	}
	if x.effect == policy.EffectMask || x.effect == policy.EffectFilter {
		if b.holds(x) {
			b.mask(x)
			b.filter(x)
		}
		return
	}
	c := &candidate{rule: x}
	if x.cond != nil {
		if !x.cond.static() {
			c.cond = x.cond
		} else if ok, _ := x.cond.holds(b.vars, !grants); !ok {
			return
		}
	}
	part := x.digest[:]
	for i, e := range x.except {
		if !e.who.match(&b.session.Identity) {
			continue
		}
		if e.cond != nil && !e.cond.static() {
			c.pending = append(c.pending, e)
			part = append(part[:len(part):len(part)], byte(i), byte(i>>8))
			continue
		}
		if ok, _ := e.cond.holds(b.vars, grants); ok {
			return
		}
	}
	b.parts = append(b.parts, part)
	switch {
	case grants:
		b.allow = append(b.allow, c)
		for _, f := range x.functions {
			b.scope.Functions[f] = true
		}
	case x.effect == policy.EffectApprove:
		b.ask = append(b.ask, c)
	default:
		b.block = append(b.block, c)
	}
}

// holds reports whether a rule that masks or filters does so now. What cannot be
// told does.
func (b *builder) holds(x *rule) bool {
	timed := func(c *condition) {
		if c != nil && c.now {
			b.static, b.timed = false, true
		}
	}
	// All conditions are looked at for time first: the scope of a session may
	// be kept only if none of them can change.
	timed(x.cond)
	for _, e := range x.except {
		if e.who.match(&b.session.Identity) {
			timed(e.cond)
		}
	}
	if ok, _ := x.cond.holds(b.vars, true); !ok {
		return false
	}
	for _, e := range x.except {
		if e.who.match(&b.session.Identity) {
			if ok, _ := e.cond.holds(b.vars, false); ok {
				return false
			}
		}
	}
	return true
}

// mask adds a rule's masks. Where two disagree the field is NULL, and what
// reads it is refused.
func (b *builder) mask(x *rule) {
	b.parts = append(b.parts, x.digest[:])
	if x.detect != nil {
		b.view.detect = append(b.view.detect, *x.detect)
	}
	for f, m := range x.masks {
		have := b.view.masks[f]
		if have == nil {
			have = &masked{mask: m}
			b.view.masks[f] = have
		} else if have.mask != m {
			have.mask, have.clash = policy.Mask{Kind: "null"}, true
		}
		have.rules = append(have.rules, x.name)
		if m.Match {
			have.match = append(have.match, policy.Limited{Rule: x.name, Limits: x.lookups()})
		}
		rel := policy.Relation{Schema: f.Schema, Name: f.Relation}
		if b.scope.Masks[rel] == nil {
			b.scope.Masks[rel] = map[string]policy.Mask{}
		}
		b.scope.Masks[rel][f.Column] = have.mask
	}
}

// filter adds a rule's condition on rows. What it takes from the identity is of
// the scope's identity too: other rows are another analysis.
func (b *builder) filter(x *rule) {
	if len(x.filters) == 0 {
		return
	}
	rows, err := x.rows.predicate(&b.session.Identity)
	f := policy.Filter{Rows: rows}
	if err != nil {
		f.Unknown = fmt.Sprintf("rule %q can't tell which rows are there: %v", x.name, err)
	}
	said, err := json.Marshal(f)
	if err != nil { // of text it can't fail; nothing is there then
		f = policy.Filter{Unknown: fmt.Sprintf("rule %q can't be applied", x.name)}
	}
	sum := sha256.Sum256(append(x.digest[:], said...))
	b.parts = append(b.parts, sum[:])
	for _, rel := range x.filters {
		b.scope.Filters[rel] = append(b.scope.Filters[rel], f)
		b.view.filter[rel] = append(b.view.filter[rel], x.name)
	}
}

func (b *builder) finish() *policy.Scope {
	v := b.view
	b.unmask()
	b.mayApprove()
	for _, m := range v.masks {
		slices.Sort(m.rules)
	}
	v.allow, v.block = newIndex(b.allow), newIndex(b.block)
	v.ask, b.scope.Approves = b.ask, b.scope.Approves || len(b.ask) > 0
	v.record = fullest(b.allow)
	// What one person's statements leave in a session is there for the next
	// one's: where many are served, all must be understood.
	nothing := len(v.masks) == 0 && len(v.filter) == 0 && len(v.detect) == 0 && !b.timed && len(b.block) == 0 && len(b.ask) == 0 && !b.session.Identity.SpeaksFor
	nothing = nothing && len(b.scope.Subjects) == 0 && !slices.ContainsFunc(b.allow, func(c *candidate) bool { return c.limits != nil })
	v.opaque = nothing && slices.ContainsFunc(b.allow, func(c *candidate) bool { return c.everything() })
	b.scope.Detects = v.detect
	b.scope.Static, b.scope.Opaque, b.scope.Rules = b.static, v.opaque, v
	b.unread()
	b.scope.ID = b.id()
	return b.scope
}

// everything reports that a rule allows whatever is asked.
func (c *candidate) everything() bool { return c.sure() && c.commands.all && c.every() }

// every reports that a rule reaches all relations.
func (x *rule) every() bool { return slices.ContainsFunc(x.relations, relation.all) }

func (b *builder) id() string {
	slices.SortFunc(b.parts, bytes.Compare)
	h := sha256.New()
	for _, p := range b.parts {
		h.Write([]byte{byte(len(p)), byte(len(p) >> 8)})
		h.Write(p)
	}
	if b.view.opaque {
		h.Write([]byte("opaque"))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
