package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/names"
	"sallyport.dev/sallyport/intercept/redirect"
)

const (
	// gatherNames is for how long answers are gathered before they are put in
	// force together; paceNames is the least time from one such change to the
	// next.
	gatherNames = 100 * time.Millisecond
	paceNames   = time.Second
	// lookNames is the time between two looks at what is old, or amiss.
	lookNames = 10 * time.Second
	// firstNames is what the first answers have to come in.
	firstNames = 10 * time.Second
)

// nameWatch keeps guard and daemon at what DNS names lead to. The zero
// nameWatch has no names.
type nameWatch struct {
	set      *names.Set
	state    string // folder that the file's is beside
	file     string
	good     names.Map // what the guard protects
	resolver *resolving
	answers  <-chan names.Answer // the resolver's; nil without one
	soon     <-chan time.Time    // when what was learned is put in force; nil: nothing was
	applied  time.Time           // when that was last
	swept    []redirect.Bypass   // by protect, besides those of the Guard
	look     <-chan time.Time
}

// namesFile is where addresses are remembered: root's alone, unlike the state.
func namesFile(cfg *config.Config) string {
	return filepath.Join(noteFolder(cfg.State), "names", "addresses")
}

// newNames returns what is remembered of a configuration's names. The error
// says why that is nothing; the nameWatch can be used.
func newNames(cfg *config.Config) (nameWatch, error) {
	w := nameWatch{set: names.NewSet(cfg.Interception.OldAddresses), state: cfg.State, file: namesFile(cfg)}
	list := cfg.Names()
	if len(list) == 0 {
		return w, nil
	}
	w.set.Want(list, time.Now())
	err := w.set.Load(w.file, time.Now())
	return w, err
}

// save remembers what is known.
func (w *nameWatch) save() error {
	if err := guardFolder(w.state); err != nil {
		return fmt.Errorf("remember addresses: %w", err)
	}
	return w.set.Save(w.file)
}

// known is what the guard protects by name.
func (w *nameWatch) known() names.Map { return w.good }

// bringNames brings a guard up with all that is known of names. What the
// kernel's table can't hold of them is left out, and told by Troubles: the rest
// must be protected nevertheless, and what was protected stays so throughout.
//
// Cgroups that are covered, or exempt, besides those that it finds are named
// by their ids.
func (w *nameWatch) bringNames(cfg *config.Config, ids ...uint64) (*redirect.Guard, error) {
	m, refused := w.fitting(cfg)
	g, err := redirect.Up(guardConfig(cfg, m, ids...))
	if err != nil {
		return nil, err
	}
	w.took(m, refused)
	return g, nil
}

// protect has the guard protect what is known. What its table can't hold is
// forgotten. The error may be that some older connections could not be ended:
// then what is known is protected nevertheless.
func (w *nameWatch) protect(g *redirect.Guard, cfg *config.Config) error {
	m, refused := w.fitting(cfg)
	swept, err := g.Protect(destinations(cfg, m))
	w.swept = append(w.swept, swept...)
	if err == nil || errors.Is(err, redirect.ErrSweep) {
		w.took(m, refused)
	}
	return err
}

// took: the guard protects m, and can't protect what is refused.
func (w *nameWatch) took(m names.Map, refused map[string]error) {
	all := names.Map{}
	if len(refused) > 0 {
		all = w.set.Map()
	}
	for name, why := range refused {
		kept := slices.Concat(m[name].Current, m[name].Old)
		w.set.Refuse(name, slices.DeleteFunc(slices.Concat(all[name].Current, all[name].Old), func(a netip.Addr) bool {
			return slices.Contains(kept, a)
		}), why)
	}
	w.good = m
}

// fitting returns of what is known what the kernel's table can hold, and why
// not the rest of a name. One name's addresses may be at fault: what is
// protected already comes first, the others go in without it.
func (w *nameWatch) fitting(cfg *config.Config) (fit names.Map, refused map[string]error) {
	if w.set == nil {
		return nil, nil
	}
	all := w.set.Map()
	if redirect.Fits(destinations(cfg, all)) == nil {
		return all, nil
	}
	fit, refused = names.Map{}, map[string]error{}
	for name, a := range w.good {
		if _, wanted := all[name]; wanted {
			fit[name] = a
		}
	}
	if redirect.Fits(destinations(cfg, fit)) != nil {
		clear(fit) // the configuration itself is another one
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		before, had := fit[name]
		fit[name] = all[name]
		if err := redirect.Fits(destinations(cfg, fit)); err != nil {
			refused[name], fit[name] = err, before
			if !had {
				delete(fit, name)
			}
		}
	}
	return fit, refused
}

// takeSwept returns what protect has ended since it was asked last.
func (w *nameWatch) takeSwept() (all []redirect.Bypass) {
	all, w.swept = w.swept, nil
	return all
}

// usedAddresses asks the kernel once, when it is needed, which addresses have
// a connection. Where it can't be asked, all have.
func usedAddresses() func(netip.Addr) bool {
	var used map[netip.Addr]bool
	var err error
	return func(a netip.Addr) bool {
		if used == nil {
			used = map[netip.Addr]bool{}
			err = redirect.Remotes(func(r netip.AddrPort) { used[r.Addr()] = true })
		}
		return err != nil || used[a]
	}
}

