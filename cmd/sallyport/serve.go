package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols"
)

const (
	bindTime   = 10 * time.Second // to prove who connects, issuers' answers included
	dialTime   = 10 * time.Second
	refuseTime = 5 * time.Second // for the client to greet and to hear why not
)

// accept serves the passage until its listener is closed or ctx ends.
func (d *daemon) accept(ctx context.Context, l intercept.Listener) {
	for {
		f, err := l.Accept(ctx)
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
	target   target
	protocol protocols.Protocol
	upstream *upstream
	granted  *granted                           // nil: the client logs in itself
	identity intercept.Identity                 // when it connected, or sent its token
	sent     *sent                              // its token, where that comes in band; else nil
	who      atomic.Pointer[intercept.Identity] // the latest proof of it
	event    *events.Session
	bound    func() // called once it is known whose it is: it is watched from then on
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
	defer d.released(&f.Peer)
	if redirect.IsCanary(f.Destination) {
		d.sing(f)
		return
	}
	if d.observes(f) {
		return
	}
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
	defer func() { p.granted.end() }()
	defer p.sent.wipe()
	gauge := d.metrics.sessions.WithLabelValues(p.label())
	gauge.Inc()
	defer gauge.Dec()
	log := d.log.With("session", p.event.ID, "resource", p.label(), "workload", p.identity.Workload)
	log.Debug("session begins", "pid", f.Peer.TGID)
	doors := &doors{client: f.Conn}
	m, done := d.sessions.register(doors.slam)
	defer done()
	s := d.session(p, doors, m.cut)
	stop := func() {}
	defer func() { stop() }()
	p.bound = func() {
		d.sessions.watch(m, p, s.Resting)
		stop = d.watchSVID(m, &f.Peer)
	}
	if p.sent == nil {
		p.bound()
	}
	err = d.guarded(m.drain, p, s)
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
	p := &passage{flow: f, event: newEvent(set.cfg.Host, f), target: set.resources.find(f)}
	if err := p.target.refusal(); err != nil {
		return p, err
	}
	p.resource = p.target.resource
	p.protocol = d.protocols[p.resource.Protocol]
	p.upstream = set.upstreams[p.resource.Name]
	p.event.Resource, p.event.Protocol = p.resource.Name, p.resource.Protocol
	p.event.Unsynced = p.resource.Durability == "write"
	draining := d.sessions.draining()
	ctx, cancel := context.WithTimeout(draining, bindTime)
	defer cancel()
	began := time.Now()
	id, err := set.binder.Bind(ctx, &f.Peer)
	d.metrics.bound.Observe(time.Since(began).Seconds())
	p.event.Process.Exe, p.event.Process.Cgroup = f.Peer.Exe, f.Peer.Cgroup
	if draining.Err() != nil {
		return p, refusal("stopping", "session", "sallyport is stopping", "connect again when it is back")
	}
	if errors.Is(err, identity.ErrInBand) {
		p.identity, p.event.Workload, p.sent = id, id.Workload, &sent{}
		return p, nil
	}
	if err != nil {
		return p, refusal("identity", "identity", reasonOf(err), "present a valid token of this workload; the record of session "+p.event.ID+" tells more")
	}
	p.identity = id
	p.who.Store(&id)
	policy.Tell(p.event, &id)
	p.granted, err = d.brokers.choose(p.resource, &id)
	return p, err
}

// reasonOf is why somebody has no identity.
func reasonOf(err error) string {
	return strings.TrimPrefix(err.Error(), identity.ErrNobody.Error()+": ")
}

func proved(p intercept.Proved) events.Proved { return events.Proved{By: p.By, Bound: p.Bound} }

// newEvent begins what all events of a connection share.
func newEvent(host string, f *intercept.Flow) *events.Session {
	p := &f.Peer
	return &events.Session{
		ID: uuid.Must(uuid.NewV7()).String(), Host: host, Destination: f.Destination, Reached: f.Reached, Path: f.Path, Opened: time.Now(),
		Process: events.Process{PID: p.TGID, Start: p.Start, UID: p.UID, GID: p.GID, Comm: p.Comm},
	}
}

// session returns the session; doors are what it opens, cut ends it.
func (d *daemon) session(p *passage, doors *doors, cut context.Context) *protocols.Session {
	var present func(context.Context, []byte) (intercept.Identity, *protocols.Account, error)
	if p.sent != nil {
		present = func(ctx context.Context, token []byte) (intercept.Identity, *protocols.Account, error) {
			return d.present(ctx, p, token)
		}
	}
	return protocols.NewSession(protocols.Options{
		Present: present,
		Flow:    p.flow, Gate: d.gate, Journal: d.events, Cut: cut, Notice: d.notice, Policy: p.policy(), Account: p.granted.account(),
		TLS: d.clientTLS(p), TLSOnly: p.resource.TLS.Agent == config.Require && p.flow.Path == "",
		IgnoreCertificates: p.resource.TLS.ClientCertificates == config.Ignore, Undecoded: d.undecoded(p, doors),
		Renew: func(ctx context.Context) (intercept.Identity, error) { return d.renew(ctx, p) },
		Speak: func(ctx context.Context, token []byte) (intercept.Spoken, error) { return d.speak(ctx, p, token) },
		Dial: func(ctx context.Context) (net.Conn, error) {
			c, err := p.upstream.dialAs(ctx, p.target.network, p.target.address, p.granted.certificate)
			if err != nil {
				return nil, err
			}
			return c, doors.add(c)
		},
	})
}

// policy is what rules are asked about.
func (p *passage) policy() *policy.Session {
	s := &policy.Session{Identity: p.identity, Peer: p.flow.Peer, Event: p.event}
	if r := p.resource; r != nil {
		s.Resource, s.Protocol, s.Labels = r.Name, r.Protocol, r.Labels
	}
	return s
}

// renew proves who dialled once more.
func (d *daemon) renew(ctx context.Context, p *passage) (intercept.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, bindTime)
	defer cancel()
	peer := p.flow.Peer
	defer d.released(&peer)
	d.hold.RLock()
	defer d.hold.RUnlock()
	var id intercept.Identity
	var err error
	if set := d.setting.Load(); p.sent != nil {
		id, err = d.again(ctx, set, p, &peer)
	} else {
		id, err = set.binder.Again(ctx, &peer, p.who.Load())
	}
	if err == nil && id.Same(&p.identity) {
		p.who.Store(&id)
	}
	return id, err
}

// speak proves for whom the one who dialled says that it acts.
func (d *daemon) speak(ctx context.Context, p *passage, token []byte) (intercept.Spoken, error) {
	ctx, cancel := context.WithTimeout(ctx, bindTime)
	defer cancel()
	d.hold.RLock()
	defer d.hold.RUnlock()
	return d.setting.Load().speaker.Speak(ctx, p.who.Load(), token)
}

// dial connects as the client would have: what it says is relayed as it is.
func (t *target) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTime}
	return dialer.DialContext(ctx, t.network, t.address)
}

// errFault is what a session's record says after a fault in this program.
var errFault = errors.New("a fault in sallyport ended the session")

// guarded serves the session and turns a panic into an alarm. What panicked is
// told by place only: its value may be data.
func (d *daemon) guarded(ctx context.Context, p *passage, s *protocols.Session) (err error) {
	defer func() {
		if f := protocols.Caught(recover()); f != nil {
			err = errFault
			d.alarms.raise("fault", fmt.Sprintf("session %s of resource %s: %v at %s", p.event.ID, p.label(), errFault, f.Place))
		}
	}()
	return p.protocol.Serve(ctx, s)
}
