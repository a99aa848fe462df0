package main

import (
	"errors"
	"fmt"
	"slices"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/discover"
	"sallyport.dev/sallyport/intercept/redirect"
)

// held checks for covered processes that are connected to a protected unix
// socket itself: since before the guard, or by another name of it. No program
// sees what goes over it, and the kernel can't end it for us.
func (l *findings) held(cfg *config.Config, c *cover) {
	if s, err := redirect.GetStatus(cfg.Interception.Pins); err != nil || !s.Up || s.Observes {
		return // nobody is kept from it
	}
	inv, err := discover.Look()
	if err == nil {
		err = heldBy(cfg, c, inv)
	}
	l.check("unix connections", "no covered process is connected to a protected unix socket beside the passage", err,
		"end these processes: what goes over their connections is neither decided nor recorded")
}

func heldBy(cfg *config.Config, c *cover, inv *discover.Inventory) error {
	var found []string
	for i := range inv.Contacts {
		n := &inv.Contacts[i]
		protected := n.Path != "" && slices.ContainsFunc(cfg.Resources, func(r config.Resource) bool { return slices.Contains(r.Unix, n.Path) })
		if protected && c.covers(&process{cgroup: n.Cgroup}) {
			found = append(found, render.Line(fmt.Sprintf("%s (user %d, %s) to %s", who(&n.Process), n.UID, n.Cgroup, n.Path)))
		}
	}
	if found == nil {
		return nil
	}
	return errors.New("connected to a protected unix socket beside the passage, since before the guard or by another name: " + fewOf(found))
}
