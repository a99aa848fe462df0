package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/workload"
)

// sweepSoon is how long after a cgroup was covered its older connections are
// ended: several that come together are swept together.
const sweepSoon = 100 * time.Millisecond

// scopes follows who is covered: the cgroups that selectors match, and the
// network namespaces of covered processes, in each of which the passage must
// listen. All of it belongs to the loader's loop. The zero scopes follows
// nobody.
type scopes struct {
	of      config.Interception // what it was started for
	events  <-chan workload.Event
	stop    context.CancelFunc
	tracker *workload.Tracker
	births  *redirect.BirthReader

	matched map[uint64]string   // cgroups, by id
	spaces  map[uint64]uint64   // cookies of the namespaces that have a passage, by inode
	failed  map[uint64]*os.File // namespaces where it could not be opened, by inode
	told    map[uint64]string   // why, as it was recorded
	sweep   <-chan time.Time    // nil: nothing to sweep
	wires   wires
}

// ids are the cgroups that a configuration's selectors are known to match: to
// be covered in mode cgroup, exempt in mode host. None where it has others
// than are followed.
func (s *scopes) ids(cfg *config.Config) (ids []uint64) {
	if !s.follows(cfg.Interception) {
		return nil
	}
	for id := range s.matched {
		ids = append(ids, id)
	}
	return ids
}

func (s *scopes) follows(in config.Interception) bool {
	return s.events != nil && s.of.Mode == in.Mode && reflect.DeepEqual(s.of.Selectors(), in.Selectors())
}

// followScopes begins to follow, or goes on where nothing has changed. The
// guard of the loader is the present one.
func (l *loader) followScopes(cfg *config.Config) error {
	s := &l.scopes
	in := cfg.Interception
	if !s.follows(in) {
		tracker, err := newTracker(l.guard, in)
		if err != nil {
			return err
		}
		w, err := l.followWires()
		if err != nil {
			return err
		}
		s.close()
		ctx, cancel := context.WithCancel(context.Background())
		*s = scopes{
			of: in, events: tracker.Events(), stop: cancel, tracker: tracker, matched: map[uint64]string{},
			spaces: map[uint64]uint64{}, failed: map[uint64]*os.File{}, told: map[uint64]string{}, wires: w,
		}
		go func() {
			if err := tracker.Run(ctx); err != nil {
				l.log.Error("covered workloads can't be followed", "error", err)
			}
		}()
	}
	return s.listenForBirths(l.guard)
}

func newTracker(g *redirect.Guard, in config.Interception) (*workload.Tracker, error) {
	path, _ := g.DaemonCgroup()
	always := []string{path} // exempt by its process
	if in.Mode == "cgroup" {
		always = []string{g.GuardedCgroup()}
	}
	return workload.NewTracker(workload.Options{
		Host: workload.Host{Cgroups: g.CgroupRoot()}, HostMode: in.Mode == "host",
		Selectors: in.Selectors(), Always: always,
	})
}

// listenForBirths has the tracker look at once at who makes a socket where
// there is no passage.
func (s *scopes) listenForBirths(g *redirect.Guard) error {
	if s.births != nil {
		s.births.Close()
	}
	births, err := g.Births()
	if err != nil {
		return err
	}
	s.births = births
	tracker := s.tracker
	go func() {
		for {
			b, err := births.Read()
			if err != nil {
				return // closed: another guard's are read instead
			}
			tracker.Look(int(b.TGID))
		}
	}()
	return nil
}

// close ends the following.
func (s *scopes) close() {
	if s.stop != nil {
		s.stop()
		for range s.events { // until the tracker has ended
		}
	}
	if s.births != nil {
		s.births.Close()
		s.births = nil
	}
	for _, f := range s.failed {
		f.Close()
	}
	s.wires.close()
}

// scope follows one event. A tracker that ended takes the loader with it: it
// does not know any more whom to cover.
func (l *loader) scope(e workload.Event, ok bool) error {
	if !ok {
		l.scopes.events = nil
		return errors.New("covered workloads can't be followed any more")
	}
	switch e := e.(type) {
	case workload.CgroupMatched:
		l.cover(e)
	case workload.CgroupGone:
		l.uncover(e)
	case workload.NetnsAppeared:
		l.openSpace(e)
	case workload.NetnsGone:
		l.closeSpace(e.Inode)
	case workload.Ready:
		l.pruneSpaces()
		l.scopes.wires.whole = true
		l.wireSoon()
	case workload.Undescribed:
		l.log.Warn("a cgroup looks like a container and can't be described: selectors of containers do not match it", "cgroup", e.Path, "error", e.Err)
	case workload.Trouble:
		l.alarm("not every workload is followed as it should be: " + e.Err.Error())
	}
	return nil
}

// alarm puts what the operator must know on the log and on the record.
func (l *loader) alarm(text string) {
	l.log.Error(text)
	if l.line != nil {
		l.tell(doAlarm, text)
	}
}

