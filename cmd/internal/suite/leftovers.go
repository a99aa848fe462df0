package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept/redirect"
)

// lockFile is what kernel tests and stands take turns by.
const lockFile = "sallyport-kernel.lock"

// host is what a test can leave on a host, besides processes: what it is, by
// where it is.
type host map[string]string

// makeTemp makes the TMPDIR of what the stages run. Its name is short, for the
// sockets in it, and everybody may pass through it, for servers of other users.
func (s *suite) makeTemp() error {
	shared := filepath.Join(os.TempDir(), lockFile)
	f, err := os.OpenFile(shared, os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	if s.tmp, err = os.MkdirTemp("", "st"); err != nil {
		return err
	}
	// Other runs on this host are kept out by the same lock.
	return errors.Join(os.Chmod(s.tmp, 0o755), os.Symlink(shared, filepath.Join(s.tmp, lockFile)))
}

// look takes the lock of kernel tests, so that nobody's test is in the middle
// of something, and looks around.
func (s *suite) look() (host, error) {
	f, err := os.OpenFile(filepath.Join(s.tmp, lockFile), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return nil, err
	}
	h := host{}
	return h, errors.Join(h.files(s.tmp), h.mounts(s.tmp), h.namespaces(), h.kernel())
}

// files notes the temporary files that are there.
func (h host) files(tmp string) error {
	entries, err := os.ReadDir(tmp)
	for _, e := range entries {
		if e.Name() != lockFile {
			h[filepath.Join(tmp, e.Name())] = "temporary file"
		}
	}
	return err
}

// mounts notes those below the folder of temporary files, and every bpffs.
func (h host) mounts(tmp string) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && (strings.HasPrefix(f[4], tmp) || strings.Contains(line, " - bpf ")) {
			h[f[4]+" "] = "mount"
		}
	}
	pins, _ := filepath.Glob("/sys/fs/bpf/sallyport*")
	for _, p := range pins {
		h[p] = "pin"
	}
	return err
}

func (h host) namespaces() error {
	for _, dir := range []string{"/run/netns", "/var/run/netns"} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			h[filepath.Join("/run/netns", e.Name())] = "network namespace"
		}
	}
	return nil
}

// kernel notes cgroups and programs of guards. Without root the kernel does
// not tell its programs, and nobody could have loaded one.
func (h host) kernel() error {
	if root, err := (redirect.Host{}).CgroupRoot(); err == nil {
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), "sallyport") {
				h[path] = "cgroup"
			}
			return nil // cgroups come and go
		})
	}
	if os.Geteuid() != 0 {
		return nil
	}
	spec, err := bpf.LoadGuard()
	if err != nil {
		return err
	}
	for id := ebpf.ProgramID(0); ; {
		if id, err = ebpf.ProgramGetNextID(id); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return fmt.Errorf("list the kernel's programs: %w", err)
		}
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // it has gone
		}
		if info, err := p.Info(); err == nil && spec.Programs[info.Name] != nil {
			h[fmt.Sprintf("%s, id %d", info.Name, id)] = "program"
		}
		p.Close()
	}
}

// leftovers tells what is there that was not there before. What the kernel
// takes away a little later is given its time; the rest is told, and taken away
// if it would be in the way of what comes next.
func (s *suite) leftovers(before host) error {
	errs := []error{s.children.left()}
	var now host
	var err error
	for range 50 {
		if now, err = s.look(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		maps.DeleteFunc(now, func(where, _ string) bool { return before[where] != "" })
		if len(now) == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, where := range slices.Backward(slices.Sorted(maps.Keys(now))) { // what is in something before it
		what, path := now[where], strings.TrimSpace(where)
		errs = append(errs, fmt.Errorf("left behind: %s %s", what, path))
		switch {
		case what == "mount" && strings.HasPrefix(path, s.tmp): // a guard is gone with its pins
			errs = append(errs, unix.Unmount(path, unix.MNT_DETACH))
		case what == "cgroup":
			errs = append(errs, unix.Rmdir(path))
		}
	}
	return errors.Join(errs...)
}
