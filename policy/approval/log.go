package approval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// change is one record of the log.
type change struct {
	Do       string               `json:"do"`
	At       time.Time            `json:"at"`              // of run; see instant
	Ahead    time.Duration        `json:"ahead,omitempty"` // of the wall clock
	Subject  *Subject             `json:"subject,omitempty"`
	IDs      []string             `json:"ids,omitempty"`
	Decision *Decision            `json:"decision,omitempty"`
	State    policy.ApprovalState `json:"state,omitempty"`
	Why      string               `json:"why,omitempty"`
	Left     int                  `json:"left,omitempty"` // of doKeep
	Ends     time.Time            `json:"ends,omitzero"`  // of run
	Seen     bool                 `json:"seen,omitempty"`

	Decisions []Decision `json:"decisions,omitempty"`

	Shape    string           `json:"shape,omitempty"`
	Plain    string           `json:"plain,omitempty"`
	Gives    []string         `json:"gives,omitempty"`
	Estimate *policy.Estimate `json:"estimate,omitempty"`
	History  *kept            `json:"history,omitempty"` // of doTally

	Glass *Glass `json:"glass,omitempty"`
	Who   *Who   `json:"who,omitempty"` // that used it, the first time
}

const (
	doAsk    = "ask"
	doSee    = "see"
	doDecide = "decide"
	doUse    = "use"
	doEnd    = "end"
	doNote   = "note"
	doKeep   = "keep" // one entry as a whole, of a log that was written anew
	doTally  = "tally"
	doTick   = "tick" // says nothing but when it was
)

// wall is when it was, by the wall clock.
func (c *change) wall() time.Time { return c.At.Add(-c.Ahead) }

// write makes a change durable and then has it count. mu is held.
func (b *Book) write(now instant, c *change) error {
	c.At, c.Ahead = now.run, now.ahead
	if err := b.mend(now); err != nil {
		return err
	}
	r, err := encode(c)
	if err != nil {
		return fmt.Errorf("what is approved can't be kept: %w", err)
	}
	if err := b.log.Append(r); err != nil {
		b.broken = fmt.Errorf("what is approved can't be kept: %w", err)
		return b.broken
	}
	b.logged = now
	if err := b.apply(c); err != nil {
		return err
	}
	b.tidy(now)
	return nil
}

// tidy writes a log anew that has grown. What it holds is durable already: where that
// fails it goes on as it is, and is tried again later, so that nothing that counts is
// told to have failed. mu is held.
func (b *Book) tidy(now instant) {
	if b.log.Size() <= b.compactAt {
		return
	}
	if b.compact(now) != nil {
		b.compactAt = b.log.Size() + b.log.Size()/4
	}
}

// mend has a log whose last write failed hold what counts, and nothing else. On a disk
// that stays full most of the time is not spent on that. mu is held.
func (b *Book) mend(now instant) error {
	if b.broken == nil {
		return nil
	}
	if now.passed < b.retry {
		return b.broken
	}
	if err := b.compact(now); err != nil {
		after := b.timer.at().passed
		b.broken, b.retry = err, after+10*(after-now.passed)
		return err
	}
	b.broken = nil
	return nil
}

// encode is JSON for the log, in one line: what is needed in HTML only is not
// escaped, and not six times longer.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// replay is apply for what a log has kept.
func (b *Book) replay(r []byte) (*change, error) {
	c := &change{}
	if err := json.Unmarshal(r, c); err != nil {
		return nil, errors.New("it is not understood")
	}
	return c, b.apply(c)
}

// apply is the one place that changes what a Book has.
func (b *Book) apply(c *change) error {
	switch c.Do {
	case doAsk, doKeep:
		return b.put(c)
	case doTally:
		if c.History == nil {
			return errors.New("it holds no history")
		}
		b.history.put(c.History)
		return nil
	case doTick:
		return nil
	case doOpenGlass, doUseGlass, doEndGlass, doReviewGlass, doKeepGlass, doSpentGlass:
		return b.applyGlass(c)
	}
	if len(c.IDs) == 0 {
		return errors.New("it names no request")
	}
	for _, id := range c.IDs {
		e := b.byID[id]
		if e == nil {
			return errors.New("it names a request that is not there")
		}
		if err := b.applyTo(e, c); err != nil {
			return err
		}
	}
	return nil
}

