// Package workload names what runs in a cgroup by what operators know: systemd
// units and slices, containers, Kubernetes pods; and it finds them at the
// moment they appear.
//
// A Selector is what an operator writes, a Description what a cgroup turned out
// to be. Describe reads a cgroup's path and the state that container runtimes
// keep in files of root's; it asks nobody. A Tracker follows the cgroup2
// hierarchy and the network namespaces of the processes in it.
//
// # What can be forged, and what not
//
// A cgroup's name proves nothing: whoever may make cgroups below its own can
// call one docker-<another's id>.scope. So the outermost name decides and
// what is below it is not looked at; and a container counts only where the
// state of its runtime says that it lives in this very cgroup (linux.cgroupsPath
// of its OCI config). That state must belong to root, and nobody else may
// write to it. Rootless containers keep theirs in files of their user: they are
// described by unit and slice only.
//
// Names and labels are as trustworthy as whoever may start containers: with
// Docker that is root; in Kubernetes whoever may create pods in a namespace
// chooses their names, labels and service account, but not the namespace.
package workload
