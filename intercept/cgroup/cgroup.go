// Package cgroup finds the unified hierarchy, and ends and removes its cgroups.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// pace is the time between two looks.
const pace = 10 * time.Millisecond

// Remove removes a cgroup and all below it. Processes have until the limit to
// leave: those that have just ended are still in it for a moment. A cgroup that
// is not there is removed.
func Remove(dir string, limit time.Duration) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := Remove(filepath.Join(dir, e.Name()), limit); err != nil {
				return err
			}
		}
	}
	for late := time.Now().Add(limit); ; time.Sleep(pace) {
		err := unix.Rmdir(dir)
		switch {
		case err == nil, errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EBUSY) || !time.Now().Before(late):
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
	}
}

// Kill kills all processes in a cgroup and below it, those that are being
// forked too. One that is not there has none.
func Kill(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "cgroup.kill"), os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		if _, serr := os.Stat(dir); errors.Is(serr, os.ErrNotExist) {
			return nil
		}
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString("1")
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if errors.Is(err, unix.ENODEV) { // removed meanwhile
		return nil
	}
	return err
}
