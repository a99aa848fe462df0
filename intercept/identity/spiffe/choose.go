package spiffe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// await returns the identity that one of ids is, or any, when the agent has
// told of it.
func (p *process) await(ctx context.Context, ids []spiffeid.ID) (*grant, error) {
	g, changed, err := p.grant(ids)
	if changed == nil {
		return g, err // what is known costs no timer
	}
	ctx, cancel := context.WithTimeout(ctx, p.a.c.Wait)
	defer cancel()
	for changed != nil {
		select {
		case <-changed:
			g, changed, err = p.grant(ids)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", cmp.Or(err, ErrUnavailable), ctx.Err())
		}
	}
	return g, err
}

// grant finds the identity that one of ids is, or any. Where the answer may
// come yet, changed is closed at the next news, and err says why there is none
// so far.
func (p *process) grant(ids []spiffeid.ID) (g *grant, changed <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended, p.final:
		return nil, nil, p.err
	case !p.known:
		return nil, p.changed, p.err
	}
	if err := alive(p.pidfd); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrNobody, err)
	}
	c, err := p.pick(ids)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrNobody, err)
	}
	if g = p.grants[c.is.ID]; g == nil {
		return nil, nil, fmt.Errorf("%w: %w: %s", ErrNobody, ErrExpired, c.id)
	}
	if err := g.check(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrNobody, err)
	}
	return g, nil, nil
}

// pick finds the one that a connection may have. It is called with mu held.
func (p *process) pick(ids []spiffeid.ID) (*candidate, error) {
	var may []*candidate
	var names []string
	for i := range p.told {
		c := &p.told[i]
		names = append(names, c.id)
		if len(ids) == 0 || slices.ContainsFunc(ids, func(id spiffeid.ID) bool { return id.String() == c.id }) {
			may = append(may, c)
		}
	}
	switch {
	case len(p.told) == 0:
		return nil, errors.New("the agent knows none for this process: register it (spire-server entry create)")
	case len(may) == 0:
		return nil, fmt.Errorf("the agent says that the process is %s, which identity.workloads (spiffe) does not list for its workload", strings.Join(names, ", "))
	case len(may) > 1:
		return nil, fmt.Errorf("the agent says that the process is %s, and it can't be all of them: choose one in identity.workloads (spiffe)", strings.Join(names, " and "))
	}
	return may[0], may[0].err
}
