package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport.dev/sallyport/events"
)

// ledger is the journal, with decisions counted.
type ledger struct {
	events.Journal
	verdicts   [events.Explained + 1]prometheus.Counter
	unrecorded prometheus.Counter
}

func newLedger(j events.Journal, m *metrics) *ledger {
	l := &ledger{Journal: j, unrecorded: m.unrecorded}
	for v := range l.verdicts {
		l.verdicts[v] = m.statements.WithLabelValues(events.Verdict(v).String())
	}
	return l
}

// Append implements events.Journal.
func (l *ledger) Append(e *events.Event) (events.Ticket, error) {
	t, err := l.Journal.Append(e)
	if err != nil {
		l.unrecorded.Inc()
		return t, err
	}
	switch e.Kind {
	case events.Statement, events.Block, events.Login:
		l.verdicts[min(int(e.Verdict), len(l.verdicts)-1)].Inc()
	}
	return t, nil
}

// digester makes keyed hashes of values that must not stand in events. Many
// goroutines may use it.
type digester struct{ pool sync.Pool }

type digestState struct {
	mac hash.Hash
	sum [sha256.Size]byte
}

func newDigester(key []byte) *digester {
	d := &digester{}
	d.pool.New = func() any { return &digestState{mac: hmac.New(sha256.New, key)} }
	return d
}

// sum returns the first 8 bytes of HMAC-SHA-256.
func (d *digester) sum(b []byte) (out events.Digest) {
	s := d.pool.Get().(*digestState)
	s.mac.Reset()
	s.mac.Write(b)
	copy(out[:], s.mac.Sum(s.sum[:0]))
	d.pool.Put(s)
	return out
}

// Of one cause there are alarmBurst alarms in alarmEvery, of different texts.
const (
	alarmEvery = 10 * time.Second
	alarmBurst = 8
)

// alarms puts what an operator must look at on the record and into the log:
// one of a cause at a time, others counted. What is raised before begin waits.
type alarms struct {
	mu     sync.Mutex
	j      events.Journal
	log    *slog.Logger
	causes map[string]*cause
	early  [][2]string
}

// cause is one word of this program's, with what was told of it lately: no text
// twice, and not more than alarmBurst of them.
type cause struct {
	next   time.Time // then told is forgotten
	told   map[string]bool
	missed int
}

func (a *alarms) begin(j events.Journal, log *slog.Logger) {
	a.mu.Lock()
	a.j, a.log, a.causes = j, log, map[string]*cause{}
	early := a.early
	a.early = nil
	a.mu.Unlock()
	for _, e := range early {
		a.raise(e[0], e[1])
	}
}

// raise records an alarm; its text holds no data values. Causes are words of
// this program.
func (a *alarms) raise(why, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.j == nil {
		a.early = append(a.early, [2]string{why, text})
		return
	}
	c := a.causes[why]
	if c == nil {
		c = &cause{}
		a.causes[why] = c
	}
	now := time.Now()
	if !now.Before(c.next) {
		c.next, c.told = now.Add(alarmEvery), map[string]bool{}
	}
	if c.told[text] || len(c.told) >= alarmBurst {
		c.missed++
		return
	}
	c.told[text] = true
	missed := c.missed
	c.missed = 0
	a.log.Error("alarm", "cause", why, "text", text, "not_told_before", missed)
	if missed > 0 {
		text += fmt.Sprintf(" (%d alarms of this cause before it are not on the record)", missed)
	}
	_, err := a.j.Append(&events.Event{Kind: events.Alarm, Time: now, Message: why + ": " + text})
	if err != nil && !errors.Is(err, events.ErrFull) {
		a.log.Error("an alarm could not be recorded", "error", err)
	}
}

// limiter lets so many through in a second, and counts the others.
type limiter struct {
	max int

	mu     sync.Mutex
	second int64
	n      int
	missed int
}

// allow also returns how many were not let through since the last one that was.
func (l *limiter) allow(now time.Time) (missed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := now.Unix(); s != l.second {
		l.second, l.n = s, 0
	}
	if l.n >= l.max {
		l.missed++
		return 0, false
	}
	l.n++
	missed, l.missed = l.missed, 0
	return missed, true
}
