package stand

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/redirect"
)

// remove takes away a stand that nobody uses any more, with all it holds.
func remove(dir string) error {
	errs := []error{endProcesses(dir, nil)}
	pins := filepath.Join(dir, "bpf")
	if _, err := os.Stat(filepath.Join(pins, "sallyport")); err == nil {
		errs = append(errs, endCgroups(cgroups...))
		// Processes that were killed may still be on their way out.
		for range 3000 {
			if err = redirect.Down(filepath.Join(pins, "sallyport")); err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		errs = append(errs, err)
	}
	err := unix.Unmount(pins, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // no mount, no folder
		errs = append(errs, fmt.Errorf("unmount %s: %w", pins, err))
	}
	if root, err := (redirect.Host{}).CgroupRoot(); err == nil {
		for range 3000 {
			if err = unix.Rmdir(filepath.Join(root, exemptCgroup)); !errors.Is(err, unix.EBUSY) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove cgroup %s: %w", exemptCgroup, err))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(dir))...)
}

// sweep removes what stands that were killed have left. The lock is held: none
// of them is alive.
func sweep() error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		var st unix.Stat_t
		// Anybody may make a folder of that name.
		if err := unix.Lstat(dir, &st); err != nil || st.Uid != 0 || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		if err := remove(dir); err != nil {
			return fmt.Errorf("remove what a stand left in %s: %w", dir, err)
		}
	}
	return nil
}
