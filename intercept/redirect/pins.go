package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"
)

// layout is LAYOUT of the programs: the shape of the pinned maps.
const layout = 1

// DefaultPins is where the guard is pinned unless configured otherwise.
const DefaultPins = "/sys/fs/bpf/sallyport"

func pinFolder(pins string) string { return filepath.Join(pins, "v"+strconv.Itoa(layout)) }

var layoutName = regexp.MustCompile(`^v([0-9]+)$`)

// checkLayout refuses pins of another layout.
func checkLayout(pins string) error {
	entries, err := os.ReadDir(pins)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pins %s: %w", pins, err)
	}
	for _, e := range entries {
		m := layoutName.FindStringSubmatch(e.Name())
		if m == nil || m[1] == strconv.Itoa(layout) {
			continue
		}
		return fmt.Errorf("%w (%s has layout %s, this program makes %d)", ErrLayout, pins, m[1], layout)
	}
	return nil
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
	if err := checkLayout(pins); err != nil {
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
	if err := checkLayout(pins); err != nil {
		return "", err
	}
	dir := pinFolder(pins)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return "", ErrNotUp
	} else if err != nil {
		return "", fmt.Errorf("pins: %w", err)
	}
	return dir, nil
}
