package approval

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// Log keeps a Book's changes. A record is durable when Append returns nil, and in
// the order of the calls. After an error no more is appended until Replace has not
// failed: what became of the record nobody knows.
type Log interface {
	Append(record []byte) error
	// Replace puts records in the place of all that were appended, as a whole; what
	// failed before it is not among them.
	Replace(records [][]byte) error
	// Size is of what is kept, in bytes.
	Size() int64
}

// Bounds of what waits and of what may still be used.
const (
	maxRequests = 20_000
	maxHeld     = 128 << 20 // bytes, about
	// One workload has a part of each.
	maxOfOne     = 2_000
	maxHeldOfOne = 16 << 20
	// What has ended is still there for a while, to be asked about.
	keptEnded      = 1_000
	keptEndedOfOne = 200 // of one workload
	keptFor        = time.Hour
	// compactAt is the least size of a log that is written anew.
	compactAt = 64 << 20
)

// Entry is a request, and what came of it so far.
type Entry struct {
	Subject

	State     string     `json:"state"`
	Left      int        `json:"left"` // uses; 0 with Uses 0: any number
	Ends      time.Time  `json:"ends"` // of the wait, or of what was approved
	Seen      bool       `json:"seen"` // by somebody who may decide
	Decisions []Decision `json:"decisions,omitempty"`
	End       string     `json:"end,omitempty"` // why it has ended

	// What an approver may want to know besides; no decision is bound to it.
	Estimate *policy.Estimate `json:"estimate,omitempty"` // nil: not there yet
	History  *History         `json:"history,omitempty"`  // of Show only
}

// entry is what a Book has of one.
type entry struct {
	Subject

	state     policy.ApprovalState
	left      int
	ends      time.Time
	seen      bool
	viewers   viewers
	decisions []Decision
	end       string
	size      int
	shape     string   // see shapeOf
	plain     string   // see plainOf
	gives     []string // see givesWay
	estimate  *policy.Estimate
	decided   chan struct{} // closed when it waits no more
}

func (e *entry) view(now instant) Entry {
	return Entry{
		Subject: e.Subject, State: e.state.String(), Left: e.left, Ends: now.shown(e.ends), Seen: e.seen, Decisions: slices.Clone(e.decisions), End: e.end,
		Estimate: e.estimate,
	}
}

// live: it waits, may be used, or is denied for now.
func (e *entry) live(now time.Time) bool {
	switch e.state {
	case policy.Awaited, policy.Approved, policy.Denied:
		return now.Before(e.ends)
	}
	return false
}

// Book implements policy.Approvals.
type Book struct {
	log  Log
	host string
	tell func(...*events.Event) error
	// claims are those by which people are named.
	claims func() []string

	mu    lock
	timer timer
	// logged is the time of the last record of the log.
	logged instant
	pace   pace
	swept  time.Duration
	byID   map[string]*entry
	byKey  map[string]*entry
	// denied are those of byKey that are.
	denied map[*entry]bool
	ended  []*entry // oldest first
	held   map[string]*share
	all    share

	history history
	// broken: what the log has last is not known; it is written anew, not before retry.
	broken error
	retry  time.Duration
	lost   int // see Lost
	// compactAt is the size of the log from which on it is written anew.
	compactAt int64

	glass   func() []policy.BreakGlass
	glasses []*glass
	spent   map[string]bool // IDs of those that are forgotten: none is opened again
	opened  chan struct{}   // closed when emergency access is opened
}

// share is what is there of one workload.
type share struct{ n, bytes int }

// Options of a Book.
type Options struct {
	Now func() time.Time
	// Passed is the time since some moment, by a clock that nobody sets; nil: by what
	// Now returns, which time.Now has beside the wall clock's time.
	Passed func() time.Duration
	// One workload makes Burst new requests at once, and then one in each time Every;
	// where they are 0, they are the constants of that name.
	Burst int
	Every time.Duration
	// Tell records steps; they are durable when it returns nil. What can't be
	// recorded does not happen.
	Tell func(...*events.Event) error
	// Claims are those by which issuers of approvers name people; nil is none.
	Claims func() []string
	// Torn: behind the records stood another that can't be read. What was approved
	// may have been used or revoked by it, and does not hold any more.
	Torn bool
	// Glass is the emergency access that the policy provides; nil is none.
	Glass func() []policy.BreakGlass
	// Host is its name in the fleet, for which alone a decision of its requests is.
	Host string
}

// ErrDamaged: the records of a log are not understood, and nothing of them may be used.
var ErrDamaged = errors.New("the log of approvals is damaged")

