package recorder_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
)

func beat(c *chaintest.Chain) {
	e := &events.Event{Kind: events.Lifecycle, Time: time.Now(), Status: "heartbeat"}
	c.Add(e.Kind, "", "", ocsf.Append(nil, fmt.Sprintf("%s-%d", c.ID, c.Last()+1), e))
}

// A host that speaks is not silent; one that stops is an alarm, once; one that
// comes back and stops again is another.
func TestASilentHostIsAnAlarm(t *testing.T) {
	s, c := startServer(t), chaintest.New("c1")
	startShipper(t, s, &jetstream.Shipper{}, c)
	db, err := recorder.Open(newStore(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const silence = time.Second
	alarms := make(chan recorder.Alarm, 10)
	// Two recorders of one store: each hears what the other stored.
	for range 2 {
		nc, err := jetstream.Connect(s.URL(), s.SeedFile(jetstream.RoleRecorder), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err != nil {
			t.Fatal(err)
		}
		r := &recorder.Recorder{Conn: nc, Store: db, Silence: silence, Alarm: func(a recorder.Alarm) { alarms <- a }}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			nc.Close()
		})
	}
	beat(c)
	for n := 1; n < 3; n++ {
		select {
		case a := <-alarms:
			if a.What != "silent" || a.Host != "h1" || a.Chain != "c1" || a.Seq != uint64(n) {
				t.Fatalf("%+v", a)
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("no alarm")
		}
		beat(c)
	}
	select {
	case a := <-alarms:
		if a.Seq != 3 {
			t.Errorf("%+v", a)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("no third alarm")
	}
	kept, err := db.Alarms(t.Context(), 0, 100)
	if err != nil || len(kept) != 3 {
		t.Errorf("%v %v", kept, err)
	}
	if rep, err := recorder.Verify(t.Context(), db, recorder.Noted{}); err != nil || len(rep.Faults) > 0 {
		t.Errorf("%+v %v", rep.Faults, err)
	}
}
