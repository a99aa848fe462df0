package discover

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/proc"
)

const procfs = "/proc"

// container is the id that runtimes put into the cgroup's path: docker-ID.scope,
// cri-containerd-ID.scope, crio-ID.scope, libpod-ID.scope, /docker/ID.
var container = regexp.MustCompile(`(?:^|[/-])([0-9a-f]{64})(?:\.scope)?(?:/|$)`)

// look returns what /proc tells of a process; ok is false when it is gone.
func look(pid uint32) (p Process, ok bool) {
	dir := filepath.Join(procfs, strconv.FormatUint(uint64(pid), 10))
	cgroup, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil {
		return p, false
	}
	if path := proc.Cgroup(cgroup); path != "" {
		p.place(path)
	}
	if status, err := os.ReadFile(filepath.Join(dir, "status")); err == nil {
		// Not the folder's owner: that is root where a process can't be dumped.
		if u, err := proc.Users(status); err == nil {
			p.UID = u.Effective
		}
	}
	if exe, err := os.Readlink(filepath.Join(dir, "exe")); err == nil {
		p.Exe = strings.TrimSuffix(exe, " (deleted)")
	}
	if comm, err := os.ReadFile(filepath.Join(dir, "comm")); err == nil {
		p.Comm = string(bytes.TrimSuffix(comm, []byte("\n")))
	}
	p.NetNS = namespace(dir)
	return p, true
}

// place notes a cgroup, and what its path tells.
func (p *Process) place(path string) {
	p.Cgroup = path
	if m := container.FindStringSubmatch(path); m != nil {
		p.Container = m[1]
	}
	for part := range strings.SplitSeq(path, "/") {
		if strings.HasSuffix(part, ".service") || strings.HasSuffix(part, ".scope") {
			p.Unit = part // the innermost
		}
	}
}

// namespace returns the inode number of a process's network namespace.
func namespace(dir string) uint32 {
	var st unix.Stat_t
	if unix.Stat(filepath.Join(dir, "ns/net"), &st) != nil {
		return 0
	}
	return uint32(st.Ino)
}

// born returns a process's start in ticks of /proc/PID/stat, 0 if it is gone.
func born(pid uint32) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("%s/%d/stat", procfs, pid))
	if err != nil {
		return 0
	}
	n, _ := proc.Start(b)
	return n
}

// pids lists the processes of the host.
func pids() (all []uint32, err error) {
	d, err := os.Open(procfs)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	for _, n := range names {
		if pid, err := strconv.ParseUint(n, 10, 32); err == nil {
			all = append(all, uint32(pid))
		}
	}
	return all, err
}

// holding is which processes hold a socket, by the socket's inode.
type holding map[uint32][]uint32

// first is the one with the lowest number: the parent that opened it, mostly.
// 0: nobody holds it.
func (h holding) first(inode uint32) uint32 {
	if len(h[inode]) == 0 {
		return 0
	}
	return slices.Min(h[inode])
}

// holders returns which processes hold which sockets.
func holders(all []uint32) holding {
	by := holding{}
	for _, pid := range all {
		dir := filepath.Join(procfs, strconv.FormatUint(uint64(pid), 10), "fd")
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue // gone, or a kernel thread
		}
		for _, fd := range fds {
			to, err := os.Readlink(filepath.Join(dir, fd.Name()))
			if err != nil || !strings.HasPrefix(to, "socket:[") {
				continue
			}
			inode, err := strconv.ParseUint(to[len("socket:["):len(to)-1], 10, 32)
			if err != nil {
				continue
			}
			if pids := by[uint32(inode)]; len(pids) == 0 || pids[len(pids)-1] != pid { // once, however often it has it
				by[uint32(inode)] = append(pids, pid)
			}
		}
	}
	return by
}

// namespaces returns one process of each network namespace.
func namespaces(all []uint32) map[uint32]uint32 {
	by := map[uint32]uint32{}
	for _, pid := range all {
		if ns := namespace(filepath.Join(procfs, strconv.FormatUint(uint64(pid), 10))); ns != 0 {
			if _, ok := by[ns]; !ok {
				by[ns] = pid
			}
		}
	}
	return by
}

// socketsIn lists the sockets of the namespace that a process is in.
func socketsIn(pid uint32) (all []socket, err error) {
	ns, err := os.Open(fmt.Sprintf("%s/%d/ns/net", procfs, pid))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread comes back: what it has started may be told to die with it.
		// One that can't is thrown away.
		runtime.LockOSThread()
		own, oerr := os.Open(procfs + "/thread-self/ns/net")
		if oerr != nil {
			runtime.UnlockOSThread()
			err = oerr
			return
		}
		defer own.Close()
		defer func() {
			if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("enter the network namespace of process %d: %w", pid, err)
			return
		}
		all, err = sockets()
	}()
	<-done
	return all, err
}
