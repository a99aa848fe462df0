package spiretest_test

import (
	"fmt"
	"net"
	"os"
	"testing"

	"sallyport.dev/sallyport/intercept/identity/spiretest"
)

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests need root: run `make test`")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A trust domain comes up, takes entries and bundles, loses its agent and gets
// it back, and leaves nothing behind.
func TestStart(t *testing.T) {
	var dir string
	var pid int
	t.Run("domain", func(t *testing.T) {
		s := spiretest.Start(t, spiretest.Options{})
		id := s.Register(spiretest.Entry{Path: "/x", Selectors: []string{"unix:uid:65534"}})
		s.Delete(id)
		other := spiretest.Start(t, spiretest.Options{TrustDomain: "two.test", NoBroker: true})
		s.Trust(other)
		dir, pid = s.Dir, s.AgentPID()
		s.StopAgent()
		if _, err := net.Dial("unix", s.Workload); err == nil {
			t.Fatal("a stopped agent answers")
		}
		s.StartAgent()
		if s.AgentPID() == pid {
			t.Fatal("the same agent")
		}
		pid = s.AgentPID()
	})
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is left", dir)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		t.Errorf("agent %d is left", pid)
	}
}
