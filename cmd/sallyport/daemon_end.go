package main

import (
	"context"
	"errors"
	"os"
	"time"

	"sallyport.dev/sallyport/events"
)

// stopped is the last word of the record unless something better is known.
const stopped = "the daemon stopped: covered connections are refused"

// end ends in order: nobody new, sessions finish their statement, the record
// is made durable, with its last word, and shipped. A signal meanwhile ends the
// waiting.
func (d *daemon) end(last string, signals <-chan os.Signal) error {
	d.front.Close()
	done := d.sessions.close()
	d.await(done, signals)
	d.saveCounts() // before anybody else can have the journal
	e := events.Event{Kind: events.Lifecycle, Time: time.Now(), Status: "stop", Message: last}
	t, err := d.events.Append(&e)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), flushTime)
		err = t.Wait(ctx)
		cancel()
	}
	d.evidence.flush()
	d.analyzers.close()
	d.closeBrokers()
	return errors.Join(err, d.closeSPIFFE(), d.evidence.close())
}

// await waits for the sessions' end, and hangs up on those that take too long.
func (d *daemon) await(done <-chan struct{}, signals <-chan os.Signal) {
	late := time.After(d.setting.Load().cfg.Limits.Drain)
	select {
	case <-done:
		return
	case <-late:
	case <-signals:
	}
	if n := d.sessions.cutAll(); n > 0 {
		d.log.Warn("sessions did not end by themselves", "sessions", n)
	}
	select {
	case <-done:
		return
	case <-time.After(graceTime):
	}
	d.sessions.hangUp()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		d.log.Error("sessions do not end: they are left behind")
	}
}
