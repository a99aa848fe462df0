package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/redirect"
)

// sing answers a canary. It leaves no record: it asks for nothing.
func (d *daemon) sing(f *intercept.Flow) {
	d.metrics.canaries.Inc()
	_ = f.Conn.SetDeadline(time.Now().Add(refuseTime))
	_, _ = io.WriteString(f.Conn, redirect.CanarySong)
	d.answerWhoami(f)
}

// health keeps what the loader found out about its guard for the metrics.
func (d *daemon) health(text string) error {
	var f figures
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return fmt.Errorf("order %s: %w", doHealth, err)
	}
	whole := 0.0
	if f.Whole {
		whole = 1
	}
	d.metrics.whole.Set(whole)
	d.metrics.lost.Set(float64(f.Lost))
	d.metrics.neighbours.Set(float64(f.Neighbours))
	d.metrics.closed.Set(float64(f.Closed))
	return nil
}
