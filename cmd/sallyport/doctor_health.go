package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/redirect"
)

// staleHealth is how old the loader's findings may be while a daemon runs.
const staleHealth = 4 * lookEvery

// health tells what the running loader found out by its looks and canaries.
func (l *findings) health(cfg *config.Config) {
	s, err := redirect.GetStatus(cfg.Interception.Pins)
	if err != nil || !s.Daemon {
		return // the guard's own check says so
	}
	h, err := readHealth(cfg)
	if errors.Is(err, fs.ErrNotExist) {
		l.note("watch", "the loader has not looked at its guard yet", "wait some seconds and ask again")
		return
	}
	if err == nil && time.Since(h.Time) > staleHealth {
		err = fmt.Errorf("the loader looked at its guard %s ago: it hangs", time.Since(h.Time).Round(time.Second))
	}
	if err == nil && !h.Whole {
		err = errors.New(h.Problem)
	}
	l.check("watch", "the loader found its guard whole "+time.Since(h.Time).Round(time.Second).String()+" ago", err,
		"see the log of sallyport; restart it when it hangs")
	var lost, silent []string
	for _, c := range h.Canaries {
		switch {
		case c.OK:
		case c.Tried:
			lost = append(lost, c.Scope+": "+c.Detail)
		default:
			silent = append(silent, c.Scope+": "+c.Detail)
		}
	}
	err = nil
	if lost != nil {
		err = errors.New("connections from guarded cgroups do not get into the passage: " + strings.Join(lost, "; "))
	}
	l.check("canaries", fmt.Sprintf("from %d guarded cgroups, all of them turned", len(h.Canaries)-len(lost)-len(silent)), err,
		"run `sallyport guard up`, and look for programs of others (neighbours below)")
	if silent != nil {
		l.note("canaries", "some cgroups could not be tried: "+strings.Join(silent, "; "), "raise their limits, if that matters")
	}
	for _, n := range s.Neighbours {
		l.note("neighbours", fmt.Sprintf("%s (program %d) at %s of cgroup %s may rewrite connections", n.Name, n.Program, n.Hook, n.Cgroup),
			"know whose it is: both the address asked for and the one reached are protected (docs/operations.md, Other BPF programs)")
	}
	if s.Around != "" {
		l.check("covered", "", fmt.Errorf("%w: all below %s is covered meanwhile", redirect.ErrCoverFull, s.Around),
			"name parents of the covered cgroups, which count once (interception.covered)")
	}
	if h.NoPassage != nil {
		l.check("namespaces", "", errors.New("no passage in network namespaces: "+strings.Join(h.NoPassage, "; ")),
			"covered connections there are refused; end what holds the passage's port in them")
	}
}
