package main

import (
	"log/slog"
	"net/netip"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/names"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/workload"
)

// guardConfig is the kernel's part of a configuration, with what is known of
// its names.
//
// Cgroups that selectors match at this moment are in it by their ids, besides
// those that are given.
func guardConfig(cfg *config.Config, known names.Map, ids ...uint64) redirect.Config {
	rc := redirect.Config{
		Mode: cfg.Interception.Mode, Port: cfg.Interception.Port, Pins: cfg.Interception.Pins,
		Covered: cfg.Interception.CoveredPaths(), Exempt: cfg.Interception.ExemptPaths(),
		Destinations: destinations(cfg, known), Observe: cfg.Observes(),
	}
	ids = append(ids, matching(cfg)...)
	if rc.Mode == "host" {
		rc.ExemptIDs = ids
	} else {
		rc.CoveredIDs = ids
	}
	rc.Unix.Allow = cfg.Interception.Unix
	for _, r := range cfg.Resources {
		rc.Unix.Protected = append(rc.Unix.Protected, r.Unix...)
	}
	return rc
}

// matching finds the cgroups that selectors match. Where one can't be described,
// what is not found is covered in host mode; in cgroup mode all that is covered
// stays so, until everything can be described when the guard is brought up.
func matching(cfg *config.Config) (ids []uint64) {
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		return nil // Up says so
	}
	found, err := workload.Host{Cgroups: root}.Find(cfg.Interception.Selectors())
	if err != nil {
		slog.Warn("not every cgroup can be described", "error", err)
		if cfg.Interception.Mode == "cgroup" {
			if ids, err = redirect.CoveredIDs(cfg.Interception.Pins); err != nil {
				slog.Error("what is covered can't be kept so", "error", err)
			}
		}
	}
	for _, f := range found {
		ids = append(ids, f.ID)
	}
	return ids
}

// destinations are what the kernel protects: what the configuration says, and
// where its names lead and led.
func destinations(cfg *config.Config, known names.Map) (all []intercept.Destination) {
	for _, r := range cfg.Resources {
		for _, a := range r.Addresses {
			if a.Name == "" {
				all = append(all, a.Destination)
				continue
			}
			for _, list := range [][]netip.Addr{known[a.Name].Current, known[a.Name].Old} {
				for _, addr := range list {
					all = append(all, named(addr, a.First, a.Last, cfg.Interception.Port)...)
				}
			}
		}
	}
	return all
}

// named are the endpoints of an address that DNS gave: never the passage
// itself, which would lead nowhere but to itself.
func named(addr netip.Addr, first, last, passage uint16) (all []intercept.Destination) {
	p := netip.PrefixFrom(addr, addr.BitLen())
	if !addr.IsLoopback() || passage < first || last < passage {
		return []intercept.Destination{{Prefix: p, First: first, Last: last}}
	}
	if first < passage {
		all = append(all, intercept.Destination{Prefix: p, First: first, Last: passage - 1})
	}
	if passage < last {
		all = append(all, intercept.Destination{Prefix: p, First: passage + 1, Last: last})
	}
	return all
}
