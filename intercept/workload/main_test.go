package workload_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/cgroup"
	"sallyport.dev/sallyport/intercept/workload"
)

// The first thread is no test's: one that a goroutine has taken to another namespace
// would never end, and the process be there from then on.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests need root: run `make test`")
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func cgroupRoot(t testing.TB) string {
	t.Helper()
	root, err := cgroup.Root(cgroup.Mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// top makes a cgroup of the test's own. It is removed at the end with all
// below it, when their processes must be gone.
func top(t testing.TB) string {
	t.Helper()
	path := fmt.Sprintf("/sallyport.workload-%d-%d", os.Getpid(), time.Now().UnixNano())
	mkdir(t, path)
	t.Cleanup(func() {
		var err error
		for range 3000 {
			if err = rmdir(cgroupRoot(t) + path); err == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("cgroup %s is left behind: %v", path, err)
	})
	return path
}

func mkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(cgroupRoot(t)+path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func rmdir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := rmdir(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return unix.Rmdir(dir)
}

func id(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(cgroupRoot(t)+path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// sleeper is a process in a cgroup; flags are for clone(2).
func sleeper(t testing.TB, cgroup string, flags uintptr) *exec.Cmd {
	t.Helper()
	dir, err := os.Open(cgroupRoot(t) + cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	c := exec.Command("sleep", "300")
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(c) })
	return c
}

func end(c *exec.Cmd) {
	_ = c.Process.Kill()
	_ = c.Wait()
}

func netns(t testing.TB, c *exec.Cmd) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", c.Process.Pid), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// following is a tracker that runs, and all that it told.
type following struct {
	*workload.Tracker
	t    testing.TB
	seen []workload.Event
}

// follow starts a tracker and waits until it has told what is there.
func follow(t testing.TB, o workload.Options) *following {
	t.Helper()
	o.Host.Cgroups = cgroupRoot(t)
	tr, err := workload.NewTracker(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- tr.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for e := range tr.Events() {
			t.Errorf("an event after the end: %#v", e)
		}
	})
	f := &following{Tracker: tr, t: t}
	until[workload.Ready](f, "readiness", func(workload.Ready) bool { return true })
	return f
}

// until waits for an event, and keeps those before it.
func until[E workload.Event](f *following, what string, is func(E) bool) E {
	f.t.Helper()
	late := time.After(8 * time.Second) // before the whole hierarchy is looked at anyway
	for {
		select {
		case e, ok := <-f.Events():
			if !ok {
				f.t.Fatalf("the tracker ended before %s", what)
			}
			if n, ok := e.(workload.NetnsAppeared); ok {
				n.File.Close()
			}
			f.seen = append(f.seen, e)
			if e, ok := e.(E); ok && is(e) {
				return e
			}
		case <-late:
			f.t.Fatalf("no %s; told so far: %#v", what, f.seen)
		}
	}
}

// has reports whether an event was among those seen so far.
func has[E workload.Event](f *following, is func(E) bool) bool {
	for _, e := range f.seen {
		if e, ok := e.(E); ok && is(e) {
			return true
		}
	}
	return false
}

// told waits for an event that may have come already.
func told[E workload.Event](f *following, what string, is func(E) bool) {
	f.t.Helper()
	if !has(f, is) {
		until(f, what, is)
	}
}
