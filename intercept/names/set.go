package names

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

const (
	// MaxKept bounds what is kept of one name, old addresses included.
	MaxKept = 1024
	// MaxAll bounds what is kept of all names.
	MaxAll = 32 << 10
	// quiet is for how long no connection to an old address may be seen, at
	// least, before it is forgotten; the name's TTL where that is longer.
	quiet = time.Minute
)

// Addresses are those of one name, in order.
type Addresses struct {
	Current []netip.Addr `json:"current,omitempty"` // that the latest answers hold
	Old     []netip.Addr `json:"old,omitempty"`     // that were in an earlier one
}

// Map is what all names lead to.
type Map map[string]Addresses

// Set learns what names lead to. It is not safe for concurrent use.
type Set struct {
	keep time.Duration
	all  map[string]*entry
	n    int // addresses of all
}

type entry struct {
	addrs    map[netip.Addr]*state
	ttl      time.Duration
	status   Status
	asked    time.Time // since when an answer is wanted: the latest that was found
	answered bool      // since the Set was made
	told     string    // the trouble that Troubles told last
	full     bool      // there was no room for all of an answer
	refused  error     // why addresses of the latest answer are not protected
}

type state struct {
	left time.Time // when a complete answer was first without it; zero: current
	idle time.Time // since when no connection was seen, once it may go
}

// NewSet returns a Set that keeps an address for that long after its name
// stopped leading to it.
func NewSet(keep time.Duration) *Set {
	return &Set{keep: keep, all: map[string]*entry{}}
}

// Want says which names are kept; others are forgotten.
func (s *Set) Want(names []string, now time.Time) {
	wanted := map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}
	maps.DeleteFunc(s.all, func(name string, e *entry) bool {
		if !wanted[name] {
			s.n -= len(e.addrs)
		}
		return !wanted[name]
	})
	for _, n := range names {
		if s.all[n] == nil {
			s.all[n] = &entry{addrs: map[netip.Addr]*state{}, ttl: MinTTL, asked: now}
		}
	}
}

// Learn takes an answer in; one for a name that nobody wants is passed over.
// used says whether a connection to an address lives: it is asked only when
// there is no room, and the oldest unused ones have to go. changed tells that
// the Map is another.
func (s *Set) Learn(a Answer, now time.Time, used func(netip.Addr) bool) (changed bool) {
	e := s.all[a.Name]
	if e == nil {
		return false
	}
	e.answered, e.status = true, a.Status
	if !a.Status.found() {
		return false
	}
	e.full, e.refused = false, nil
	e.asked, e.ttl = now, min(max(a.TTL, MinTTL), MaxTTL)
	for _, addr := range a.Addrs {
		st := e.addrs[addr]
		switch {
		case st == nil && !s.room(e, used):
			e.full = true
			continue
		case st == nil:
			e.addrs[addr] = &state{}
			s.n++
			changed = true
		case !st.left.IsZero():
			*st = state{}
			changed = true
		}
	}
	if a.Status != OK {
		return changed
	}
	for addr, st := range e.addrs {
		if _, held := slices.BinarySearchFunc(a.Addrs, addr, netip.Addr.Compare); !held && st.left.IsZero() {
			st.left = now
			changed = true
		}
	}
	return changed
}

// room makes room for one more address of e, if need be by forgetting the one
// that is unused and has been old for longest.
func (s *Set) room(e *entry, used func(netip.Addr) bool) bool {
	if len(e.addrs) < MaxKept && s.n < MaxAll {
		return true
	}
	var oldest netip.Addr
	for addr, st := range e.addrs {
		if !st.left.IsZero() && (!oldest.IsValid() || st.left.Before(e.addrs[oldest].left)) && !used(addr) {
			oldest = addr
		}
	}
	if !oldest.IsValid() {
		return false
	}
	delete(e.addrs, oldest)
	s.n--
	return true
}

