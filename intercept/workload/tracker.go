package workload

import (
	"os"
)

// Options say what a Tracker follows. The zero Options follow nothing and are
// refused.
type Options struct {
	Host Host // the zero Host unless a test says otherwise

	// HostMode: every process is covered but those in cgroups that Selectors
	// match. Else only those in cgroups that Selectors match.
	HostMode  bool
	Selectors []Selector
	// Always are cgroups, by path, that are matched without a selector, at
	// index -1: the guarded one in cgroup mode, the daemon's own in host mode.
	Always []string
}

// Event is one of CgroupMatched, CgroupGone, NetnsAppeared, NetnsGone, Ready,
// Undescribed, Trouble.
type Event interface{ event() }

// CgroupMatched: a selector matches this cgroup and none above it. In cgroup
// mode it is covered, in host mode exempt, with all below it.
type CgroupMatched struct {
	Path        string // below the cgroup2 root
	ID          uint64 // cgroup2 id
	Selector    int    // index in Options.Selectors; -1: one of Options.Always
	Description Description
}

// CgroupGone: a cgroup that CgroupMatched named was removed, or is below one
// that matches now.
type CgroupGone struct {
	Path string
	ID   uint64
}

// NetnsAppeared: a covered process was found in a network namespace that was
// not there before. File is /proc/PID/ns/net, opened, and belongs to the
// receiver: it leads to this namespace whatever becomes of the process.
type NetnsAppeared struct {
	Inode uint64
	Own   bool // the namespace that the Tracker itself runs in
	PID   int  // a process that was in it
	Path  string
	File  *os.File
}

// NetnsGone: no covered process is left in a namespace. It may appear again.
type NetnsGone struct{ Inode uint64 }

// Ready: what was there at the start has been told.
type Ready struct{}

// Undescribed: a cgroup looks like a container and can't be described, so that
// selectors of containers and pods don't match it. It is told once.
type Undescribed struct {
	Path string
	ID   uint64
	Err  error
}

// Trouble: not all can be followed as it should be. Where the kernel's notices
// can't be (too many cgroups, no room for watches), what is new is found by
// looking around at an interval; more network namespaces than may be are not
// told at all. It is told once for each text.
type Trouble struct{ Err error }

func (CgroupMatched) event() {}
func (CgroupGone) event()    {}
func (NetnsAppeared) event() {}
func (NetnsGone) event()     {}
func (Ready) event()         {}
func (Undescribed) event()   {}
func (Trouble) event()       {}
