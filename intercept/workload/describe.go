package workload

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Description is what a cgroup turned out to be. What does not apply, or can't
// be known, is zero.
type Description struct {
	Path string // below the cgroup2 root, starting with a slash

	Unit       string   // system unit: agent@1.service, docker-0123.scope
	Slices     []string // system slices, outermost first
	UserUnit   string   // unit of a user's own manager (Unit is user@UID.service)
	UserSlices []string

	Container ContainerState
	Pod       PodState
}

// ContainerState is a container as its runtime knows it.
type ContainerState struct {
	Runtime string // "docker", "containerd", "podman", "cri-o"; "" where it is no container
	ID      string // 64 hexadecimal digits
	Name    string
	Image   string
	Labels  map[string]string // of podman's: its annotations, see docs/operations.md
}

// PodState is a Kubernetes pod.
type PodState struct {
	UID            string
	Name           string
	Namespace      string
	ServiceAccount string
	Labels         map[string]string // nil where the runtime keeps them in a database (containerd)
}

// ErrNotDescribed: a cgroup has the name of a container's, and no state that
// can be trusted says that it is one.
var ErrNotDescribed = errors.New("not described")

// Host says where the file systems stand that a description is read from. The
// zero Host is the machine's own.
type Host struct {
	Root    string // in front of /proc, /run, /var and /etc; default /
	Cgroups string // where cgroup2 is mounted; Describe does without
}

// Describe says what a cgroup is, by its path below the cgroup2 root and the
// state of the container runtimes. On an error the description holds what the
// path alone tells; ErrNotDescribed is in it where the cgroup looks like a
// container and can't be described as one.
func (h Host) Describe(path string) (Description, error) {
	d, err := describePath(path)
	if err != nil {
		return d, err
	}
	return d, h.describeContainer(&d)
}

// describePath tells what a path alone says.
func describePath(path string) (d Description, err error) {
	if path != filepath.Clean(path) || !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) {
		return d, fmt.Errorf("cgroup %q: give a clean path below the cgroup2 root, starting with /", path)
	}
	d.Path = path
	d.Slices, d.Unit, d.UserSlices, d.UserUnit = parseUnits(path)
	return d, nil
}
