package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A folder that somebody else made, or can write in, is not believed.
func TestProxyState(t *testing.T) {
	d := newDeveloper(t, "127.0.0.1:1")
	folder := func(name string, uid int, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(d.dir, name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	folder("own", agentUID, 0o700)
	folder("planted", agentUID+1, 0o777)
	folder("open", agentUID, 0o770)
	folder("read", agentUID, 0o755)
	folder("below", agentUID, 0o700)
	folder("below/journal", agentUID+1, 0o777)
	folder("led", agentUID, 0o700)
	for name, to := range map[string]string{"link": "own", "led/journal": "../own"} {
		if err := os.Symlink(to, filepath.Join(d.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for state, want := range map[string]string{
		"planted": fmt.Sprintf("planted is of user %d", agentUID+1), "open": "open is open to others (mode 0770)", "read": "read is open to others (mode 0755)",
		"below": fmt.Sprintf("below/journal is of user %d", agentUID+1), "link/": "link is not a folder", "led": "led/journal is not a folder",
	} {
		_, diag, err := d.run("sallyport proxy -c ci.yaml --listen 127.0.0.1:0 --issue --state " + state + " -- touch served-" + filepath.Base(state))
		if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != 1 || !strings.Contains(diag, want) || !strings.Contains(diag, "mktemp -d") {
			t.Errorf("%s: %v: %s", state, err, diag)
		}
	}
	if found, _ := filepath.Glob(filepath.Join(d.dir, "served-*")); len(found) > 0 {
		t.Errorf("served: %s", found)
	}
	for _, left := range []string{"planted/*", "below/journal/*", "own/*"} {
		if found, _ := filepath.Glob(filepath.Join(d.dir, left)); len(found) > 0 {
			t.Errorf("written: %s", found)
		}
	}
	for range 2 { // new, and its own of before
		if _, diag, err := d.run("umask 0; sallyport proxy -c ci.yaml --listen 127.0.0.1:0 --issue --state mine/passage -- true"); err != nil {
			t.Errorf("%v: %s", err, diag)
		}
	}
}
