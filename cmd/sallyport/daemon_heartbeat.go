package main

import (
	"context"
	"time"

	"sallyport.dev/sallyport/events"
)

// beat puts on the record, every so often, that this host is at work, so that
// one from which nothing comes can be told from one on which nothing happens.
// Where the journal does not take it, that is told already, and silence is right.
func beat(ctx context.Context, j events.Journal, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			_, _ = j.Append(&events.Event{Kind: events.Lifecycle, Time: now, Status: "heartbeat", Message: "this host is at work"})
		}
	}
}
