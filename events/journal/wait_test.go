package journal_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
)

// Everybody who waits for a record is woken once it is durable, also beside
// others who give up, and nobody before.
func TestEverybodyWhoWaitsIsWoken(t *testing.T) {
	j, err := journal.Open(t.TempDir(), journal.Options{Host: "h", Sync: true, Encode: ocsf.Append})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for range 200 {
				tk, err := j.Append(&events.Event{Kind: events.Alarm, Time: time.Now(), Message: "x"})
				if err != nil {
					t.Error(err)
					return
				}
				c := ctx
				if w%4 == 3 {
					var stop context.CancelFunc
					c, stop = context.WithTimeout(ctx, time.Duration(w)*10*time.Microsecond)
					defer stop()
				}
				if err := tk.Wait(c); err != nil && (w%4 != 3 || !errors.Is(err, context.DeadlineExceeded)) {
					t.Errorf("record %d: %v", tk.Seq(), err)
					return
				} else if err == nil && j.Durable() < tk.Seq() {
					t.Errorf("record %d: woken before it was durable", tk.Seq())
				}
			}
		})
	}
	wg.Wait()
}
