package policy

import (
	"context"
	"fmt"

	"sallyport.dev/sallyport/events"
)

// Explanation is what would be decided about a request.
type Explanation struct {
	Evaluation
	Verdict events.Verdict // Allow, Mask, Blocked or Deny
	Over    *Over          // the limit that is reached already, nil: none
	Asks    *Approval      // without which it would not run, nil: none
}

// Explain says what Decide would make of a request, which is not to be sent. The
// question is on the record, with the verdict Explained, when it returns. It
// makes no Decision, and takes a statement off what limits these.
func (g *Gate) Explain(ctx context.Context, r *Request) (Explanation, error) {
	now := g.now()
	x := Explanation{Evaluation: g.evaluate(r, now)}
	asks := x.Effect == EffectApprove
	x.Evaluation = x.granted()
	x.Verdict = verdict(x.Effect, r)
	if x.Verdict.Runs() {
		if x.Over = g.allowance(r, x.Limits, now).asked(r.Lookups); x.Over != nil {
			x.Verdict, x.Rules, x.Reason, x.Remedy = events.Blocked, []string{x.Over.Rule}, x.Over.Reason, x.Over.Remedy
		}
	}
	if x.Verdict.Runs() && asks {
		x.Asks = x.Approvals[0]
	}
	ev := &r.Session.scratch
	*ev = events.Event{
		Kind: events.Statement, Time: now, Session: r.Session.Event,
		Number: r.Number, Normalized: r.Normalized, Fingerprint: r.Fingerprint, Literals: r.Literals,
		Verdict: events.Explained, Rules: x.Rules, Objects: r.objects(), Reason: x.told(),
	}
	if len(r.Commands) > 0 {
		ev.Command = r.Commands[0]
	}
	t, err := g.journal.Append(ev)
	if err == nil {
		err = t.Wait(ctx)
	}
	if err != nil {
		return Explanation{}, fmt.Errorf("%w: %w", ErrUnrecorded, err)
	}
	return x, nil
}

// told is what the client learns, for the record.
func (x *Explanation) told() string {
	switch {
	case x.Asks != nil:
		return "would need an approval, by rule " + quote(x.Asks.Rule)
	case x.Verdict == events.Allow:
		return "would be allowed"
	case x.Verdict == events.Mask:
		return "would be masked"
	case x.Reason == "":
		return "would be refused (" + x.Verdict.String() + ")"
	}
	return "would be refused (" + x.Verdict.String() + "): " + x.Reason
}
