package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/protocols"
)

// refused is why a connection is refused before its login: for the client and
// the record.
type refused struct {
	why    string // for metrics
	rule   string
	reason string
	remedy string
}

func (r *refused) Error() string { return r.reason }

func refusal(why, rule, reason, remedy string) error { return &refused{why, rule, reason, remedy} }

// refusals are told to so many clients at a time: telling takes the client's
// own time. Others find the door shut.
var refusals = make(chan struct{}, 256)

// logged refusals a second.
var logged = limiter{max: 20}

// recordedRefusals a second have a record of their own, so that nobody can fill
// the journal by being refused. Others find the door shut and are counted.
var recordedRefusals = limiter{max: 100}

// refuse records the refusal, and then tells the client. What could not be
// recorded is told as such, and nothing else has happened.
func (d *daemon) refuse(p *passage, err error) {
	var r *refused
	if !errors.As(err, &r) {
		r = &refused{why: "internal", rule: "session", reason: err.Error()}
	}
	uncounted, ok := recordedRefusals.allow(time.Now())
	if !ok {
		d.metrics.refused.WithLabelValues(p.label(), r.why).Inc()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), bindTime)
	defer cancel()
	if err := d.recordRefusal(ctx, p, r, uncounted); err != nil {
		r = &refused{why: "journal", reason: "the audit record cannot be written", remedy: "an operator must make room for it: sallyport's log says why"}
	}
	d.metrics.refused.WithLabelValues(p.label(), r.why).Inc()
	now := time.Now()
	if missed, ok := logged.allow(now); ok {
		d.log.Warn("refused", "session", p.event.ID, "resource", p.label(), "why", r.why, "reason", r.reason, "pid", p.flow.Peer.TGID, "not_told_before", missed)
	}
	if p.protocol == nil {
		return
	}
	select {
	case refusals <- struct{}{}:
		defer func() { <-refusals }()
	default:
		return
	}
	ctx, cancel = context.WithTimeout(context.Background(), refuseTime)
	defer cancel()
	_ = p.flow.Conn.SetDeadline(now.Add(refuseTime))
	_, done := d.sessions.register(func() { p.flow.Conn.Close() })
	defer done()
	if err := d.tell(ctx, p, r); err != nil {
		d.log.Debug("the client did not hear why it was refused", "session", p.event.ID, "error", err)
	}
}

func (d *daemon) recordRefusal(ctx context.Context, p *passage, r *refused, uncounted int) error {
	e := events.Event{
		Kind: events.Login, Time: time.Now(), Session: p.event,
		Verdict: events.Blocked, Rules: []string{r.rule}, Reason: r.reason, Remedy: r.remedy,
	}
	if uncounted > 0 {
		e.Message = fmt.Sprintf("%d connections before it were refused without a record of their own", uncounted)
	}
	t, err := d.events.Append(&e)
	if err != nil {
		return err
	}
	return t.Wait(ctx)
}

// tell is the protocol's own refusal; a fault in it is an alarm like any other.
func (d *daemon) tell(ctx context.Context, p *passage, r *refused) (err error) {
	defer func() {
		if f := protocols.Caught(recover()); f != nil {
			err = errFault
			d.alarms.raise("fault", fmt.Sprintf("refusal of session %s: %v at %s", p.event.ID, errFault, f.Place))
		}
	}()
	return p.protocol.Refuse(ctx, p.flow.Conn, d.clientTLS(p), r.reason, r.remedy)
}

// overload ends a connection for which there is no room at all. It is not told
// why: that would take the client's own time.
func (d *daemon) overload(f *intercept.Flow) {
	set := d.setting.Load()
	p := &passage{flow: f, event: newEvent(set.cfg.Host, f), target: set.resources.find(f)}
	if p.target.refusal() == nil {
		p.resource = p.target.resource
	}
	if p.resource != nil {
		p.event.Resource, p.event.Protocol = p.resource.Name, p.resource.Protocol
	}
	d.metrics.refused.WithLabelValues(p.label(), "limit").Inc()
	d.alarms.raise("limit", "connections are refused: limits.sessions are open")
	if uncounted, ok := recordedRefusals.allow(time.Now()); ok {
		// Nobody is told, so nobody waits for the record.
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = d.recordRefusal(ctx, p, &refused{rule: "session", reason: "too many sessions are open (limits.sessions)"}, uncounted)
	}
	if c, ok := f.Conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	f.Conn.Close()
}
