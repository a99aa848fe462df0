package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols"
)

// headStart is what a connection waits for the proof of its process before it
// is relayed: a short-lived one may be gone afterwards. The proof goes on
// beside the relay when it takes longer.
const headStart = time.Second

// observes takes a connection on a host that enforces nothing: it is relayed
// as if sallyport were not there, and told of. It reports false, having done
// nothing, on a host that enforces.
func (d *daemon) observes(f *intercept.Flow) bool {
	d.hold.RLock()
	set := d.setting.Load()
	if !set.cfg.Observes() {
		d.hold.RUnlock()
		return false
	}
	doors := &doors{client: f.Conn}
	// Under the lock that a reload takes: one that begins to enforce finds it.
	done := d.observed.register(doors.slam)
	d.hold.RUnlock()
	defer done()
	m, left := d.sessions.register(doors.slam)
	defer left()
	defer context.AfterFunc(m.cut, doors.slam)()
	bound := make(chan *observation, 1)
	go func() { bound <- d.observation(f) }()
	late := time.NewTimer(headStart)
	defer late.Stop()
	var o *observation
	select {
	case o = <-bound:
	case <-late.C:
	}
	t := newTap()
	read := make(chan error, 1)
	received := make(chan int64, 1)
	go func() {
		if o == nil {
			o = <-bound
		}
		read <- d.watch(o, t, received)
	}()
	n, err := relay(f, set.resources.find(f), doors, t)
	received <- n
	t.close(err)
	if err := <-read; err != nil {
		d.unobserved(err)
	}
	return true
}

// observation is what is known of a connection that is relayed.
type observation struct {
	p      *passage
	nobody string // why it has no identity
}

// observation binds the connection to whom it can.
func (d *daemon) observation(f *intercept.Flow) *observation {
	p, err := d.bind(f)
	d.metrics.flows.WithLabelValues(p.label()).Inc()
	o := &observation{p: p}
	if err == nil {
		return o
	}
	o.nobody = err.Error()
	if who := &p.event.Process; who.Exe == "" {
		// Of nobody's process at least the name: it is what an inventory is for.
		ctx, cancel := context.WithTimeout(context.Background(), nameTime)
		defer cancel()
		if is, err := d.prover.Name(ctx, &f.Peer); err == nil {
			who.Exe, who.Cgroup = is.Exe, is.Cgroup
		}
	}
	return o
}

// watch tells of a connection for as long as it lives. It fails where the
// record does.
func (d *daemon) watch(o *observation, t *tap, received <-chan int64) (err error) {
	p := o.p
	gauge := d.metrics.sessions.WithLabelValues(p.label())
	gauge.Inc()
	defer gauge.Dec()
	w := protocols.NewWatch(protocols.WatchOptions{
		Policy: p.policy(), Gate: d.gate, Journal: d.events, Nobody: o.nobody,
		Renew: func(ctx context.Context) (intercept.Identity, error) { return d.renew(ctx, p) },
	})
	why := d.overhear(p, w, t)
	if errors.Is(why, policy.ErrUnrecorded) {
		t.deaf()
		<-received
		return why
	}
	if why != nil {
		err = w.Unread(why.Error())
	} else {
		err = w.Unread("the connection ended without a login")
	}
	t.deaf()
	return errors.Join(err, w.Close(<-received, why))
}

// overhear has the protocol read what the client sends, if it can. A fault in it
// ends the observation, not the connection.
func (d *daemon) overhear(p *passage, w *protocols.Watch, t *tap) (err error) {
	defer func() {
		if f := protocols.Caught(recover()); f != nil {
			err = errors.New("a fault in sallyport ended the observation")
			d.alarms.raise("fault", fmt.Sprintf("observation of session %s: %v at %s", p.event.ID, err, f.Place))
		}
	}()
	reader, ok := p.protocol.(protocols.Observer)
	switch {
	case p.resource == nil:
		return errors.New("no resource is configured for its destination")
	case !ok:
		return fmt.Errorf("protocol %s is not read where nothing is enforced", p.resource.Protocol)
	}
	return reader.Observe(context.Background(), w, t)
}

// relay copies between client and server until both are done, or one fails.
// received is what went to the client.
func relay(f *intercept.Flow, to target, doors *doors, t *tap) (received int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	server, err := to.dial(ctx)
	cancel()
	if err != nil {
		reset(f.Conn) // as the server itself might have
		return 0, errors.New("the server cannot be reached")
	}
	defer server.Close()
	if err := doors.add(server); err != nil {
		return 0, err
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		var err error
		if received, err = io.Copy(f.Conn, server); err != nil {
			doors.slam()
			return
		}
		closeWrite(f.Conn)
	}()
	if _, err := io.Copy(io.MultiWriter(server, t), f.Conn); err != nil {
		doors.slam()
	}
	closeWrite(server)
	<-back
	return received, nil
}

func closeWrite(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

// unobserved counts what ran without a record, and tells of it: the one
// promise that a host that enforces nothing does not keep.
func (d *daemon) unobserved(err error) {
	d.metrics.unobserved.Inc()
	d.alarms.raise("unobserved", "a connection was relayed without a whole record: "+err.Error())
}

// enforcement puts a setting's in force, and says so wherever it is looked for.
// The caller holds new connections back.
func (d *daemon) enforcement(s *setting) {
	if s.cfg.Observes() {
		d.metrics.enforcing.Set(0)
		d.alarms.raise("observe", "NOTHING IS ENFORCED on this host (enforcement: observe): connections are relayed and recorded, whoever they are from and whatever they do")
		return
	}
	d.metrics.enforcing.Set(1)
	// What was relayed meanwhile is to come back through the door.
	if n := d.observed.slam(); n > 0 {
		d.log.Warn("connections from the time when nothing was enforced were ended", "connections", n)
	}
}
