package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
)

// slowBinder does not answer for one user's processes until it has to.
type slowBinder struct {
	intercept.Binder
	hangs uint32
}

func (b slowBinder) Look(ctx context.Context, p *intercept.Peer) (intercept.Identity, error) {
	if p.UID == b.hangs {
		<-ctx.Done()
		return intercept.Identity{}, ctx.Err()
	}
	return intercept.Identity{}, errors.New("revoked")
}

// A workload whose token files hang ends in its time, and holds no other's end
// up, however many processes it has.
func TestHangingWorkloadHoldsNoOtherUp(t *testing.T) { synctest.Test(t, hangingWorkload) }

func hangingWorkload(t *testing.T) {
	var mu sync.Mutex
	ended := map[string]time.Time{}
	var log syncBuffer
	d := &daemon{log: slog.New(slog.NewTextHandler(&log, nil)), metrics: newMetrics()}
	d.events = newLedger(journalFunc(func(e *events.Event) {
		mu.Lock()
		defer mu.Unlock()
		ended[e.Session.ID] = time.Now()
	}), d.metrics)
	set := &setting{cfg: &config.Config{}, binder: slowBinder{hangs: 2}}
	set.cfg.Identity.Recheck = 100 * time.Millisecond
	d.setting.Store(set)
	d.sessions.begin(config.Limits{Sessions: 100, PerWorkload: 100}, d.log)
	join := func(id, workload string, pid, uid uint32) {
		a, b := net.Pipe()
		t.Cleanup(func() { a.Close(); b.Close() })
		p := &passage{flow: &intercept.Flow{Conn: a, Peer: intercept.Peer{TGID: pid, UID: uid}}, event: &events.Session{ID: id}}
		p.identity = intercept.Identity{Workload: workload, Expires: time.Now().Add(time.Hour)}
		p.who.Store(&p.identity)
		m, done := d.sessions.register(func() {})
		t.Cleanup(done)
		d.sessions.watch(m, p, func() time.Duration { return 0 })
	}
	for pid := range uint32(40) {
		join("slow", "slow", 100+pid, 2)
	}
	join("quick", "quick", 7, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := time.Now()
	go d.recheck(ctx)
	at := func(id string) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		if ended[id].IsZero() {
			return 0
		}
		return ended[id].Sub(began)
	}
	within(t, "the other ends", func() bool { return at("quick") > 0 })
	if d := at("quick"); d > 8*time.Second || at("slow") != 0 {
		t.Errorf("the other after %v, the slow one after %v", d, at("slow"))
	}
	for time.Since(began) < 60*time.Second && at("slow") == 0 {
		time.Sleep(100 * time.Millisecond)
	}
	if d := at("slow"); d == 0 || d > 45*time.Second {
		t.Errorf("the slow one after %v", d)
	}
}
