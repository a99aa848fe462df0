package workload

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Whoever can make many cgroups or processes can make looking at them slow:
// work that took long waits the longer for its next turn.
const (
	rescanEvery = 10 * time.Second     // the whole hierarchy, should a notice be lost
	sweepEvery  = time.Second          // the namespaces of all processes
	lookEvery   = 5 * time.Millisecond // one cgroup, for notices about its processes
	patience    = 20                   // times what it took
	maxQueued   = 16 << 10             // events that nobody takes
	maxUnsure   = 32                   // cgroups that are told as unknown between two looks at everything
)

// pause returns how long work that took so long waits for its next turn.
func pause(usual, took time.Duration) time.Duration { return max(usual, patience*took) }

// again are the times after a cgroup appeared, or got its first process, at
// which it is looked at once more: a container's state and its namespace are
// made around the same time as its cgroup.
var again = [...]time.Duration{time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond}

// changedQueue holds the looks that notices about processes wait for.
const changedQueue = len(again)

// group is what the tracker knows of a cgroup.
type group struct {
	matched bool
	index   int
	unsure  bool      // it looks like a container and was not described
	told    bool      // that it was not
	due     int       // looks that are waiting
	rest    time.Time // until then notices about its processes wait
	changed bool      // one waits
}

// due is a look that is waiting.
type due struct {
	at time.Time
	n  *node
}

// Tracker follows which cgroups selectors match, and which network namespaces
// covered processes are in.
type Tracker struct {
	o      Options
	set    Set
	always map[string]bool
	own    uint64 // network namespace
	w      *watch

	matched map[string]*node // by path
	queues  [len(again) + 1][]due
	spaces  map[uint64]*space
	out     []Event
	trouble string // told last

	crowded  error // why a namespace is not followed
	tellable int   // cgroups that may still be told as unknown

	events chan Event
	looks  chan int
}

// NewTracker checks the options. Nothing is followed before Run.
func NewTracker(o Options) (*Tracker, error) {
	if o.Host.Cgroups == "" {
		return nil, errors.New("workload: Options.Host.Cgroups: name the folder where cgroup2 is mounted")
	}
	set, err := Compile(o.Selectors)
	if err != nil {
		return nil, err
	}
	t := &Tracker{
		o: o, set: set, always: map[string]bool{}, tellable: maxUnsure, matched: map[string]*node{}, spaces: map[uint64]*space{},
		events: make(chan Event), looks: make(chan int, 256),
	}
	for _, p := range o.Always {
		t.always[p] = true
	}
	if t.own, err = o.Host.netnsOfSelf(); err != nil {
		return nil, fmt.Errorf("workload: own network namespace: %w", err)
	}
	return t, nil
}

// Events returns the channel of events, which is closed when Run returns.
// Events wait for their reader; the tracker does not.
func (t *Tracker) Events() <-chan Event { return t.events }

// Look has a process and its threads looked at now: the kernel refused one
// because no listener was in its namespace. It never waits.
func (t *Tracker) Look(pid int) {
	select {
	case t.looks <- pid:
	default: // the next sweep finds it
	}
}

// Run follows cgroups and namespaces until ctx ends (nil) or the kernel's
// notices can't be read. Its first events are of what is there already; then
// comes Ready. Call it once.
func (t *Tracker) Run(ctx context.Context) error {
	defer close(t.events)
	if err := t.begin(); err != nil {
		return err
	}
	defer t.end()
	t.emit(Ready{})

	notices, failed := make(chan []byte), make(chan error, 1)
	stop := make(chan struct{})
	go func() { failed <- t.w.raw(notices, stop) }()
	defer func() {
		close(stop)
		t.w.close()
		<-failed
	}()
	rescan, sweep := time.NewTimer(rescanEvery), time.NewTimer(sweepEvery)
	defer rescan.Stop()
	defer sweep.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		var out chan<- Event
		var head Event
		in := notices
		if len(t.out) > 0 {
			out, head = t.events, t.out[0]
		}
		if len(t.out) > maxQueued { // the kernel keeps notices, or says that it could not
			in = nil
		}
		if at, ok := t.nextLook(); ok {
			next.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			failed <- nil
			return err
		case out <- head:
			t.out = t.out[1:]
		case b := <-in:
			if t.w.handle(b) {
				t.w.rescan()
			}
		case pid := <-t.looks:
			t.lookAtThreads(pid)
		case <-next.C:
			t.lookAgain(time.Now())
		case <-rescan.C:
			began := time.Now()
			t.tellable = maxUnsure
			t.w.rescan()
			t.retry()
			t.sweep(true)
			rescan.Reset(pause(rescanEvery, time.Since(began)))
		case <-sweep.C:
			began := time.Now()
			t.crowded = nil
			if t.w.full != nil {
				t.w.rescan()
			}
			t.sweep(false)
			sweep.Reset(pause(sweepEvery, time.Since(began)))
		}
		t.tellTrouble()
	}
}

func (t *Tracker) begin() (err error) {
	if t.w, err = newWatch(t.o.Host.Cgroups); err != nil {
		return err
	}
	t.w.appeared, t.w.gone, t.w.changed = t.appeared, t.gone, t.changed
	if err := t.w.begin(); err != nil {
		t.w.close()
		return err
	}
	t.sweep(false)
	return nil
}

// end closes what nobody took.
func (t *Tracker) end() {
	for _, e := range t.out {
		if n, ok := e.(NetnsAppeared); ok {
			n.File.Close()
		}
	}
	t.out = nil
	for _, s := range t.spaces {
		s.file.Close()
	}
}

func (t *Tracker) emit(e Event) { t.out = append(t.out, e) }

func (t *Tracker) tellTrouble() {
	text := ""
	err := errors.Join(t.w.full, t.crowded)
	if err != nil {
		text = err.Error()
	}
	if text != t.trouble {
		if t.trouble = text; text != "" {
			t.emit(Trouble{err})
		}
	}
}
