package jetstream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Fetch returns the messages of a consumer that are there, at most most; for the first
// it waits so long. None is no error; what came before one is returned with it.
func Fetch(ctx context.Context, c jetstream.Consumer, most int, wait time.Duration) ([]jetstream.Msg, error) {
	first, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	b, err := c.Fetch(1, jetstream.FetchContext(first))
	msgs, err := collect(ctx, b, err)
	if err != nil || len(msgs) == 0 {
		return nil, err
	}
	b, err = c.FetchNoWait(most - 1)
	more, err := collect(ctx, b, err)
	return append(msgs, more...), err
}

func collect(ctx context.Context, b jetstream.MessageBatch, err error) (msgs []jetstream.Msg, _ error) {
	if err != nil {
		return nil, err
	}
	for m := range b.Messages() {
		msgs = append(msgs, m)
	}
	if err := b.Error(); err != nil && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, err
	}
	return msgs, ctx.Err()
}
