package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
)

// RoleSink reads audit events, never transcripts, each sink through a durable
// consumer of its own, and publishes nothing but acknowledgements of them.
const RoleSink = "sink"

// SinkConsumer is the durable consumer of a sink.
func SinkConsumer(name string) string { return "sink-" + name }

// sinkConfig is a sink's consumer: all audit events from the first, in order of
// the stream, each until it is acknowledged.
func sinkConfig(name string) js.ConsumerConfig {
	return js.ConsumerConfig{
		Durable: SinkConsumer(name), Description: "sallyport: events for the sink " + name,
		AckPolicy: js.AckExplicitPolicy, AckWait: 10 * time.Second, MaxDeliver: -1, MaxAckPending: 256,
		FilterSubject: "sallyport.audit.>",
	}
}

// SinkReader finds a sink's consumer. Where there is none, and this connection
// may, it makes it.
func SinkReader(ctx context.Context, nc *nats.Conn, name string) (js.Consumer, error) {
	_, c, err := Consumer(ctx, nc, SinkConsumer(name))
	if !errors.Is(err, js.ErrConsumerNotFound) {
		return c, err
	}
	api, err := js.New(nc)
	if err != nil {
		return nil, err
	}
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if c, err = api.CreateConsumer(short, StreamName, sinkConfig(name)); err != nil {
		return nil, fmt.Errorf("jetstream: consumer %s of stream %s is not there and can't be made: %w (name the sink in evidence.nats.sinks of sallyport.yaml)", SinkConsumer(name), StreamName, err)
	}
	return c, nil
}