// Open makes a Book of the records that its log has kept. Another error than
// ErrDamaged is of the disk: the records are good.
func Open(records [][]byte, log Log, o Options) (*Book, error) {
	b := &Book{mu: make(lock, 1), host: o.Host, log: log, timer: timer{now: o.Now, passed: o.Passed}, pace: newPace(o.Burst, o.Every), tell: o.Tell, claims: o.Claims, glass: o.Glass, opened: make(chan struct{}), spent: map[string]bool{}, byID: map[string]*entry{}, byKey: map[string]*entry{}, held: map[string]*share{}}
	var last time.Time
	var ahead time.Duration
	for i, r := range records {
		c, err := b.replay(r)
		if err != nil {
			return nil, fmt.Errorf("%w: record %d: %w", ErrDamaged, i+1, err)
		}
		if c.At.After(last) {
			last = c.At
		}
		ahead = c.Ahead
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	setBack := b.timer.start(last, ahead)
	now := b.timer.at()
	b.forgetGlass(now)
	// What another host has asked is signed for that one.
	elsewhere := func(host string) bool { return host != "" && host != o.Host }
	err := b.lose(now, "it was asked for on another host", func(e *entry) bool { return elsewhere(e.Host) && e.state != policy.Denied })
	if err == nil {
		switch {
		case setBack: // how long it has been so is not known
			err = b.lose(now, "the host's clock was set back while nobody ran: how much time has passed is not known", func(e *entry) bool { return e.state != policy.Denied })
		case o.Torn:
			err = b.lose(now, "the log was cut short: it may have been used", func(e *entry) bool { return e.state == policy.Approved })
		}
	}
	if err == nil {
		err = b.loseGlass(now, func(g *glass) bool { return setBack || o.Torn || elsewhere(g.Host) })
	}
	if err != nil {
		return nil, err
	}
	b.dueFrom(now)
	return b, b.compact(now)
}

// lose ends what waits or is approved or denied, as far as which says so. mu is held.
func (b *Book) lose(now instant, why string, which func(*entry) bool) error {
	var all []*entry
	var steps []*events.Event
	for _, e := range b.byKey {
		if which(e) {
			kind := events.ApprovalRequest
			if e.state == policy.Approved {
				kind = events.ApprovalDecision
				b.lost++
			}
			all = append(all, e)
			steps = append(steps, stepOf(kind, "expired", e, now, e.left, nil))
		}
	}
	if len(all) == 0 {
		return nil
	}
	if err := b.record(steps...); err != nil {
		return err
	}
	for _, e := range all {
		e.end = why
		b.finish(e, policy.Expired)
	}
	return nil
}

// Host is where it is, in the fleet.
func (b *Book) Host() string { return b.host }

// Lost is how many approvals do not hold any more since the log was torn or is another
// host's, or the clock was set back.
func (b *Book) Lost() int { return b.lost }

// Consume implements policy.Approvals.
func (b *Book) Consume(ctx context.Context, asked []policy.Asked) (ids []string, open *policy.Standing, err error) {
	if err := b.mu.take(ctx); err != nil {
		return nil, nil, err
	}
	defer b.mu.Unlock()
	now := b.timer.at()
	var use, moot []*entry
	var by []*glass
	var fresh []string
	for i := range asked {
		a := &asked[i]
		sum := Key(a)
		key := hex.EncodeToString(sum[:])
		e := b.byKey[key]
		if e == nil || !e.live(now.run) {
			if d := b.denialOf(a, now.run); d != nil {
				e = d
			}
		}
		waits := e == nil || !e.live(now.run) || e.state == policy.Awaited
		if g := b.glassOf(a, now); g != nil && waits { // what was denied stays so
			if !slices.Contains(by, g) {
				by = append(by, g)
				ids = append(ids, g.ID)
			}
			if e != nil && e.live(now.run) {
				moot = append(moot, e)
			}
			continue
		}
		if e == nil || !e.live(now.run) {
			if e, err = b.ask(a, key, now); err != nil {
				return nil, nil, err
			}
			fresh = append(fresh, e.ID)
		}
		if e.state == policy.Approved && !slices.Contains(use, e) {
			use = append(use, e)
			ids = append(ids, e.ID)
		} else if open == nil {
			open = e.standing(now)
		}
	}
	if open != nil {
		open.Fresh = fresh
		return nil, open, nil
	}
	for _, g := range by {
		if err := b.useGlass(g, asked[0].Request.Session, now); err != nil {
			return nil, nil, err
		}
	}
	for _, e := range moot {
		if err := b.end(e, now, "it runs under emergency access"); err != nil {
			return nil, nil, err
		}
	}
	if len(use) == 0 {
		return ids, nil, nil
	}
	for _, e := range use {
		left := max(e.left-1, 0)
		if err := b.step(events.ApprovalDecision, "consumed", e, now, left, nil); err != nil {
			return nil, nil, err
		}
	}
	// From here on it is used, whether the statement runs or not.
	used := make([]string, len(use))
	for i, e := range use {
		used[i] = e.ID
	}
	if err := b.write(now, &change{Do: doUse, IDs: used}); err != nil {
		return nil, nil, err
	}
	return ids, nil, nil
}

func (e *entry) standing(now instant) *policy.Standing {
	s := &policy.Standing{ID: e.ID, State: e.state, Until: now.shown(e.ends), Rule: e.Rule}
	if e.state == policy.Denied && len(e.decisions) > 0 {
		s.Why = e.decisions[len(e.decisions)-1].Why
	}
	return s
}

// ask makes a request that waits. mu is held.
func (b *Book) ask(a *policy.Asked, key string, now instant) (*entry, error) {
	a.Now = now.wall
	var claims []string
	if b.claims != nil {
		claims = b.claims()
	}
	s, err := subject(a, newID(), key, claims)
	if err != nil {
		return nil, err
	}
	s.Host = b.host
	e := &entry{Subject: *s, left: a.Uses, ends: s.Until.Add(now.ahead), decided: make(chan struct{})}
	if e.size, err = e.weigh(); err != nil {
		return nil, err
	}
	if before := b.byKey[key]; before != nil {
		if err := b.expire(now, before); err != nil {
			return nil, err
		}
	}
	if now.passed-b.swept >= time.Second {
		if _, err := b.sweep(now); err != nil {
			return nil, err
		}
	}
	if one := b.share(e.Who.Workload); one.n >= maxOfOne || one.bytes+e.size > maxHeldOfOne || b.all.n >= maxRequests || b.all.bytes+e.size > maxHeld {
		return nil, &policy.Unasked{Why: "too many requests wait for approvals already", Remedy: "send it again when some are decided; sallyport approvals ls shows them, and sallyport approvals withdraw ends one's own"}
	}
	if err := b.pace.take(e.Who.Workload, now.passed); err != nil {
		return nil, err
	}
	if err := b.step(events.ApprovalRequest, "requested", e, now, e.left, nil); err != nil {
		return nil, err
	}
	if err := b.write(now, &change{Do: doAsk, Subject: s, Shape: shapeOf(a), Plain: plainOf(a), Gives: givesWay(a)}); err != nil {
		return nil, err
	}
	return b.byID[s.ID], nil
}

func newID() string { return "ap-" + strings.ToLower(rand.Text())[:20] }

// weigh is about the size of an entry, here and in the log.
func (e *entry) weigh() (int, error) {
	b, err := encode(&e.Subject)
	return 1024 + len(b), err
}

func (b *Book) share(workload string) *share {
	s := b.held[workload]
	if s == nil {
		s = &share{}
		b.held[workload] = s
	}
	return s
}

// Wait implements policy.Approvals.
func (b *Book) Wait(ctx context.Context, id string) error {
	for {
		if !b.mu.try() { // what is known is told, though ctx has ended
			if err := b.mu.take(ctx); err != nil {
				return err
			}
		}
		e, opened := b.byID[id], b.opened
		var left time.Duration
		if e != nil {
			left = e.ends.Sub(b.timer.at().run)
		}
		lifted := e != nil && b.lifts(e)
		b.mu.Unlock()
		switch {
		case e == nil:
			return ErrUnknown
		case lifted:
			return nil
		}
		over := time.NewTimer(left)
		select {
		case <-opened: // perhaps for this one
			over.Stop()
			continue
		case <-e.decided:
		case <-over.C:
		case <-ctx.Done():
		}
		over.Stop()
		return ctx.Err()
	}
}

// ErrUnknown: there is no such request, or none of who asks.
var ErrUnknown = errors.New("there is no such request for approval here")

// Withdraw implements policy.Approvals.
func (b *Book) Withdraw(ctx context.Context, id, why string) error {
	if err := b.mu.take(ctx); err != nil {
		return err
	}
	defer b.mu.Unlock()
	now := b.timer.at()
	e := b.byID[id]
	if e == nil || e.state != policy.Awaited || !e.live(now.run) {
		return nil
	}
	return b.end(e, now, why)
}

// end withdraws a request that waits. mu is held.
func (b *Book) end(e *entry, now instant, why string) error {
	if err := b.step(events.ApprovalRequest, "withdrawn", e, now, 0, &Decision{Why: why}); err != nil {
		return err
	}
	return b.write(now, &change{Do: doEnd, IDs: []string{e.ID}, State: policy.Withdrawn, Why: why})
}

// Decide takes a decision that p proves, and returns how the request stands then.
// Whoever brings it is nobody: the proof is all that counts.
func (b *Book) Decide(ctx context.Context, id, verb, why string, p *Proof) (Entry, error) {
	if err := b.mu.take(ctx); err != nil {
		return Entry{}, err
	}
	defer b.mu.Unlock()
	now := b.timer.at()
	e := b.byID[id]
	if e == nil {
		return Entry{}, ErrUnknown
	}
	if err := CheckWhy(why); err != nil {
		return Entry{}, err
	}
	if err := p.proves(&e.Subject, verb, why, now.wall); err != nil {
		return Entry{}, err
	}
	if !may(e.By, p) {
		return Entry{}, fmt.Errorf("rule %q does not name you among those who may approve", e.Rule)
	}
	if p.SAML != "" && slices.ContainsFunc(e.decisions, func(x Decision) bool { return x.SAML == p.SAML && x.Assertion == p.Assertion }) {
		return Entry{}, errors.New("the assertion has proved a decision already: log in again")
	}
	if !e.live(now.run) || e.state == policy.Denied || e.state == policy.Approved && verb != Revoke {
		return Entry{}, fmt.Errorf("request %s is %s: there is nothing to decide any more", id, b.stateOf(e, now.run))
	}
	person, err := p.person()
	if err != nil {
		return Entry{}, err
	}
	if verb != Revoke && slices.ContainsFunc(e.decisions, func(d Decision) bool { return samePerson(d.Subject, d.Person, p.Subject, person) }) {
		return Entry{}, errors.New("you have decided about this request already: somebody else must")
	}
	d := Decision{Verb: verb, Why: why, Issuer: p.Issuer, Subject: p.Subject, Person: person, At: now.wall, Token: p.Token, SAML: p.SAML, Assertion: p.Assertion}
	if person != "" {
		d.Named = p.Person
	}
	if verb == Approve {
		if err := apart(e.decisions, &d); err != nil {
			return Entry{}, err
		}
	}
	step := map[string]string{Approve: "approved", Deny: "denied", Revoke: "revoked"}[verb]
	if step == "" {
		return Entry{}, fmt.Errorf("%q is no decision: approve, deny or revoke", verb)
	}
	if err := b.step(events.ApprovalDecision, step, e, now, e.left, &d); err != nil {
		return Entry{}, err
	}
	if err := b.write(now, &change{Do: doDecide, IDs: []string{id}, Decision: &d}); err != nil {
		return Entry{}, err
	}
	return e.view(now), nil
}

// stateOf is an entry's state now. mu is held.
func (b *Book) stateOf(e *entry, now time.Time) policy.ApprovalState {
	if (e.state == policy.Awaited || e.state == policy.Approved) && !now.Before(e.ends) {
		return policy.Expired
	}
	return e.state
}

// List returns the requests that wait or may be used, oldest first; all: those too that
// have ended and are still known. What is to run is not in it, nor what else Show alone
// tells: there may be many.
func (b *Book) List(ctx context.Context, all bool) ([]Entry, error) {
	if err := b.mu.take(ctx); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	now := b.timer.at()
	found := make([]*entry, 0, len(b.byID))
	for _, e := range b.byID {
		if all || e.live(now.run) && e.state != policy.Denied {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(x, y *entry) int {
		if c := x.Asked.Compare(y.Asked); c != 0 {
			return c
		}
		return strings.Compare(x.ID, y.ID)
	})
	out := make([]Entry, len(found)) // they are large: moved once
	for i, e := range found {
		out[i] = b.glance(e, now)
	}
	return out, nil
}

// Note implements policy.Noter.
func (b *Book) Note(ctx context.Context, id string, e policy.Estimate) error {
	if err := b.mu.take(ctx); err != nil {
		return err
	}
	defer b.mu.Unlock()
	if x := b.byID[id]; x == nil || x.state != policy.Awaited || x.estimate != nil {
		return nil
	}
	return b.write(b.timer.at(), &change{Do: doNote, IDs: []string{id}, Estimate: &e})
}

// Own returns how a request stands to who made it.
func (b *Book) Own(ctx context.Context, id string, s *policy.Session) (policy.Standing, error) {
	if err := b.mu.take(ctx); err != nil {
		return policy.Standing{}, err
	}
	defer b.mu.Unlock()
	e := b.byID[id]
	who := whoOf(s)
	if e == nil || !e.Who.same(&who) {
		return policy.Standing{}, ErrUnknown
	}
	now := b.timer.at()
	st := *e.standing(now)
	st.State = b.stateOf(e, now.run)
	return st, nil
}

// Sweep ends what nobody decided or used in time, some at once: between, others
// may ask and decide.
func (b *Book) Sweep() error {
	b.mu.Lock()
	now := b.timer.at()
	b.pace.forget(now.passed)
	failed := errors.Join(b.tellSteps(now), b.sweepGlass(now), b.tick(now))
	b.mu.Unlock()
	for {
		b.mu.Lock()
		more, err := b.sweep(b.timer.at())
		b.mu.Unlock()
		if err != nil || !more {
			return errors.Join(failed, err)
		}
	}
}
