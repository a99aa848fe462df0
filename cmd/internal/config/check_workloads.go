package config

import (
	"fmt"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/broker"
	"sallyport.dev/sallyport/intercept/workload"
)

// Exempt is what is not covered in host mode: a cgroup by its path, or a
// selector.
type Exempt struct{ workload.Selector }

// ExemptPaths are cgroups by their paths.
func ExemptPaths(paths ...string) (all []Exempt) {
	for _, p := range paths {
		all = append(all, Exempt{workload.Selector{Cgroup: p}})
	}
	return all
}

// UnmarshalYAML reads a string as a path. It uses the decoder that is at work,
// which knows that unknown fields are errors.
func (e *Exempt) UnmarshalYAML(decode func(any) error) error {
	if decode(&e.Cgroup) == nil {
		return nil
	}
	return decode(&e.Selector)
}

// MarshalYAML writes a path as a string.
func (e Exempt) MarshalYAML() (any, error) {
	if e.Selector == (workload.Selector{Cgroup: e.Cgroup}) {
		return e.Cgroup, nil
	}
	return e.Selector, nil
}

// Selectors are what the mode looks for: in mode cgroup what is covered, in
// mode host what is exempt.
func (i *Interception) Selectors() (all []workload.Selector) {
	if i.Mode == "host" {
		for _, e := range i.Exempt {
			all = append(all, e.Selector)
		}
		return all
	}
	for _, path := range i.Cgroups {
		all = append(all, workload.Selector{Cgroup: path})
	}
	return append(all, i.Workloads...)
}

// CoveredPaths are the cgroups that mode cgroup covers whether they are there
// yet or not: paths and slices without wildcards.
func (i *Interception) CoveredPaths() (paths []string) {
	all := *i
	all.Mode = "cgroup"
	for _, s := range all.Selectors() {
		if p, ok := s.Path(); ok {
			paths = append(paths, p)
		}
	}
	return paths
}

// ExemptPaths are the exempt cgroups that are named by a path.
func (i *Interception) ExemptPaths() (paths []string) {
	for _, e := range i.Exempt {
		if p, ok := e.Path(); ok {
			paths = append(paths, p)
		}
	}
	return paths
}

// Selector is the part of a match that a cgroup's description is held against;
// ok is false where there is none.
func (m *Match) Selector() (s workload.Selector, ok bool) {
	s = workload.Selector{Systemd: m.Systemd, Container: m.Container, Kubernetes: m.Kubernetes}
	return s, s != (workload.Selector{})
}

// workloads checks what says which cgroups are meant.
func (c *checker) workloads(i *Interception, id *Identity) {
	if i.Mode == "cgroup" && len(i.Cgroups) == 0 && len(i.Workloads) == 0 {
		c.bad("mode cgroup covers nothing: list cgroups or workloads, or use mode host", "interception", "mode")
	}
	check := func(s workload.Selector, keys ...any) {
		if err := s.Check(); err != nil {
			c.bad(err.Error(), keys...)
		}
	}
	for k, path := range i.Cgroups {
		if path == "" {
			c.bad(`cgroup "": give a path below the cgroup2 root, starting with /`, "interception", "cgroups", k)
			continue
		}
		check(workload.Selector{Cgroup: path}, "interception", "cgroups", k)
	}
	for k, s := range i.Workloads {
		check(s, "interception", "workloads", k)
	}
	for k, e := range i.Exempt {
		check(e.Selector, "interception", "exempt", k)
	}
	for k := range id.Workloads {
		m := &id.Workloads[k].Match
		if *m == (Match{}) {
			c.bad("match: give at least one of cgroup, uid, exe, systemd, container, kubernetes", "identity", "workloads", k)
		}
		if s, ok := m.Selector(); ok {
			if err := s.Check(); err != nil {
				c.bad(fmt.Sprintf("match: %v", err), "identity", "workloads", k, "match")
			}
		}
	}
}

// inBand checks where a workload's client sends its token.
func (c *checker) inBand(w *Workload, at func(string, ...any)) {
	switch {
	case w.InBand == "":
	case w.InBand != InBandPassword:
		at(fmt.Sprintf("in_band %q: must be %s", w.InBand, InBandPassword), "in_band")
	case len(w.Subjects) == 0:
		at("in_band: list the subjects whose tokens its client may send", "in_band")
	case w.Token != "":
		at("in_band: the token comes from its client or from token_file, not from both", "in_band")
	}
}

// onePassword refuses agents at a resource with an account for a workload whose
// client's password is its token already.
func (c *checker) onePassword(cfg *Config, r *Resource, at func(string, ...any)) {
	for _, w := range cfg.Identity.Workloads {
		if w.InBand == "" || r.Agents == nil {
			continue
		}
		for k := range r.Accounts {
			who := broker.Who{Workloads: r.Accounts[k].Workloads}
			if who.Workloads == nil || who.Is(&intercept.Identity{Workload: w.Name}) {
				at(fmt.Sprintf("agents: workload %s may have an account here, and its password is its token (in_band): leave one of both", w.Name), "agents")
				return
			}
		}
	}
}
