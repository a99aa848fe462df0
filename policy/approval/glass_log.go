package approval

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"sallyport.dev/sallyport/events"
)

// Changes of emergency access, in the log of a Book.
const (
	doOpenGlass   = "glass-open"
	doUseGlass    = "glass-use"
	doEndGlass    = "glass-end"
	doReviewGlass = "glass-review"
	doKeepGlass   = "glass-keep"  // as a whole, of a log that was written anew
	doSpentGlass  = "glass-spent" // IDs alone, of those that are forgotten
)

// applyGlass is apply for what is of emergency access.
func (b *Book) applyGlass(c *change) error {
	if c.Do == doOpenGlass || c.Do == doKeepGlass {
		return b.putGlass(c)
	}
	if c.Do == doSpentGlass {
		for _, id := range c.IDs {
			b.spent[id] = true
		}
		return nil
	}
	if len(c.IDs) != 1 {
		return errors.New("it names no emergency access")
	}
	g := b.findGlass(c.IDs[0])
	if g == nil {
		return errors.New("it names an emergency access that is not there")
	}
	switch c.Do {
	case doUseGlass:
		if g.State != GlassOpen {
			return errors.New("it uses an emergency access that has ended")
		}
		g.Used++
		if c.Who != nil {
			g.Users = append(g.Users, *c.Who)
		}
	case doEndGlass:
		g.State, g.remind = GlassExpired, time.Time{}
		if c.Decision != nil {
			g.Decisions = append(g.Decisions, *c.Decision)
			g.State, g.Ends, g.ends = GlassClosed, c.wall(), c.At
			g.ReviewBy = g.Ends.Add(g.Entry.Within)
			g.dueFrom(b.timer.last)
		}
	case doReviewGlass:
		if c.Decision == nil {
			return errors.New("it holds no decision")
		}
		g.State, g.reviewed = GlassReviewed, c.At
		g.Decisions = append(g.Decisions, *c.Decision)
	}
	return nil
}

func (b *Book) putGlass(c *change) error {
	if c.Glass == nil || c.Glass.ID == "" || len(c.Glass.Decisions) == 0 || b.findGlass(c.Glass.ID) != nil {
		return errors.New("it holds no emergency access, or one that is there")
	}
	g := &glass{Glass: c.Glass.clone(), ends: c.Ends}
	if g.ends.IsZero() {
		g.ends = g.Ends.Add(c.Ahead)
	}
	g.dueFrom(b.timer.last)
	if n, err := hex.Decode(g.digest[:], []byte(g.Policy)); err != nil || n != len(g.digest) {
		return errors.New("its emergency access is of no policy")
	}
	if g.State == GlassReviewed {
		g.reviewed = g.Decisions[len(g.Decisions)-1].At.Add(c.Ahead)
	}
	b.glasses = append(b.glasses, g)
	return nil
}

// dueFrom has it reviewed in time, whatever the wall clock says from now on.
func (g *glass) dueFrom(now instant) {
	g.due = now.passed + min(g.ReviewBy.Sub(now.wall), g.Lasts+g.Entry.Within)
}

// dueFrom is that for all that a log has kept.
func (b *Book) dueFrom(now instant) {
	for _, g := range b.glasses {
		g.dueFrom(now)
	}
}

