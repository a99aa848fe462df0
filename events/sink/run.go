package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"sallyport.dev/sallyport/events/jetstream"
)

// Sink moves events from its own consumer of the stream to a target.
type Sink struct {
	Config Config
	Target Target
	Conn   *nats.Conn
	State  string // folder of what targets refuse
	Log    *slog.Logger
	Hooks  Hooks

	// Pause and Limit are for tests: of the first retry, and of one Send.
	Pause, Limit time.Duration
}

const (
	pullMessages = 64              // held at once: at most 256 KiB each
	pullWait     = 5 * time.Second // for the first
	alive        = 3 * time.Second // how often NATS is told that a message is being worked on
	lagEvery     = 15 * time.Second
)

// Run works until ctx ends, and returns nil then. What fails is tried again; it
// fails itself where the refused events cannot be written down.
func (s *Sink) Run(ctx context.Context) error {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	s.Log = s.Log.With("sink", s.Config.Name)
	rej, err := openRejected(s.State, s.Config.Name)
	if err != nil {
		return err
	}
	defer rej.close()
	d := &delivery{target: s.Target, rejected: rej, hooks: s.Hooks, log: s.Log, least: s.Pause, limit: s.Limit}
	const least, most = 250 * time.Millisecond, 15 * time.Second
	pause := least
	for {
		start := time.Now()
		err := s.consume(ctx, d)
		if ctx.Err() != nil {
			return nil
		}
		var disk *diskError
		if errors.As(err, &disk) {
			return err
		}
		if time.Since(start) > most {
			pause = least
		}
		s.Log.Warn("events do not come; none is lost", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, most)
	}
}

// consume takes messages and hands their events on, until something fails.
func (s *Sink) consume(ctx context.Context, d *delivery) error {
	c, err := jetstream.SinkReader(ctx, s.Conn, s.Config.Name)
	if err != nil {
		return err
	}
	var lag time.Time
	for {
		if time.Since(lag) > lagEvery && s.Hooks.Lag != nil {
			info, err := c.Info(ctx)
			if err != nil {
				return fmt.Errorf("sink: consumer %s: %w", s.Config.Name, err)
			}
			s.Hooks.Lag(info.NumPending + uint64(info.NumAckPending))
			lag = time.Now()
		}
		msgs, err := jetstream.Fetch(ctx, c, pullMessages, pullWait)
		if err != nil {
			return fmt.Errorf("sink: fetch: %w", err)
		}
		if len(msgs) == 0 {
			continue
		}
		if err := s.take(ctx, d, msgs); err != nil {
			return err
		}
	}
}

// take delivers the events of messages, then acknowledges these.
func (s *Sink) take(ctx context.Context, d *delivery, msgs []js.Msg) error {
	ctx, cancel := context.WithCancel(ctx)
	held := make(chan struct{})
	go func() { // while a target is away, nobody else is given them
		defer close(held)
		for t := time.NewTicker(alive); ; {
			select {
			case <-ctx.Done():
				t.Stop()
				return
			case <-t.C:
				for _, m := range msgs {
					m.InProgress() // one that is lost is made up for by the next
				}
			}
		}
	}()
	defer func() { cancel(); <-held }()
	var batch []Event
	size := 0
	flush := func() error {
		err := d.deliver(ctx, batch)
		batch, size = batch[:0], 0
		return err
	}
	for _, m := range msgs {
		host, rs, err := jetstream.Parse(m.Subject(), m.Headers(), m.Data())
		if err != nil { // of a host that is newer, or of nobody who may publish
			if err := d.refuse([]Refusal{{Event{Host: host, JSON: m.Data()}, err}}); err != nil {
				return err
			}
			continue
		}
		for i := range rs {
			e, err := Read(host, &rs[i])
			if err != nil {
				if err := d.refuse([]Refusal{{e, err}}); err != nil {
					return err
				}
				continue
			}
			if !s.Config.wants(&e) {
				continue
			}
			batch, size = append(batch, e), size+len(e.JSON)
			if len(batch) >= s.Config.Batch || size >= s.Config.BatchBytes {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	for _, m := range msgs {
		if err := m.Ack(); err != nil {
			return fmt.Errorf("sink: acknowledge: %w", err) // it comes again
		}
	}
	return nil
}

// wants reports whether the sink is for an event.
func (c *Config) wants(e *Event) bool {
	if len(c.Kinds) > 0 && !slices.Contains(c.Kinds, e.Kind.String()) {
		return false
	}
	return c.Since.IsZero() || !e.View.Time.Before(c.Since)
}
