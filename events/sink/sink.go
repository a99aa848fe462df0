// Package sink hands audit events on to a SIEM, each sink from its own durable
// consumer of the stream: JSON lines, syslog, a webhook, Splunk, Elasticsearch.
//
// Delivery is at least once. A message is acknowledged after the target has
// said that it has all of it; what it will never take is written down beside it
// first. A target that is slow or away holds up its own sink and nothing else.
// docs/siem.md is the reference.
package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

// Event is one published event.
type Event struct {
	UID  string // "<chain>-<number>": the same each time that it is delivered
	Host string // that NATS holds the publisher to
	Kind events.Kind
	View ocsf.View
	JSON []byte // as published: one line, which says no other host's name
}

// Read reads a published record. It fails for one that is damaged, that this program
// cannot read, or that passes itself off as another host's: the payload is the
// host's own bytes, and NATS holds the host to the subject only.
func Read(host string, r *events.Record) (Event, error) {
	e := Event{UID: r.Chain + "-" + strconv.FormatUint(r.Seq, 10), Host: host, Kind: r.Kind, JSON: r.Payload}
	if !r.Intact() {
		return e, errors.New("its hash is not that of its content")
	}
	if bytes.ContainsFunc(r.Payload, func(c rune) bool { return c < ' ' }) { // a second line would be an event of its own
		return e, errors.New("it holds control characters, which no event does")
	}
	var err error
	if e.View, err = ocsf.Decode(r.Payload); err != nil {
		return e, err
	}
	if err := heldTo(host, r.Payload); err != nil {
		return e, err
	}
	if e.View.Kind != r.Kind.String() {
		return e, fmt.Errorf("a record of kind %q holds an event of kind %q", r.Kind, e.View.Kind)
	}
	return e, nil
}

// Target is where events go.
type Target interface {
	// Send hands a batch on, in its order, and tells what became of it. It
	// returns when ctx ends. It is called by one goroutine at a time.
	Send(ctx context.Context, batch []Event) Answer
	// Close lets go of connections and files.
	Close() error
}

// Answer is what became of a batch. Zero: the target has all of it.
type Answer struct {
	Again   []Event       // not taken, and may be later: see Err
	Refused []Refusal     // never will be taken, though others are or would be
	Err     error         // why there is something to send again
	After   time.Duration // that the target asked to wait; 0: it did not say
	// TooMuch: nothing was taken because of something in the batch, or its size;
	// half of it may be. Err says what. An event that is too much alone is refused
	// where the target takes another one, and waits where it takes none.
	TooMuch bool
}

// Refusal is an event that a target will not take.
type Refusal struct {
	Event Event
	Why   error
}

// failed is the Answer of a target that has taken nothing for now.
func failed(batch []Event, after time.Duration, err error) Answer {
	return Answer{Again: batch, Err: err, After: after}
}