// keptGlass are the records of a log that is written anew.
func (b *Book) keptGlass(now instant) (out [][]byte, err error) {
	for _, g := range b.glasses {
		v := g.Glass
		r, err := encode(&change{Do: doKeepGlass, Glass: &v, Ends: g.ends, At: now.run, Ahead: now.ahead})
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	if len(b.spent) == 0 {
		return out, nil
	}
	r, err := encode(&change{Do: doSpentGlass, IDs: slices.Sorted(maps.Keys(b.spent)), At: now.run, Ahead: now.ahead})
	return append(out, r), err
}

// endGlass ends one whose time is over. mu is held.
func (b *Book) endGlass(g *glass, now instant) error {
	if g.State != GlassOpen || g.live(now) {
		return nil
	}
	if err := b.record(g.step("expired", now, nil)); err != nil {
		return err
	}
	return b.write(now, &change{Do: doEndGlass, IDs: []string{g.ID}})
}

// sweepGlass ends what is over, raises alarms for what nobody has reviewed, and
// forgets what was reviewed long ago. After a start, each alarm is raised again.
func (b *Book) sweepGlass(now instant) error {
	for _, g := range b.glasses {
		if err := b.endGlass(g, now); err != nil {
			return err
		}
		if g.State == GlassOpen || g.State == GlassReviewed || now.run.Before(g.remind) {
			continue
		}
		text, next := fmt.Sprintf("%s has ended and must be reviewed by %s: sallyport breakglass review %s", g.told(), stamp(now.wall.Add(g.left(now))), g.ID), now.run.Add(remindEvery)
		if g.overdue(now) {
			text = fmt.Sprintf("%s should have been reviewed by %s: %q can't be opened until it is: sallyport breakglass review %s", g.told(), stamp(now.wall.Add(g.left(now))), g.Name, g.ID)
		} else if due := now.run.Add(g.left(now)); due.Before(next) {
			next = due
		}
		if err := b.record(g.alarm(now, "unreviewed", text)); err != nil {
			return err
		}
		g.remind = next
	}
	b.forgetGlass(now)
	return nil
}

// forgetGlass drops what was reviewed long ago, but for its ID: what opened it is too old
// long since to open it again, but by a clock that is set back. There are few: each took
// the log-ins of two people.
func (b *Book) forgetGlass(now instant) {
	b.glasses = slices.DeleteFunc(b.glasses, func(g *glass) bool {
		if g.State != GlassReviewed || now.run.Sub(g.reviewed) <= keptFor {
			return false
		}
		b.spent[g.ID] = true
		return true
	})
}

// loseGlass ends what is open, as far as which says so: it may have been closed by what
// the log has lost. mu is held.
func (b *Book) loseGlass(now instant, which func(*glass) bool) error {
	for _, g := range b.glasses {
		if g.State != GlassOpen || !which(g) {
			continue
		}
		if err := b.record(g.step("expired", now, nil)); err != nil {
			return err
		}
		if g.State = GlassExpired; now.run.Before(g.ends) {
			g.Ends, g.ends, g.ReviewBy = now.wall, now.run, now.wall.Add(g.Entry.Within)
		}
	}
	return nil
}

// told names one to people.
func (g *glass) told() string {
	s := fmt.Sprintf("%s (%s", g.ID, g.Name)
	if g.For != "" {
		s += ", for " + g.For
	}
	return s + ", opened by " + g.Decisions[0].Subject + " of " + g.Decisions[0].Issuer + ")"
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// step is one of its steps, for the record.
func (g *glass) step(step string, now instant, d *Decision) *events.Event {
	a := &events.Approval{
		ID: g.ID, Step: step, Rule: g.Name, Policy: g.Policy, Covers: "break-glass", Until: now.shown(g.ends), Uses: g.Used,
		Workload: g.Workload, Principal: g.For, Resource: g.Resource,
	}
	if sum, err := g.Opening.digest(); err == nil { // of texts it can't fail
		a.Digest = hex.EncodeToString(sum[:])
	}
	if step != "opened" && step != "used" && g.State != GlassReviewed {
		a.Until = now.wall.Add(g.left(now))
	}
	if d != nil {
		decided(a, d)
		if d.Verb == Unjustified || d.Verb == Justified {
			a.Why = d.Verb + ": " + d.Why
		}
	}
	return &events.Event{Kind: events.ApprovalDecision, Time: now.wall, Status: step, Rules: []string{g.Name}, Approval: a}
}

// alarm is what an operator must look at.
func (g *glass) alarm(now instant, step, text string) *events.Event {
	d := &g.Decisions[0]
	e := g.step(step, now, d)
	e.Kind, e.Status, e.Rules, e.Message = events.Alarm, "", nil, "break-glass: "+text
	return e
}
