package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// inside is a command of the agent's in a covered cgroup of the test's own,
// which is there before any guard.
func inside(t *testing.T, cgroup string, args ...string) *exec.Cmd {
	t.Helper()
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(filepath.Join(root, cgroup))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Connections that are older than the guard, or than a resource in it, are
// ended, and that is on the record.
func TestOlderConnectionsEnd(t *testing.T) {
	cgroup := redirecttest.Cgroup(t)
	var servers []net.Listener
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		servers = append(servers, l)
	}
	var clients []*exec.Cmd
	for _, l := range servers {
		c := inside(t, cgroup, "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s; read <&3", strings.Replace(l.Addr().String(), ":", "/", 1)))
		if err := stand.Launch(c); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
		defer func() { c.Process.Kill(); c.Wait() }()
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	ended := func(c *exec.Cmd) bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
		return strings.Contains(string(b), ") Z ")
	}
	h := newHost(t, servers[0].Addr().String())
	h.covered = ", " + cgroup
	h.configure()
	h.serve()
	within(t, "the connection to the resource ends", func() bool { return ended(clients[0]) })
	if ended(clients[1]) {
		t.Error("a connection to nobody's service was ended")
	}
	h.server = servers[1].Addr().String()
	h.configure()
	h.reload("msg=reloaded process=loader")
	within(t, "the connection to the new resource ends", func() bool { return ended(clients[1]) })
	within(t, "both are told", func() bool { return h.metric("sallyport_bypasses_total") >= "2" })
	h.stop()
	// Their last packets may have been dropped, and told, too.
	told := map[string]int{}
	for _, b := range recorded(h.record(), events.Bypass) {
		if has(b.Message, "older than the guard") {
			told[b.Destination.String()]++
		}
	}
	for _, l := range servers {
		if told[l.Addr().String()] != 1 || len(told) != 2 {
			t.Errorf("%v", told)
		}
	}
}

// A covered cgroup that is removed and made again is covered again.
func TestGuardIsPutBack(t *testing.T) {
	h := newHost(t, "")
	cgroup := redirecttest.Cgroup(t)
	h.covered = ", " + cgroup
	h.configure()
	h.serve()
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Rmdir(root + cgroup); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(root+cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	covered := func() bool {
		s, err := redirect.GetStatus(h.pins)
		return err == nil && slices.Contains(s.Covered, cgroup)
	}
	// Long before the loader looks at its guard for itself.
	made := time.Now()
	for !covered() {
		if time.Since(made) > lookEvery/5 {
			t.Fatalf("not covered after %s\n%s", time.Since(made), h.log)
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("covered %s after it was made again", time.Since(made).Round(time.Millisecond))
}
