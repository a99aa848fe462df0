package approval

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/policy"
)

// Bounds of emergency access.
const (
	// maxGlass are not reviewed, of these maxOfName by one name, maxOfOpener by whom
	// one person has opened, and, of one name, maxOfSame by one person or for one
	// party: one more may be needed before a review, and no row of them.
	maxGlass    = 100
	maxOfName   = 20
	maxOfOpener = 5
	maxOfSame   = 2
	leastGlass  = time.Minute
	maxUsers    = 64 // of one: more are not let in by it
	// remindEvery is how often an alarm tells of what nobody has reviewed.
	remindEvery = 24 * time.Hour
)

// glass is what a Book has of one.
type glass struct {
	Glass

	digest [32]byte // of its policy's entry
	// Times of run: of the end, of the next alarm (zero: at once), of the review.
	ends, remind, reviewed time.Time
	due                    time.Duration // since the start: then too it must be reviewed
}

// live: it may be used.
func (g *glass) live(now instant) bool { return g.State == GlassOpen && now.run.Before(g.ends) }

// overdue: nobody reviewed it in time.
func (g *glass) overdue(now instant) bool {
	return g.State != GlassReviewed && g.left(now) <= 0
}

// left is how long it may go without a review.
func (g *glass) left(now instant) time.Duration {
	return min(g.ReviewBy.Sub(now.wall), g.due-now.passed)
}

// view is it as people are shown it.
func (g *glass) view(now instant) Glass {
	c := g.clone()
	c.Ends, c.ReviewBy = now.shown(g.ends), now.wall.Add(g.left(now))
	return c
}

// ErrNoGlass: there is no such emergency access.
var ErrNoGlass = errors.New("there is no such emergency access here")

// glassOf returns the open one by which a question need not be asked, nil for none.
// What gives way is told by the policy that asks: one that has changed, or is gone from
// it, lifts nothing. mu is held.
func (b *Book) glassOf(a *policy.Asked, now instant) *glass {
	if len(b.glasses) == 0 {
		return nil
	}
	s := a.Request.Session
	return b.glassFor(s.Resource, whoOf(s), givesWay(a), a.Rule, func() string { return shapeOf(a) }, now)
}

func (b *Book) glassFor(resource string, w Who, gives []string, rule string, shape func() string, now instant) *glass {
	for _, g := range b.glasses {
		if g.live(now) && g.isOf(resource, w) && slices.Contains(gives, g.Policy) && g.lets(w) && !b.shapeDenied(shape(), rule, resource, &w, now.run) {
			return g
		}
	}
	return nil
}

// lifts reports that a request need not wait, since emergency access is open: what
// glassOf asks, and that the policy of now provides it. mu is held.
func (b *Book) lifts(e *entry) bool {
	if e.state != policy.Awaited || len(b.glasses) == 0 {
		return false
	}
	g := b.glassFor(e.Where.Resource, e.Who, e.gives, e.Rule, func() string { return e.shape }, b.timer.at())
	return g != nil && slices.ContainsFunc(b.provided(), func(of policy.BreakGlass) bool { return of.Digest == g.digest })
}

func (g *glass) lets(w Who) bool {
	return len(g.Users) < maxUsers || g.knows(&w)
}

func (g *glass) knows(w *Who) bool {
	return slices.ContainsFunc(g.Users, func(x Who) bool { return x.same(w) })
}

// useGlass takes one use of it: durable when it returns nil. mu is held.
func (b *Book) useGlass(g *glass, s *policy.Session, now instant) error {
	c := &change{Do: doUseGlass, IDs: []string{g.ID}}
	w := whoOf(s)
	if !g.knows(&w) {
		if b.claims != nil {
			w.Known = knownOf(s, b.claims())
		}
		c.Who = &w
		e := g.step("used", now, nil)
		e.Approval.Actor, e.Approval.Principal, e.Approval.Database = w.actor(), w.Principal, s.Database
		if s.Event != nil {
			e.Approval.Session = s.Event.ID
		}
		if err := b.record(e); err != nil {
			return err
		}
	}
	return b.write(now, c)
}

