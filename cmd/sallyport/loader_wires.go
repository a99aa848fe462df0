package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/workload"
)

// wireEvery is the least time between two looks at the host's interfaces,
// however often they change.
const wireEvery = 50 * time.Millisecond

// wires follows this host's ends of the veth pairs that lead to covered
// processes. All of it belongs to the loader's loop.
type wires struct {
	spaces  map[uint64]redirect.Space // namespaces with covered processes, by inode
	whole   bool                      // all of them are known
	links   *redirect.LinkReader
	changed chan struct{} // interfaces have
	due     <-chan time.Time
	last    time.Time
	told    string // why not all are guarded, as it was recorded
}

func (l *loader) followWires() (wires, error) {
	links, err := redirect.Links()
	if err != nil {
		return wires{}, err
	}
	w := wires{spaces: map[uint64]redirect.Space{}, links: links, changed: make(chan struct{}, 1)}
	go func() {
		// Where it fails, the interfaces are still looked at with the guard.
		for links.Read() == nil {
			select {
			case w.changed <- struct{}{}:
			default: // told already
			}
		}
	}()
	return w, nil
}

func (w *wires) close() {
	if w.links != nil {
		w.links.Close()
	}
}

// wireTo has the wires of a namespace guarded.
func (l *loader) wireTo(e workload.NetnsAppeared) {
	s, err := redirect.SpaceOf(e.File)
	if err != nil {
		l.alarm(fmt.Sprintf("frames that processes of network namespace %d (cgroup %s) send by packet sockets are not guarded: %v", e.Inode, e.Path, err))
		return
	}
	l.scopes.wires.spaces[e.Inode] = s
	l.wireSoon()
}

// wireSoon has the host's interfaces looked at, at once where that was not done
// just now.
func (l *loader) wireSoon() {
	if w := &l.scopes.wires; w.due == nil {
		w.due = time.After(wireEvery - min(wireEvery, time.Since(w.last)))
	}
}

// rewire guards what has come, and lets go of what leads to nobody who is
// covered.
func (l *loader) rewire() {
	w := &l.scopes.wires
	w.due, w.last = nil, time.Now()
	if l.stopping {
		return // whoever comes after this loader does it
	}
	spaces := slices.Collect(maps.Values(w.spaces))
	fresh, err := l.guard.Wire(spaces...)
	for _, f := range fresh {
		l.log.Info("a wire to covered processes is guarded", "interface", f.Name, "index", f.Index)
	}
	if err == nil && w.whole {
		err = l.guard.Unwire(spaces...)
	}
	if err == nil {
		w.told = ""
	} else if w.told != err.Error() {
		w.told = err.Error()
		l.alarm("frames that covered processes send by packet sockets are not all guarded: " + w.told)
	}
}
