package cgroup_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/cgroup"
)

// tree is a cgroup of the test's own.
func tree(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: run `make test` as root")
	}
	root, err := cgroup.Root(cgroup.Mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	dir := fmt.Sprintf("%s/sallyport.test-%d", root, os.Getpid())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cgroup.Kill(dir); err != nil {
			t.Error(err)
		}
		if err := cgroup.Remove(dir, 5*time.Second); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// sleeper is a process in a cgroup, with one that it has forked and left.
func sleeper(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("sh", "-c", "trap '' TERM HUP; setsid sleep 600 & echo; exec sleep 600")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func TestKillAndRemove(t *testing.T) {
	dir := tree(t)
	inner := filepath.Join(dir, "a", "b")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := sleeper(t, inner)
	begun := time.Now()
	if err := cgroup.Remove(filepath.Join(dir, "a"), 100*time.Millisecond); err == nil || time.Since(begun) > 10*time.Second {
		t.Fatalf("removed with processes in it, or late: %v", err)
	}
	if err := unix.Kill(cmd.Process.Pid, 0); err != nil {
		t.Fatal("Remove ended a process", err)
	}
	if err := cgroup.Kill(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Error(err)
	}
	if err := cgroup.Remove(filepath.Join(dir, "a"), 5*time.Second); err != nil {
		t.Error(err)
	}
	for _, err := range []error{cgroup.Kill(filepath.Join(dir, "a")), cgroup.Remove(filepath.Join(dir, "a"), 0)} {
		if err != nil {
			t.Errorf("one that is not there: %v", err)
		}
	}
}
