package policy

import (
	"sallyport.dev/sallyport/events"
)

// Effect is what rules do to a request. Zero denies.
type Effect uint8

const (
	EffectDeny Effect = iota
	EffectAllow
	EffectMask
	EffectBlock
	EffectReveal  // of rules only: a mask gives way
	EffectFilter  // of rules only: a request that a filter changes is allowed or masked
	EffectApprove // runs once people have approved it, and not before: see Approval
)

// Evaluation is an Engine's answer. The zero Evaluation denies.
type Evaluation struct {
	Effect Effect
	Rules  []string // names of the rules that decided
	Reason string   // for the client and the record; holds no data
	Remedy string
	Record Recording
	Limits []Limited // of an answer that allows
	// Reached reports that it refuses by a limit, which is reached.
	Reached bool
	// Approvals are what rules ask for, of an answer EffectApprove. With them it
	// would be Then.
	Approvals []*Approval
	About     []About // what each of them is asked for
	Then      Effect
	// Open is how the approval stands for want of which it was refused, and Held,
	// where the client waited, why it does no more. Of the Gate's own.
	Open *Standing
	Held error
	// Cacheable reports that the answer depends on nothing but the session
	// and the request's analysis (no clock, no literal).
	Cacheable bool
}

// Decision permits exactly one request, or refuses it. Only a Gate makes one;
// the zero Decision refuses.
type Decision struct {
	runs    bool
	eval    Evaluation
	verdict events.Verdict
	ticket  events.Ticket
	left    *Allowance
	under   *Cover
}

// Allowed reports whether the request may be sent.
func (d Decision) Allowed() bool { return d.runs }

// Verdict returns what the record says of the request.
func (d Decision) Verdict() events.Verdict { return d.verdict }

// Rules returns the names of the rules that decided, most decisive first.
func (d Decision) Rules() []string { return d.eval.Rules }

// Reason returns why a request was refused.
func (d Decision) Reason() string { return d.eval.Reason }

// Remedy returns what the client's owner can do about a refusal.
func (d Decision) Remedy() string { return d.eval.Remedy }

// Reached reports that a limit which is reached refused the request.
func (d Decision) Reached() bool { return d.eval.Reached }

// Record returns how much of the request goes into the transcript.
func (d Decision) Record() Recording { return d.eval.Record }

// Allowance returns what is left for the answer, nil where nothing limits it.
func (d Decision) Allowance() *Allowance { return d.left }

// Ticket returns the promise of the record; replies wait for it.
func (d Decision) Ticket() events.Ticket { return d.ticket }

// Open returns how the approval stands for want of which it was refused; nil
// where that is not why.
func (d Decision) Open() *Standing { return d.eval.Open }

// Held returns why the client waits no more for an approval, nil where it does
// not matter.
func (d Decision) Held() error { return d.eval.Held }

// Under returns the approvals under which it runs, nil for none.
func (d Decision) Under() *Cover { return d.under }
