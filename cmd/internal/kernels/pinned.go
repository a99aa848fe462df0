package main

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed pinned.txt
var pinned string

// A kernel is one of Debian's, as the packages that hold its image and its
// modules. The flavour is the one for virtual machines: the same kernel with
// fewer drivers.
type kernel struct {
	series   string // 6.1
	suite    string // of Debian
	packages []pkg
}

type pkg struct {
	name, version string
	sha256        string // of the .deb, in hex
}

// emulator names QEMU's rows among those of the kernels.
const emulator = "qemu"

// parsePins reads pinned.txt: one package in a line, those of a kernel in a row.
func parsePins(text string) (qemu kernel, all []kernel, err error) {
	for n, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) != 5 || len(f[4]) != 64 {
			return qemu, nil, fmt.Errorf("pinned.txt:%d: want series, suite, package, version and SHA-256", n+1)
		}
		if len(all) == 0 || all[len(all)-1].series != f[0] {
			all = append(all, kernel{series: f[0], suite: f[1]})
		}
		k := &all[len(all)-1]
		if k.suite != f[1] {
			return qemu, nil, fmt.Errorf("pinned.txt:%d: %s is of %s already", n+1, f[0], k.suite)
		}
		k.packages = append(k.packages, pkg{f[2], f[3], f[4]})
	}
	i := slices.IndexFunc(all, func(k kernel) bool { return k.series == emulator })
	if i < 0 || len(all) == 1 {
		return qemu, nil, fmt.Errorf("pinned.txt: it must name a QEMU and a kernel")
	}
	qemu = all[i]
	return qemu, slices.Delete(all, i, i+1), nil
}

// writePins is what parsePins reads, with the comment that stood before it.
func writePins(all []kernel) string {
	var b strings.Builder
	for line := range strings.Lines(pinned) {
		if strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	for _, k := range all {
		for _, p := range k.packages {
			fmt.Fprintln(&b, k.series, k.suite, p.name, p.version, p.sha256)
		}
	}
	return b.String()
}