// Break opens emergency access, which p proves that its subject wants, and raises an
// alarm: both are on the record before anything may use it.
func (b *Book) Break(ctx context.Context, o *Opening, why string, p *Proof) (Glass, error) {
	if err := b.mu.take(ctx); err != nil {
		return Glass{}, err
	}
	defer b.mu.Unlock()
	now := b.timer.at()
	of, err := b.entry(o)
	if err != nil {
		return Glass{}, err
	}
	g := &glass{Glass: Glass{Opening: *o, Entry: *of, State: GlassOpen, Opened: now.wall, Ends: now.wall.Add(o.Lasts)}, ends: now.run.Add(o.Lasts)}
	g.ReviewBy = g.Ends.Add(of.Within)
	d, err := p.step(o, OpenGlass, why, o.Asked, of.By, now.wall)
	if err != nil {
		return Glass{}, err
	}
	if o.Asked.Sub(now.wall) > slack || now.wall.Sub(o.Asked) > freshness+slack {
		return Glass{}, errors.New("it was begun too long ago: begin again")
	}
	if err := b.mayBreak(g, d, now); err != nil {
		return Glass{}, err
	}
	g.Decisions = []Decision{*d}
	alarm := g.alarm(now, "opened", fmt.Sprintf("%s is open until %s for workload %s on resource %s: rules %s do not ask", g.told(), stamp(now.shown(g.ends)), o.Workload, o.Resource, strings.Join(of.Rules, ", ")))
	if err := b.record(g.step("opened", now, d), alarm); err != nil {
		return Glass{}, err
	}
	if err := b.write(now, &change{Do: doOpenGlass, Glass: &g.Glass}); err != nil {
		return Glass{}, err
	}
	close(b.opened) // those that wait look again
	b.opened = make(chan struct{})
	return b.findGlass(g.ID).view(now), nil
}

// entry finds what of the policy is opened.
func (b *Book) entry(o *Opening) (*policy.BreakGlass, error) {
	for _, of := range b.provided() {
		switch {
		case of.Name != o.Name:
			continue
		case o.Host != b.host:
			return nil, fmt.Errorf("it was begun for another host (%.64q): begin again here", o.Host)
		case o.Policy != hex.EncodeToString(of.Digest[:]):
			return nil, fmt.Errorf("the policy's break_glass %q has changed since: begin again", o.Name)
		}
		return &of, o.Fits(&of)
	}
	return nil, fmt.Errorf("the policy has no break_glass %q", o.Name)
}

func (b *Book) provided() []policy.BreakGlass {
	if b.glass == nil {
		return nil
	}
	return b.glass()
}

// mayBreak says what stands against another one.
func (b *Book) mayBreak(n *glass, d *Decision, now instant) error {
	if b.spent[n.ID] {
		return errors.New("it was opened before: begin again")
	}
	open, ofName, ofOpener, ofPerson, ofParty := 0, 0, 0, 0, 0
	for _, g := range b.glasses {
		if g.ID == n.ID {
			return errors.New("it was opened before: begin again")
		}
		by := &g.Decisions[0]
		name, opener := g.Name == n.Name, samePerson(by.Subject, by.Person, d.Subject, d.Person)
		party := g.Resource == n.Resource && g.Workload == n.Workload && g.For == n.For && g.ForIssuer == n.ForIssuer
		if g.State != GlassReviewed {
			count := func(n *int, is bool) {
				if is {
					*n++
				}
			}
			count(&open, true)
			count(&ofName, name)
			count(&ofOpener, opener)
			count(&ofPerson, name && opener && !g.live(now))
			count(&ofParty, name && party && !g.live(now))
		}
		if g.overdue(now) && (name || opener) {
			return fmt.Errorf("%s should have been reviewed by %s: until it is, %q can't be opened, nor can who opened it open another", g.ID, stamp(now.wall.Add(g.left(now))), g.Name)
		}
		if g.live(now) && name && party {
			return fmt.Errorf("%s is open for the same already, until %s", g.ID, stamp(now.shown(g.ends)))
		}
	}
	switch {
	case open >= maxGlass:
		return fmt.Errorf("%d emergency accesses are open or wait for a review: nothing is opened until some have one", open)
	case ofName >= maxOfName:
		return fmt.Errorf("%d emergency accesses by %q are open or wait for a review: that is not opened until some have one", ofName, n.Name)
	case ofOpener >= maxOfOpener:
		return fmt.Errorf("%d that you have opened are open or wait for a review: have some closed and reviewed, or somebody else open it", ofOpener)
	case ofPerson >= maxOfSame:
		return fmt.Errorf("you have opened %q %d times without a review: have one reviewed, or somebody else open it", n.Name, ofPerson)
	case ofParty >= maxOfSame:
		return fmt.Errorf("%q was opened %d times for the same without a review: have one reviewed", n.Name, ofParty)
	}
	return nil
}

