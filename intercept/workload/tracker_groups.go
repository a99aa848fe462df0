package workload

import (
	"errors"
	"time"
)

// appeared judges a cgroup that came. What is below one that matches is not
// followed on its own.
func (t *Tracker) appeared(n *node) (descend bool) {
	t.judge(n)
	t.soon(n)
	return !n.group.matched
}

// judge finds out whether a selector matches a cgroup, none of those above
// which is matched.
func (t *Tracker) judge(n *node) {
	d, err := describePath(n.path)
	if err != nil {
		return
	}
	index, ok := -1, t.always[n.path]
	if !ok && len(t.set.all) > 0 {
		if t.set.state {
			d, err = t.o.Host.Describe(n.path)
		}
		n.group.unsure = err != nil
		index, ok = t.set.Match(&d)
	}
	if !ok {
		if !n.group.unsure {
			n.group.told = false
		}
		return
	}
	n.group.matched, n.group.index, n.group.unsure, n.group.told = true, index, false, false
	t.matched[n.path] = n
	if !t.set.state { // its name is good to know all the same
		d, _ = t.o.Host.Describe(n.path)
	}
	t.emit(CgroupMatched{Path: n.path, ID: n.id, Selector: index, Description: d})
	for _, c := range n.children {
		t.absorb(c)
	}
}

// absorb takes matches back below one that matched later than they did.
func (t *Tracker) absorb(n *node) {
	if n.group.matched {
		n.group.matched = false
		delete(t.matched, n.path)
		t.emit(CgroupGone{Path: n.path, ID: n.id})
	}
	for _, c := range n.children {
		t.absorb(c)
	}
}

func (t *Tracker) gone(n *node) {
	if n.group.matched && t.matched[n.path] == n {
		delete(t.matched, n.path)
		t.emit(CgroupGone{Path: n.path, ID: n.id})
	}
	n.id = 0 // for looks that are waiting
}

// changed looks at a cgroup whose processes are others now.
func (t *Tracker) changed(n *node) {
	now := time.Now()
	if now.Before(n.group.rest) {
		if !n.group.changed {
			n.group.changed = true
			t.later(changedQueue, n, now)
		}
		return
	}
	t.lookInto(n)
	n.group.rest = time.Now().Add(pause(lookEvery, time.Since(now)))
	t.soon(n)
}

// soon has a cgroup looked at again.
func (t *Tracker) soon(n *node) {
	if n.group.due > 0 {
		return
	}
	now := time.Now()
	for i := range again {
		t.later(i, n, now)
		n.group.due++
	}
}

func (t *Tracker) later(queue int, n *node, now time.Time) {
	after := lookEvery
	if queue < len(again) {
		after = again[queue]
	}
	t.queues[queue] = append(t.queues[queue], due{now.Add(after), n})
}

// nextLook returns when the next look is due. Each queue is in order: its
// looks wait equally long.
func (t *Tracker) nextLook() (at time.Time, ok bool) {
	for _, q := range t.queues {
		if len(q) > 0 && (!ok || q[0].at.Before(at)) {
			at, ok = q[0].at, true
		}
	}
	return at, ok
}

func (t *Tracker) lookAgain(now time.Time) {
	for i := range t.queues {
		for len(t.queues[i]) > 0 && !t.queues[i][0].at.After(now) {
			n := t.queues[i][0].n
			t.queues[i] = t.queues[i][1:]
			if i == changedQueue {
				n.group.changed = false
				if n.id != 0 {
					t.changed(n)
				}
				continue
			}
			n.group.due--
			if n.id == 0 {
				continue
			}
			t.reconsider(n, i == len(again)-1)
			t.lookInto(n)
		}
	}
}

// reconsider judges a cgroup again that could not be described.
func (t *Tracker) reconsider(n *node, last bool) {
	if !n.group.unsure || t.under(n.parent) {
		return
	}
	t.judge(n)
	if last && n.group.unsure && !n.group.told && t.tellable > 0 {
		n.group.told = true
		t.tellable--
		if _, err := t.o.Host.Describe(n.path); errors.Is(err, ErrNotDescribed) {
			t.emit(Undescribed{Path: n.path, ID: n.id, Err: err})
		}
	}
}

// retry judges all that could not be described.
func (t *Tracker) retry() {
	var walk func(*node)
	walk = func(n *node) {
		t.reconsider(n, true)
		for _, c := range n.children {
			walk(c)
		}
	}
	walk(t.w.top)
}

// under reports whether a cgroup or one above it is matched.
func (t *Tracker) under(n *node) bool {
	for ; n != nil; n = n.parent {
		if n.group.matched {
			return true
		}
	}
	return false
}