// Due reports whether Expire may have something to forget.
func (s *Set) Due(now time.Time) bool {
	for _, e := range s.all {
		for _, st := range e.addrs {
			if !st.left.IsZero() && now.Sub(st.left) >= s.keep {
				return true
			}
		}
	}
	return false
}

// Expire forgets addresses whose time is over, and to which no connection was
// seen for a while. Call it every half minute while something is Due.
func (s *Set) Expire(now time.Time, used func(netip.Addr) bool) (changed bool) {
	for _, e := range s.all {
		for addr, st := range e.addrs {
			switch {
			case st.left.IsZero() || now.Sub(st.left) < s.keep:
			case used(addr):
				st.idle = time.Time{}
			case st.idle.IsZero():
				st.idle = now
			case now.Sub(st.idle) >= max(quiet, e.ttl):
				delete(e.addrs, addr)
				s.n--
				changed = true
			}
		}
	}
	return changed
}

// Map returns what the names lead to. It is the caller's.
func (s *Set) Map() Map {
	m := Map{}
	for name, e := range s.all {
		var a Addresses
		for addr, st := range e.addrs {
			if st.left.IsZero() {
				a.Current = append(a.Current, addr)
			} else {
				a.Old = append(a.Old, addr)
			}
		}
		slices.SortFunc(a.Current, netip.Addr.Compare)
		slices.SortFunc(a.Old, netip.Addr.Compare)
		m[name] = a
	}
	return m
}

// Keep changes for how long old addresses are kept.
func (s *Set) Keep(d time.Duration) { s.keep = d }

// Refuse forgets addresses of a name that nothing can protect, and has that
// told. They come back with the next answer that holds them.
func (s *Set) Refuse(name string, addrs []netip.Addr, why error) {
	e := s.all[name]
	if e == nil {
		return
	}
	for _, a := range addrs {
		if e.addrs[a] != nil {
			delete(e.addrs, a)
			s.n--
		}
	}
	e.refused = why
}

// Unknown returns the names of which no address is known, and Unasked those
// of which no answer has come yet, whatever is remembered. Both in order.
func (s *Set) Unknown() []string {
	return s.which(func(e *entry) bool { return len(e.addrs) == 0 })
}

// Unasked: see Unknown.
func (s *Set) Unasked() []string {
	return s.which(func(e *entry) bool { return !e.answered })
}

func (s *Set) which(is func(*entry) bool) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(s.all)) {
		if is(s.all[name]) {
			names = append(names, name)
		}
	}
	return names
}

const (
	unknownTime = 10 * time.Second // without any address before it is told
	staleTime   = 5 * time.Minute  // without an answer before it is told
)

// Troubles returns what an operator must know of names and was not told yet:
// each trouble once, and again after it has ended.
func (s *Set) Troubles(now time.Time) (all []error) {
	for _, name := range slices.Sorted(maps.Keys(s.all)) {
		e := s.all[name]
		text, why := "", e.status
		if why == "" {
			why = Unreachable
		}
		switch since := now.Sub(e.asked); {
		case e.refused != nil:
			text = fmt.Sprintf("%s leads to addresses that can't be protected: %v", name, e.refused)
		case len(e.addrs) == 0 && since >= unknownTime:
			text = fmt.Sprintf("%s can't be resolved (%s): nothing is protected under this name", name, why)
		case e.full:
			text = fmt.Sprintf("%s leads to more addresses than can be kept (%d of a name, %d in all): protect them as a prefix", name, MaxKept, MaxAll)
		case e.status == Cut:
			text = fmt.Sprintf("%s leads to more than %d addresses at a time: those beyond are not protected: protect them as a prefix", name, MaxAddrs)
		case !e.status.found() && since >= staleTime:
			text = fmt.Sprintf("%s can't be resolved (%s) for %s: its last addresses stay protected", name, why, staleTime)
		}
		if text != "" && text != e.told {
			all = append(all, errors.New(text))
		}
		e.told = text
	}
	return all
}
