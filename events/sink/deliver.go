package sink

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Hooks are for metrics; nil ones are not called.
type Hooks struct {
	Sent    func(events int)
	Refused func(events int)
	Retry   func(error)
	Lag     func(messages uint64)
}

const (
	leastPause = 250 * time.Millisecond
	mostPause  = time.Minute
	mostAfter  = 5 * time.Minute // what a target may ask for
	sendTime   = time.Minute     // for one batch; a target that hangs has failed
)

// delivery hands batches to a target until all of it is there.
type delivery struct {
	target   Target
	rejected *rejected
	hooks    Hooks
	log      *slog.Logger
	least    time.Duration // of a pause; 0: leastPause
	limit    time.Duration // of one Send; 0: sendTime
}

// deliver returns nil when the target has every event, or it was written down
// that it does not take it; otherwise ctx has ended, or the disk fails.
func (d *delivery) deliver(ctx context.Context, batch []Event) error {
	pause := max(d.least, 0)
	if pause == 0 {
		pause = leastPause
	}
	first := pause
	for len(batch) > 0 {
		a := d.send(ctx, batch)
		if len(a.Refused) > 0 {
			if err := d.refuse(a.Refused); err != nil {
				return err
			}
		}
		switch {
		case a.TooMuch && len(batch) > 1:
			half := len(batch) / 2
			if err := d.deliver(ctx, batch[:half]); err != nil {
				return err
			}
			batch = batch[half:]
			continue
		case a.TooMuch:
			return d.refuse([]Refusal{{batch[0], a.Err}})
		}
		if n := len(batch) - len(a.Again) - len(a.Refused); n > 0 {
			pause = first // it goes on
			if d.hooks.Sent != nil {
				d.hooks.Sent(n)
			}
		}
		if batch = a.Again; len(batch) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if d.hooks.Retry != nil {
			d.hooks.Retry(a.Err)
		}
		wait := max(pause/2+rand.N(pause), min(a.After, mostAfter))
		d.log.Warn("events wait for their target", "events", len(batch), "error", a.Err, "pause", wait.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		pause = min(2*pause, mostPause)
	}
	return nil
}

func (d *delivery) send(ctx context.Context, batch []Event) Answer {
	limit := d.limit
	if limit <= 0 {
		limit = sendTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	a := d.target.Send(ctx, batch)
	if a.Err == nil && (len(a.Again) > 0 || a.TooMuch) {
		a.Err = errors.New("it was not taken")
	}
	return a
}

// refuse writes down what will not be taken; then it may be acknowledged.
func (d *delivery) refuse(rs []Refusal) error {
	for _, r := range rs {
		if err := d.rejected.add(r.Event.UID, r.Event.Host, r.Event.JSON, r.Why); err != nil {
			return err
		}
		d.log.Error("an event was refused, and written down", "event", r.Event.UID, "file", d.rejected.file, "error", r.Why)
	}
	if d.hooks.Refused != nil {
		d.hooks.Refused(len(rs))
	}
	return d.rejected.sync()
}