// recallNames is the first act: what is remembered is protected with the rest.
func (l *loader) recallNames() {
	var err error
	if l.names, err = newNames(l.cfg); err != nil {
		l.nameTrouble(err)
	}
}

// startNames starts the resolver, and waits for the first answers where
// nothing is remembered.
func (l *loader) startNames() {
	w := &l.names
	if w.set == nil || len(l.cfg.Names()) == 0 {
		return
	}
	w.look = time.Tick(lookNames)
	l.startResolver()
	if len(l.held) > 0 {
		return // a passage that agents wait at
	}
	late := time.After(firstNames)
	for w.answers != nil && len(w.set.Unknown()) > 0 {
		select {
		case a, ok := <-w.answers:
			l.learnName(a, ok)
		case <-w.soon:
			l.applyNames()
		case <-late:
			for _, err := range w.set.Troubles(time.Now()) {
				l.log.Error("a name is not protected", "error", err)
			}
			return
		}
	}
	if w.soon != nil {
		l.applyNames()
	}
}

func (l *loader) startResolver() {
	w := &l.names
	r, err := startResolver(l.cfg)
	if err == nil {
		w.resolver, w.answers = r, r.answers
		err = r.ask(l.cfg.Names())
	}
	if err != nil {
		l.nameTrouble(fmt.Errorf("names are not resolved: %w", err))
	}
}

// learnName takes an answer in; !ok means that the resolver has ended.
func (l *loader) learnName(a names.Answer, ok bool) {
	w := &l.names
	if l.stopping { // another loader may have the guard by now
		w.answers, w.soon, w.look = nil, nil, nil
		return
	}
	if !ok {
		l.nameTrouble(fmt.Errorf("the resolver ended: %w", errors.Join(w.resolver.err, errors.New("it is started again"))))
		w.resolver.close()
		w.resolver, w.answers = nil, nil
		return
	}
	if w.set.Learn(a, time.Now(), usedAddresses()) && w.soon == nil {
		w.soon = time.After(max(gatherNames, paceNames-time.Since(w.applied)))
	}
}

// applyNames puts what was learned in force. The daemon hears of addresses
// before the guard turns connections to them, and forgets them after.
func (l *loader) applyNames() {
	w := &l.names
	w.soon = nil
	if l.stopping {
		return
	}
	w.applied = time.Now()
	l.tellNames(union(w.good, w.set.Map()))
	err := w.protect(l.guard, l.cfg)
	l.swept = append(l.swept, w.takeSwept()...)
	if err != nil {
		l.nameTrouble(fmt.Errorf("the guard could not be brought to what names lead to: %w", err))
	}
	l.tellNames(w.good)
	l.reportNames()
	if err := w.save(); err != nil {
		l.nameTrouble(err)
	}
}

// reportNames has ended connections recorded, once there is a daemon.
func (l *loader) reportNames() {
	if l.serving {
		l.report()
	}
}

// lookAtNames forgets what is old, starts a dead resolver again, and tells
// what is amiss.
func (l *loader) lookAtNames() {
	w, now := &l.names, time.Now()
	if l.stopping {
		return
	}
	if w.set.Due(now) && w.set.Expire(now, usedAddresses()) {
		l.applyNames()
	}
	if w.resolver == nil && len(l.cfg.Names()) > 0 {
		l.startResolver()
	}
	for _, err := range w.set.Troubles(now) {
		l.nameTrouble(err)
	}
}

// wantNames follows a configuration that has come into force.
func (l *loader) wantNames() {
	w, list := &l.names, l.cfg.Names()
	if len(list) == 0 && len(w.good) == 0 {
		return
	}
	w.set.Keep(l.cfg.Interception.OldAddresses)
	w.set.Want(list, time.Now())
	switch {
	case w.look == nil && len(list) > 0:
		w.look = time.Tick(lookNames)
		l.startResolver()
	case w.resolver != nil:
		if err := w.resolver.ask(list); err != nil {
			l.nameTrouble(err)
		}
	}
	l.applyNames()
}

func (l *loader) nameTrouble(err error) {
	l.log.Error("names", "error", err)
	if l.serving {
		l.tell(doAlarm, "names: "+err.Error())
	}
}

// tellNames tells the daemon what the names lead to.
func (l *loader) tellNames(m names.Map) {
	if l.line == nil || len(m) == 0 {
		return
	}
	f, err := sealed("names", m)
	if err == nil {
		err = l.line.order(doNames, "", int(f.Fd()))
		f.Close()
	}
	if err != nil && !l.stopping {
		l.log.Error("the daemon can't be told what names lead to", "error", err)
	}
}

func (w *nameWatch) close() {
	if w.resolver != nil {
		w.resolver.close()
	}
}

// union has the addresses of both.
func union(a, b names.Map) names.Map {
	m := names.Map{}
	for _, from := range []names.Map{a, b} {
		for name, addrs := range from {
			have := m[name]
			have.Current = append(slices.Clip(have.Current), addrs.Current...)
			have.Old = append(slices.Clip(have.Old), addrs.Old...)
			m[name] = have
		}
	}
	return m
}
