package workload

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits of namespaces that are followed: beyond them connections from a new
// one stay refused.
const (
	maxSpaces   = 1024
	spacesEach  = 256 // of one unit or container
	maxThreads  = 256 // of one process, that are looked at
	missedLooks = 2   // sweeps that find nobody in a namespace before it is gone
)

// space is a network namespace that covered processes are in. The open file
// keeps the kernel from giving its inode number to another one.
type space struct {
	file    *os.File
	pid     int // of the process, or thread, that it was found with
	owner   string
	missed  int // sweeps that found nobody in it
	foreign int // careful sweeps that found no covered process in it
}

func (h Host) netnsOfSelf() (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat("/proc/thread-self/ns/net", &st)
	return st.Ino, err
}

// covered reports whether a cgroup's processes are.
func (t *Tracker) covered(path string) bool {
	for p := path; ; {
		if t.matched[p] != nil {
			return !t.o.HostMode
		}
		if p == "/" || p == "" {
			return t.o.HostMode
		}
		if p = p[:strings.LastIndexByte(p, '/')]; p == "" {
			p = "/"
		}
	}
}

// lookInto looks at the namespaces of a cgroup's processes.
func (t *Tracker) lookInto(n *node) {
	if !t.covered(n.path) {
		return
	}
	pids, _ := t.o.Host.Processes(n.path, !n.descended) // gone: nothing to look at
	for _, pid := range pids {
		t.lookAt(pid, false)
	}
}

// lookAtThreads looks at a process and its threads: each may be in a namespace
// of its own.
func (t *Tracker) lookAtThreads(pid int) {
	t.lookAt(pid, false)
	d, err := os.Open(t.o.Host.proc(pid, "task"))
	if err != nil {
		return
	}
	defer d.Close()
	names, _ := d.Readdirnames(maxThreads)
	for _, name := range names {
		if tid, err := strconv.Atoi(name); err == nil && tid != pid {
			t.lookAt(tid, false)
		}
	}
}

// lookAt looks at the namespace of one process; careful asks whether it is
// covered even where the namespace is known.
func (t *Tracker) lookAt(pid int, careful bool) {
	ino, err := t.o.Host.netns(pid)
	if err != nil {
		return // gone
	}
	if s := t.spaces[ino]; s != nil {
		s.missed = 0
		if careful && s.foreign > 0 {
			if path, err := t.o.Host.cgroupOf(pid); err == nil && t.covered(path) {
				s.foreign = 0
			}
		}
		return
	}
	path, err := t.o.Host.cgroupOf(pid)
	if err != nil || !t.covered(path) {
		return
	}
	owner := ownerOf(path)
	if len(t.spaces) >= maxSpaces || t.ownedBy(owner) >= spacesEach {
		t.crowded = fmt.Errorf("network namespaces of %s are too many (%d of one unit or container, %d of all): connections in more of them stay refused", owner, spacesEach, maxSpaces)
		return
	}
	name := t.o.Host.proc(pid, "ns/net")
	mine, err := os.Open(name)
	if err != nil {
		return
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(mine.Fd()), &st); err != nil || st.Ino != ino {
		mine.Close() // it has moved on: the next look finds where to
		return
	}
	fd, err := unix.FcntlInt(mine.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		mine.Close()
		return
	}
	t.spaces[ino] = &space{file: mine, pid: pid, owner: owner}
	t.emit(NetnsAppeared{Inode: ino, Own: ino == t.own, PID: pid, Path: path, File: os.NewFile(uintptr(fd), fmt.Sprintf("netns-%d", ino))})
}

func (t *Tracker) ownedBy(owner string) (n int) {
	for _, s := range t.spaces {
		if s.owner == owner {
			n++
		}
	}
	return n
}

// ownerOf returns the unit or container that a cgroup belongs to, so that none
// can take all the room.
func ownerOf(path string) string {
	if c := candidates(path); c != nil {
		return c[0].path
	}
	if _, unit, _, _ := parseUnits(path); unit != "" {
		return unit // all of a user's own units are that user's
	}
	parts := strings.SplitN(path, "/", 4)
	return strings.Join(parts[:min(len(parts), 3)], "/")
}

// sweep looks at all processes of the host, and forgets namespaces that nobody
// is in, or nobody who is covered: that needs a second file of each process,
// and careful ones are rarer. The tracker's own stays.
func (t *Tracker) sweep(careful bool) {
	for _, s := range t.spaces {
		s.missed++
		if careful {
			s.foreign++
		}
	}
	d, err := os.Open(t.o.Host.root() + "/proc")
	if err != nil {
		return
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			t.lookAt(pid, careful)
		}
	}
	if err != nil {
		return // not all of them: nobody is given up
	}
	for ino, s := range t.spaces {
		if s.missed > 0 || s.foreign > 0 { // /proc lists no threads
			if now, err := t.o.Host.netns(s.pid); err == nil && now == ino {
				t.lookAt(s.pid, careful)
			}
		}
		if max(s.missed, s.foreign) >= missedLooks && ino != t.own {
			s.file.Close()
			delete(t.spaces, ino)
			t.emit(NetnsGone{Inode: ino})
		}
	}
}
