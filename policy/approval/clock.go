package approval

import (
	"fmt"
	"slices"
	"time"

	"sallyport.dev/sallyport/events"
)

// instant is a time as a Book tells it: a host's clock may be wrong, and be set.
type instant struct {
	// wall is what the host's clock says: the age of tokens is held against it, and it
	// is what people are shown.
	wall time.Time
	// run is that by which requests, approvals and emergency access end. It goes on with
	// the time that passes, by a clock that nobody sets, and with each step of the wall
	// clock forward, for that may be time that passed unseen, as while a machine was
	// stopped. It never goes back: what was over stays so, and what was given lasts no
	// longer.
	run time.Time
	// ahead is by how much run is before the wall clock, as far as that was set.
	ahead time.Duration
	// passed is the time since the start alone. Reviews are due by the wall clock or by
	// this: one that was ahead for a moment leaves nothing overdue.
	passed time.Duration
}

// shown is a time of run as people are shown it.
func (i *instant) shown(run time.Time) time.Time { return run.Add(-i.ahead) }

const (
	// leastStep of the wall clock is told from how it is kept right.
	leastStep = time.Second
	// notableStep is an alarm: it has things end early, or tokens refused.
	notableStep = slack
)

// tickEvery is how far the log may be behind the time, while something ends by it: a
// start goes on from where it stands.
const tickEvery = 10 * time.Second

// tick has the log know what time it is. mu is held.
func (b *Book) tick(now instant) error {
	if now.run.Sub(b.logged.run) < tickEvery && now.ahead == b.logged.ahead {
		return nil
	}
	if len(b.byKey) == 0 && !slices.ContainsFunc(b.glasses, func(g *glass) bool { return g.State == GlassOpen }) {
		return nil
	}
	return b.write(now, &change{Do: doTick})
}

// timer is a Book's clock.
type timer struct {
	now    func() time.Time
	passed func() time.Duration // nil: by what now returns

	anchor instant // of the last step, or the start
	last   instant
	read   time.Time // what now returned last
	sum    time.Duration

	// Steps that nobody was told of: the largest, and how many.
	forward, back time.Duration
	steps         int
}

// elapsed is the time since the start, by a clock that nobody sets.
func (t *timer) elapsed(now time.Time) time.Duration {
	if t.passed != nil {
		return t.passed()
	}
	if !t.read.IsZero() {
		t.sum += max(now.Sub(t.read), 0) // by the monotonic clock, where now has it
	}
	t.read = now
	return t.sum
}

// start begins where a log has ended: last is the furthest of its run, ahead by how
// much that was before the wall clock. It reports whether the wall clock has been set
// back meanwhile, so that nobody knows how much time has passed.
func (t *timer) start(last time.Time, ahead time.Duration) (lost bool) {
	now := t.now()
	wall := now.UTC().Round(0)
	run := wall
	if !last.IsZero() {
		since := wall.Sub(last.Add(-ahead))
		if lost = since < -slack; lost {
			t.back, t.steps = -since, 1
		}
		run = last.Add(max(since, 0))
	}
	t.anchor = instant{wall: wall, run: run, ahead: run.Sub(wall), passed: t.elapsed(now)}
	t.last = t.anchor
	return lost
}

// at reads the clock.
func (t *timer) at() instant {
	now := t.now()
	i := instant{wall: now.UTC().Round(0), ahead: t.anchor.ahead, passed: max(t.elapsed(now), t.last.passed)}
	passed := i.passed - t.anchor.passed
	step := i.wall.Sub(t.anchor.wall) - passed
	i.run = t.anchor.run.Add(passed)
	if step >= leastStep || step <= -leastStep {
		i.run = i.run.Add(max(step, 0))
		i.ahead = i.run.Sub(i.wall)
		t.anchor = i
	}
	if step >= notableStep || step <= -notableStep {
		t.forward, t.back = max(t.forward, step), max(t.back, -step)
		t.steps++
	}
	t.last = i
	return i
}

// tellSteps raises an alarm for steps of the clock. mu is held.
func (b *Book) tellSteps(now instant) error {
	t := &b.timer
	if t.steps == 0 {
		return nil
	}
	text := "clock: the clock of this host was set"
	if t.forward > 0 {
		text += fmt.Sprintf(" forward by %s: what would have ended meanwhile has ended, requests, approvals and emergency access", t.forward.Round(time.Second))
	}
	if t.back > 0 {
		if t.forward > 0 {
			text += "; and"
		}
		text += fmt.Sprintf(" back by %s: what had ended stays so, and nothing lasts longer by it", t.back.Round(time.Second))
	}
	text += fmt.Sprintf(" (steps: %d, the largest are told). See who sets it, and that it is right", t.steps)
	if err := b.record(&events.Event{Kind: events.Alarm, Time: now.wall, Message: text}); err != nil {
		return err
	}
	t.forward, t.back, t.steps = 0, 0, 0
	return nil
}
