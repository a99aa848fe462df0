package redirect

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"sallyport.dev/sallyport/bpf"
)

// hook is one program at the cgroup2 root, pinned by its name.
type hook struct {
	name   string
	attach ebpf.AttachType
}

// hooks in the order of their attachment: what the passage needs stands
// before the first connection is turned, and the backstop closes the set.
var hooks = []hook{
	{bpf.GuardProgBind4, ebpf.AttachCGroupInet4Bind},
	{bpf.GuardProgBind6, ebpf.AttachCGroupInet6Bind},
	{bpf.GuardProgSockOps, ebpf.AttachCGroupSockOps},
	{bpf.GuardProgFacts, ebpf.AttachCGroupGetsockopt},
	{bpf.GuardProgGetpeername4, ebpf.AttachCgroupInet4GetPeername},
	{bpf.GuardProgGetpeername6, ebpf.AttachCgroupInet6GetPeername},
	{bpf.GuardProgSockCreate, ebpf.AttachCGroupInetSockCreate},
	{bpf.GuardProgSendmsg4, ebpf.AttachCGroupUDP4Sendmsg},
	{bpf.GuardProgSendmsg6, ebpf.AttachCGroupUDP6Sendmsg},
	{bpf.GuardProgConnect4, ebpf.AttachCGroupInet4Connect},
	{bpf.GuardProgConnect6, ebpf.AttachCGroupInet6Connect},
	{bpf.GuardProgEgress, ebpf.AttachCGroupInetEgress},
}

func (h hook) pin(dir string) string { return filepath.Join(dir, "link_"+h.name) }

// install puts prog in place: by an atomic update of the pinned link when it
// sits on this cgroup, else by a new link.
func (h hook) install(dir, root string, rootID uint64, prog *ebpf.Program) error {
	pin := h.pin(dir)
	if l, err := link.LoadPinnedLink(pin, nil); err == nil {
		defer l.Close()
		if info, err := l.Info(); err == nil && info.Cgroup() != nil && info.Cgroup().CgroupId == rootID {
			if err := l.Update(prog); err != nil {
				return fmt.Errorf("update %s: %w", h.name, err)
			}
			return nil
		}
	}
	// Attach first, then replace the pin: never a moment without a program.
	l, err := link.AttachCgroup(link.CgroupOptions{Path: root, Attach: h.attach, Program: prog})
	if err != nil {
		return fmt.Errorf("attach %s to %s: %w", h.name, root, err)
	}
	defer l.Close()
	if err := os.Remove(pin); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("replace %s: %w", pin, err)
	}
	if err := l.Pin(pin); err != nil {
		return fmt.Errorf("pin %s: %w", h.name, err)
	}
	return nil
}

// attached reports whether the pinned link's program is among those that the
// kernel runs at the live cgroup2 root.
func (h hook) attached(dir, root string, rootID uint64) error {
	l, err := link.LoadPinnedLink(h.pin(dir), nil)
	if err != nil {
		return fmt.Errorf("not pinned: %w", err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return err
	}
	if cg := info.Cgroup(); cg == nil || cg.CgroupId != rootID {
		return fmt.Errorf("attached to another cgroup than %s", root)
	}
	f, err := os.Open(root)
	if err != nil {
		return err
	}
	defer f.Close()
	live, err := link.QueryPrograms(link.QueryOptions{Target: int(f.Fd()), Attach: h.attach})
	if err != nil {
		return fmt.Errorf("ask the kernel: %w", err)
	}
	for _, p := range live.Programs {
		if p.ID == info.Program {
			return nil
		}
	}
	return fmt.Errorf("not attached to %s", root)
}
