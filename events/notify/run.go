package notify

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/sink"
)

// Notifier tells approvers of the requests that wait. Settings, Channels and Conn are
// required.
type Notifier struct {
	Settings *Settings
	Channels map[string]Channel // by name, all that Settings has
	Conn     *nats.Conn
	Log      *slog.Logger
	Hooks    Hooks
	// Record makes evidence of what was told, durable when it returns nil; nil is
	// none. What can't be recorded ends Run.
	Record func(*events.Event) error

	// Pause, Minute and MostOpen are for tests: of the first retry, what PerMinute is
	// of, and what a host may have waiting.
	Pause, Minute time.Duration
	MostOpen      int

	store *store
	wake  map[string]chan struct{}
	used  sync.WaitGroup // answers to clicks that are under way
	slots chan struct{}
}

// Hooks are for metrics; nil ones are not called.
type Hooks struct {
	Told     func(channel string, what What)
	Retry    func(channel string)
	Dropped  func(channel string) // its request ended before it was told
	Unrouted func()               // nobody is told of a request
	Refused  func()               // an event that is none of its host's
	Callback func(channel, outcome string)
	Waiting  func(requests int)
}

const (
	pullMessages = 256
	pullWait     = 5 * time.Second
	houseEvery   = time.Minute
	// overdue is how long after its time a request has ended, though its host says
	// nothing.
	overdue = 10 * time.Minute
	// slack is what a host's clock may be behind: its request is told all the same.
	slack = 5 * time.Minute
	// mostOpen is what a host may have waiting, and how many of its ends may be of
	// requests that are not known: more than it can have.
	mostOpen = 25_000
)

// Run works until ctx ends, and returns nil then. What fails is tried again; it fails
// itself where it can't keep what is to be told.
func (n *Notifier) Run(ctx context.Context) (err error) {
	if n.Log == nil {
		n.Log = slog.New(slog.DiscardHandler)
	}
	if n.Pause <= 0 {
		n.Pause = time.Second
	}
	if n.Minute <= 0 {
		n.Minute = time.Minute
	}
	if n.MostOpen <= 0 {
		n.MostOpen = mostOpen
	}
	if n.store, err = openStore(n.Settings.State); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.store.close()) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	n.wake, n.slots = map[string]chan struct{}{}, make(chan struct{}, 8)
	for i := range n.Settings.Channels {
		n.wake[n.Settings.Channels[i].Name] = make(chan struct{}, 1)
	}
	var wg sync.WaitGroup
	defer n.used.Wait()
	defer wg.Wait()
	failed := func(err error) {
		if err != nil && ctx.Err() == nil {
			cancel(err)
		}
	}
	stopped, err := n.serve(ctx, failed)
	if err != nil {
		return err
	}
	defer stopped()
	for i := range n.Settings.Channels {
		w := &worker{n: n, k: &n.Settings.Channels[i]}
		wg.Go(func() { failed(w.run(ctx)) })
	}
	failed(n.follow(ctx))
	<-ctx.Done()
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// follow keeps what the stream has until ctx ends, or it can't be kept.
func (n *Notifier) follow(ctx context.Context) error {
	const least, most = 250 * time.Millisecond, 15 * time.Second
	pause := least
	for {
		start := time.Now()
		err := n.consume(ctx)
		var state *stateError
		if ctx.Err() != nil {
			return nil
		}
		if errors.As(err, &state) {
			return err
		}
		if time.Since(start) > most {
			pause = least
		}
		n.Log.Warn("requests for approval do not come; none is lost", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, most)
	}
}

func (n *Notifier) consume(ctx context.Context) error {
	c, err := jetstream.NotifyReader(ctx, n.Conn)
	if err != nil {
		return err
	}
	var house time.Time
	for {
		if time.Since(house) >= houseEvery {
			if err := n.keepHouse(); err != nil {
				return err
			}
			house = time.Now()
		}
		msgs, err := jetstream.Fetch(ctx, c, pullMessages, pullWait)
		if err != nil {
			return fmt.Errorf("notify: fetch: %w", err)
		}
		if len(msgs) == 0 {
			continue
		}
		if err := n.take(msgs); err != nil {
			return err
		}
		for _, m := range msgs {
			if err := m.Ack(); err != nil {
				return fmt.Errorf("notify: acknowledge: %w", err) // it comes again, and changes nothing
			}
		}
	}
}

