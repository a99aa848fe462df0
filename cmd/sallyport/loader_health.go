package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/redirect"
)

const (
	// canaryEvery is the time between two rounds.
	canaryEvery = 30 * time.Second
	// canariesAtOnce are the scopes of a round besides the fixed ones: with many
	// workloads each has its turn.
	canariesAtOnce = 8
)

// health is what the loader last found out about its guard. It stands in the
// run folder for guard status and doctor, and goes to the daemon's metrics.
type health struct {
	Time       time.Time            `json:"time"`
	Whole      bool                 `json:"whole"`
	Problem    string               `json:"problem,omitempty"`
	Canaries   []canaryResult       `json:"canaries,omitempty"`
	Neighbours []redirect.Neighbour `json:"neighbours,omitempty"`
	NoPassage  []string             `json:"no_passage,omitempty"` // network namespaces that have none, and why
	Around     string               `json:"around,omitempty"`     // cgroup that is covered because not all of those below it have a place
}

// canaryResult is what came of the last connection from a guarded scope.
type canaryResult struct {
	Scope  string    `json:"scope"` // cgroup below the root
	Time   time.Time `json:"time"`
	OK     bool      `json:"ok"`
	Detail string    `json:"detail,omitempty"`
	Tried  bool      `json:"tried"` // false: no process could be started there
}

// watched is the loader's memory of its looks.
type watched struct {
	health
	round  chan []canaryResult // of the canaries that are out; nil for none
	recall context.CancelFunc  // ends those; nil before the first
	next   time.Time           // for the next round
	turn   int                 // in the list of matched cgroups
}

// healthFile is where the loader's findings stand.
func healthFile(cfg *config.Config) string { return filepath.Join(cfg.Run, "health.json") }

// readHealth returns what a loader wrote last.
func readHealth(cfg *config.Config) (h health, err error) {
	b, err := os.ReadFile(healthFile(cfg))
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("%s: %w", healthFile(cfg), err)
	}
	return h, nil
}

// examined keeps what a look found, tells what has changed, and sends the next
// canaries when their time has come.
func (l *loader) examined(s *redirect.Status, problem string) {
	w := &l.watched
	w.Time, w.Whole, w.Problem = time.Now(), problem == "", problem
	if s != nil && !slices.Equal(s.Neighbours, w.Neighbours) {
		for _, n := range s.Neighbours {
			if !slices.Contains(w.Neighbours, n) {
				l.alarm(fmt.Sprintf("another BPF program rewrites connections here: %s at %s of cgroup %s (program %d): "+
					"what it does is seen, and both the address asked for and the one reached are protected", n.Name, n.Hook, n.Cgroup, n.Program))
			}
		}
		w.Neighbours = s.Neighbours
	}
	if s != nil && s.Around != w.Around {
		if w.Around = s.Around; w.Around != "" {
			l.alarm(fmt.Sprintf("%v: all below %s is covered meanwhile", redirect.ErrCoverFull, w.Around))
		}
	}
	w.NoPassage = w.NoPassage[:0]
	for inode, why := range l.scopes.told {
		w.NoPassage = append(w.NoPassage, fmt.Sprintf("%d: %s", inode, why))
	}
	slices.Sort(w.NoPassage)
	if w.round == nil && l.serving && !l.stopping && !time.Now().Before(w.next) {
		l.sendCanaries()
	}
	l.publishHealth()
}

// canaryScopes are the cgroups of the next round.
func (l *loader) canaryScopes() []string {
	scopes := []string{l.guard.GuardedCgroup()}
	if l.scopes.of.Mode == "host" {
		return append(scopes, "/")
	}
	all := slices.Sorted(maps.Values(l.scopes.matched))
	for i := range min(len(all), canariesAtOnce) {
		scopes = append(scopes, all[(l.watched.turn+i)%len(all)])
	}
	l.watched.turn += canariesAtOnce
	return scopes
}

func (l *loader) sendCanaries() {
	uid, gid, err := daemonUser(l.cfg.User)
	if err != nil {
		return // it was found at the start: the account is gone, which a reload tells
	}
	scopes, root := l.canaryScopes(), l.guard.CgroupRoot()
	round := make(chan []canaryResult, 1)
	l.watched.round, l.watched.next = round, time.Now().Add(canaryEvery)
	ctx, cancel := context.WithCancel(context.Background())
	l.watched.recall = cancel
	go func() {
		defer cancel()
		var all []canaryResult
		for _, scope := range scopes {
			if ctx.Err() != nil {
				break
			}
			r := canaryResult{Scope: scope, Tried: true, OK: true}
			err := sendCanary(ctx, root, scope, uid, gid)
			if errors.Is(err, os.ErrNotExist) {
				continue // its cgroup has gone
			}
			if err != nil {
				r.OK, r.Tried, r.Detail = false, !errors.Is(err, errNoCanary), err.Error()
			}
			r.Time = time.Now()
			all = append(all, r)
		}
		round <- all
	}()
}

// canariesBack keeps the results of a round, and tells what has changed.
func (l *loader) canariesBack(all []canaryResult) {
	w := &l.watched
	w.round = nil
	if l.stopping {
		return // the daemon may have been away
	}
	var kept []canaryResult
	for _, old := range w.Canaries {
		if !slices.ContainsFunc(all, func(r canaryResult) bool { return r.Scope == old.Scope }) && l.stillGuarded(old.Scope) {
			kept = append(kept, old)
		}
	}
	for _, r := range all {
		i := slices.IndexFunc(w.Canaries, func(o canaryResult) bool { return o.Scope == r.Scope })
		failedBefore := i >= 0 && w.Canaries[i].Tried && !w.Canaries[i].OK
		switch {
		case r.Tried && !r.OK && !failedBefore:
			l.alarm(fmt.Sprintf("canaries from cgroup %s do not get into the passage: %s", r.Scope, r.Detail))
		case r.OK && failedBefore:
			l.alarm(fmt.Sprintf("canaries from cgroup %s get into the passage again", r.Scope))
		case !r.Tried:
			l.log.Warn("a guarded cgroup can't be tried with canaries", "cgroup", r.Scope, "error", r.Detail)
		}
	}
	w.Canaries = append(kept, all...)
	slices.SortFunc(w.Canaries, func(a, b canaryResult) int { return strings.Compare(a.Scope, b.Scope) })
	l.publishHealth()
}

func (l *loader) stillGuarded(scope string) bool {
	_, err := os.Stat(filepath.Join(l.guard.CgroupRoot(), scope))
	return err == nil
}

// failedCanaries are those that were tried and did not get into the passage.
func (h *health) failedCanaries() (n int) {
	for _, c := range h.Canaries {
		if c.Tried && !c.OK {
			n++
		}
	}
	return n
}

// figures are a health in numbers, for metrics.
type figures struct {
	Whole                    bool
	Lost, Neighbours, Closed int
}

// publishHealth writes the findings for others, and tells the daemon's metrics.
func (l *loader) publishHealth() {
	b, err := json.Marshal(&l.watched.health)
	if err != nil {
		l.log.Error("the guard's health can't be written", "error", err)
		return
	}
	file := healthFile(l.cfg)
	if err = os.WriteFile(file+".new", b, 0o644); err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		l.log.Error("the guard's health can't be written", "error", err)
	}
	w := &l.watched
	if b, err = json.Marshal(figures{w.Whole, w.failedCanaries(), len(w.Neighbours), len(w.NoPassage)}); err == nil {
		l.tell(doHealth, string(b))
	}
}
