package policy

import (
	"fmt"

	"sallyport.dev/sallyport/events"
)

// Observe says on the record what Decide would have done with a request, on a
// host that enforces nothing yet. What would have been refused or masked has
// the verdict Observed, and the reason tells which. nobody, when it is not
// empty, is why the session has no identity: then everything would have been
// refused. It makes no Decision, so that nothing can be sent by it, and waits
// for no disk.
func (g *Gate) Observe(r *Request, nobody string) (Recording, error) {
	now := g.now()
	eval := g.evaluate(r, now)
	asks := eval.Effect == EffectApprove
	eval = eval.granted()
	if nobody != "" {
		eval.Effect, eval.Rules = EffectBlock, []string{"identity"}
		eval.Reason, eval.Remedy = nobody, "present a valid token of this workload"
	}
	ev := &r.Session.scratch
	*ev = events.Event{
		Time: now, Session: r.Session.Event,
		Number: r.Number, Normalized: r.Normalized, Fingerprint: r.Fingerprint, Literals: r.Literals,
		Writes: r.Writes, Rules: eval.Rules, Masked: r.Masked, Objects: r.objects(),
	}
	if r.Scope.owned(r.Objects) {
		ev.Untold = "nothing is enforced: rows go out as they were asked for"
	}
	ev.Verdict, ev.Reason = observed(verdict(eval.Effect, r), &eval)
	if asks && nobody == "" {
		ev.Verdict, ev.Reason = events.Observed, "would have waited for an approval, by rule "+quote(eval.Approvals[0].Rule)
	}
	if ev.Verdict == events.Observed {
		ev.Remedy = eval.Remedy
	}
	ev.Kind = eventKind(r.Kind, ev.Verdict)
	if r.Kind == Replication {
		ev.Kind = events.Login
	}
	if len(r.Commands) > 0 {
		ev.Command = r.Commands[0]
	}
	if _, err := g.journal.Append(ev); err != nil {
		return eval.Record, fmt.Errorf("%w: %w", ErrUnrecorded, err)
	}
	return eval.Record, nil
}

// observed turns a verdict into that of something that ran whatever it was.
func observed(v events.Verdict, eval *Evaluation) (events.Verdict, string) {
	switch v {
	case events.Allow:
		return v, ""
	case events.Mask:
		return events.Observed, "would have been masked"
	}
	if eval.Reason == "" {
		return events.Observed, "would have been refused (" + v.String() + ")"
	}
	return events.Observed, "would have been refused (" + v.String() + "): " + eval.Reason
}