// keepHouse ends what is over though nobody said so, and forgets what is long over.
func (n *Notifier) keepHouse() error {
	now := time.Now()
	err := n.store.in(func(tx *sql.Tx) error {
		over, err := overOf(tx, now.Add(-overdue))
		for i := 0; i < len(over) && err == nil; i++ {
			err = end(tx, &over[i], &End{Step: "expired", At: over[i].Until}, now)
		}
		return err
	})
	if err != nil {
		return err
	}
	n.wakeAll()
	if err := n.store.forget(now); err != nil {
		return err
	}
	open, err := n.store.open(now)
	if err == nil && n.Hooks.Waiting != nil {
		n.Hooks.Waiting(open)
	}
	return err
}

// take keeps what messages tell. It is on stable storage when it returns nil.
func (n *Notifier) take(msgs []js.Msg) error {
	var steps []*step
	for _, m := range msgs {
		host, rs, err := jetstream.Parse(m.Subject(), m.Headers(), m.Data())
		if err != nil {
			n.refuse(host, err)
			continue
		}
		for i := range rs {
			e, err := sink.Read(host, &rs[i])
			var s *step
			if err == nil {
				s, err = read(&e)
			}
			if err != nil {
				n.refuse(host, err)
			} else if s != nil {
				steps = append(steps, s)
			}
		}
	}
	if len(steps) == 0 {
		return nil
	}
	now := time.Now()
	counts := map[string]*count{}
	err := n.store.in(func(tx *sql.Tx) error {
		for _, s := range steps {
			if err := n.keep(tx, s, counts, now); err != nil {
				return err
			}
		}
		return nil
	})
	n.wakeAll()
	return err
}

// refuse: the event of a host is not one. It is stored by the recorder all the same.
func (n *Notifier) refuse(host string, err error) {
	n.Log.Error("an event of a request for approval is not understood, and nobody is told", "host", host, "error", err)
	if n.Hooks.Refused != nil {
		n.Hooks.Refused()
	}
}

// keep keeps one step. A clock that is ahead makes no request live longer.
func (n *Notifier) keep(tx *sql.Tx, s *step, counts map[string]*count, now time.Time) error {
	if s.glass != nil {
		return n.keepGlass(tx, s.glass, now)
	}
	if s.Asked.After(now) {
		s.Asked = now.UTC()
	}
	if latest := now.Add(mostWait).UTC(); s.Until.After(latest) {
		s.Until = latest
	}
	c := counts[s.Host]
	if c == nil {
		var err error
		if c, err = countOf(tx, s.Host, now); err != nil {
			return err
		}
		counts[s.Host] = c
	}
	if s.end != nil {
		known, err := isKnown(tx, &s.Request)
		if err != nil {
			return err
		}
		if !known {
			if c.unknown >= n.MostOpen {
				n.refuse(s.Host, errors.New("it has more ends of requests that are not known than a host can have"))
				return nil
			}
			c.unknown++
		}
		return end(tx, &s.Request, s.end, now)
	}
	if !s.Until.Add(slack).After(now) {
		return nil // it has waited long enough
	}
	steps := n.Settings.route(&s.Request)
	if steps == nil {
		n.Log.Warn("no route is for a request for approval: nobody is told", "host", s.Host, "request", s.ID, "rule", s.Rule)
		if n.Hooks.Unrouted != nil {
			n.Hooks.Unrouted()
		}
	}
	if c.open++; c.open > n.MostOpen {
		n.refuse(s.Host, errors.New("it has more requests than a host can have"))
		return nil
	}
	var plan []planned
	for i, p := range steps {
		due := s.Asked.Add(p.After)
		if !due.Before(s.Until) {
			break
		}
		for _, name := range p.Tell {
			plan = append(plan, planned{i, name, due})
		}
	}
	return ask(tx, &s.Request, plan)
}

func (n *Notifier) wakeAll() {
	for _, c := range n.wake {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
