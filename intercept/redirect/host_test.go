package redirect_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept/redirect"
)

const (
	mountinfo = "25 1 0:22 / /sys/fs/cgroup ro - tmpfs tmpfs rw\n" +
		"26 25 0:23 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
	unified = "27 25 0:24 / /sys/fs/cgroup/my\\040unified rw shared:9 - cgroup2 cgroup2 rw\n"
)

// host writes file systems of a machine that lacks nothing.
func host(t *testing.T) (h redirect.Host, write func(name, content string)) {
	dir := t.TempDir()
	write = func(name, content string) {
		f := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("proc/sys/kernel/osrelease", "6.1.0-13-amd64\n")
	write("proc/self/mountinfo", mountinfo+unified)
	write("proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n")
	write("sys/kernel/btf/vmlinux", "")
	write("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n")
	write("proc/sys/net/ipv4/ip_local_reserved_ports", "40000,41000-41010\n")
	return redirect.Host{Proc: dir + "/proc", Sys: dir + "/sys"}, write
}

func TestHostHasAll(t *testing.T) {
	h, _ := host(t)
	if err := h.Check(); err != nil {
		t.Fatal(err)
	}
	if root, err := h.CgroupRoot(); err != nil || root != "/sys/fs/cgroup/my unified" {
		t.Errorf("cgroup2 at %q, %v", root, err)
	}
}

// Each missing thing is one sentence, with what to do, from Up itself.
func TestUpSaysWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		file, content string
		want          error
	}{
		"5.10 kernel":     {"proc/sys/kernel/osrelease", "5.10.0-28-amd64", redirect.ErrKernel},
		"6.0 kernel":      {"proc/sys/kernel/osrelease", "6.0.12", redirect.ErrKernel},
		"nonsense kernel": {"proc/sys/kernel/osrelease", "hurd", redirect.ErrKernel},
		"no cgroup2":      {"proc/self/mountinfo", mountinfo, redirect.ErrCgroup2},
		"no CAP_BPF":      {"proc/self/status", "CapEff:\t0000003fffffffff\n", redirect.ErrCapability},
		"no capability":   {"proc/self/status", "CapEff:\t0000000000000000\n", redirect.ErrCapability},
		"no BTF":          {"", "", redirect.ErrBTF},
	} {
		t.Run(name, func(t *testing.T) {
			h, write := host(t)
			if c.file != "" {
				write(c.file, c.content)
			} else if err := os.Remove(filepath.Join(h.Sys, "kernel/btf/vmlinux")); err != nil {
				t.Fatal(err)
			}
			_, err := redirect.Up(redirect.Config{Mode: "host", Port: 15432, Host: h})
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one sentence: %v", err)
			}
		})
	}
}

func TestPortMustBeOutOfClientsReach(t *testing.T) {
	h, _ := host(t)
	for port, ok := range map[uint16]bool{
		15432: true, 32767: true, 32768: false, 50000: false, 60999: false, 61000: true,
		40000: true, 40001: false, 41000: true, 41010: true, 41011: false,
	} {
		if err := h.CheckPort(port); (err == nil) != ok {
			t.Errorf("port %d: %v", port, err)
		}
		if ok {
			continue
		}
		if _, err := redirect.Up(redirect.Config{Mode: "host", Port: port, Host: h}); !errors.Is(err, redirect.ErrPortRange) {
			t.Errorf("up on port %d: %v", port, err)
		}
	}
}
