package redirect

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"

	"sallyport.dev/sallyport/bpf"
)

// CheckBPFFS returns ErrBPFFS where Up would find no bpffs for the pins and
// couldn't mount one.
func (h Host) CheckBPFFS(pins string) error {
	parent := filepath.Dir(filepath.Clean(pins))
	if on, err := onBPFFS(parent); err == nil && on {
		return nil
	}
	known, err := os.ReadFile(h.proc("filesystems"))
	if parent == "/sys/fs/bpf" && err == nil && strings.Contains(string(known), "\tbpf\n") {
		return nil // Up mounts it
	}
	return fmt.Errorf("%w (%s is not on one)", ErrBPFFS, parent)
}

// CheckPort returns ErrPortRange when the kernel may give the passage's port to
// any client as its source port: whoever gets it while no daemon is there
// could listen on it, and no bind hook would see that.
func (h Host) CheckPort(port uint16) error {
	b, err := os.ReadFile(h.proc("sys/net/ipv4/ip_local_port_range"))
	if err != nil {
		return fmt.Errorf("%w (%v)", ErrPortRange, err)
	}
	var low, high uint16
	if _, err := fmt.Sscan(string(b), &low, &high); err != nil {
		return fmt.Errorf("%w (%q: %v)", ErrPortRange, b, err)
	}
	if port < low || port > high {
		return nil
	}
	reserved, _ := os.ReadFile(h.proc("sys/net/ipv4/ip_local_reserved_ports"))
	for r := range strings.SplitSeq(strings.TrimSpace(string(reserved)), ",") {
		from, to, ok := strings.Cut(r, "-")
		if !ok {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 16)
		last, err2 := strconv.ParseUint(to, 10, 16)
		if err1 == nil && err2 == nil && uint64(port) >= first && uint64(port) <= last {
			return nil
		}
	}
	return fmt.Errorf("%w (%d is in %d-%d)", ErrPortRange, port, low, high)
}

// CheckUnprivileged returns an error when unprivileged processes may load BPF
// programs of their own.
func (h Host) CheckUnprivileged() error {
	b, err := os.ReadFile(h.proc("sys/kernel/unprivileged_bpf_disabled"))
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(b)) == "0" {
		return errors.New("kernel.unprivileged_bpf_disabled is 0")
	}
	return nil
}

// Probe has the kernel verify every program, without attaching any. The map
// holds each program's name and its error, nil where it loads.
func Probe() (map[string]error, error) {
	results := map[string]error{}
	for _, load := range []func() (*ebpf.CollectionSpec, error){bpf.LoadGuard, bpf.LoadVeth} {
		spec, err := load()
		if err != nil {
			return nil, fmt.Errorf("read programs: %w", err)
		}
		probe(spec, results)
	}
	return results, nil
}

func probe(spec *ebpf.CollectionSpec, results map[string]error) {
	for name := range spec.Programs {
		one := spec.Copy()
		for _, m := range one.Maps {
			m.Pinning = ebpf.PinNone
		}
		for other := range one.Programs {
			if other != name {
				delete(one.Programs, other)
			}
		}
		c, err := ebpf.NewCollection(one)
		if err == nil {
			c.Close()
		}
		results[name] = err
	}
}

// effective reads CapEff of a /proc/PID/status.
func effective(status []byte) uint64 {
	_, rest, _ := strings.Cut(string(status), "CapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	caps, _ := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	return caps
}
