package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
)

// RoleNotify reads the steps of requests for approval, and nothing else, through
// NotifyConsumer. It publishes nothing but acknowledgements of them.
const RoleNotify = "notify"

// NotifyConsumer is the durable consumer of what tells approvers of requests.
const NotifyConsumer = "notify"

// notifyConfig is that consumer: steps from the first, in order of the stream, each
// until it is acknowledged.
func notifyConfig() js.ConsumerConfig {
	return js.ConsumerConfig{
		Durable: NotifyConsumer, Description: "sallyport: requests for approval, for those who are to be told of them",
		AckPolicy: js.AckExplicitPolicy, AckWait: 10 * time.Second, MaxDeliver: -1, MaxAckPending: 1024,
		FilterSubject: "sallyport.audit.*.*.approval.*",
	}
}

// NotifyReader finds NotifyConsumer. Where there is none, and this connection may,
// it makes it.
func NotifyReader(ctx context.Context, nc *nats.Conn) (js.Consumer, error) {
	_, c, err := Consumer(ctx, nc, NotifyConsumer)
	if !errors.Is(err, js.ErrConsumerNotFound) {
		return c, err
	}
	api, err := js.New(nc)
	if err != nil {
		return nil, err
	}
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if c, err = api.CreateConsumer(short, StreamName, notifyConfig()); err != nil {
		return nil, fmt.Errorf("jetstream: consumer %s of stream %s is not there and can't be made: %w (a start of sallyport makes it)", NotifyConsumer, StreamName, err)
	}
	return c, nil
}
