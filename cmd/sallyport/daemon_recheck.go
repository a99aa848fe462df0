package main

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/privsep"
)

const (
	// A look that fails is followed by others: a token file that is just being
	// replaced, or a loader that is just busy, ends nobody's session.
	looks     = 3
	lookAgain = time.Second
	// lookTime is what a look at all processes of a workload may take: one whose
	// token files hang is ended, and holds up nobody else.
	lookTime = 10 * time.Second
	// looking at a time, so that the loader is there for those who connect.
	looking = 4
)

// recheck proves who is behind the running sessions again and again, and ends
// those whose identity is gone or has become another. What has expired is
// refused at once, statement by statement, by the gate; here it ends.
func (d *daemon) recheck(ctx context.Context) {
	var mu sync.Mutex
	busy := map[string]bool{} // workloads that are being looked at
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(d.setting.Load().cfg.Identity.Recheck):
		}
		for name, groups := range d.sessions.byWorkload() {
			mu.Lock()
			looked := busy[name]
			busy[name] = true
			mu.Unlock()
			if looked {
				continue
			}
			go func() {
				d.recheckWorkload(ctx, groups)
				mu.Lock()
				delete(busy, name)
				mu.Unlock()
			}()
		}
	}
}

// recheckWorkload looks at the sessions of one workload until all are proved,
// or ended.
func (d *daemon) recheckWorkload(ctx context.Context, groups map[origin][]*member) {
	for n := 1; ; n++ {
		failed := d.look(ctx, groups, n == looks)
		if len(failed) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookAgain):
		}
		groups = d.sessions.ofProcesses(failed)
	}
}

// origin is who made a session, as the kernel recorded it: sessions of one are
// looked at together.
type origin struct {
	peer  intercept.Peer
	token [32]byte // SHA-256 of what its client sent in band: each may have sent another
}

func (p *passage) origin() origin {
	o := origin{peer: p.flow.Peer.Origin()}
	if p.sent != nil {
		o.token = p.who.Load().Token
	}
	return o
}

// look proves each process once, and ends the sessions that can't go on.
// Without last those that could not be proved are returned in place of ended.
func (d *daemon) look(ctx context.Context, groups map[origin][]*member, last bool) map[origin]bool {
	var mu sync.Mutex
	failed := map[origin]bool{}
	slots := make(chan struct{}, looking)
	round, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var wg sync.WaitGroup
	for o, ms := range groups {
		var err error
		select {
		case slots <- struct{}{}:
		case <-round.Done():
			err = errors.New("the processes of its workload could not be looked at in time")
		}
		wg.Go(func() {
			var id intercept.Identity
			if err == nil {
				defer func() { <-slots }()
				id, err = d.whoOf(round, ms)
			}
			if ctx.Err() != nil || errors.Is(err, privsep.ErrLoaderGone) || errors.Is(err, net.ErrClosed) {
				return // the daemon ends, or all of these have ended
			}
			if err != nil && !errors.Is(err, identity.ErrExpired) && !last {
				mu.Lock()
				failed[o] = true
				mu.Unlock()
				return
			}
			for _, m := range ms {
				d.judge(m, &id, err)
			}
		})
	}
	wg.Wait()
	return failed
}

// whoOf is who is behind the connections of one process now, by one that is
// still open; net.ErrClosed: there is none.
func (d *daemon) whoOf(ctx context.Context, ms []*member) (id intercept.Identity, err error) {
	for _, m := range ms {
		if id, err = d.who(ctx, m.p); !errors.Is(err, net.ErrClosed) {
			break
		}
	}
	return id, err
}

// who is behind a connection now.
func (d *daemon) who(ctx context.Context, p *passage) (intercept.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, bindTime)
	defer cancel()
	peer := p.flow.Peer
	defer d.released(&peer)
	d.hold.RLock()
	defer d.hold.RUnlock()
	if p.sent != nil {
		return d.again(ctx, d.setting.Load(), p, &peer)
	}
	return d.setting.Load().binder.Look(ctx, &peer)
}

// judge ends a session that can't go on.
func (d *daemon) judge(m *member, id *intercept.Identity, err error) {
	now, was := time.Now(), m.p.who.Load()
	switch {
	case err == nil && id.Same(was):
		return
	case err == nil:
		d.cut(m, "its workload presents a token of somebody else now", "connect again")
	case !errors.Is(err, identity.ErrExpired):
		d.cut(m, "who it is can't be proved any more: "+reasonOf(err), "present a valid token of this workload, and connect again")
	case now.Before(was.Expires):
		// Its own token holds; only a new connection would be refused.
	case m.p.sent != nil || m.resting == nil || m.resting() == 0 || now.After(was.Expires.Add(d.setting.Load().cfg.Identity.ExpiredGrace)):
		d.cut(m, "the workload's token has expired", "renew the token, and connect again")
	}
}

// cut ends a session in the protocol's own words, with a record of why. What
// can't be recorded ends all the same.
func (d *daemon) cut(m *member, reason, remedy string) {
	if m.drain.Err() != nil {
		return // it ends already
	}
	e := events.Event{
		Kind: events.Block, Time: time.Now(), Session: m.p.event, Verdict: events.Blocked, Rules: []string{"identity"},
		Reason: "the session is ended: " + reason, Remedy: remedy,
	}
	if _, err := d.events.Append(&e); err != nil {
		d.log.Error("the end of a session could not be recorded", "session", m.p.event.ID, "error", err)
	}
	d.metrics.revoked.Inc()
	d.log.Warn("session ended", "session", m.p.event.ID, "workload", m.p.event.Workload, "reason", reason)
	m.doDrain()
	m.doCut()
	// A client that does not read is not waited for.
	time.AfterFunc(graceTime, m.hangUp)
}
