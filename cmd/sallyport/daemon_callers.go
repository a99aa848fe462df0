package main

import (
	"context"
	"sync"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
)

const (
	namesKept = 1024                  // answers
	namesFor  = 10 * time.Second      // a workload's match can change
	nameTime  = 50 * time.Millisecond // for one answer: reports wait meanwhile
	nameEvery = 20                    // questions a second
)

// namer says whose process the kernel refused; the loader's prover.
type namer interface {
	Name(context.Context, *intercept.Peer) (intercept.Proof, error)
}

// callers puts workloads' names on reports of the kernel's, as far as they are
// to be had without holding the reports up: an agent can cause many of them.
type callers struct {
	limit limiter

	mu   sync.Mutex
	kept map[nameKey]keptName
}

// nameKey is all that a name follows from.
type nameKey struct {
	cgroup, dev, inode uint64
	uid                uint32
}

type keptName struct {
	until time.Time
	is    intercept.Proof
}

var whose = callers{limit: limiter{max: nameEvery}}

// on completes the process of an event: its workload, and the paths of its
// executable and cgroup.
func (n *callers) on(e *events.Event, from namer, peer *intercept.Peer) {
	p := e.Process
	if p == nil {
		return
	}
	is, ok := n.ask(from, peer)
	if !ok {
		return
	}
	p.Workload = is.Workload
	if p.Exe == "" {
		p.Exe = is.Exe
	}
	if p.Cgroup == "" {
		p.Cgroup = is.Cgroup
	}
}

func (n *callers) ask(from namer, peer *intercept.Peer) (intercept.Proof, bool) {
	key := nameKey{peer.CgroupID, peer.ExeDev, peer.ExeInode, peer.UID}
	if key.cgroup == 0 {
		key.cgroup = peer.SockCgroup
	}
	if key.cgroup == 0 {
		return intercept.Proof{}, false
	}
	now := time.Now()
	n.mu.Lock()
	k, ok := n.kept[key]
	n.mu.Unlock()
	if ok && now.Before(k.until) {
		return k.is, true
	}
	if _, ok := n.limit.allow(now); !ok {
		return intercept.Proof{}, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), nameTime)
	defer cancel()
	is, err := from.Name(ctx, peer)
	if err != nil {
		return intercept.Proof{}, false // the event goes without
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.kept == nil || len(n.kept) >= namesKept {
		n.kept = map[nameKey]keptName{}
	}
	n.kept[key] = keptName{now.Add(namesFor), is}
	return is, true
}