func (b *Book) put(c *change) error {
	s := c.Subject
	if s == nil || s.ID == "" || s.Key == "" || b.byID[s.ID] != nil {
		return errors.New("it holds no request, or one that is there")
	}
	e := &entry{Subject: *s, left: s.Uses, ends: s.Until.Add(c.Ahead), decided: make(chan struct{}), shape: c.Shape, plain: c.Plain, gives: c.Gives, estimate: c.Estimate}
	if c.Do == doKeep {
		e.state, e.left, e.ends, e.seen, e.end, e.decisions = c.State, c.Left, c.Ends, c.Seen, c.Why, c.Decisions
	}
	var err error
	if e.size, err = e.weigh(); err != nil {
		return err
	}
	if before := b.byKey[s.Key]; before != nil {
		b.finish(before, before.state)
	}
	b.byID[s.ID] = e
	one := b.share(e.Who.Workload)
	one.n, one.bytes, b.all.n, b.all.bytes = one.n+1, one.bytes+e.size, b.all.n+1, b.all.bytes+e.size
	b.byKey[s.Key] = e
	if c.Do == doAsk {
		b.history.count(e, c.wall(), func(t *Tally) { t.Asked++ })
	}
	switch e.state {
	case policy.Awaited:
	case policy.Denied:
		b.deny(e)
		close(e.decided)
	case policy.Approved:
		close(e.decided)
	default:
		b.finish(e, e.state)
	}
	return nil
}

func (b *Book) applyTo(e *entry, c *change) error {
	switch c.Do {
	case doSee:
		e.seen = true
	case doNote:
		e.estimate = c.Estimate
	case doDecide:
		if c.Decision == nil {
			return errors.New("it holds no decision")
		}
		e.decisions = append(e.decisions, *c.Decision)
		b.decided(e, c)
	case doUse:
		if e.state != policy.Approved || e.Uses > 0 && e.left < 1 {
			return errors.New("it uses what is not there to be used")
		}
		b.history.count(e, c.wall(), func(t *Tally) { t.Ran++ })
		if e.Uses > 0 {
			if e.left--; e.left == 0 {
				b.finish(e, policy.Consumed)
			}
		}
	case doEnd:
		e.end = c.Why
		b.history.count(e, c.wall(), func(t *Tally) {
			if c.State == policy.Withdrawn {
				t.Withdrawn++
			} else {
				t.Expired++
			}
		})
		b.finish(e, c.State)
	default:
		return errors.New("its kind is not known")
	}
	return nil
}

// decided takes one decision into account.
func (b *Book) decided(e *entry, c *change) {
	switch c.Decision.Verb {
	case Revoke:
		b.history.count(e, c.wall(), func(t *Tally) { t.Revoked++ })
		b.finish(e, policy.Revoked)
	case Deny: // so long it is not asked again
		b.history.count(e, c.wall(), func(t *Tally) { t.Denied++ })
		e.state = policy.Denied
		b.deny(e)
		e.wake()
	case Approve:
		n := 0
		for _, d := range e.decisions {
			if d.Verb == Approve {
				n++
			}
		}
		if n >= e.Count {
			b.history.count(e, c.wall(), func(t *Tally) { t.Approved++ })
			e.state, e.left, e.ends = policy.Approved, e.Uses, c.At.Add(e.Grant)
			e.wake()
		}
	}
}

func (e *entry) wake() {
	select {
	case <-e.decided:
	default:
		close(e.decided)
	}
}

// finish ends an entry for good.
func (b *Book) finish(e *entry, s policy.ApprovalState) {
	e.state = s
	delete(b.denied, e)
	if b.byKey[e.Key] == e {
		delete(b.byKey, e.Key)
	}
	if slices.Contains(b.ended, e) {
		return
	}
	one := b.share(e.Who.Workload)
	one.n, one.bytes, b.all.n, b.all.bytes = one.n-1, one.bytes-e.size, b.all.n-1, b.all.bytes-e.size
	if one.n == 0 {
		delete(b.held, e.Who.Workload)
	}
	e.What = What{Text: "", Commands: e.What.Commands, Objects: e.What.Objects, Writes: e.What.Writes} // data is kept no longer than it is needed
	b.ended = append(b.ended, e)
	e.wake()
	first, n := 0, 0
	for i := len(b.ended) - 1; i >= 0; i-- {
		if b.ended[i].Who.Workload == e.Who.Workload {
			first, n = i, n+1
		}
	}
	if n > keptEndedOfOne {
		b.forget(first)
	}
	for len(b.ended) > keptEnded {
		b.forget(0)
	}
}

// forget drops one that has ended.
func (b *Book) forget(i int) {
	delete(b.byID, b.ended[i].ID)
	b.ended = slices.Delete(b.ended, i, i+1)
}

// sweepBatch is how many requests are ended at once, with one wait for the disk.
const sweepBatch = 250

