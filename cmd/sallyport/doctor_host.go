package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/redirect"
)

// host checks what the machine can do, and returns where cgroup2 is mounted.
func (l *findings) host(h redirect.Host, in *config.Interception) (root string) {
	l.check("kernel", "6.1 or newer", h.CheckKernel(), "")
	l.check("BTF", "/sys/kernel/btf/vmlinux", h.CheckBTF(), "")
	root, err := h.CgroupRoot()
	l.check("cgroup2", root, err, "")
	l.check("capabilities", "CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN", h.CheckCapabilities(), "")
	l.check("bpffs", "for "+in.Pins, h.CheckBPFFS(in.Pins), "")
	l.check("unprivileged BPF", "off", h.CheckUnprivileged(), "sysctl kernel.unprivileged_bpf_disabled=2")
	l.check("port of the passage", fmt.Sprint(in.Port), h.CheckPort(in.Port), "")
	l.programs(h)
	return root
}

// programs offers each program to the kernel. On a host that lacks what all of
// them need, their errors would only say so again, and less clearly.
func (l *findings) programs(h redirect.Host) {
	if h.CheckKernel() != nil || h.CheckBTF() != nil || h.CheckCapabilities() != nil {
		l.check("programs", "", errors.New("not tried: they need the kernel, BTF and capabilities"), "do what is said above first")
		return
	}
	programs, err := redirect.Probe()
	if err != nil {
		l.check("programs", "", err, "build the program again: its objects are broken")
	}
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		l.check("program "+name, "the kernel accepts it", programs[name], "boot Linux 6.1 or newer with CONFIG_CGROUP_BPF=y")
	}
}

// guardHealth tells whether the guard is up, and whether somebody serves it.
func (l *findings) guardHealth(pins string) {
	s, err := redirect.GetStatus(pins)
	if errors.Is(err, redirect.ErrNotUp) {
		l.note("guard", "not up: nothing is turned, refused or recorded", "run `sallyport guard up`")
		return
	}
	for _, p := range s.Programs {
		if err == nil && !p.Attached {
			err = fmt.Errorf("%s is missing: %s", p.Name, p.Problem)
		}
	}
	remedy := "run `sallyport guard up`"
	if errors.Is(err, fs.ErrPermission) {
		remedy = "run this as root"
	}
	l.check("guard", fmt.Sprintf("up, %d programs attached", len(s.Programs)), err, remedy)
	if err == nil && !s.Daemon {
		l.note("daemon", "none: covered connections are refused", "start sallyport")
	}
}
