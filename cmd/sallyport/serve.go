package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/google/uuid"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols"
)

const (
	bindTime   = 10 * time.Second // to prove who connects, issuers' answers included
	dialTime   = 10 * time.Second
	refuseTime = 5 * time.Second // for the client to greet and to hear why not
)

// accept serves the passage until its listener is closed.
func (d *daemon) accept(l intercept.Listener) {
	for {
		f, err := l.Accept(context.Background())
		if err != nil {
			return
		}
		if !d.sessions.enter() {
			// Refused by the same goroutine: there is no end of others.
			d.overload(f)
			continue
		}
		go func() {
			defer d.sessions.leave()
			d.serve(f)
		}()
	}
}

// passage is one connection with what is known of it.
type passage struct {
	flow     *intercept.Flow
	resource *config.Resource // nil: not configured any more
	protocol protocols.Protocol
	identity intercept.Identity
	event    *events.Session
}

// label is the resource's name in metrics.
func (p *passage) label() string {
	if p.resource == nil {
		return ""
	}
	return p.resource.Name
}

// serve takes a connection to its end. A fault in it ends it alone.
func (d *daemon) serve(f *intercept.Flow) {
	defer f.Conn.Close()
	p, err := d.bind(f)
	d.metrics.flows.WithLabelValues(p.label()).Inc()
	if err != nil {
		d.refuse(p, err)
		return
	}
	leave, err := d.sessions.admit(p.identity.Workload)
	if err != nil {
		d.refuse(p, err)
		return
	}
	defer leave()
	gauge := d.metrics.sessions.WithLabelValues(p.label())
	gauge.Inc()
	defer gauge.Dec()
	log := d.log.With("session", p.event.ID, "resource", p.label(), "workload", p.identity.Workload)
	log.Debug("session begins", "pid", f.Peer.TGID)
	s, hangUp := d.session(p)
	done := d.sessions.register(hangUp)
	defer done()
	err = d.guarded(p, s)
	if cerr := s.Close(err); cerr != nil && errors.Is(cerr, events.ErrFull) {
		// Its recovery at the next start records the end.
		log.Error("the session's end could not be recorded", "error", cerr)
	}
	log.Debug("session ended", "error", err)
}

// bind finds what was dialled and who dialled it.
func (d *daemon) bind(f *intercept.Flow) (*passage, error) {
	d.hold.RLock()
	defer d.hold.RUnlock()
	set := d.setting.Load()
	p := &passage{flow: f, resource: set.resources[f.Destination]}
	p.event = newEvent(set.cfg.Host, f)
	if p.resource == nil {
		return p, refusal("unknown", "session", fmt.Sprintf("%s is guarded, but no resource is configured for it", f.Destination),
			"name it in sallyport.yaml (resources), or bring the guard to this configuration: sallyport guard up")
	}
	p.protocol = d.protocols[p.resource.Protocol]
	p.event.Resource, p.event.Protocol = p.resource.Name, p.resource.Protocol
	ctx, cancel := context.WithTimeout(d.sessions.ctx, bindTime)
	defer cancel()
	id, err := set.binder.Bind(ctx, &f.Peer)
	p.event.Process.Exe, p.event.Process.Cgroup = f.Peer.Exe, f.Peer.Cgroup
	if d.sessions.ctx.Err() != nil {
		return p, refusal("stopping", "session", "sallyport is stopping", "connect again when it is back")
	}
	if err != nil {
		reason := strings.TrimPrefix(err.Error(), identity.ErrNobody.Error()+": ")
		return p, refusal("identity", "identity", reason, "present a valid token of this workload; the record of session "+p.event.ID+" tells more")
	}
	p.identity = id
	e := p.event
	e.Workload, e.Actor, e.Principal, e.Actors = id.Workload, id.Actor(), id.Principal(), id.Actors
	e.Issuer, e.Proof, e.Expires = id.Issuer, id.Proof, id.Expires
	return p, nil
}

// newEvent begins what all events of a connection share.
func newEvent(host string, f *intercept.Flow) *events.Session {
	p := &f.Peer
	return &events.Session{
		ID: uuid.Must(uuid.NewV7()).String(), Host: host, Destination: f.Destination, Opened: time.Now(),
		Process: events.Process{PID: p.TGID, Start: p.Start, UID: p.UID, GID: p.GID, Comm: p.Comm},
	}
}

// session returns the session, and what ends it whatever it does.
func (d *daemon) session(p *passage) (*protocols.Session, func()) {
	dialer := net.Dialer{Timeout: dialTime}
	doors := &doors{client: p.flow.Conn}
	s := protocols.NewSession(protocols.Options{
		Flow: p.flow, Gate: d.gate, Journal: d.events,
		Policy: &policy.Session{
			Identity: p.identity, Peer: p.flow.Peer, Resource: p.resource.Name, Protocol: p.resource.Protocol,
			Labels: p.resource.Labels, Event: p.event,
		},
		Renew: func(ctx context.Context) (intercept.Identity, error) {
			ctx, cancel := context.WithTimeout(ctx, bindTime)
			defer cancel()
			peer := p.flow.Peer
			d.hold.RLock()
			defer d.hold.RUnlock()
			return d.setting.Load().binder.Bind(ctx, &peer)
		},
		Dial: func(ctx context.Context) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, "tcp", p.flow.Destination.String())
			if err != nil {
				return nil, err
			}
			return c, doors.add(c)
		},
	})
	return s, doors.slam
}

// errFault is what a session's record says after a fault in this program.
var errFault = errors.New("a fault in sallyport ended the session")

// guarded serves the session and turns a panic into an alarm. What panicked is
// told by place only: its value may be data.
func (d *daemon) guarded(p *passage, s *protocols.Session) (err error) {
	defer func() {
		if f := protocols.Caught(recover()); f != nil {
			err = errFault
			d.alarms.raise("fault", fmt.Sprintf("session %s of resource %s: %v at %s", p.event.ID, p.label(), errFault, f.Place))
		}
	}()
	return p.protocol.Serve(d.sessions.ctx, s)
}