// sweep ends what is over, and forgets what ended long ago. It returns whether there
// is more of it. mu is held.
func (b *Book) sweep(now instant) (more bool, err error) {
	b.swept = now.passed
	var over []*entry
	for _, e := range b.byKey {
		if e.live(now.run) {
			continue
		}
		if len(over) == sweepBatch {
			more = true
			break
		}
		over = append(over, e)
	}
	if err := b.expire(now, over...); err != nil {
		return false, err
	}
	for len(b.ended) > 0 && now.run.Sub(b.ended[0].ends) > keptFor {
		b.forget(0)
	}
	return more, nil
}

// expire ends those entries whose time is over. mu is held.
func (b *Book) expire(now instant, all ...*entry) error {
	var ids []string
	var steps []*events.Event
	for _, e := range all {
		kind := events.ApprovalRequest
		switch {
		case e.live(now.run):
			continue
		case e.state == policy.Denied:
			b.finish(e, policy.Denied) // which is on the record
			continue
		case e.state == policy.Approved:
			kind = events.ApprovalDecision
		}
		ids = append(ids, e.ID)
		steps = append(steps, stepOf(kind, "expired", e, now, e.left, nil))
	}
	if len(ids) == 0 {
		return nil
	}
	if err := b.record(steps...); err != nil {
		return err
	}
	return b.write(now, &change{Do: doEnd, IDs: ids, State: policy.Expired})
}

// compact writes the log anew, with what may still matter. mu is held.
func (b *Book) compact(now instant) error {
	var out [][]byte
	for _, e := range b.byKey {
		s := e.Subject
		r, err := encode(&change{
			Do: doKeep, At: now.run, Ahead: now.ahead, Subject: &s, State: e.state, Left: e.left, Ends: e.ends, Seen: e.seen, Why: e.end, Decisions: e.decisions,
			Shape: e.shape, Plain: e.plain, Gives: e.gives, Estimate: e.estimate,
		})
		if err != nil {
			return err
		}
		out = append(out, r)
	}
	for _, k := range b.history.keep() {
		r, err := encode(&change{Do: doTally, At: now.run, Ahead: now.ahead, History: k})
		if err != nil {
			return err
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(x, y []byte) int { return strings.Compare(string(x), string(y)) })
	kept, err := b.keptGlass(now)
	if err != nil {
		return err
	}
	out = append(out, kept...)
	if err := b.log.Replace(out); err != nil {
		return fmt.Errorf("what is approved can't be kept: %w", err)
	}
	b.logged = now
	// What is held may be as much as that for long: each write again would take seconds.
	b.compactAt = max(compactAt, 2*b.log.Size())
	return nil
}

// step puts a step on the record. mu is held.
func (b *Book) step(kind events.Kind, step string, e *entry, now instant, left int, d *Decision) error {
	return b.record(stepOf(kind, step, e, now, left, d))
}

func (b *Book) record(steps ...*events.Event) error {
	if err := b.tell(steps...); err != nil {
		return fmt.Errorf("%w: %w", policy.ErrUnrecorded, err)
	}
	return nil
}

func stepOf(kind events.Kind, step string, e *entry, now instant, left int, d *Decision) *events.Event {
	a := &events.Approval{
		ID: e.ID, Step: step, Rule: e.Rule, Digest: e.Key, Policy: e.Policy, Covers: e.Covers, Until: now.shown(e.ends), Uses: left,
		Workload: e.Who.Workload, Actor: e.Who.actor(), Principal: e.Who.Principal, Resource: e.Where.Resource, Database: e.Where.Database, Session: e.Where.Session,
	}
	switch step {
	case "requested", "seen", "approved":
		a.Lacks = e.Count
		for _, x := range e.decisions {
			if x.Verb == Approve {
				a.Lacks--
			}
		}
		if step == "approved" {
			a.Lacks--
		}
	}
	if d != nil {
		decided(a, d)
	}
	return &events.Event{Kind: kind, Time: now.wall, Status: step, Rules: []string{e.Rule}, Approval: a}
}

// decided says who decided, and how that was proved.
func decided(a *events.Approval, d *Decision) {
	a.Approver, a.Issuer, a.Why = d.Subject, d.Issuer, d.Why
	switch {
	case d.SAML != "":
		a.Proof = "saml+recorder"
	case d.Token != "":
		a.Proof = "oidc+nonce"
	case a.Step == "seen":
		a.Proof = "oidc"
	}
}

func (w *Who) actor() string {
	if len(w.Actors) > 0 {
		return w.Actors[0]
	}
	return w.Subject
}

var (
	_ policy.Approvals = (*Book)(nil)
	_ policy.Noter     = (*Book)(nil)
)
