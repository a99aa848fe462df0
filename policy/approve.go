package policy

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Approval is what a rule asks for before a statement runs: that people who
// prove who they are say so. Immutable.
type Approval struct {
	Rule   string
	Digest [32]byte // of the rule
	Policy [32]byte // of all rules that hold: others, and what was approved is not any more
	Reason string   // why the rule asks, for approvers and clients
	By     []Approver
	Count  int           // how many different people must approve
	Within time.Duration // how long a request waits for them
	Grant  time.Duration // how long what they approved may be used
	Uses   int           // how often; 0: any number of times, where Covers is ARule
	Covers Covers
	// Free are the parameters that are not approved one by one, by their number
	// from 1, with the values that each may have. Where Covers is AShape.
	Free map[int][]string
	Hold time.Duration // how long a client is kept waiting; 0: it is refused, and tries again
	// Reveals: it is of fields that are shown in clear, for the words with which that
	// was asked for.
	Reveals bool
	// Glass are the digests of each BreakGlass that it gives way to while that is open.
	Glass [][32]byte
}

// Approver is who may approve: all that is given must hold of their token. The
// zero Approver is nobody.
type Approver struct {
	Issuer string `json:"issuer,omitempty"` // of ID tokens; a SAML provider's never match it
	// SAML is a provider's name instead: whom a recorder's word is enough for, with
	// that provider's assertion. The weaker proof is admitted by this alone.
	SAML     string              `json:"saml,omitempty"`
	Subjects []string            `json:"subjects,omitempty"` // nil: any
	Claims   map[string][]string `json:"claims,omitempty"`   // one of the values, or of a list one element
}

// Covers is what an approval is of. Zero is the narrowest.
type Covers uint8

const (
	AStatement Covers = iota // exactly this one, with its literals and parameters
	AShape                   // with free parameters
	ARule                    // whatever the rule asks approval for
)

var coversNames = [...]string{AStatement: "statement", AShape: "shape", ARule: "rule"}

// String returns the name that policies use.
func (c Covers) String() string {
	if int(c) < len(coversNames) {
		return coversNames[c]
	}
	return ""
}

// ParseCovers is the inverse of String.
func ParseCovers(s string) (Covers, bool) {
	for i, n := range coversNames {
		if n == s {
			return Covers(i), true
		}
	}
	return 0, false
}

// Exact is all that a statement is besides its text.
type Exact struct {
	Parameters []Parameter
	// Names are the texts that names in the text stand for in the session.
	Names []string
	// Meaning is a digest of the definitions of what it reaches.
	Meaning string
	// Unseen is what of it nobody knows yet, "" for nothing: it is then not approved
	// as it is, but only by a rule that covers all that it asks about.
	Unseen string
	// Settings are those by which the texts of values are understood, name=value.
	Settings []string
	// Comments are what stands in the text's comments: its author's words.
	Comments []string
}

// Parameter is a bound one.
type Parameter struct {
	Type   uint32 // that was declared; 0: the server finds it
	Binary bool
	Null   bool
	Value  []byte // borrowed
}

// Wording tells what a statement is besides its text. An error is why that can't
// be told: it can't be approved then.
type Wording interface {
	Exact() (Exact, error)
}

// ErrElse is a Wording's error: what the statement names has become something else
// since it was analysed.
var ErrElse = errors.New("what it names has changed since it was analysed")

// About is the relation for which a rule asks: one that the statement names, or one that
// is reached Through that. The zero About is of what is shown in clear.
type About struct{ Object, Through Object }

// Asked is one rule's question about one request. It is borrowed for the call.
type Asked struct {
	*Approval

	Request *Request
	About   About
	Exact   Exact
	Now     time.Time
}

// Standing is how an approval stands.
type Standing struct {
	ID    string
	State ApprovalState
	Until time.Time // of a request that waits: how long it does
	Why   string    // of one that was denied: what the approver said
	Rule  string    // that asks
	// Fresh are the IDs of the requests that were made by this very question.
	Fresh []string
}

// ApprovalState is what became of a request for approval. Zero waits.
type ApprovalState uint8

const (
	Awaited ApprovalState = iota
	Approved
	Denied
	Expired   // it, or what was approved, was not used in time
	Withdrawn // by the client
	Revoked   // by an approver, after it was approved
	Consumed  // all uses are used up
)

var stateNames = [...]string{
	Awaited: "pending", Approved: "approved", Denied: "denied", Expired: "expired", Withdrawn: "withdrawn", Revoked: "revoked", Consumed: "consumed",
}

