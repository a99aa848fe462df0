package main

import (
	"context"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
)

// A host on which nothing happens says so, again and again, until it stops.
func TestHeartbeat(t *testing.T) {
	j, err := journal.Open(t.TempDir(), journal.Options{Host: "h1", Encode: ocsf.Append, Revive: ocsf.Revive})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); beat(ctx, j, 10*time.Millisecond) }()
	wait, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	defer stop()
	r := j.Reader(1)
	defer r.Close()
	for range 3 {
		rec, err := r.Next(wait)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := ocsf.Decode(rec.Payload); err != nil || rec.Kind != events.Lifecycle || v.Status != "heartbeat" || v.Host != "h1" {
			t.Errorf("%+v %v", v, err)
		}
	}
	cancel()
	<-done
}
