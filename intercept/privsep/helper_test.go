package privsep_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept/privsep"
)

// opens reports whether a process of the daemon's user may open another's
// memory.
func opens(pid int) (bool, string) {
	cmd := exec.Command("dd", fmt.Sprintf("if=/proc/%d/mem", pid), "count=0")
	cmd.SysProcAttr = asNobody()
	out, err := cmd.CombinedOutput()
	return err == nil, string(out)
}

// A helper that has not confined itself yet, as this one never does, is out of
// reach for the daemon's user all the same.
func TestHelperIsApart(t *testing.T) {
	for _, group := range []uint32{privsep.SignerGroup, privsep.ResolverGroup, privsep.CanaryGroup, nobody} {
		in, ours, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		h, err := privsep.StartHelper(privsep.Options{Path: "/bin/cat", Args: []string{"cat"}, UID: nobody, GID: nobody}, group, in, null)
		if err != nil {
			t.Fatal(err)
		}
		if ok, out := opens(h.PID()); ok || !strings.Contains(out, "Permission denied") {
			t.Errorf("the memory of a helper of group %d can be opened: %s", group, out)
		}
		ours.Close()
		if err := h.Wait(); err != nil {
			t.Error(err)
		}
	}
	// Of the daemon's own group it is not.
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = asNobody()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if ok, out := opens(cmd.Process.Pid); !ok {
		t.Errorf("this kernel or its modules keep processes of one user apart, so that nothing is tested here: %s", out)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
