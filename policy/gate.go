package policy

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"sallyport.dev/sallyport/events"
)

// Engine evaluates rules. Implementations are pure and safe for concurrent
// use; a reload makes a new Engine.
type Engine interface {
	// Scope returns what is protected from the session at now; never nil.
	Scope(s *Session, now time.Time) *Scope
	// Evaluate decides a request in its Scope, or, when it has none, in the
	// one that its session has at the request's time.
	Evaluate(r *Request) Evaluation
}

// ErrUnrecorded is returned when a decision could not be recorded: the
// request must be refused, and the refusal itself has no record.
var ErrUnrecorded = errors.New("the audit record cannot be written")

// Memo keeps a cacheable evaluation beside an analysis that is cached under
// its Scope's ID, and the names of the objects that it is of.
type Memo struct {
	p     atomic.Pointer[memo]
	names atomic.Pointer[[]string]
}

type memo struct {
	engine *Engine
	eval   Evaluation
}

// Gate is the only door between a request and the server: it evaluates,
// records, and waits where the record must be durable first.
type Gate struct {
	engine  atomic.Pointer[Engine]
	journal events.Journal
	now     func() time.Time
	meters  meters

	approvals Approvals // nil: nobody can be asked
}

// NewGate returns a Gate over an engine and a journal. now is the clock that
// identities are checked against.
func NewGate(e Engine, j events.Journal, now func() time.Time) *Gate {
	g := &Gate{journal: j, now: now}
	g.SetEngine(e)
	return g
}

// SetEngine replaces the rules at once for all later decisions.
func (g *Gate) SetEngine(e Engine) { g.engine.Store(&e) }

// Scope returns what is protected from the session right now.
func (g *Gate) Scope(s *Session) *Scope { return scopeOf(g.engine.Load(), s, g.now()) }

func scopeOf(e *Engine, s *Session, now time.Time) *Scope {
	if s.scope != nil && s.engine == e {
		return s.scope
	}
	sc := (*e).Scope(s, now)
	if sc.Static {
		s.scope, s.engine = sc, e
	}
	return sc
}

// Undecoded reports whether nothing that the session does could be refused or
// changed right now, so that it may go unread; see Scope.Undecoded.
func (g *Gate) Undecoded(s *Session) bool { return g.Scope(s).Undecoded }

// Decide evaluates the request and appends its event. Refusals and requests
// that may write return after the event is durable; for the others the
// caller holds the first reply byte on the Decision's Ticket. When err is not
// nil the Decision refuses. A PrepareReq that is allowed leaves no event: it
// runs nothing, or only what has one.
func (g *Gate) Decide(ctx context.Context, r *Request) (Decision, error) {
	now := g.now()
	engine := g.engine.Load()
	eval := g.evaluate(r, now)
	under := r.Under
	if eval.Effect == EffectApprove {
		var err error
		if eval, under, err = g.approve(ctx, r, engine, eval); err != nil {
			return Decision{}, err
		}
		now = g.now()
	}
	var left *Allowance
	if verdict(eval.Effect, r).Runs() {
		left = g.allowance(r, eval.Limits, now)
		if left != nil && r.Kind != PrepareReq {
			if o := left.begin(r.Lookups); o != nil {
				eval = reachedBy(o, eval.Record)
			}
		}
	}
	d := Decision{eval: eval, verdict: verdict(eval.Effect, r), left: left, under: under}
	if r.Kind == PrepareReq && d.verdict.Runs() {
		d.runs = true
		return d, nil
	}
	ev := &r.Session.scratch
	kept := ev.Masks
	*ev = events.Event{
		Kind: eventKind(r.Kind, d.verdict), Time: now, Session: r.Session.Event,
		Number: r.Number, Normalized: r.Normalized, Fingerprint: r.Fingerprint, Literals: r.Literals,
		Writes: r.Writes, Verdict: d.verdict, Rules: eval.Rules, Masks: kept,
	}
	r.masks(ev)
	ev.Untold = r.Untold
	if len(r.Commands) > 0 {
		ev.Command = r.Commands[0]
	}
	if !d.verdict.Runs() {
		ev.Reason, ev.Remedy = eval.Reason, eval.Remedy
	} else if w := g.wouldBe(r, &eval); w.Verdict != 0 {
		w.tell(ev)
	}
	ev.Objects = r.objects()
	if under != nil {
		ev.Approvals = under.IDs
	} else if eval.Open != nil {
		ev.Approvals = []string{eval.Open.ID}
	}
	waits := r.Writes || under != nil || r.Kind == Login || !d.verdict.Runs()
	ev.Later = !waits
	t, err := g.journal.Append(ev)
	if r.Session.Event.Unsynced {
		t = t.Unsynced()
	}
	if eval.Held != nil { // ctx may have ended, and that is on the record all the same
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
	}
	if err == nil && waits {
		err = t.Wait(ctx)
	}
	if err != nil {
		return Decision{}, fmt.Errorf("%w: %w", ErrUnrecorded, err)
	}
	d.ticket = t
	d.runs = d.verdict.Runs()
	if r.Kind == Login && d.runs {
		r.Session.began = now
	}
	return d, nil
}

// reachedBy refuses by a limit.
func reachedBy(o *Over, rec Recording) Evaluation {
	return Evaluation{Effect: EffectBlock, Rules: []string{o.Rule}, Reason: o.Reason, Remedy: o.Remedy, Record: rec, Reached: true}
}

// objects returns the names of what the request touches.
func (r *Request) objects() []string {
	if r.Memo != nil {
		if p := r.Memo.names.Load(); p != nil {
			return *p
		}
	}
	if len(r.Objects) == 0 {
		return nil
	}
	names := make([]string, len(r.Objects))
	for i, o := range r.Objects {
		names[i] = o.String()
	}
	if r.Memo != nil {
		r.Memo.names.Store(&names)
	}
	return names
}

func (g *Gate) evaluate(r *Request, now time.Time) Evaluation {
	if r.Unproved != "" {
		return Evaluation{Effect: EffectBlock, Rules: []string{"identity"}, Reason: r.Unproved, Remedy: r.Remedy}
	}
	if !r.Session.Identity.Valid(now) {
		return Evaluation{
			Effect: EffectBlock, Rules: []string{"identity"},
			Reason: "the workload's token has expired", Remedy: "renew the token; the session goes on with the new one",
		}
	}
	e := g.engine.Load()
	sc := scopeOf(e, r.Session, now)
	if r.Scope != nil && r.Scope != sc && r.Scope.ID != sc.ID {
		return changed
	}
	r.Scope = sc
	if r.Memo != nil {
		if m := r.Memo.p.Load(); m != nil && m.engine == e {
			return m.eval
		}
	}
	eval := (*e).Evaluate(r)
	if r.Memo != nil && eval.Cacheable {
		r.Memo.p.Store(&memo{e, eval})
	}
	return eval
}

func verdict(e Effect, r *Request) events.Verdict {
	switch e {
	case EffectAllow, EffectMask:
		if r.hides() {
			return events.Mask
		}
		return events.Allow
	case EffectBlock:
		return events.Blocked
	}
	return events.Deny
}

func eventKind(k RequestKind, v events.Verdict) events.Kind {
	switch {
	case k == Login, k == Undecoded:
		return events.Login
	case !v.Runs():
		return events.Block
	}
	return events.Statement
}
