package ocsf_test

import (
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

// The workload of who was refused is told where no session tells a proved one.
func TestWorkloadOfProcess(t *testing.T) {
	proc := &events.Process{PID: 1, Start: 2, Workload: "taken-for"}
	for _, c := range []struct {
		session *events.Session
		want    string
	}{{nil, "taken-for"}, {&events.Session{Host: "h"}, "taken-for"}, {&events.Session{Host: "h", ID: "s", Workload: "proved"}, "proved"}} {
		e := events.Event{Kind: events.Bypass, Time: time.Now(), Process: proc, Session: c.session}
		b := ocsf.Append(nil, "chain-1", &e)
		v, err := ocsf.Decode(b)
		if err != nil || v.Workload != c.want {
			t.Errorf("%q, %v, want %q: %s", v.Workload, err, c.want, b)
		}
		if err := schema(t).Validate(instance(t, b)); err != nil {
			t.Error(err)
		}
	}
}
