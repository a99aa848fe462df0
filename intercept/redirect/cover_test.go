package redirect_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// cgroupBelow makes a cgroup below one of the test's, and returns its id too.
func cgroupBelow(t *testing.T, parent, name string) (string, uint64) {
	t.Helper()
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, parent, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "the cgroup is empty", func() bool { return unix.Rmdir(dir) == nil })
	})
	fi, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(parent, name), fi.Sys().(*syscall.Stat_t).Ino
}

// A cgroup that finds no place on the list of those covered is covered.
func TestFullCoverCoversWhatIsAround(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	cfg := config(t, dst)
	top, beside := redirecttest.Cgroup(t), redirecttest.Cgroup(t)
	a, aID := cgroupBelow(t, top, "a")
	b, bID := cgroupBelow(t, top, "b")
	c, cID := cgroupBelow(t, top, "c")
	p := open(t, cfg)
	covered := pinned(t, cfg.Pins, bpf.GuardMapCovered)
	for i := uint64(1); ; i++ {
		if err := covered.Put(i<<40, uint32(1)); errors.Is(err, unix.E2BIG) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	turned := func(cgroup string) bool {
		t.Helper()
		d := ask[dialled](t, cgroup, "dial", "tcp", dst.String())
		_, ok := d.facts()
		if !ok && d.Line != "direct" {
			t.Fatalf("%s: %+v", cgroup, d)
		}
		return ok
	}
	if turned(a) || turned(b) {
		t.Fatal("covered before")
	}
	if err := p.Cover(aID); !errors.Is(err, redirect.ErrCoverFull) {
		t.Fatalf("full: %v", err)
	}
	if !turned(a) || turned(b) {
		t.Error("the first one without a place: it is not covered, or others are")
	}
	if e := ask[string](t, a, "socket", "2", "3", "1"); e != unix.EPERM.Error() {
		t.Errorf("raw socket in it: %q", e)
	}
	if err := p.Cover(bID); !errors.Is(err, redirect.ErrCoverFull) {
		t.Fatalf("full: %v", err)
	}
	if !turned(a) || !turned(b) || !turned(c) || turned(beside) {
		t.Error("two without a place: what is around both is not covered, or more is")
	}
	if s, err := redirect.GetStatus(cfg.Pins); err != nil || s.Around != top {
		t.Errorf("around %q, %v; want %s", s.Around, err, top)
	}
	// The next Up finds places again.
	cfg.CoveredIDs = []uint64{aID, bID}
	up(t, cfg)
	if !turned(a) || !turned(b) || turned(c) {
		t.Error("with places again: covered are not exactly those two")
	}
	// And does the same where its own configuration has too many.
	cfg.CoveredIDs = []uint64{cID}
	for i := uint64(1); i <= uint64(covered.MaxEntries()); i++ {
		cfg.CoveredIDs = append(cfg.CoveredIDs, i)
	}
	up(t, cfg)
	if !turned(c) {
		t.Error("more than there are places for: the last one is not covered")
	}
}
