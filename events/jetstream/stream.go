package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
)

// streamConfig is what evidence asks of the stream. One stream holds events
// and transcripts, so that the order of a host's chain is the stream's order.
func streamConfig() js.StreamConfig {
	return js.StreamConfig{
		Name:        StreamName,
		Description: "sallyport: hash-chained audit events and transcripts",
		Subjects:    []string{"sallyport.audit.>", "sallyport.transcript.>"},
		Storage:     js.FileStorage,
		Retention:   js.LimitsPolicy,
		Discard:     js.DiscardNew,
		DenyDelete:  true,
		DenyPurge:   true,
		Duplicates:  10 * time.Minute,
	}
}

// Needs is what may be said of the stream; the zero value asks for what evidence
// needs.
type Needs struct {
	Replicas int  // at least so many; 0: clusterReplicas in a cluster, 1 elsewhere
	Weaker   bool // records go to a stream that Check refuses, too
}

// clusterReplicas outlive the loss of one server.
const clusterReplicas = 3

func (n Needs) replicas(nc *nats.Conn) int {
	switch {
	case n.Replicas > 0:
		return n.Replicas
	case nc.ConnectedClusterName() != "":
		return clusterReplicas
	}
	return 1
}

// ErrWeak is what Check says.
var ErrWeak = errors.New("the stream could lose or alter evidence")

// Ensure makes the stream and its consumers where they are missing, and
// refuses a stream whose settings could lose or alter evidence. ackWait zero
// means 10 s. Each sink that is named gets a consumer, and keeps it.
func Ensure(ctx context.Context, nc *nats.Conn, need Needs, ackWait time.Duration, sinks ...string) error {
	api, err := js.New(nc)
	if err != nil {
		return err
	}
	st, err := api.Stream(ctx, StreamName)
	if errors.Is(err, js.ErrStreamNotFound) {
		conf := streamConfig()
		conf.Replicas = need.replicas(nc)
		st, err = api.CreateStream(ctx, conf)
	}
	if err != nil {
		return fmt.Errorf("jetstream: stream %s: %w", StreamName, err)
	}
	if err := Check(st.CachedInfo().Config, need.replicas(nc)); err != nil && !need.Weaker {
		return err
	}
	if ackWait <= 0 {
		ackWait = 10 * time.Second
	}
	consumers := []js.ConsumerConfig{{
		Durable: RecorderConsumer, Description: "sallyport-recorder",
		AckPolicy: js.AckExplicitPolicy, AckWait: ackWait, MaxDeliver: -1, MaxAckPending: 4096,
	}, {
		Durable: SIEMConsumer, Description: "audit events from the start, for one reader at a time",
		AckPolicy: js.AckNonePolicy, FilterSubject: "sallyport.audit.>",
	}, notifyConfig()}
	for _, name := range sinks {
		consumers = append(consumers, sinkConfig(name))
	}
	for _, c := range consumers {
		have, err := st.Consumer(ctx, c.Durable)
		if errors.Is(err, js.ErrConsumerNotFound) || err == nil && c.Durable == RecorderConsumer && differs(have.CachedInfo().Config, c) {
			_, err = st.CreateOrUpdateConsumer(ctx, c)
		}
		if err != nil {
			return fmt.Errorf("jetstream: consumer %s: %w", c.Durable, err)
		}
	}
	return nil
}

// differs reports whether the recorder's consumer is not what it should be. One
// that is right is left alone: changing it takes a permission that a host does
// not need else.
func differs(have, want js.ConsumerConfig) bool {
	return have.AckPolicy != want.AckPolicy || have.AckWait != want.AckWait || have.MaxDeliver != want.MaxDeliver || have.MaxAckPending != want.MaxAckPending
}

// Check refuses settings that are weaker than streamConfig's, and fewer replicas
// than are asked for. What it returns is ErrWeak.
func Check(have js.StreamConfig, replicas int) error {
	want := streamConfig()
	var bad []string
	no := func(wrong bool, what string) {
		if wrong {
			bad = append(bad, what)
		}
	}
	for _, s := range want.Subjects {
		covered := false
		for _, h := range have.Subjects {
			covered = covered || h == s || h == "sallyport.>"
		}
		no(!covered, "subjects must include "+s)
	}
	no(have.Storage != js.FileStorage, "storage must be file")
	no(have.Retention != js.LimitsPolicy, "retention must be limits")
	no(have.Discard != js.DiscardNew, "discard must be new")
	no(!have.DenyDelete, "deny_delete must be on")
	no(!have.DenyPurge, "deny_purge must be on")
	no(have.AllowRollup, "allow_rollup_hdrs must be off")
	no(have.MaxAge != 0, "max_age must be unset")
	no(have.MaxMsgsPerSubject > 0, "max_msgs_per_subject must be unset")
	no(have.AllowMsgTTL, "allow_msg_ttl must be off")
	no(have.NoAck, "no_ack must be off")
	no(have.Sealed, "the stream is sealed")
	no(have.PersistMode != js.DefaultPersistMode, "persist_mode must be default")
	// By these something else than its host publishes on a host's subject.
	no(have.AllowMsgSchedules, "allow_msg_schedules must be off")
	no(have.AllowMsgCounter, "allow_msg_counter must be off")
	no(have.SubjectTransform != nil, "subject_transform must be unset")
	no(have.Mirror != nil || len(have.Sources) > 0, "mirror and sources must be unset")
	no(have.RePublish != nil, "republish must be unset: transcripts go where their readers are")
	no(have.Duplicates < time.Minute, "duplicate_window must be at least 1m")
	no(have.Replicas < replicas, fmt.Sprintf("num_replicas must be at least %d (it is %d)", replicas, have.Replicas))
	if len(bad) > 0 {
		return fmt.Errorf("jetstream: stream %s: %w: %s (change it with \"nats stream edit\", or let sallyport make it)", StreamName, ErrWeak, strings.Join(bad, "; "))
	}
	return nil
}
