package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// layout is LAYOUT of the programs: the shape of the pinned maps.
const layout = 3

// DefaultPins is where the guard is pinned unless configured otherwise.
const DefaultPins = "/sys/fs/bpf/sallyport"

func pinFolder(pins string) string { return filepath.Join(pins, "v"+strconv.Itoa(layout)) }

var layoutName = regexp.MustCompile(`^v([0-9]+)$`)

// checkLayout refuses pins of a newer layout and returns the folders of older
// ones.
func checkLayout(pins string) (older []string, err error) {
	entries, err := os.ReadDir(pins)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pins %s: %w", pins, err)
	}
	for _, e := range entries {
		m := layoutName.FindStringSubmatch(e.Name())
		if m == nil || m[1] == strconv.Itoa(layout) {
			continue
		}
		if n, err := strconv.Atoi(m[1]); err != nil || n > layout {
			return nil, fmt.Errorf("%w (%s has layout %s, this program makes %d)", ErrLayout, pins, m[1], layout)
		}
		older = append(older, filepath.Join(pins, e.Name()))
	}
	return older, nil
}

// unpin removes a folder of pins, and so detaches what only they hold: first
// the wires, then the hooks, the last one first, then the maps that they read.
func unpin(dir string) error {
	if err := unpinWires(dir); err != nil {
		return err
	}
	names := []string{}
	for _, h := range allHooks() {
		names = append(names, h.name)
	}
	slices.Reverse(names)
	for _, prefix := range []string{linkPinPrefix, linkSparePrefix} {
		for _, name := range names {
			if err := os.Remove(filepath.Join(dir, prefix+name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return os.RemoveAll(dir)
}

// makePins returns the folder for the pins, mounting bpffs where it is
// missing. Nobody but root may enter.
func makePins(pins string) (string, error) {
	parent := filepath.Dir(pins)
	if on, err := onBPFFS(parent); err != nil || !on {
		if parent != "/sys/fs/bpf" {
			return "", fmt.Errorf("%w (%s is not on one)", ErrBPFFS, parent)
		}
		if err := unix.Mount("bpf", parent, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700"); err != nil {
			return "", fmt.Errorf("%w (%v)", ErrBPFFS, err)
		}
	}
	if _, err := checkLayout(pins); err != nil {
		return "", err
	}
	dir := pinFolder(pins)
	for _, d := range []string{pins, dir} {
		if err := os.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("pins: %w", err)
		}
		if err := os.Chmod(d, 0o700); err != nil {
			return "", fmt.Errorf("pins: %w", err)
		}
	}
	return dir, nil
}

func onBPFFS(path string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false, err
	}
	return uint32(st.Type) == unix.BPF_FS_MAGIC, nil
}

// findPins returns the folder of pins that Up made, or ErrNotUp.
func findPins(pins string) (string, error) {
	older, err := checkLayout(pins)
	if err != nil {
		return "", err
	}
	dir := pinFolder(pins)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if older != nil {
			return "", fmt.Errorf("%w (only %s, of an older version, is there)", ErrNotUp, older[0])
		}
		return "", ErrNotUp
	} else if err != nil {
		return "", fmt.Errorf("pins: %w", err)
	}
	return dir, nil
}
