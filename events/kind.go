package events

// Kind says what an Event tells. Its String is the last word of the subject
// that the event is published under. The zero Kind is no event: a journal
// refuses it.
type Kind uint8

const (
	_ Kind = iota
	SessionOpen
	SessionClose
	Statement // the intent: appended before a statement is answered
	Response  // the outcome of a Statement, or of a part of it
	Login     // a login decided; refusals of a login too
	Block     // a statement refused
	Bypass    // a packet or socket that tried to go round the passage
	Drift     // policy and catalog disagree
	Alarm     // something an operator must look at
	Checkpoint
	Lifecycle        // guard up/down, daemon start/stop, policy reload
	ApprovalRequest  // a request for approval, until it is decided
	ApprovalDecision // a decision on it, and what became of what was approved
	Subjects         // whose rows a Statement shows: appended before they go out
)

var kindNames = [...]string{
	SessionOpen: "session.open", SessionClose: "session.close",
	Statement: "statement", Response: "response", Login: "login",
	Block: "block", Bypass: "bypass", Drift: "drift", Alarm: "alarm",
	Checkpoint: "checkpoint", Lifecycle: "lifecycle",
	ApprovalRequest: "approval.request", ApprovalDecision: "approval.decision", Subjects: "subjects",
}

// String returns the kind's published name, "" for an unknown kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return ""
}

// Verdict is what was decided about a request. Zero is Deny.
type Verdict uint8

const (
	Deny      Verdict = iota // no rule allowed it
	Allow                    // runs as it is
	Mask                     // runs with protected fields masked
	Blocked                  // a rule or the fail-closed default refused it
	Observed                 // runs as it is although it would be refused or masked: nothing is enforced
	Explained                // did not run: its client asked what would be decided
)

// String returns "deny", "allow", "mask", "block", "observed" or "explained".
func (v Verdict) String() string {
	switch v {
	case Allow:
		return "allow"
	case Mask:
		return "mask"
	case Blocked:
		return "block"
	case Observed:
		return "observed"
	case Explained:
		return "explained"
	}
	return "deny"
}

// Would is what rules that only observe would have done with a request that went on
// without them. Zero is nothing else than was done.
type Would uint8

const (
	_           Would = iota
	WouldBlock        // refused it
	WouldHold         // had it wait for an approval
	WouldMask         // masked fields that went out as they are stored
	WouldFilter       // left rows out
)

var wouldNames = [...]string{WouldBlock: "would-block", WouldHold: "would-hold", WouldMask: "would-mask", WouldFilter: "would-filter"}

// String returns "would-block", "would-hold", "would-mask" or "would-filter", "" for
// zero.
func (w Would) String() string {
	if int(w) < len(wouldNames) {
		return wouldNames[w]
	}
	return ""
}

// Runs reports whether a request with this verdict may be sent.
func (v Verdict) Runs() bool { return v == Allow || v == Mask || v == Observed }
