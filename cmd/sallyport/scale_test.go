package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/intercept/cgroup"
	"sallyport.dev/sallyport/intercept/redirect"
)

// A thousand workloads, each in a cgroup of its own with a process, half of them
// older than the guard: all are covered, those of the last second too, and no
// place is lost when they end.
func TestThousandWorkloads(t *testing.T) {
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, "")
	base := fmt.Sprintf("/sallyport.scale-%d", os.Getpid())
	h.covered = fmt.Sprintf(`, "%s/agent-*"`, base)
	h.configure()
	t.Cleanup(func() {
		if err := cgroup.Kill(root + base); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
		for i := range 1000 {
			_ = cgroup.Remove(fmt.Sprintf("%s%s/agent-%d", root, base, i), 10*time.Second)
		}
		if err := cgroup.Remove(root+base, 10*time.Second); err != nil {
			t.Error(err)
		}
	})
	start := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			path := fmt.Sprintf("%s%s/agent-%d", root, base, i)
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			dir, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("/usr/bin/sleep", "600")
			cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
			err = stand.Launch(cmd)
			dir.Close()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		}
	}
	covered := func() int {
		t.Helper()
		ids, err := redirect.CoveredIDs(h.pins)
		if err != nil {
			t.Fatal(err)
		}
		return len(ids)
	}
	reach := func(want int) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); covered() < want; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d of %d are covered\n%s", covered(), want, h.log)
			}
		}
	}
	start(0, 500)
	h.serve()
	reach(500)
	began := time.Now()
	start(500, 1000)
	made := time.Since(began)
	reach(1000)
	t.Logf("500 more were made in %v, and all were covered %v later", made.Round(time.Millisecond), (time.Since(began) - made).Round(time.Millisecond))
	datagram := ": > /dev/udp/127.0.0.1/" + port(h.server)
	for _, i := range []int{0, 499, 999} {
		if out := inCgroup(t, fmt.Sprintf("%s%s/agent-%d", root, base, i), datagram); !strings.Contains(out, "Operation not permitted") {
			t.Errorf("workload %d is not covered: %s", i, out)
		}
	}
}
