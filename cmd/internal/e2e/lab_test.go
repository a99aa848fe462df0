package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// The lab of vagrant/ keeps what it promises where its hosts are network
// namespaces: the agent's host and the services' share a wire, and no more.
func TestLab(t *testing.T) {
	for _, pkg := range []string{"github.com/nats-io/nats-server/v2", "github.com/nats-io/nkeys/nk"} {
		build := exec.CommandContext(t.Context(), "go", "build", "-o", bin+"/", pkg)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	// Servers of other users write below it.
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("../../../vagrant/netns.sh")
	if err != nil {
		t.Fatal(err)
	}
	redirecttest.Lock(t)
	cmd := exec.CommandContext(t.Context(), script)
	cmd.Env = append(os.Environ(), "LAB_BIN="+bin, "TMPDIR="+dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it takes the lab down
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "\nok: "); n < 12 {
		t.Errorf("%d scenarios were shown:\n%s", n, out)
	}
}