// String returns its name.
func (s ApprovalState) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// Approvals keeps requests for approval and what came of them. Implementations
// are safe for concurrent use.
type Approvals interface {
	// Consume takes one use of what was approved for each question, of all or of
	// none, and returns their IDs. Where it takes none it returns how the first
	// that is not approved stands; who asks for the first time has a request that
	// waits then. When it returns, what was taken can't be taken again, whatever
	// happens. Errors hold no data.
	Consume(ctx context.Context, asked []Asked) (ids []string, open *Standing, err error)
	// Wait waits until a request is decided, or need not be any more, or ctx ends.
	Wait(ctx context.Context, id string) error
	// Withdraw ends a request that its client waits for no more. All of them return
	// when ctx ends while others have what is approved busy.
	Withdraw(ctx context.Context, id, why string) error
}

// Unasked is an error of Consume: nobody is asked just now.
type Unasked struct{ Why, Remedy string }

func (u *Unasked) Error() string { return u.Why }

// Errors of OnHold's context: why a client waits no more.
var (
	ErrCancelled = errors.New("the client cancelled it")
	ErrHungUp    = errors.New("the client has gone")
	// ErrClosing: the passage ends. The request stays.
	ErrClosing = errors.New("the passage is closing")
)

// Held is a statement that waits for approval while its client does.
type Held struct {
	ID    string
	Rule  string
	Until time.Time // of the wait
}

// Cover names the approvals under which a portal or a cursor was opened, by the
// digests of their rules: what follows of it needs them no more. nil is none.
type Cover struct {
	IDs   []string
	rules [][32]byte
	why   string // the justification then
}

// has reports whether a rule needs to be asked no more. What is shown in clear is so
// for the words with which it was approved.
func (c *Cover) has(a *Approval, why string) bool {
	if c == nil || a.Reveals && c.why != why {
		return false
	}
	for i := range c.rules {
		if c.rules[i] == a.Digest {
			return true
		}
	}
	return false
}

// SetApprovals says where approvals are kept; call it before the first Decide.
// Without, what needs one is refused.
func (g *Gate) SetApprovals(a Approvals) { g.approvals = a }

// missing are the approvals that a request needs now.
func missing(r *Request, eval *Evaluation) (out []*Approval) {
	if r.Kind == PrepareReq && r.Under == nil {
		return nil // it is not run
	}
	for _, a := range eval.Approvals {
		if !r.Under.has(a, r.Session.justification) {
			out = append(out, a)
		}
	}
	return out
}

// approve settles what an evaluation that asks for approvals comes to: with them
// it is what it would be without the rules that ask, else a refusal. Where it
// waits, everything is evaluated again afterwards. engine is the one that held before
// the evaluation: by another nothing was approved.
func (g *Gate) approve(ctx context.Context, r *Request, engine *Engine, eval Evaluation) (Evaluation, *Cover, error) {
	held := map[string]bool{}
	for {
		need := missing(r, &eval)
		if eval.Effect != EffectApprove || len(need) == 0 {
			return eval.granted(), r.Under, nil
		}
		if r.Kind == PrepareReq {
			return changed, nil, nil // it was opened when nothing asked
		}
		now := g.now()
		if left := g.allowance(r, eval.Limits, now); left != nil {
			if o := left.reached(r.Lookups); o != nil { // nobody is asked for what could not run
				return reachedBy(o, eval.Record), nil, nil
			}
		}
		ids, open, err := g.consume(ctx, r, &eval, need, engine, now)
		if err == nil {
			err = g.estimate(ctx, r, open)
		}
		switch {
		case errors.Is(err, ErrUnrecorded):
			return Evaluation{}, nil, err
		case errors.Is(err, errChanged):
			return changed, nil, nil
		case errors.Is(err, ErrElse):
			e := changed
			e.Reason = err.Error()
			return e, nil, nil
		case err != nil:
			out := eval.unapproved(exacting(need), err.Error(), nil)
			if not := (*Unasked)(nil); errors.As(err, &not) {
				out.Remedy, out.Reached = not.Remedy, true
			}
			return out, nil, nil
		case open == nil:
			if engine != g.engine.Load() {
				return changed, nil, nil
			}
			cover := &Cover{IDs: ids, why: r.Session.justification}
			if r.Under != nil {
				cover.IDs = append(append([]string(nil), r.Under.IDs...), ids...)
				cover.rules = append(cover.rules, r.Under.rules...)
			}
			for _, a := range need {
				cover.rules = append(cover.rules, a.Digest)
			}
			return eval.granted(), cover, nil
		}
		a := need[0]
		for _, x := range need {
			if x.Rule == open.Rule {
				a = x
			}
		}
		if open.State != Awaited || a.Hold == 0 || r.OnHold == nil || held[open.ID] {
			return eval.unapproved(a, "", open), nil, nil
		}
		held[open.ID] = true
		if end := g.hold(ctx, r, a, open, now); end != nil {
			e := eval.unapproved(a, "", open)
			e.Held = end
			return e, nil, nil
		}
		r.Now = g.now()
		engine = g.engine.Load()
		eval = g.evaluate(r, r.Now)
	}
}

