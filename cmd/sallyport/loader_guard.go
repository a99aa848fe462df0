package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/proc"
	"sallyport.dev/sallyport/intercept/redirect"
)

// raise brings the guard up. From here on nobody passes unseen, whatever else
// may be wrong.
func (l *loader) raise() error {
	if err := alone(l.cfg.Interception.Pins); err != nil {
		return err
	}
	l.recallNames()
	if err := l.bring(l.cfg); err != nil {
		return err
	}
	l.log.Info("the guard is up", "mode", l.cfg.Interception.Mode, "resources", len(l.cfg.Resources), "ended", len(l.swept))
	return nil
}

// bring brings the guard to a configuration.
func (l *loader) bring(cfg *config.Config) error {
	own := addresses()
	g, err := l.names.bringNames(cfg, l.scopes.ids(cfg)...)
	if err != nil {
		return err
	}
	l.records.in(g)
	l.guard, l.own = g, own
	swept, err := g.Swept()
	l.swept = append(l.swept, append(swept, l.names.takeSwept()...)...)
	if err != nil {
		l.log.Warn("connections older than the guard could not be ended: their packets are dropped", "error", err)
	}
	if l.scopes.events != nil {
		return l.followScopes(cfg)
	}
	return nil
}

// records are the kernel's, of who made a connection. The prover asks for them
// while a reload puts another Guard in the place of the one that has them. The
// zero records has none.
type records struct {
	mu    sync.RWMutex
	guard *redirect.Guard
}

// in has the records looked up by g from now on, and closes the Guard before.
func (r *records) in(g *redirect.Guard) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.guard != nil {
		r.guard.Close()
	}
	r.guard = g
}

// of implements privsep.Record.
func (r *records) of(socket int) (intercept.Peer, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.guard == nil {
		return intercept.Peer{}, redirect.ErrNotUp
	}
	return r.guard.Record(socket)
}

// alone refuses a second sallyport over one guard. The daemon of a loader that
// was killed is given a moment to follow it.
func alone(pins string) error {
	var daemon uint32
	for range 20 {
		s, err := redirect.GetStatus(pins)
		if err != nil || !s.Daemon {
			return nil // what is broken is for Up to put right, or to name
		}
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.DaemonPID))
		if state, err := proc.State(stat); err != nil || state == 'Z' {
			return nil // dead, and nobody has noticed
		}
		daemon = s.DaemonPID
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("another sallyport serves the passage (its daemon is process %d): stop it first", daemon)
}

// look asks the kernel whether the guard still sits where it must, and puts it
// back where it does not: a cgroup may have been removed and made again. The
// host's own addresses are the guard's business too.
func (l *loader) look() {
	if l.pending != nil && l.serving && time.Since(l.asked) > answerTime {
		// It holds new connections back, or worse.
		l.log.Error("the daemon does not answer a reload: it is killed")
		_ = l.child.Signal(os.Kill)
	}
	if l.stopping || l.pending != nil {
		return
	}
	l.recordNotes()
	l.retrySpaces()
	l.tellRepeats()
	defer l.wireSoon()
	s, err := redirect.GetStatus(l.cfg.Interception.Pins)
	problem := ""
	switch {
	case err != nil:
		problem = err.Error()
	case !s.Up:
		problem = "a program was not attached"
	case slices.ContainsFunc(s.Covered, func(c string) bool { return c[0] == '#' }):
		problem = "a covered cgroup was removed: it is covered again where it exists"
	}
	if problem == "" && addresses() == l.own {
		l.examined(&s, "")
		return
	}
	if err := l.bring(l.cfg); err != nil {
		problem = strings.TrimPrefix(fmt.Sprintf("%s; it could not be brought up to date: %v", problem, err), "; ")
	}
	l.report()
	if problem != "" {
		l.log.Error("the guard was not whole", "problem", problem)
		l.tell(doAlarm, "the guard was not whole: "+problem)
	}
	l.examined(nil, problem)
}

// addresses are the host's own, as one string to compare.
func addresses() string {
	all, _ := net.InterfaceAddrs()
	var b strings.Builder
	for _, a := range all {
		b.WriteString(a.String() + " ")
	}
	return b.String()
}

// maxReport is how many bypasses the daemon is told at a time.
const maxReport = 200

// report has the daemon record the connections that were ended because they
// were older than the guard, or than a resource in it, and the attempts that
// were counted. What is too much for one time waits for the next look.
func (l *loader) report() {
	n := min(len(l.swept), maxReport)
	for _, b := range l.swept[:n] {
		text, err := json.Marshal(b)
		if err != nil {
			l.log.Error("a bypass could not be told", "error", err)
			continue
		}
		l.tell(doSwept, string(text))
	}
	l.swept = l.swept[n:]
}
