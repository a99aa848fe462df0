package workload

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/proc"
)

func (h Host) proc(pid int, name string) string {
	return h.root() + "/proc/" + strconv.Itoa(pid) + "/" + name
}

// Processes lists the processes of a cgroup, and of those below it where
// below is true. Cgroups of threads (cgroup.type threaded) list none of their
// own: their processes are in the one above.
func (h Host) Processes(path string, below bool) ([]int, error) {
	dir := h.Cgroups + strings.TrimSuffix(path, "/")
	b, err := os.ReadFile(dir + "/cgroup.procs")
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, fmt.Errorf("processes of cgroup %s: %w", path, err)
	}
	var pids []int
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		b = rest
		// 0: a process of another pid namespace, which is not ours to see.
		if pid, err := strconv.Atoi(string(line)); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	if !below {
		return pids, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Nlink <= 2 {
		return pids, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return pids, nil // gone meanwhile
	}
	for _, e := range entries {
		if e.IsDir() {
			more, err := h.Processes(strings.TrimSuffix(path, "/")+"/"+e.Name(), true)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
				return pids, err
			}
			pids = append(pids, more...)
		}
	}
	return pids, nil
}

// Namespaces returns the network namespaces of a cgroup's processes and of
// those below it: inode number and one process that is in it.
func (h Host) Namespaces(path string) (map[uint64]int, error) {
	pids, err := h.Processes(path, true)
	if err != nil {
		return nil, err
	}
	spaces := map[uint64]int{}
	for _, pid := range pids {
		if ino, err := h.netns(pid); err == nil {
			if _, ok := spaces[ino]; !ok {
				spaces[ino] = pid
			}
		}
	}
	return spaces, nil
}

// netns returns the inode number of a process's network namespace. The link
// tells it, net:[4026531840], for less than stat(2) costs.
func (h Host) netns(pid int) (uint64, error) {
	var b [64]byte
	n, err := unix.Readlink(h.proc(pid, "ns/net"), b[:])
	if err != nil {
		return 0, err
	}
	text, _ := strings.CutPrefix(string(b[:n]), "net:[")
	return strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
}

// cgroupOf returns the path of a process's cgroup below the cgroup2 root.
func (h Host) cgroupOf(pid int) (string, error) {
	b, err := os.ReadFile(h.proc(pid, "cgroup"))
	if err != nil {
		return "", err
	}
	path := proc.Cgroup(b)
	if !strings.HasPrefix(path, "/") {
		return "", fmt.Errorf("process %d: in no cgroup2 cgroup", pid)
	}
	return strings.TrimSuffix(path, " (deleted)"), nil
}
