package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// qemu is an emulator, and where its firmware is besides its usual place.
type qemu struct {
	path     string
	firmware []string
}

// oldestQEMU: version 7.2 of Debian 12 leaves wrong flags behind cmpxchg16b, and
// runs stale code after the kernel has patched it. Linux 6.12 dies of the first
// and 7.3 of the second, on some of their boots.
const oldestQEMU = 10

// findQEMU takes the installed one, or if that is too old the pinned one with
// the installed one's libraries and BIOS.
func findQEMU(ctx context.Context, pin kernel) (q qemu, err error) {
	const name = "qemu-system-x86_64"
	var text string
	if err := output(exec.CommandContext(ctx, name, "--version"), &text); err != nil {
		return q, fmt.Errorf("%w: install it: .ci/deps kernels", err)
	}
	m := regexp.MustCompile(`version (\d+)\.`).FindStringSubmatch(text)
	if m == nil {
		return q, fmt.Errorf("%s --version: no version in %q", name, text)
	}
	if major, _ := strconv.Atoi(m[1]); major >= oldestQEMU {
		return qemu{path: name}, nil
	}
	root, err := fetch(ctx, cache, pin)
	if err != nil {
		return q, err
	}
	return qemu{
		path:     filepath.Join(root, "usr/bin", name),
		firmware: []string{filepath.Join(root, "usr/share/qemu"), "/usr/share/seabios"},
	}, nil
}
