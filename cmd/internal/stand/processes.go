package stand

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sallyport.dev/sallyport/intercept/redirect"
)

// found is a process of a stand.
type found struct {
	pid     int
	command string
}

func (f found) String() string { return fmt.Sprintf("process %d (%s)", f.pid, f.command) }

// processes finds those that a stand started, by its mark in their environment,
// and not those of spare and their children. The daemon's is not inherited: it
// goes with its loader, and with its cgroup.
func processes(dir string, spare map[int]bool) (out []found) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		pid, err := strconv.Atoi(filepath.Base(p))
		if err != nil || pid == os.Getpid() || descends(pid, spare) {
			continue
		}
		env, _ := os.ReadFile(filepath.Join(p, "environ"))
		if slices.Contains(strings.Split(string(env), "\x00"), marker+dir) {
			cmd, _ := os.ReadFile(filepath.Join(p, "cmdline"))
			out = append(out, found{pid, strings.TrimSpace(strings.ReplaceAll(string(cmd), "\x00", " "))})
		}
	}
	return out
}

func descends(pid int, from map[int]bool) bool {
	for range 64 {
		if from[pid] {
			return true
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		// The name may hold anything; the parent is the second field after it.
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(f) < 2 {
			return false
		}
		if pid, err = strconv.Atoi(f[1]); err != nil || pid <= 1 {
			return false
		}
	}
	return false
}

// endProcesses kills what processes finds, until nothing is found.
func endProcesses(dir string, spare map[int]bool) error {
	var left []found
	for range 6000 {
		if left = processes(dir, spare); len(left) == 0 {
			return nil
		}
		for _, p := range left {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("could not be ended: %v", left)
}

// endCgroups kills all that is in cgroups, whoever started it.
func endCgroups(names ...string) error {
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		return err
	}
	for _, name := range names {
		err := os.WriteFile(filepath.Join(root, name, "cgroup.kill"), []byte("1"), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
