package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
)

// TailOptions of Tail. The zero value follows all audit events from now on.
type TailOptions struct {
	Subject   string // default sallyport.audit.>
	FromStart bool   // from the stream's first audit event
}

// Tail gives each audit event to f, in the stream's order, as a subscriber
// with read access sees it, until ctx ends (nil) or f fails (its error).
// Started, when not nil, is closed once nothing that is published from then on
// is missed.
//
// With FromStart the durable consumer SIEMConsumer is rewound, so only one
// reader can do it at a time.
func Tail(ctx context.Context, nc *nats.Conn, o TailOptions, started chan<- struct{}, f func(*nats.Msg) error) error {
	if o.Subject == "" {
		o.Subject = "sallyport.audit.>"
	}
	if o.FromStart {
		return replay(ctx, nc, o.Subject, started, f)
	}
	in := make(chan *nats.Msg, 8192)
	sub, err := nc.ChanSubscribe(o.Subject, in)
	if err != nil {
		return fmt.Errorf("jetstream: subscribe to %s: %w", o.Subject, err)
	}
	defer sub.Unsubscribe()
	if err := nc.FlushWithContext(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("jetstream: subscribe to %s: %w", o.Subject, err)
	}
	if err := nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		return fmt.Errorf("jetstream: subscribe to %s: %w", o.Subject, err)
	}
	if started != nil {
		close(started)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-in:
			if err := f(m); err != nil {
				return err
			}
			if n, _ := sub.Dropped(); n > 0 {
				return fmt.Errorf("jetstream: this reader was too slow and missed %d events: read them again from the start", n)
			}
		}
	}
}

func replay(ctx context.Context, nc *nats.Conn, subject string, started chan<- struct{}, f func(*nats.Msg) error) error {
	prefix, c, err := Consumer(ctx, nc, SIEMConsumer)
	if err != nil {
		return err
	}
	if _, err := nc.RequestWithContext(ctx, prefix+".CONSUMER.RESET."+StreamName+"."+SIEMConsumer, []byte(`{"seq":1}`)); err != nil {
		return fmt.Errorf("jetstream: rewind consumer %s: %w", SIEMConsumer, err)
	}
	if started != nil {
		close(started)
	}
	for ctx.Err() == nil {
		// No request is left waiting at the server: it would take the next
		// reader's events.
		batch, err := c.FetchNoWait(256)
		if err != nil {
			return fmt.Errorf("jetstream: read %s: %w", StreamName, err)
		}
		n := 0
		for m := range batch.Messages() {
			n++
			msg := &nats.Msg{Subject: m.Subject(), Header: m.Headers(), Data: m.Data()}
			if ctx.Err() != nil || !matches(subject, msg.Subject) {
				continue
			}
			if err := f(msg); err != nil {
				return err
			}
		}
		if err := batch.Error(); err != nil && ctx.Err() == nil {
			return fmt.Errorf("jetstream: read %s: %w", StreamName, err)
		}
		if n == 0 {
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
	return nil
}

// Consumer finds a durable consumer, and the prefix of the JetStream API under
// which this connection reaches it: the embedded server gives its readers
// theirs as "sallyport.api", any other NATS as "$JS.API".
func Consumer(ctx context.Context, nc *nats.Conn, name string) (string, js.Consumer, error) {
	var errs []error
	for _, prefix := range []string{"sallyport.api", "$JS.API"} {
		api, err := js.NewWithAPIPrefix(nc, prefix)
		if err != nil {
			return "", nil, err
		}
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		c, err := api.Consumer(short, StreamName, name)
		cancel()
		if err == nil {
			return prefix, c, nil
		}
		errs = append(errs, err)
	}
	return "", nil, fmt.Errorf("jetstream: consumer %s of stream %s: %w", name, StreamName, errors.Join(errs...))
}
