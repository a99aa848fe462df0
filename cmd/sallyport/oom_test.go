package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/intercept/redirect"
)

// starve gives a process a memory cgroup with so many bytes for what it takes
// from now on, by either version of the controller, and returns how often the
// kernel has killed there for lack of it.
func starve(t *testing.T, pid int, bytes string) (kills func() string) {
	t.Helper()
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	count := func(file string) func() string {
		return func() string {
			b, _ := os.ReadFile(file)
			for line := range strings.Lines(string(b)) {
				if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
					return strings.TrimSpace(n)
				}
			}
			return ""
		}
	}
	const v1 = "/sys/fs/cgroup/memory"
	if _, err := os.Stat(v1 + "/memory.limit_in_bytes"); err == nil {
		dir := filepath.Join(v1, "sallyport-test-"+strconv.Itoa(os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			var err error
			for range 3000 {
				if err = unix.Rmdir(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Error(err)
		})
		write(dir+"/memory.limit_in_bytes", bytes)
		write(dir+"/cgroup.procs", strconv.Itoa(pid))
		return count(dir + "/memory.oom_control")
	}
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(root + "/cgroup.controllers"); err != nil || !strings.Contains(" "+string(b), " memory") {
		t.Fatalf("this kernel has no memory controller, of either version: %s %v", b, err)
	}
	write(root+"/cgroup.subtree_control", "+memory")
	dir := root + "/sallyport.daemon"
	write(dir+"/memory.swap.max", "0")
	write(dir+"/memory.max", bytes)
	return count(dir + "/memory.events")
}

// A daemon that the kernel kills for lack of memory leaves nobody through.
func TestDaemonOutOfMemory(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.serve()
	token := h.token("agent-a")
	later, in, out := h.waiting(token)
	pid := h.daemon()
	kills := starve(t, pid, "4194304")
	// Its sessions take more than that.
	for i := 0; i < 200 && alive(pid); i++ {
		cmd := h.agent(token, "psql", "-X", "-q", "-h", "127.0.0.1", "-p", port(h.server), "-c", "select repeat('x', 100000) from generate_series(1, 2000)")
		cmd.Stdout = nil
		if err := stand.Launch(cmd); err != nil {
			t.Fatal(err)
		}
		if i%4 == 3 || !alive(pid) {
			_ = cmd.Wait()
		} else {
			t.Cleanup(func() { _ = cmd.Wait() })
		}
	}
	dead(t, pid)
	if code := h.wait(); code != 1 || !has(h.log.String(), "the daemon died: ", "killed") {
		t.Errorf("exit code %d: %s", code, h.log)
	}
	if n := kills(); n == "" || n == "0" {
		t.Errorf("the kernel says that it has killed %q times for lack of memory", n)
	}
	in.Close()
	if err := later.Wait(); err == nil || has(out.String(), "served") || !has(out.String(), "refused") && !has(out.String(), "not permitted") {
		t.Errorf("without a daemon: %v, %s", err, out)
	}
	if !h.guardIsUp() {
		t.Error("the guard is not up")
	}
}

func alive(pid int) bool {
	return unix.Kill(pid, 0) == nil
}
