package mask_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

var socket string // of the test's server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, stop, err := startServer()
	if err != nil {
		fmt.Fprintln(os.Stderr, "start PostgreSQL:", err)
		return 1
	}
	defer stop()
	socket = dir
	return m.Run()
}

// startServer starts a throwaway server on a socket in dir.
func startServer() (dir string, stop func(), err error) {
	if dir, err = os.MkdirTemp("", "mask"); err != nil {
		return "", nil, err
	}
	clean := func() { os.RemoveAll(dir) }
	cmd := func(name string, args ...string) error {
		c := exec.Command("/usr/lib/postgresql/15/bin/"+name, args...)
		c.Dir = dir
		c.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
		if os.Getuid() == 0 { // the server refuses to run as root
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, out)
		}
		return nil
	}
	if os.Getuid() == 0 {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			clean()
			return "", nil, err
		}
	}
	data := filepath.Join(dir, "d")
	if err = cmd("initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"); err == nil {
		err = cmd("pg_ctl", "-D", data, "-w", "-l", filepath.Join(dir, "log"), "-o", "-c listen_addresses='' -c fsync=off -k "+dir, "start")
	}
	if err != nil {
		clean()
		return "", nil, err
	}
	return dir, func() {
		_ = cmd("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
		clean()
	}, nil
}
