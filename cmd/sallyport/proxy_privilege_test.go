package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/stand"
)

// Capabilities that root left to a user are root's.
func TestProxyCapabilities(t *testing.T) {
	d := newDeveloper(t, "127.0.0.1:1")
	cmd := exec.Command("setpriv", "--reuid", fmt.Sprint(agentUID), "--regid", fmt.Sprint(agentUID), "--clear-groups", "--inh-caps=+net_raw", "--ambient-caps=+net_raw",
		filepath.Join(d.dir, "sallyport"), "proxy", "-c", "ci.yaml", "--listen", "127.0.0.1:0", "--issue", "--", "touch", "served")
	like := d.command("")
	cmd.Dir, cmd.Env = like.Dir, like.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var diag strings.Builder
	cmd.Stderr = &diag
	err := stand.Launch(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != 1 || !strings.Contains(diag.String(), "must not have capabilities") || !strings.Contains(diag.String(), "setpriv --inh-caps") {
		t.Errorf("%v: %s", err, diag.String())
	}
	if _, err := os.Lstat(filepath.Join(d.dir, "served")); err == nil {
		t.Error("served")
	}
}
