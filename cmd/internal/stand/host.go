package stand

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/redirect"
)

func (s *Stand) mountPins() error {
	dir := filepath.Join(s.Dir, "bpf")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700"); err != nil {
		return fmt.Errorf("mount a bpffs for the pins: %w", err)
	}
	return nil
}

func (s *Stand) makeExempt() error {
	if s.o.Mode != "host" {
		return nil
	}
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, exemptCgroup)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	s.exempt, err = os.Open(dir)
	return err
}
