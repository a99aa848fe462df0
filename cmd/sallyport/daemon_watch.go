package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/redirect"
)

// watchReports records what tried to go round the passage, for as long as the
// process lives.
func (d *daemon) watchReports(fd int) error {
	r, err := redirect.NewBypassReader(fd)
	if err != nil {
		return err
	}
	go func() {
		for {
			b, err := r.Read()
			if errors.Is(err, os.ErrClosed) {
				return
			}
			if err != nil {
				d.alarms.raise("reports", fmt.Sprintf("a report of the kernel's can't be read: %v", err))
				time.Sleep(time.Second)
				continue
			}
			d.metrics.bypasses.Inc()
			e := b.Event()
			if s := d.setting.Load(); s != nil && s.cfg.Observes() {
				e.Verdict, e.Reason = events.Observed, "would have been refused (block)"
			}
			whose.on(&e, d.prover, &b.Peer)
			d.insist(&e)
		}
	}()
	return nil
}

// insist appends an event as soon as there is room. Meanwhile the kernel's
// buffer holds more, and counts what it can't hold.
func (d *daemon) insist(e *events.Event) {
	for {
		_, err := d.events.Append(e)
		if err == nil {
			return
		}
		if !errors.Is(err, events.ErrFull) {
			d.log.Error("an event could not be recorded", "kind", e.Kind.String(), "error", err)
			return
		}
		time.Sleep(time.Second)
	}
}

// swept records a connection that the loader's guard ended.
func (d *daemon) swept(text string) error {
	var b redirect.Bypass
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		return fmt.Errorf("order %s: %w", doSwept, err)
	}
	d.metrics.bypasses.Inc()
	e := b.Event()
	whose.on(&e, d.prover, &b.Peer)
	d.note(&e)
	return nil
}

// strays a second that are recorded one by one.
var strays = limiter{max: 10}

// stray records a connection to the passage's port that the kernel did not
// turn there. It is closed already.
func (d *daemon) stray(local, remote netip.AddrPort) {
	d.metrics.strays.Inc()
	now := time.Now()
	missed, ok := strays.allow(now)
	if !ok {
		return
	}
	text := "a connection to the passage's own port was closed: the kernel did not turn it there"
	if missed > 0 {
		text += fmt.Sprintf(" (%d more before it)", missed)
	}
	d.note(&events.Event{
		Kind: events.Bypass, Time: now, Verdict: events.Blocked, Message: text,
		Source: remote, Destination: local, Transport: "tcp",
	})
}

// watchJournal tells when the journal begins to refuse, and when it ends.
func (d *daemon) watchJournal(ctx context.Context) {
	refusing := false
	for pause(ctx, time.Second) {
		s := d.evidence.journal.Stats()
		switch {
		case s.Err != nil && !refusing:
			d.alarms.raise("journal", s.Err.Error())
		case s.Err == nil && refusing:
			d.log.Info("the journal takes records again")
		}
		refusing = s.Err != nil
	}
}

// serveMetrics answers on a loopback address, if one is configured.
func (d *daemon) serveMetrics(addr string, counters int) error {
	guard, err := redirect.NewCounterReader(counters)
	if err != nil {
		return err
	}
	m, ev := d.metrics, d.evidence
	m.journal(ev.journal.Stats)
	m.gauge("sallyport_shipping_lag_records", "Durable records that NATS is not known to hold.", func() float64 { return float64(ev.shipper.Lag()) })
	m.gauge("sallyport_catalogs", "Databases whose catalog is being watched.", func() float64 { return float64(d.analyzers.count()) })
	m.guard(guard.Read)
	if addr == "" {
		return nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	go m.serve(l, d.log)
	return nil
}
