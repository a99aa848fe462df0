package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/intercept/cgroup"
	"sallyport.dev/sallyport/intercept/redirect"
)

// fork is a process in a cgroup, as a daemon that was taken over leaves it.
func fork(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("/bin/sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd()), Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := stand.Launch(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// ends waits for a process's end by somebody else.
func ends(t *testing.T, what string, cmd *exec.Cmd) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err == nil || err.Error() != "signal: killed" {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(2 * time.Minute):
		t.Errorf("%s lives on", what)
		_ = cmd.Process.Kill()
		<-done
	}
}

// What a daemon has forked ends with it, whatever its end: killed, in order, or
// taken over from. Another loader's processes are left alone.
func TestForksEndWithTheirDaemon(t *testing.T) {
	h := newHost(t, "")
	if out, err := h.root("guard", "up"); err != nil {
		t.Fatal(err, out)
	}
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	daemons := root + "/sallyport.daemon"
	mine, err := roomName(uint32(os.Getpid())) // a loader that lives
	if err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(daemons, "1-1") // of one that had the number before
	for _, dir := range []string{gone, filepath.Join(daemons, mine)} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if err := cgroup.Remove(filepath.Join(daemons, mine), 5*time.Second); err != nil {
			t.Error(err)
		}
	}()
	left, others := fork(t, gone), fork(t, filepath.Join(daemons, mine))
	room := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", h.daemon()))
		_, path, ok := strings.Cut(strings.TrimSpace(string(b)), "0::")
		if err != nil || !ok {
			t.Fatal(err, string(b))
		}
		return root + path
	}
	h.serve()
	ends(t, "what a killed loader's daemon left", left)
	if _, err := os.Stat(gone); err == nil {
		t.Error("its cgroup is left")
	}
	f := fork(t, room())
	h.takeOver(nil)
	ends(t, "a fork of the daemon that was taken over from", f)

	f = fork(t, room())
	if err := syscall.Kill(h.daemon(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ends(t, "a fork of a killed daemon", f)
	h.wait()

	h.serve()
	f = fork(t, room())
	h.stop()
	ends(t, "a fork of a stopped daemon", f)
	if err := unix.Kill(others.Process.Pid, 0); err != nil {
		t.Error("a process of another loader's was ended", err)
	}
	_ = others.Process.Kill()
	_ = others.Wait()
}
