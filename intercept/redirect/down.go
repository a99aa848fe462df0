package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Down takes the guard away: nothing is refused or turned from then on. It
// detaches and unpins all, and removes the cgroups that Up made. It works
// where only a part of a guard is left; without any it does nothing.
func Down(pins string) error {
	if pins == "" {
		pins = DefaultPins
	}
	older, err := checkLayout(pins)
	if err != nil {
		return fmt.Errorf("guard down: %w", err)
	}
	var errs []error
	for _, dir := range append(older, pinFolder(pins)) {
		unlock, err := lock(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("guard down: %w", err)
		}
		// Links are in nobody's hands but the pins': removing one detaches it.
		errs = append(errs, unpin(dir))
		unlock()
	}
	if err := os.Remove(pins); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	errs = append(errs, downCgroups())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("guard down: %w", err)
	}
	return nil
}

// downCgroups removes the cgroups that Up made and marked, wherever they are.
func downCgroups() error {
	root, err := (Host{}).CgroupRoot()
	if err != nil {
		return err
	}
	var errs []error
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // vanished meanwhile, or not ours to read
		}
		if _, err := unix.Lgetxattr(p, made, make([]byte, 8)); err != nil {
			return nil
		}
		errs = append(errs, removeTree(p))
		return fs.SkipDir
	})
	return errors.Join(append(errs, err)...)
}
