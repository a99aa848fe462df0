package workload

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

// Names of runtimes.
const (
	docker     = "docker"
	containerd = "containerd"
	podman     = "podman"
	crio       = "cri-o"
)

// candidate is a cgroup that has the name of a container's.
type candidate struct {
	path     string
	id       string
	runtimes []string // that give their containers' cgroups such names
}

// cgroupName takes a container's cgroup name apart: PREFIX-ID.scope with the
// systemd driver, PREFIX-ID or ID alone with the cgroupfs driver.
var cgroupName = regexp.MustCompile(`^(?:([a-z-]+)-)?([0-9a-f]{64})(\.scope)?$`)

// prefixes by runtime. libpod-payload is of --cgroups=split, as Quadlet has it.
var prefixes = map[string][]string{
	"docker":         {docker},
	"cri-containerd": {containerd},
	"nerdctl":        {containerd},
	"libpod":         {podman},
	"libpod-payload": {podman},
	"crio":           {crio},
	"":               {docker, containerd},
}

// candidates lists the cgroups on the way down that are named like
// containers', outermost first.
func candidates(path string) (all []candidate) {
	for end := 1; end <= len(path); end++ {
		if end < len(path) && path[end] != '/' {
			continue
		}
		m := cgroupName.FindStringSubmatch(path[strings.LastIndexByte(path[:end], '/')+1 : end])
		if m == nil || m[1] == "" && m[3] != "" {
			continue
		}
		if r := prefixes[m[1]]; r != nil {
			all = append(all, candidate{path: path[:end], id: m[2], runtimes: r})
		}
	}
	return all
}

// describeContainer fills in the outermost container that a runtime's state
// confirms. A name alone is no claim: podman calls a pod's cgroup by an id too.
func (h Host) describeContainer(d *Description) error {
	var first error
	for _, c := range candidates(d.Path) {
		err := h.confirm(d, c)
		if err == nil {
			return nil
		}
		d.Container, d.Pod = ContainerState{}, PodState{}
		if first == nil {
			first = fmt.Errorf("cgroup %s: container %.12s: %w: %w", c.path, c.id, ErrNotDescribed, err)
		}
	}
	return first
}

func (h Host) confirm(d *Description, c candidate) error {
	var missing []string
	for _, r := range c.runtimes {
		err := map[string]func(*Description, candidate) error{
			docker: h.docker, containerd: h.containerd, podman: h.podman, crio: h.crio,
		}[r](d, c)
		if err == nil {
			d.Container.ID = c.id
			return h.finishPod(d, c)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		missing = append(missing, r)
	}
	return fmt.Errorf("no state of it with %s on this host: %w", strings.Join(missing, " or "), fs.ErrNotExist)
}