// changed refuses what was approved under rules that hold no more.
var changed = Evaluation{
	Effect: EffectBlock, Rules: []string{"changed"},
	Reason: "the policy changed while the statement was analysed", Remedy: "send it again",
}

// granted is the evaluation without the rules that ask.
func (e Evaluation) granted() Evaluation {
	if e.Effect == EffectApprove {
		e.Effect = e.Then
	}
	return e
}

// unapproved is the evaluation as a refusal for want of an approval.
func (e Evaluation) unapproved(a *Approval, why string, open *Standing) Evaluation {
	out := Evaluation{Effect: EffectBlock, Rules: []string{a.Rule}, Record: e.Record, Approvals: e.Approvals, Open: open}
	out.Reason = "rule " + quote(a.Rule) + " asks for an approval"
	if a.Reason != "" {
		out.Reason += ": " + a.Reason
	}
	if open == nil {
		out.Reason += "; " + why
		out.Remedy = "ask whoever keeps the policy"
		return out
	}
	switch open.State {
	case Awaited:
		out.Reason += "; request " + open.ID + " waits until " + open.Until.UTC().Format(time.RFC3339)
		out.Remedy = "run sallyport approvals wait " + open.ID + ", and send the same statement again"
	case Denied:
		out.Reason += "; request " + open.ID + " was denied"
		if open.Why != "" {
			out.Reason += ": " + open.Why
		}
		out.Remedy = "leave it; it can be asked for again from " + open.Until.UTC().Format(time.RFC3339) + " on"
	default:
		out.Reason += "; request " + open.ID + " is " + open.State.String()
		out.Remedy = "send it again: that is a new request"
	}
	return out
}

func quote(s string) string { return "\"" + s + "\"" }

// exacting is the first that is of a statement as it is, if there is one.
func exacting(need []*Approval) *Approval {
	for _, a := range need {
		if a.Covers != ARule {
			return a
		}
	}
	return need[0]
}

// consume asks for what is missing. Nothing is taken once other rules hold than the
// engine's: it would not run by what it was approved under.
func (g *Gate) consume(ctx context.Context, r *Request, eval *Evaluation, need []*Approval, engine *Engine, now time.Time) ([]string, *Standing, error) {
	if g.approvals == nil {
		return nil, nil, errors.New("nobody can be asked for one here")
	}
	var x Exact
	if r.Wording != nil {
		var err error
		if x, err = r.Wording.Exact(); err != nil {
			return nil, nil, err
		}
	}
	if a := exacting(need); x.Unseen != "" && a.Covers != ARule {
		return nil, nil, errors.New(x.Unseen + " are not known before it runs, so that nobody can approve just these: send it as another statement, or have a rule with scope: rule ask")
	}
	asked := make([]Asked, len(need))
	for i, a := range need {
		asked[i] = Asked{Approval: a, Request: r, Exact: x, Now: now}
		if k := slices.Index(eval.Approvals, a); k >= 0 && k < len(eval.About) {
			asked[i].About = eval.About[k]
		}
	}
	if engine != g.engine.Load() {
		return nil, nil, errChanged
	}
	return g.approvals.Consume(ctx, asked)
}

var errChanged = errors.New("the policy has changed")

// cancelledLate is why a client waited no more, at the last moment: what done()
// itself ends has no cause.
func cancelledLate(wait context.Context) error {
	for _, end := range []error{ErrCancelled, ErrHungUp, ErrClosing} {
		if errors.Is(context.Cause(wait), end) {
			return end
		}
	}
	return nil
}

// withdrawTime is how long a client that has gone has its session wait for the withdrawal.
const withdrawTime = 10 * time.Second

// hold waits with the client. It returns nil where there may be a decision, or
// that none came in time; and why the client waits no more.
func (g *Gate) hold(ctx context.Context, r *Request, a *Approval, open *Standing, now time.Time) error {
	until := now.Add(a.Hold)
	if open.Until.Before(until) {
		until = open.Until
	}
	wait, done := r.OnHold(ctx, Held{ID: open.ID, Rule: a.Rule, Until: until})
	// What is left of the wait, by a clock that nobody sets.
	limited, cancel := context.WithTimeout(wait, until.Sub(now))
	_ = g.approvals.Wait(limited, open.ID) // how it stands is asked again
	cancel()
	// A client that cancelled wants it no more, though it was approved meanwhile.
	end := context.Cause(wait)
	done()
	if end == nil {
		end = cancelledLate(wait)
	}
	if end == nil {
		return nil
	}
	if errors.Is(end, ErrCancelled) || errors.Is(end, ErrHungUp) {
		// A request that is already decided stays what it is.
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTime)
		defer cancel()
		if err := g.approvals.Withdraw(late, open.ID, end.Error()); err != nil {
			return errors.Join(end, err)
		}
	}
	return end
}
