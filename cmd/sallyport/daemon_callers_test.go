package main

import (
	"context"
	"errors"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
)

// asked counts the questions and answers them all.
type asked int

func (a *asked) Name(_ context.Context, p *intercept.Peer) (intercept.Proof, error) {
	*a++
	if p.UID == 13 {
		return intercept.Proof{}, errors.New("the loader does not answer")
	}
	return intercept.Proof{Workload: "billing", Exe: "/opt/billing", Cgroup: "/agents/billing"}, nil
}

// A refused process gets its workload's name, and a storm of them few questions.
func TestWhoWasRefused(t *testing.T) {
	w, from := callers{limit: limiter{max: 3}}, asked(0)
	told := func(peer intercept.Peer) events.Process {
		e := events.Event{Process: &events.Process{UID: peer.UID}}
		w.on(&e, &from, &peer)
		return *e.Process
	}
	for range 1000 {
		if p := told(intercept.Peer{CgroupID: 1, UID: 12}); p.Workload != "billing" || p.Exe != "/opt/billing" || p.Cgroup != "/agents/billing" {
			t.Fatalf("%+v", p)
		}
	}
	if from != 1 {
		t.Errorf("the loader was asked %d times for one answer", from)
	}
	if p := told(intercept.Peer{SockCgroup: 2, UID: 13}); p.Workload != "" {
		t.Errorf("named without an answer: %+v", p)
	}
	for i := range uint64(1000) {
		told(intercept.Peer{CgroupID: 100 + i})
	}
	if from > 6 { // two seconds may be touched
		t.Errorf("the loader was asked %d times", from)
	}
	w.on(&events.Event{}, &from, &intercept.Peer{CgroupID: 1}) // without a process
	told(intercept.Peer{})                                     // without a cgroup
}
