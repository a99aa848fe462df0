package recorder

import (
	"context"
	"fmt"
	"time"

	"sallyport.dev/sallyport/events"
)

// Watcher is a Store that can tell which host has gone silent.
type Watcher interface {
	// Newest returns the newest record that is stored of each chain, whether or
	// not all before it are there.
	Newest(ctx context.Context) ([]Head, error)
	// Silent raises the alarm that nothing came behind a host's newest record,
	// once for each such record.
	Silent(ctx context.Context, newest Head, since time.Time) ([]Alarm, error)
}

// Newest implements Watcher.
func (s *DB) Newest(ctx context.Context) ([]Head, error) { return s.heads(ctx, "head") }

// Silent implements Watcher.
func (s *DB) Silent(ctx context.Context, newest Head, since time.Time) ([]Alarm, error) {
	now := time.Now()
	a, err := s.begin(ctx, now)
	if err != nil {
		return nil, err
	}
	defer a.end()
	r := events.Record{Chain: newest.Chain, Seq: newest.Seq, Hash: newest.Hash}
	if err := a.note(newest.Host, &r, nil, "silent", fmt.Sprintf("nothing has come from this host behind it for %s", now.Sub(since).Round(time.Second))); err != nil {
		return nil, fmt.Errorf("recorder: store: %w", err)
	}
	_, err = a.commit()
	return a.alarms, err
}

// heard is what was last new of a host.
type heard struct {
	newest Head
	total  uint64 // of the newest numbers of its chains
	at     time.Time
	told   bool
}

// listen raises the alarm of each host from which nothing has come for Silence.
// Recorders that share a store hear what any of them stores. A host is silent,
// too, when the way from it is cut; time in which this recorder itself was away
// from NATS counts for none once it is back.
func (r *Recorder) listen(ctx context.Context, w Watcher) {
	hosts, connected := map[string]*heard{}, true
	tick := time.NewTicker(max(r.Silence/10, 10*time.Millisecond))
	defer tick.Stop()
	for {
		back := !connected && r.Conn.IsConnected()
		connected = r.Conn.IsConnected()
		if err := r.silent(ctx, w, hosts, back); err != nil && ctx.Err() == nil {
			r.Log.Error("whether a host is silent is not known", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (r *Recorder) silent(ctx context.Context, w Watcher, hosts map[string]*heard, back bool) error {
	heads, err := w.Newest(ctx)
	if err != nil {
		return err
	}
	now, total := time.Now(), map[string]uint64{}
	last := map[string]Head{}
	for _, h := range heads {
		total[h.Host] += h.Seq
		last[h.Host] = h
	}
	for host, n := range total {
		h := hosts[host]
		if h == nil || h.total != n || back {
			h = &heard{last[host], n, now, false}
			hosts[host] = h
			if r.Heard != nil {
				r.Heard(host, now)
			}
		}
		if h.told || now.Sub(h.at) < r.Silence {
			continue
		}
		alarms, err := w.Silent(ctx, h.newest, h.at)
		if err != nil {
			return err
		}
		h.told = true
		r.raise(alarms)
	}
	return nil
}
