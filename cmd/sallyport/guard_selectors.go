package main

import (
	"fmt"
	"strings"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/workload"
)

// errLoose tells of what mode cgroup covers only as long as somebody follows
// it; nil where there is nothing. A path or a slice without wildcards is made,
// and covered, before there is anything in it. What a pattern, a unit's or a
// container's name matches is found when it appears: what appears while no
// loader runs is not covered, and reaches the services.
func errLoose(cfg *config.Config) error {
	if cfg.Interception.Mode != "cgroup" {
		return nil // in mode host such a one is not exempt, and covered
	}
	var loose []string
	for _, s := range cfg.Interception.Selectors() {
		if _, ok := s.Path(); !ok {
			loose = append(loose, selectorText(&s))
		}
	}
	if loose == nil {
		return nil
	}
	return fmt.Errorf("what these select is covered where it is there now, and what comes later only while sallyport runs: %s", strings.Join(loose, "; "))
}

const remedyLoose = "put agents below a slice or a cgroup that is named without wildcards, start them after sallyport.service (Requires= and After=), or use mode host"

// selectorText names a selector as the configuration has it.
func selectorText(s *workload.Selector) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+" "+value)
		}
	}
	add("systemd", s.Systemd)
	add("cgroup", s.Cgroup)
	if c := s.Container; c != nil {
		add("container", strings.TrimSpace(c.Name+" "+c.Image+labelsText(c.Labels)))
	}
	if k := s.Kubernetes; k != nil {
		add("kubernetes", strings.TrimSpace(strings.Join([]string{k.Namespace, k.Pod, k.ServiceAccount}, " ")+labelsText(k.Labels)))
	}
	return strings.Join(parts, ", ")
}

func labelsText(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	return fmt.Sprintf(" %d labels", len(labels))
}