// Mend closes emergency access before its time, or, with what a review found
// (Justified or Unjustified), reviews one that has ended.
func (b *Book) Mend(ctx context.Context, id, verb, why string, p *Proof) (Glass, error) {
	if err := b.mu.take(ctx); err != nil {
		return Glass{}, err
	}
	defer b.mu.Unlock()
	now := b.timer.at()
	g := b.findGlass(id)
	if g == nil {
		return Glass{}, ErrNoGlass
	}
	if err := b.endGlass(g, now); err != nil {
		return Glass{}, err
	}
	var step string
	may := b.reviewers(g)
	switch {
	case verb != CloseGlass && verb != Justified && verb != Unjustified:
		return Glass{}, fmt.Errorf("%q is none of %s, %s and %s", verb, CloseGlass, Justified, Unjustified)
	case g.State == GlassReviewed:
		return Glass{}, fmt.Errorf("%s is reviewed", id)
	case verb == CloseGlass && g.State != GlassOpen:
		return Glass{}, fmt.Errorf("%s is %s: there is nothing to close", id, g.State)
	case verb == CloseGlass:
		step, may = "closed", append(slices.Clone(g.Entry.By), may...)
	case g.State == GlassOpen:
		return Glass{}, fmt.Errorf("%s is open until %s: it is reviewed when it has ended, so close it first", id, stamp(now.shown(g.ends)))
	default:
		step = "reviewed"
	}
	d, err := p.step(&g.Opening, verb, why, g.Opened, may, now.wall)
	if err != nil {
		return Glass{}, err
	}
	c := &change{Do: doEndGlass, IDs: []string{id}, Decision: d}
	if step == "reviewed" {
		if err := g.otherEyes(p, d); err != nil {
			return Glass{}, err
		}
		c.Do = doReviewGlass
	}
	e := g.step(step, now, d)
	if c.Do == doEndGlass {
		e.Approval.Until = now.wall.Add(g.Entry.Within) // it is to be reviewed sooner
	}
	if err := b.record(e); err != nil {
		return Glass{}, err
	}
	if err := b.write(now, c); err != nil {
		return Glass{}, err
	}
	return g.view(now), nil
}

// reviewers are those whom the policy named when it was opened, and those whom it
// names now: else nobody could be left.
func (b *Book) reviewers(g *glass) []policy.Approver {
	out := slices.Clone(g.Entry.Review)
	for _, of := range b.provided() {
		if of.Name == g.Name {
			out = append(out, of.Review...)
		}
	}
	return out
}

// otherEyes refuses a review by who opened it, whom it was for, and whoever used it.
func (g *glass) otherEyes(p *Proof, d *Decision) error {
	by := &g.Decisions[0]
	if samePerson(by.Subject, by.Person, d.Subject, d.Person) {
		return errors.New("who opened it can't review it: somebody else must")
	}
	if samePerson(g.For, "", d.Subject, d.Person) || samePerson(g.Workload, "", d.Subject, d.Person) {
		return errors.New("whom it was for can't review it: somebody else must")
	}
	for i := range g.Users {
		if err := fourEyes(&g.Users[i], p); err != nil {
			return err
		}
	}
	return nil
}

// step makes a decision of a proof, of somebody who may.
func (p *Proof) step(o *Opening, verb, why string, since time.Time, by []policy.Approver, now time.Time) (*Decision, error) {
	if err := CheckWhy(why); err != nil {
		return nil, err
	}
	if p.SAML != "" {
		return nil, errors.New("emergency access is opened, closed and reviewed by an ID token: a recorder's word is not enough")
	}
	want, err := GlassNonce(o, verb, why)
	if err != nil {
		return nil, err
	}
	if err := p.binds(want, since, now); err != nil {
		return nil, err
	}
	if !may(by, p) {
		return nil, fmt.Errorf("break_glass %q does not name you among those who may", o.Name)
	}
	person, err := p.person()
	if err != nil {
		return nil, err
	}
	return &Decision{Verb: verb, Why: why, Issuer: p.Issuer, Subject: p.Subject, Person: person, At: now, Token: p.Token}, nil
}

// Glasses lists emergency access that is open or not reviewed, oldest first; all:
// that too which was reviewed lately.
func (b *Book) Glasses(ctx context.Context, all bool) ([]Glass, error) {
	if err := b.mu.take(ctx); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	now := b.timer.at()
	out := []Glass{}
	for _, g := range b.glasses {
		if all || g.State != GlassReviewed {
			v := g.view(now)
			if v.State == GlassOpen && !g.live(now) {
				v.State = GlassExpired
			}
			out = append(out, v)
		}
	}
	slices.SortStableFunc(out, func(x, y Glass) int { return x.Opened.Compare(y.Opened) })
	return out, nil
}

func (b *Book) findGlass(id string) *glass {
	for _, g := range b.glasses {
		if g.ID == id {
			return g
		}
	}
	return nil
}
