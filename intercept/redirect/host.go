package redirect

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/cgroup"
)

// Host names the file systems that say what the kernel can do. The zero Host
// is the machine's own.
type Host struct {
	Proc string // default /proc
	Sys  string // default /sys
}

func (h Host) proc(name ...string) string { return in(h.Proc, "/proc", name) }
func (h Host) sys(name ...string) string  { return in(h.Sys, "/sys", name) }

func in(root, usual string, name []string) string {
	if root == "" {
		root = usual
	}
	return filepath.Join(append([]string{root}, name...)...)
}

// Check reports all that the host lacks, joined; each is one of this
// package's sentinel errors.
func (h Host) Check() error {
	return errors.Join(h.CheckKernel(), h.CheckBTF(), h.CheckCgroup2(), h.CheckCapabilities())
}

// CheckKernel returns ErrKernel below 6.1.
func (h Host) CheckKernel() error {
	b, err := os.ReadFile(h.proc("sys/kernel/osrelease"))
	if err != nil {
		return fmt.Errorf("%w (%v)", ErrKernel, err)
	}
	if release := strings.TrimSpace(string(b)); !since(release, 6, 1) {
		return fmt.Errorf("%w (this is %s)", ErrKernel, release)
	}
	return nil
}

// since reports whether a kernel's release is a version or a later one.
func since(release string, major, minor int) bool {
	var is, point int
	_, err := fmt.Sscanf(release, "%d.%d", &is, &point)
	return err == nil && (is > major || is == major && point >= minor)
}

// CheckBTF returns ErrBTF where the kernel does not describe its types.
func (h Host) CheckBTF() error {
	if _, err := os.Stat(h.sys("kernel/btf/vmlinux")); err != nil {
		return fmt.Errorf("%w (%v)", ErrBTF, err)
	}
	return nil
}

// CheckCgroup2 returns ErrCgroup2 where no cgroup2 is mounted.
func (h Host) CheckCgroup2() error {
	_, err := h.CgroupRoot()
	return err
}

// CgroupRoot returns where the cgroup2 hierarchy is mounted.
func (h Host) CgroupRoot() (string, error) {
	root, err := cgroup.Root(h.proc("self/mountinfo"))
	if err != nil {
		return "", fmt.Errorf("%w (%v)", ErrCgroup2, err)
	}
	return root, nil
}

type capability struct {
	name string
	bit  uint
}

// Capabilities that the loader needs, and their bits.
var needed = []capability{{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}, {"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN}, {"CAP_BPF", unix.CAP_BPF}}

// CheckCapabilities returns ErrCapability where this process lacks one.
func (h Host) CheckCapabilities() error {
	b, err := os.ReadFile(h.proc("self/status"))
	if err != nil {
		return fmt.Errorf("%w (%v)", ErrCapability, err)
	}
	caps := effective(b)
	var missing []string
	for _, c := range needed {
		if caps&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	if missing != nil {
		return fmt.Errorf("%w (missing: %s)", ErrCapability, strings.Join(missing, ", "))
	}
	return nil
}
