package workload

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// bundleFolders are where containerd keeps the bundles of running containers,
// as NAMESPACE/ID/config.json: its own, the one that dockerd starts where there
// is none, and those of distributions of Kubernetes that bring one.
var bundleFolders = []string{
	"/run/containerd/io.containerd.runtime.v2.task",
	"/run/docker/containerd/daemon/io.containerd.runtime.v2.task",
	"/run/k3s/containerd/io.containerd.runtime.v2.task",
	"/var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task",
}

// moby is the namespace of containerd that Docker uses.
const moby = "moby"

// bundle finds the bundle of a container that lives in the candidate's cgroup.
func (h Host) bundle(c candidate, want func(namespace string) bool) (*ociConfig, error) {
	var errs []error
	for _, folder := range bundleFolders {
		namespaces, err := h.names(folder)
		if err != nil {
			return nil, err
		}
		for _, ns := range namespaces {
			if !want(ns) {
				continue
			}
			cfg, err := h.readConfig(folder, ns+"/"+c.id+"/config.json", c.path)
			if err == nil {
				return cfg, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	return nil, fmt.Errorf("bundle of %.12s: %w", c.id, fs.ErrNotExist)
}

// containerd describes containers of its CRI plugin, which passes on what
// Kubernetes calls them as annotations, and of nerdctl, whose annotations hold
// its labels. A pod's labels and nerdctl's image stand in a database.
// internal/cri/annotations of containerd, pkg/labels of nerdctl.
func (h Host) containerd(d *Description, c candidate) error {
	cfg, err := h.bundle(c, func(ns string) bool { return ns != moby })
	if err != nil {
		return err
	}
	a := cfg.Annotations
	d.Container = ContainerState{Runtime: containerd, Name: a["nerdctl/name"]}
	const cri = "io.kubernetes.cri."
	if a[cri+"container-type"] == "" {
		d.Container.Labels = a
		return nil
	}
	d.Container.Name, d.Container.Image = a[cri+"container-name"], a[cri+"image-name"]
	if a[cri+"container-type"] == "sandbox" {
		d.Container.Image = a[cri+"podsandbox.image-name"]
	}
	d.Pod = PodState{UID: a[cri+"sandbox-uid"], Name: a[cri+"sandbox-name"], Namespace: a[cri+"sandbox-namespace"]}
	return nil
}

// dockerConfig is what of a container's config.v2.json is looked at.
// daemon/container of moby.
type dockerConfig struct {
	ID     string
	Name   string
	Config struct {
		Image  string
		Labels map[string]string
	}
}

// docker describes Docker's containers: that one lives in the cgroup stands in
// its bundle, its name and labels in Docker's own state.
func (h Host) docker(d *Description, c candidate) error {
	if _, err := h.bundle(c, func(ns string) bool { return ns == moby }); err != nil {
		return err
	}
	cfg, err := h.dockerState(c.id)
	if err != nil {
		return err
	}
	d.Container = ContainerState{Runtime: docker, Name: strings.TrimPrefix(cfg.Name, "/"), Image: cfg.Config.Image, Labels: cfg.Config.Labels}
	l := cfg.Config.Labels
	if l["io.kubernetes.pod.uid"] == "" {
		return nil
	}
	// Of cri-dockerd.
	if n := l["io.kubernetes.container.name"]; n != "" {
		d.Container.Name = n
	}
	d.Pod = podOfLabels(l)
	if sandbox := l["io.kubernetes.sandbox.id"]; cgroupName.MatchString(sandbox) {
		if cfg, err = h.dockerState(sandbox); err != nil {
			return fmt.Errorf("pod's sandbox: %w", err)
		}
		l = cfg.Config.Labels
	}
	d.Pod.Labels = userLabels(l)
	return nil
}

func (h Host) dockerState(id string) (*dockerConfig, error) {
	root := "/var/lib/docker"
	var daemon struct {
		Root string `json:"data-root"`
	}
	if b, err := h.read("/etc/docker", "daemon.json", maxState); err == nil && json.Unmarshal(b, &daemon) == nil && strings.HasPrefix(daemon.Root, "/") {
		root = daemon.Root
	}
	b, err := h.read(root+"/containers", id+"/config.v2.json", maxState)
	if err != nil {
		return nil, err
	}
	cfg := &dockerConfig{}
	if err := json.Unmarshal(b, cfg); err != nil {
		return nil, fmt.Errorf("%s/containers/%s: %w", root, id, err)
	}
	if cfg.ID != id {
		return nil, fmt.Errorf("%s/containers/%s: is of another container (%.64q)", root, id, cfg.ID)
	}
	return cfg, nil
}
