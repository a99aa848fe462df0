package redirect

import "errors"

// What a host may lack. Each message is one sentence with its remedy.
var (
	ErrKernel     = errors.New("the kernel is older than 6.1: boot Linux 6.1 or newer")
	ErrBTF        = errors.New("the kernel has no BTF at /sys/kernel/btf/vmlinux: boot a kernel built with CONFIG_DEBUG_INFO_BTF=y")
	ErrCgroup2    = errors.New("no cgroup2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with systemd.unified_cgroup_hierarchy=1")
	ErrCapability = errors.New("the process lacks CAP_BPF, CAP_NET_ADMIN or CAP_SYS_ADMIN: run it as root, or give the unit these capabilities")
	ErrBPFFS      = errors.New("no bpf file system for the pins: mount -t bpf bpf /sys/fs/bpf")
	ErrLayout     = errors.New("the pins were made by a newer version: run that version, or its `sallyport guard down` first")
	ErrPort       = errors.New("the passage's port can't be opened: another process holds it; end that process or choose another interception.port")
	ErrPortRange  = errors.New("the passage's port is in net.ipv4.ip_local_port_range: choose an interception.port outside it, or add it to net.ipv4.ip_local_reserved_ports")

	// ErrNotUp is returned where no guard is pinned.
	ErrNotUp = errors.New("the guard is not up: run `sallyport guard up`")

	// ErrStray is returned by Facts for a connection that the kernel did not
	// turn: somebody reached the passage's port by another way.
	ErrStray = errors.New("the connection has no record of the kernel: it was not turned into the passage")
)
