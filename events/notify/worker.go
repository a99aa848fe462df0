package notify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"sallyport.dev/sallyport/events"
)

// worker tells what is due on one channel. One that is slow or away holds up nobody
// else.
type worker struct {
	n *Notifier
	k *ChannelConfig

	since   time.Time // when the minute began that is counted
	told    share     // of requests that wait, in it
	ends    int       // messages in it
	urgent  int       // likewise, of emergency access
	summary bool      // one was sent in it
	paused  time.Time // until then the channel takes nothing
	fails   int       // in a row
}

const (
	sendTime  = 30 * time.Second
	grace     = 3 * time.Second // of what is under way at the end
	mostPause = 15 * time.Second
	mostAfter = 10 * time.Minute // what a channel may ask for
	// endFor is how long it is tried to tell an end.
	endFor = time.Hour
	// idle is how often a worker looks without a reason.
	idle = 30 * time.Second
)

// run works until ctx ends; an error says that what was told can't be kept.
func (w *worker) run(ctx context.Context) error {
	for ctx.Err() == nil {
		wait, err := w.turn(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if wait <= 0 {
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-w.n.wake[w.k.Name]:
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// turn sends at most one message, and returns how long there is nothing to do.
func (w *worker) turn(ctx context.Context) (time.Duration, error) {
	now := time.Now()
	if now.Sub(w.since) >= w.n.Minute {
		w.since, w.told, w.ends, w.urgent, w.summary = now, share{}, 0, 0, false
	}
	if wait := w.paused.Sub(now); wait > 0 {
		return wait, nil
	}
	s, name := w.n.store, w.k.Name
	full := w.urgent >= w.k.PerMinute
	if !full {
		u, err := s.nextGlass(name, now)
		if err != nil {
			return 0, err
		}
		if u != nil {
			return 0, w.tellGlass(ctx, u, now)
		}
	}
	t, left, last, err := s.pick(name, now, &w.told, func(p party, again bool) bool { return w.told.may(p, again, w.k.PerMinute) })
	switch {
	case err != nil:
		return 0, err
	case left > 0 && w.summary:
		full = true
	case left > 1:
		w.summary = true
		return 0, w.summarise(ctx, left, last, now)
	case left == 1: // it needs no Summary
		w.summary = true
		if t, _, _, err = s.pick(name, now, &w.told, func(party, bool) bool { return true }); err != nil {
			return 0, err
		}
	}
	if t == nil {
		if w.ends >= w.k.PerMinute {
			full = true
		} else if t, err = s.nextEnd(name, now); err != nil {
			return 0, err
		}
	}
	if t != nil {
		return 0, w.tell(ctx, t, now)
	}
	if full {
		return w.since.Add(w.n.Minute).Sub(now), nil
	}
	at, ok, err := s.soonest(name)
	if err != nil || !ok {
		return idle, err
	}
	return max(min(at.Sub(now), idle), time.Millisecond), nil
}

// tell sends one message, and keeps that it did, or when to try again.
func (w *worker) tell(ctx context.Context, t *task, now time.Time) error {
	r := &t.request
	log := w.n.Log.With("channel", w.k.Name, "host", r.Host, "request", r.ID)
	if t.ends && now.Sub(t.end.At) > endFor+mostPause && t.tries > 0 || !t.ends && !r.Until.Add(slack).After(now) {
		log.Error("a channel was not told in time", "ended", t.ends)
		if w.n.Hooks.Dropped != nil {
			w.n.Hooks.Dropped(w.k.Name)
		}
		return w.n.store.drop(t)
	}
	n := &Notice{What: Asked, Time: now, URL: link(w.n.Settings.Page, r.Host, r.ID), Request: r, Step: t.step, End: t.end, Refs: t.refs}
	if t.ends {
		n.What, n.Step = Ended, 0
	} else {
		var err error
		steps := w.n.Settings.route(r) // the configuration may be another by now
		if t.step < len(steps) {
			if n.People, err = w.n.Settings.who(&steps[t.step], now); err != nil {
				log.Error("who is on call is not known; others are told", "error", err)
			}
		}
	}
	n.ID = idOf(n.What.String(), r.Host, r.ID, w.k.Name, t.step)
	ref, err := w.send(ctx, n)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return w.n.store.later(t, w.again(log, n.What, t.tries, err))
	}
	w.fails = 0
	if t.ends {
		w.ends++
	} else {
		w.told.took(party{r.Host, r.Workload}, t.step > 0)
		if err := w.record(n); err != nil {
			return err
		}
	}
	log.Info("a channel was told", "what", n.What.String(), "step", t.step, "people", names(n.People))
	if w.n.Hooks.Told != nil {
		w.n.Hooks.Told(w.k.Name, n.What)
	}
	return w.n.store.tell(t, w.k.Name, ref, time.Now())
}

// again says when to try a message again that the channel did not take.
func (w *worker) again(log *slog.Logger, what What, tries int, err error) time.Time {
	pause := w.backoff(tries)
	if b, ok := errors.AsType[*busy](err); ok {
		w.paused = time.Now().Add(max(w.backoff(w.failed()), min(b.after, mostAfter)))
		pause = 0 // the channel waits
	}
	log.Warn("a message waits for its channel", "what", what, "error", err)
	if w.n.Hooks.Retry != nil {
		w.n.Hooks.Retry(w.k.Name)
	}
	return time.Now().Add(pause)
}

// summarise tells in one message how many requests wait that are not told one by one.
func (w *worker) summarise(ctx context.Context, left int, last int64, now time.Time) error {
	n := &Notice{What: Summary, Time: now, URL: w.n.Settings.Page + "/approvals", More: left, ID: idOf(Summary.String(), w.k.Name, fmt.Sprint(left), fmt.Sprint(last), 0)}
	if _, err := w.send(ctx, n); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		pause := w.backoff(w.failed())
		if b, ok := errors.AsType[*busy](err); ok {
			pause = max(pause, min(b.after, mostAfter))
		}
		w.paused, w.summary = time.Now().Add(pause), false
		w.n.Log.Warn("a message waits for its channel", "channel", w.k.Name, "what", n.What, "error", err)
		if w.n.Hooks.Retry != nil {
			w.n.Hooks.Retry(w.k.Name)
		}
		return nil
	}
	w.fails = 0
	w.n.Log.Warn("more requests wait than a channel is told one by one", "channel", w.k.Name, "requests", left)
	if w.n.Hooks.Told != nil {
		w.n.Hooks.Told(w.k.Name, Summary)
	}
	return w.n.store.sum(w.k.Name, last, now)
}

// send sends one message. One that is under way when ctx ends may get through: it
// would be sent again otherwise.
func (w *worker) send(ctx context.Context, n *Notice) (string, error) {
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	defer stop()
	return w.n.Channels[w.k.Name].Send(detached, n)
}

// failed counts the times that the channel took nothing, one after the other.
func (w *worker) failed() int {
	w.fails++
	return w.fails
}

// backoff is how long to wait after so many failures, with chance in it.
func (w *worker) backoff(tries int) time.Duration {
	p := min(w.n.Pause<<min(tries, 10), mostPause)
	return p/2 + rand.N(p/2+1)
}

// record makes evidence of what was told.
func (w *worker) record(n *Notice) error {
	if w.n.Record == nil {
		return nil
	}
	return w.n.record("notified", w.k.Name, n.Request, n.Time)
}

func (n *Notifier) record(what, channel string, r *Request, at time.Time) error {
	err := n.Record(&events.Event{Kind: events.ApprovalRequest, Time: at, Status: what, Rules: []string{r.Rule}, Message: "channel " + channel + ", host " + r.Host, Approval: &events.Approval{
		ID: r.ID, Step: what, Rule: r.Rule, Covers: r.Covers, Until: r.Until, Workload: r.Workload, Actor: r.Actor, Principal: r.Principal,
		Resource: r.Resource, Database: r.Database, Lacks: r.Lacks,
	}})
	if err != nil {
		return fmt.Errorf("notify: what was told can't go on the record: %w", err)
	}
	return nil
}

func names(people []Named) (out []string) {
	for _, p := range people {
		out = append(out, p.Name)
	}
	return out
}

// idOf names a message, the same each time that it is sent.
func idOf(what, a, b, channel string, step int) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %d", what, a, b, channel, step)
	return "msg_" + hex.EncodeToString(h.Sum(nil)[:16])
}