func (l *loader) cover(e workload.CgroupMatched) {
	if e.Selector < 0 {
		return
	}
	l.scopes.matched[e.ID] = e.Path
	if l.scopes.of.Mode == "host" {
		if err := l.guard.Release(e.ID); err != nil {
			l.alarm(fmt.Sprintf("cgroup %s could not be exempted: %v", e.Path, err))
		}
		return
	}
	err := l.guard.Cover(e.ID)
	if err != nil && !errors.Is(err, redirect.ErrCoverFull) { // which the next look tells
		l.alarm(fmt.Sprintf("cgroup %s could not be covered: %v: stop its processes", e.Path, err))
		return
	}
	l.log.Info("covered", "cgroup", e.Path)
	if l.scopes.sweep == nil {
		l.scopes.sweep = time.After(sweepSoon)
	}
}

func (l *loader) uncover(e workload.CgroupGone) {
	if _, ok := l.scopes.matched[e.ID]; !ok {
		return
	}
	delete(l.scopes.matched, e.ID)
	forget := l.guard.Uncover
	if l.scopes.of.Mode == "host" {
		forget = l.guard.Retain
	}
	if err := forget(e.ID); err != nil {
		l.alarm(err.Error())
	}
}

// sweepScopes ends connections that are older than their cgroup's cover.
func (l *loader) sweepScopes() {
	l.scopes.sweep = nil
	swept, err := l.guard.Sweep()
	if err != nil {
		l.log.Warn("connections older than the guard could not be ended: their packets are dropped", "error", err)
	}
	l.swept = append(l.swept, swept...)
	l.report()
}

// openSpace has the passage listen in a network namespace.
func (l *loader) openSpace(e workload.NetnsAppeared) {
	s := &l.scopes
	if old := s.failed[e.Inode]; old != nil {
		old.Close()
		delete(s.failed, e.Inode)
	}
	if e.Own {
		e.File.Close()
		return
	}
	if l.stopping {
		e.File.Close() // whoever comes after this loader opens it
		return
	}
	l.wireTo(e)
	err := l.listenIn(e.Inode, e.File)
	if err == nil {
		e.File.Close()
		delete(s.told, e.Inode)
		l.log.Info("the passage listens in a network namespace", "netns", e.Inode, "cgroup", e.Path)
		return
	}
	s.failed[e.Inode] = e.File
	if s.told[e.Inode] != err.Error() {
		s.told[e.Inode] = err.Error()
		l.alarm(fmt.Sprintf("network namespace %d (cgroup %s) has no passage, its connections are refused: %v", e.Inode, e.Path, err))
	}
}

// listenIn opens listeners in a network namespace and hands them to the
// daemon. Those that the daemon has of a loader before stay.
func (l *loader) listenIn(inode uint64, ns *os.File) error {
	cookie, err := redirect.NetnsCookie(ns)
	if err != nil {
		return err
	}
	if l.listening[cookie] {
		l.scopes.spaces[inode] = cookie
		return nil
	}
	lns, err := l.guard.ListenIn(ns)
	if err != nil {
		return err
	}
	defer lns.Close()
	err = l.holdListeners(lns)
	if err == nil {
		err = l.handListeners()
	}
	if err != nil {
		return errors.Join(err, l.guard.Unlisten(cookie))
	}
	l.scopes.spaces[inode] = cookie
	return nil
}

// closeSpace ends the passage of a namespace that no covered process is in.
func (l *loader) closeSpace(inode uint64) {
	s := &l.scopes
	delete(s.wires.spaces, inode)
	l.wireSoon()
	if f := s.failed[inode]; f != nil {
		f.Close()
		delete(s.failed, inode)
		delete(s.told, inode)
	}
	cookie, ok := s.spaces[inode]
	if !ok {
		return
	}
	delete(s.spaces, inode)
	l.unlisten(cookie)
}

// pruneSpaces ends the passages that a loader, or a tracker, before this one
// had, and that no covered process needs any more.
func (l *loader) pruneSpaces() {
	own, err := redirect.NetnsCookie(nil)
	if err != nil {
		l.alarm(err.Error())
		return
	}
	used := map[uint64]bool{own: true}
	for _, cookie := range l.scopes.spaces {
		used[cookie] = true
	}
	for cookie := range l.listening {
		if !used[cookie] {
			l.unlisten(cookie)
		}
	}
}

// unlisten ends the passage of a network namespace.
func (l *loader) unlisten(cookie uint64) {
	delete(l.listening, cookie)
	if err := l.guard.Unlisten(cookie); err != nil {
		l.alarm(err.Error())
	}
	var names []string
	for _, p := range redirect.Passages(cookie) {
		names = append(names, p.String())
	}
	if err := l.line.name(doUnlisten, names); err != nil {
		l.log.Error("the daemon can't be reached", "order", doUnlisten, "error", err)
	}
}

// retrySpaces tries again where the passage could not be opened.
func (l *loader) retrySpaces() {
	if l.stopping {
		return
	}
	for inode, f := range l.scopes.failed {
		if err := l.listenIn(inode, f); err != nil {
			continue
		}
		f.Close()
		delete(l.scopes.failed, inode)
		delete(l.scopes.told, inode)
		l.log.Info("the passage listens in a network namespace", "netns", inode)
	}
}

// tellRepeats has the daemon record what the programs have counted and not
// told one by one.
func (l *loader) tellRepeats() {
	rest, err := l.guard.Repeats(max(maxReport-len(l.swept), 0))
	if err != nil {
		l.log.Error("repeated attempts could not be counted", "error", err)
	}
	l.swept = append(l.swept, rest...)
	l.report()
}
