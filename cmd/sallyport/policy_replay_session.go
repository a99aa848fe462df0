package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
)

// replay decides recorded sessions again.
type replay struct {
	*inquiry
	claims map[string]any
	found  replayed

	withheld int    // statements that were decided by what events have, for their transcript is withheld
	why      string // of the first
}

// limitReached is the code of what a limit has refused.
const limitReached = "53400"

// session decides the login and the statements of one.
func (r *replay) session(ctx context.Context, d *recorder.Detail) error {
	r.found.Sessions++
	skip := func(number uint64, why string) {
		r.found.NotTold = append(r.found.NotTold, notTold{d.ID, number, why})
	}
	if d.Protocol != "" && d.Protocol != "postgres" {
		skip(0, "sessions of "+d.Protocol+" are not decided again")
		return nil
	}
	if d.Undecoded {
		skip(0, "its TLS is with the server itself")
		return nil
	}
	r.begin()
	for i := range d.Events {
		f := &d.Events[i]
		if f.Kind != events.Login.String() || f.Verdict == "" || beside(f.Rules) {
			continue
		}
		x := r.login(r.asRecorded(d, f), f.Time)
		r.compare(d, f, x, outcome{Verdict: recordedVerdict(f), Rules: f.Rules, Reason: f.Reason})
	}
	for i := range d.Requests {
		q := &d.Requests[i]
		text := q.Exact
		if text == "" {
			text = q.Text
		}
		switch {
		case q.Verdict == "" || text == "":
			skip(q.Number, "what was asked is not on the record")
		case q.Verdict == events.Explained.String():
			skip(q.Number, "it did not run: its client asked what would be decided")
		case q.Code == limitReached:
			skip(q.Number, "a limit refused it")
		case beside(q.Rules):
			skip(q.Number, "no rule decided it")
		default:
			x, err := r.statement(ctx, r.asRecorded(d, &q.Facts), q.Time, text, len(q.Binds) == 0)
			var cannot *exitError
			switch {
			case errors.As(err, &cannot), ctx.Err() != nil: // no database to ask, or no configuration of it
				return err
			case err != nil:
				skip(q.Number, err.Error())
				continue
			}
			was := outcome{Verdict: recordedVerdict(&q.Facts), Rules: q.Rules, Masked: sorted(maskedBy(q)), Revealed: sorted(q.Revealed), Reason: q.Reason}
			r.compare(d, &q.Facts, x, was)
			if q.Exact == "" && len(d.Withheld) > 0 {
				r.withheld, r.why = r.withheld+1, cmp.Or(r.why, d.Withheld[0])
			}
		}
	}
	return nil
}

// beside reports that a decision is none of the rules.
func beside(by []string) bool {
	return slices.ContainsFunc(by, func(n string) bool { return n == "identity" || n == "changed" || n == "agent" })
}

// recordedVerdict is what was decided, or would have been on a host that enforces nothing.
func recordedVerdict(f *recorder.Facts) string {
	if f.Verdict != events.Observed.String() {
		return f.Verdict
	}
	for said, verdict := range map[string]string{"would have been masked": "mask", "would have been refused (deny)": "deny", "would have been refused (block)": "block"} {
		if len(f.Reason) >= len(said) && f.Reason[:len(said)] == said {
			return verdict
		}
	}
	return f.Verdict
}

func (r *replay) compare(d *recorder.Detail, f *recorder.Facts, x *explanation, was outcome) {
	r.found.Decisions++
	is := outcome{Verdict: x.Verdict, Rules: x.Rules, Masked: sorted(x.masked), Revealed: sorted(x.revealed), Reason: x.Reason}
	if asks := r.found.effects.with("approve", x.Rules); x.Verdict == "approve" && len(asks) > 0 && !slices.ContainsFunc(asks, func(n string) bool { return !slices.Contains(was.Rules, n) }) {
		is.Verdict = was.Verdict // what is asked for it had, or had not
	}
	if x.runs() {
		is.Filters = r.found.effects.with("filter", x.Rules)
	}
	if was.Verdict == "allow" || was.Verdict == "mask" {
		was.Filters = r.found.effects.with("filter", was.Rules)
	}
	if is.same(was) {
		return
	}
	r.found.Changed = append(r.found.Changed, changed{
		Session: d.ID, Number: f.Number, Time: f.Time, Workload: d.Workload, Resource: d.Resource, Statement: f.Text, Was: was, Is: is,
	})
}

func sorted(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

// asRecorded makes the session as a decision's record has it.
func (r *replay) asRecorded(d *recorder.Detail, f *recorder.Facts) *policy.Session {
	w := &f.Who
	if w.Workload == "" {
		w = &d.Identity
	}
	s := &policy.Session{
		Resource: w.Resource, Protocol: "postgres", Labels: labelsOf(r.cfg, w.Resource),
		User: w.User, Database: w.Database, Application: w.Application,
	}
	if w.Account != "" {
		s.User = w.Account
	}
	proved := func(p events.Proved) intercept.Proved { return intercept.Proved{By: p.By, Bound: p.Bound} }
	s.Identity = intercept.Identity{
		Workload: w.Workload, SPIFFE: w.SPIFFE, Issuer: w.Issuer, Subject: w.Actor, Claims: maps.Clone(r.claims), Proof: w.Proof,
		Proofs:    intercept.Proofs{Workload: proved(w.WorkloadProof), Actor: proved(w.ActorProof), Principal: proved(w.PrincipalProof)},
		NotBefore: f.Time, Expires: f.Time.Add(time.Hour),
	}
	if w.Principal != "" { // a token with an actor chain has the principal for its subject
		s.Identity.Subject, s.Identity.Actors = w.Principal, w.Actors
		if len(w.Actors) == 0 {
			s.Identity.Actors = []string{w.Actor}
		}
	}
	s.Peer.Exe = w.Process
	s.Justify(f.Why)
	return s
}
