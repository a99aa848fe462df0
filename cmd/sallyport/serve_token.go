package main

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols"
)

// sent is the token that a session's client has sent in band, kept to verify it
// again for as long as the session is there.
type sent struct {
	mu    sync.Mutex
	token []byte
}

func (s *sent) keep(token []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = bytes.Clone(token)
}

// get returns a copy, to be wiped; nil where there is none.
func (s *sent) get() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.token)
}

func (s *sent) wipe() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.token)
	s.token = nil
}

// present binds a connection whose process is proved by the token that its client
// has sent, and chooses whom it logs in as.
func (d *daemon) present(ctx context.Context, p *passage, token []byte) (intercept.Identity, *protocols.Account, error) {
	ctx, cancel := context.WithTimeout(ctx, bindTime)
	defer cancel()
	d.hold.RLock()
	defer d.hold.RUnlock()
	id, err := d.setting.Load().speaker.Present(ctx, &p.flow.Peer, token, nil)
	if err == nil && id.Workload != p.identity.Workload {
		err = errors.New("its process is of another workload than when it connected")
	}
	if err != nil {
		return intercept.Identity{}, nil, d.unproved(p, refusal("identity", "identity", reasonOf(err),
			"send a valid token of this workload as the password; the record of session "+p.event.ID+" tells more"))
	}
	policy.Tell(p.event, &id)
	if p.granted, err = d.brokers.choose(p.resource, &id); err != nil {
		return intercept.Identity{}, nil, d.unproved(p, err)
	}
	p.identity = id
	p.who.Store(&id)
	p.sent.keep(token)
	p.bound()
	return id, p.granted.account(), nil
}

// unproved counts a refusal, and puts it into the protocols' words.
func (d *daemon) unproved(p *passage, err error) error {
	var r *refused
	if !errors.As(err, &r) {
		return err
	}
	d.metrics.refused.WithLabelValues(p.label(), r.why).Inc()
	return &protocols.Unproved{Rule: r.rule, Reason: r.reason, Remedy: r.remedy}
}

// errUnsent: a session whose client has not sent its token yet is nobody's.
var errUnsent = errors.New("its client has sent no token")

// again proves a session once more by what its client sent. That can't be
// replaced: another token takes another connection.
func (d *daemon) again(ctx context.Context, set *setting, p *passage, peer *intercept.Peer) (intercept.Identity, error) {
	was, token := p.who.Load(), p.sent.get()
	defer clear(token)
	if was == nil || token == nil {
		return intercept.Identity{}, errors.Join(identity.ErrNobody, errUnsent)
	}
	return set.speaker.Present(ctx, peer, token, was)
}
