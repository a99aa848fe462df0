package policy

import (
	"slices"

	"sallyport.dev/sallyport/events"
)

// Would is what rules that only observe would have done with a request that goes on
// without them, besides what was done. The zero Would: nothing.
type Would struct {
	Verdict  events.Would
	Rules    []string // those that only observe, or what else would have decided
	Reason   string   // of WouldBlock and WouldHold
	Masked   []events.Field
	Filtered []string // relations, schema.relation
}

// WouldBe says what would have become of a request that e lets through in its Scope,
// had the rules been enforced that only observe. It decides nothing.
func WouldBe(e Engine, r *Request, eval *Evaluation) Would {
	if r.Scope == nil || r.Scope.Would == nil || !verdict(eval.Effect, r).Runs() {
		return Would{}
	}
	w := Request{}
	if r.Would != nil {
		w = *r.Would
		w.Session, w.Kind, w.Now, w.Number, w.Text = r.Session, r.Kind, r.Now, r.Number, r.Text
		w.Normalized, w.Fingerprint, w.Literals = r.Normalized, r.Fingerprint, r.Literals
	} else {
		w = *r
		w.Memo = nil // it is of what is enforced
	}
	w.Scope = r.Scope.Would
	got := e.Evaluate(&w)
	switch {
	case got.Effect == EffectApprove:
		// What enforced rules ask for it has.
		var asks []string
		for _, a := range got.Approvals {
			if slices.Contains(w.Scope.Observers, a.Rule) {
				asks = append(asks, a.Rule)
			}
		}
		if asks != nil {
			return Would{Verdict: events.WouldHold, Rules: asks, Reason: got.Reason}
		}
	case !verdict(got.Effect, &w).Runs():
		return Would{Verdict: events.WouldBlock, Rules: observers(w.Scope, got.Rules), Reason: got.Reason}
	}
	out := Would{}
	for _, f := range w.Masked {
		if w.Scope.Mask(f).Kind != MaskReveal && (!slices.Contains(r.Masked, f) || r.Scope.Mask(f).Kind == MaskReveal) {
			out.Verdict, out.Masked = events.WouldMask, append(out.Masked, f)
		}
	}
	for _, rel := range w.Filtered {
		if slices.Contains(r.Filtered, rel) && len(w.Scope.Filters[rel]) == len(r.Scope.Filters[rel]) {
			continue
		}
		out.Filtered = append(out.Filtered, rel.Schema+"."+rel.Name)
		if out.Verdict == 0 {
			out.Verdict = events.WouldFilter
		}
	}
	if out.Verdict != 0 {
		out.Rules = observers(w.Scope, got.Rules)
	}
	return out
}

// observers are the rules among these that only observe; where it is none of them
// that decides, all.
func observers(sc *Scope, names []string) []string {
	out := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !slices.Contains(sc.Observers, n) })
	if len(out) == 0 {
		return names
	}
	return out
}

// tell puts it on the record.
func (w *Would) tell(ev *events.Event) {
	ev.Would, ev.WouldRules, ev.WouldReason, ev.WouldMasked, ev.WouldFiltered = w.Verdict, w.Rules, w.Reason, w.Masked, w.Filtered
}

// wouldBe is WouldBe with the rules of this moment. Where nothing only observes it
// costs nothing.
func (g *Gate) wouldBe(r *Request, eval *Evaluation) Would {
	if r.Scope == nil || r.Scope.Would == nil {
		return Would{}
	}
	return WouldBe(*g.engine.Load(), r, eval)
}
