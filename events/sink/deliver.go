package sink

import (
	"context"
	"errors"
	"fmt"
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
	good     []Event       // one that the target has taken, or none
}

// errAll: the target took nothing of a batch, for reasons that look like the
// events', and nothing shows that it takes any.
var errAll = errors.New("it refuses all that it is sent")

// deliver returns nil when the target has every event, or it was written down
// that it does not take it; otherwise ctx has ended, the disk fails, or the
// target has refused everything so far (errAll): that is an outage, and a reason
// to drop nothing.
func (d *delivery) deliver(ctx context.Context, batch []Event) error {
	pause := d.least
	if pause <= 0 {
		pause = leastPause
	}
	first := pause
	for len(batch) > 0 {
		r := &round{}
		if err := d.try(ctx, batch, r); err != nil {
			return err
		}
		if len(r.suspects) > 0 {
			if !r.down && d.takes(ctx) {
				if err := d.refuse(r.suspects); err != nil {
					return err
				}
			} else {
				r.wait()
			}
		}
		if r.took {
			pause = first // it goes on
		}
		if batch = r.again; len(batch) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if d.hooks.Retry != nil {
			d.hooks.Retry(r.err)
		}
		if d.good == nil && errors.Is(r.err, errAll) {
			return r.err // others may tell which it is
		}
		wait := max(pause/2+rand.N(pause), min(r.after, mostAfter))
		d.log.Warn("events wait for their target", "events", len(batch), "error", r.err, "pause", wait.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		pause = min(2*pause, mostPause)
	}
	return nil
}

// round is what became of a batch, all of it tried once.
type round struct {
	took     bool // some of it
	again    []Event
	suspects []Refusal // refused alone, by a target that may be refusing everything
	down     bool      // it is: no more is sent
	err      error
	after    time.Duration
}

// wait puts what was refused before the rest that is sent again.
func (r *round) wait() {
	var first []Event
	for _, s := range r.suspects {
		first = append(first, s.Event)
	}
	r.again = append(first, r.again...)
	if r.err == nil {
		r.err = fmt.Errorf("%w: %w", errAll, r.suspects[0].Why)
	}
}

// mostAlone bounds the events that are sent alone to a target that takes none.
const mostAlone = 64

// try sends a batch, and what is too much in halves.
func (d *delivery) try(ctx context.Context, batch []Event, r *round) error {
	if r.down || len(r.again) > 0 { // in order, later
		r.again = append(r.again, batch...)
		return nil
	}
	a := d.send(ctx, batch)
	switch half := len(batch) / 2; {
	case a.TooMuch && len(batch) > 1:
		if err := d.try(ctx, batch[:half], r); err != nil {
			return err
		}
		return d.try(ctx, batch[half:], r)
	case a.TooMuch:
		r.suspects = append(r.suspects, Refusal{batch[0], a.Err})
		switch n := len(r.suspects); {
		case d.good != nil:
			r.down = n == 1 && !d.takes(ctx)
		case n == mostAlone:
			r.down = true
		}
		return nil
	}
	if len(a.Refused) > 0 {
		if err := d.refuse(a.Refused); err != nil {
			return err
		}
	}
	if n := len(batch) - len(a.Again) - len(a.Refused); n > 0 {
		r.took = true
		if d.hooks.Sent != nil {
			d.hooks.Sent(n)
		}
		if len(a.Again) == 0 && len(a.Refused) == 0 {
			d.good = []Event{batch[0]}
		}
	}
	if len(a.Again) > 0 {
		r.again, r.err, r.after = append(r.again, a.Again...), a.Err, a.After
	}
	return nil
}

// takes asks a target that refuses an event whether it takes one that it has
// taken before, which then comes twice.
func (d *delivery) takes(ctx context.Context) bool {
	if d.good == nil {
		return false
	}
	a := d.send(ctx, d.good)
	return !a.TooMuch && len(a.Again) == 0 && len(a.Refused) == 0
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
