package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/cgroup"
)

const (
	daemonCgroup  = "/sallyport.daemon"  // the daemon runs here
	guardedCgroup = "/sallyport.guarded" // always covered; `sallyport exec` makes children of it

	// maxLevels is MAX_LEVELS of the programs: deeper cgroups are not seen.
	maxLevels = 32

	// leaveTime is what processes have to leave a cgroup that is removed.
	leaveTime = time.Second

	// made marks cgroups that Up made, so that Down removes no other.
	made = "trusted.sallyport"
)

// cgroupID returns the cgroup2 id of a path below the root.
func cgroupID(root, path string) (uint64, error) {
	if path != filepath.Clean(path) || !strings.HasPrefix(path, "/") {
		return 0, fmt.Errorf("cgroup %q: give a clean path below the cgroup2 root, starting with /", path)
	}
	if strings.Count(path, "/") >= maxLevels {
		return 0, fmt.Errorf("cgroup %s: deeper than %d levels; name one of its parents", path, maxLevels)
	}
	fi, err := os.Stat(filepath.Join(root, path))
	if err != nil {
		return 0, fmt.Errorf("cgroup %s: %w", path, err)
	}
	return fi.Sys().(*syscall.Stat_t).Ino, nil
}

// makeCgroup returns the id of a cgroup, made and marked if there is none.
func makeCgroup(root, path string) (uint64, error) {
	dir := filepath.Join(root, path)
	if err := os.Mkdir(dir, 0o755); err == nil {
		if err := unix.Setxattr(dir, made, []byte{1}, 0); err != nil {
			return 0, fmt.Errorf("cgroup %s: mark as ours: %w", path, err)
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return 0, fmt.Errorf("make cgroup %s: %w", path, err)
	}
	return cgroupID(root, path)
}

// removeTree removes a cgroup and its children, which must be empty.
func removeTree(dir string) error {
	if err := cgroup.Remove(dir, leaveTime); err != nil {
		return fmt.Errorf("%w (end the processes in its cgroup.procs and run `sallyport guard down` again)", err)
	}
	return nil
}

// subtree returns the ids of a cgroup and all below it, with their paths.
func subtree(root, path string, into map[uint64]string) error {
	return filepath.WalkDir(filepath.Join(root, path), func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil || !d.IsDir() {
			return err
		}
		fi, err := os.Stat(p)
		if err == nil {
			into[fi.Sys().(*syscall.Stat_t).Ino] = "/" + strings.TrimPrefix(strings.TrimPrefix(p, root), "/")
		}
		return nil
	})
}
