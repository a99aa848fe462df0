package main

import (
	"context"
	"maps"
	"net"
	"sync"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/protocols"
)

// undecoded is the way for a connection whose TLS is with the server itself, nil
// where the resource has none. Clients of unix sockets ask for no TLS.
func (d *daemon) undecoded(p *passage, doors *doors) *protocols.Undecoded {
	if !p.resource.TLS.Passes() || p.resource.Login != config.LoginPass || p.flow.Path != "" {
		return nil
	}
	who := unsecuredKey{p.identity.Workload, p.resource.Name}
	return &protocols.Undecoded{
		Dial: func(ctx context.Context) (net.Conn, error) {
			c, err := p.target.dial(ctx)
			if err != nil {
				return nil, err
			}
			d.metrics.undecoded.WithLabelValues(p.resource.Name).Inc()
			return c, doors.add(c)
		},
		Named: func(name string) bool { return p.resource.Answers(name) || p.resource.TLS.Name == name },
		Wanted: func() bool {
			return p.resource.TLS.Undecoded == config.Always || d.unsecured.lately(who, time.Now())
		},
		Still: func() bool {
			u := d.setting.Load().upstreams[p.resource.Name]
			return u != nil && u.resource.TLS.Passes()
		},
		Tell:   undecodedTold,
		Failed: func() { d.unsecured.note(who, time.Now()) },
	}
}

const (
	// undecodedTold is how often an undecoded session is told of in which something
	// moves.
	undecodedTold = time.Minute
	// unsecuredFor is how long it is remembered that TLS with a workload came to
	// nothing.
	unsecuredFor = time.Hour
	// maxUnsecured are remembered; others are not, and stay refused.
	maxUnsecured = 4096
)

// unsecured are the workloads whose TLS with the passage came to nothing lately,
// by resource.
type unsecured struct {
	mu    sync.Mutex
	until map[unsecuredKey]time.Time
}

type unsecuredKey struct{ workload, resource string }

func (u *unsecured) note(k unsecuredKey, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.until == nil {
		u.until = map[unsecuredKey]time.Time{}
	}
	if _, known := u.until[k]; !known && len(u.until) >= maxUnsecured {
		maps.DeleteFunc(u.until, func(_ unsecuredKey, t time.Time) bool { return !now.Before(t) })
		if len(u.until) >= maxUnsecured {
			return
		}
	}
	u.until[k] = now.Add(unsecuredFor)
}

func (u *unsecured) lately(k unsecuredKey, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return now.Before(u.until[k])
}
