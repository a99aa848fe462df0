// Package redirecttest is what tests with the real kernel share. Programs
// attach to the host's own cgroup2 root, so that only one test at a time may
// bring a guard up: take Lock first.
package redirecttest

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/redirect"
)

// Lock waits until no other test, of any process, has a guard up, and keeps
// them out until the test ends. Without root it skips the test, and says so;
// under `make test`, which sets SALLYPORT_TEST_ALL, it fails it.
func Lock(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		const why = "needs root and the kernel's cgroup2 hooks: run `make test` as root"
		if os.Getenv("SALLYPORT_TEST_ALL") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "sallyport-kernel.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
}

// TempPins returns a folder for pins on a bpffs of the test's own. At the end
// of the test the guard is taken down and what it leaves fails the test.
func TempPins(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport-bpffs")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=700"); err != nil {
		t.Fatal(err)
	}
	pins := filepath.Join(dir, "sallyport")
	t.Cleanup(func() {
		var err error
		for range 3000 { // processes of the test may still be leaving their cgroups
			if err = redirect.Down(pins); err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(pins); err == nil {
			t.Errorf("pins left in %s", pins)
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		os.Remove(dir)
	})
	return pins
}

// Cgroup makes a cgroup of the test's own and returns its path below the
// cgroup2 root. It is removed at the end, when its processes must be gone.
func Cgroup(t testing.TB) string {
	t.Helper()
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	var b [6]byte
	rand.Read(b[:])
	path := "/sallyport-test-" + hex.EncodeToString(b[:])
	dir := filepath.Join(root, path)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var err error
		for range 3000 {
			if err = unix.Rmdir(dir); err == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		b, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		t.Errorf("cgroup %s: %v, processes: %s", path, err, strings.Fields(string(b)))
	})
	return path
}

// given are the ports that Port has returned: a test that asks twice, for a passage
// and for what listens beside it, must have two.
var given sync.Map

// Port returns a port for a passage: free, outside the range that the kernel gives to
// clients, and another each time.
func Port(t testing.TB) uint16 {
	t.Helper()
	var b [2]byte
	for range 100 {
		rand.Read(b[:])
		port := 15000 + int(b[0])<<5 + int(b[1])>>3
		if _, again := given.LoadOrStore(port, true); again {
			continue
		}
		l, err := net.ListenTCP("tcp", &net.TCPAddr{Port: port})
		if err == nil {
			l.Close()
			return uint16(port)
		}
	}
	t.Fatal("no free port")
	return 0
}
