package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"sallyport.dev/sallyport/intercept/redirect"
)

func procFile(h redirect.Host, name ...string) string {
	root := h.Proc
	if root == "" {
		root = "/proc"
	}
	return filepath.Join(append([]string{root}, name...)...)
}

// sysctl reads a sysctl, "" where the kernel has none of that name.
func sysctl(h redirect.Host, name string) string {
	b, _ := os.ReadFile(procFile(h, "sys", name))
	return strings.TrimSpace(string(b))
}

// doors tells of those that no program sees, and that this host has.
func (l *findings) doors(h redirect.Host) {
	const remedy = "keep agents from the address family: RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 in their units, or a container engine's seccomp profile that refuses AF_VSOCK (docs/operations.md, AF_VSOCK)"
	protocols, _ := os.ReadFile(procFile(h, "net", "protocols"))
	switch {
	case strings.Contains(string(protocols), "AF_VSOCK"):
		l.note("AF_VSOCK", "the kernel has it: agents may reach virtual machines, or the machine's host, beside the passage", remedy)
	case len(protocols) == 0:
		l.note("AF_VSOCK", "not known: /proc/net/protocols can't be read", remedy)
	case loads("/lib/modules", sysctl(h, "kernel/osrelease"), vsockAlias) && sysctl(h, "kernel/modules_disabled") != "1":
		l.note("AF_VSOCK", "not loaded, but the kernel loads it for whoever asks for such a socket: agents may reach virtual machines, or the machine's host, beside the passage", remedy)
	default:
		l.check("AF_VSOCK", "not loaded, and no module is there to be loaded", nil, "")
	}
	switch {
	case sysctl(h, "user/max_user_namespaces") == "0", sysctl(h, "kernel/unprivileged_userns_clone") == "0":
		l.check("unprivileged user namespaces", "off", nil, "")
	case sysctl(h, "kernel/apparmor_restrict_unprivileged_userns") == "1":
		l.check("unprivileged user namespaces", "restricted by AppArmor", nil, "")
	default:
		l.check("unprivileged user namespaces", "on: the guard holds in them too; in a network namespace without a passage protected services are refused", nil, "")
	}
}

// vsockAlias is what the kernel asks modprobe for when somebody makes a socket
// of the family.
const vsockAlias = "net-pf-40"

// loads reports whether a kernel's modules have one with an alias (modprobe(8)).
func loads(folder, release, alias string) bool {
	b, err := os.ReadFile(filepath.Join(folder, release, "modules.alias"))
	return err == nil && release != "" && bytes.Contains(append([]byte("\n"), b...), []byte("\nalias "+alias+" "))
}
