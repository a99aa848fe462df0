package redirect

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
)

// place is where a program stands among others at the same hook.
type place int

const (
	anywhere place = iota // each of them must agree, in whatever order
	first                 // sees the address that the caller asked for
	last                  // sees the address that others left, and has the last word
)

// hook is one program at the cgroup2 root, pinned by its name.
type hook struct {
	name   string
	attach ebpf.AttachType
	place  place
}

// hooks in the order of their attachment: what the passage needs stands
// before the first connection is turned, and the backstop closes the set.
var hooks = []hook{
	{bpf.GuardProgBind4, ebpf.AttachCGroupInet4Bind, anywhere},
	{bpf.GuardProgBind6, ebpf.AttachCGroupInet6Bind, anywhere},
	{bpf.GuardProgSockOps, ebpf.AttachCGroupSockOps, anywhere},
	{bpf.GuardProgFacts, ebpf.AttachCGroupGetsockopt, anywhere},
	{bpf.GuardProgGetpeername4, ebpf.AttachCgroupInet4GetPeername, anywhere},
	{bpf.GuardProgGetpeername6, ebpf.AttachCgroupInet6GetPeername, anywhere},
	{bpf.GuardProgSockCreate, ebpf.AttachCGroupInetSockCreate, anywhere},
	{bpf.GuardProgSendmsg4, ebpf.AttachCGroupUDP4Sendmsg, anywhere},
	{bpf.GuardProgSendmsg6, ebpf.AttachCGroupUDP6Sendmsg, anywhere},
	{bpf.GuardProgAsked4, ebpf.AttachCGroupInet4Connect, first},
	{bpf.GuardProgAsked6, ebpf.AttachCGroupInet6Connect, first},
	{bpf.GuardProgConnect4, ebpf.AttachCGroupInet4Connect, last},
	{bpf.GuardProgConnect6, ebpf.AttachCGroupInet6Connect, last},
	{bpf.GuardProgEgress, ebpf.AttachCGroupInetEgress, anywhere},
}

// unixHooks are there from kernel 6.7 on.
var unixHooks = []hook{
	{bpf.UnixProgFactsUnix, ebpf.AttachCGroupGetsockopt, anywhere},
	{bpf.UnixProgGetpeernameUnix, ebpf.AttachCgroupUnixGetpeername, anywhere},
	{bpf.UnixProgGetsocknameUnix, ebpf.AttachCgroupUnixGetsockname, anywhere},
	{bpf.UnixProgSendmsgUnix, ebpf.AttachCgroupUnixSendmsg, anywhere},
	{bpf.UnixProgConnectUnix, ebpf.AttachCgroupUnixConnect, last},
}

// streamHooks are there where bpf is among the kernel's security modules. They are
// no cgroup's, but everybody's.
var streamHooks = []hook{{bpf.StreamProgStream, ebpf.AttachLSMMac, anywhere}}

// allHooks are those of every kernel.
func allHooks() []hook { return slices.Concat(hooks, unixHooks, streamHooks) }

// haveHooks are those of this kernel.
func haveHooks() []hook {
	have := hooks
	if haveUnix() == nil {
		have = slices.Concat(have, unixHooks)
		if haveStream() == nil {
			have = slices.Concat(have, streamHooks)
		}
	}
	return have
}

// Flags of BPF_LINK_CREATE and BPF_PROG_QUERY, linux/bpf.h.
const (
	fBefore         = 1 << 3 // kernel 6.17 for cgroups: before all others
	fPreorder       = 1 << 6 // kernel 6.15: before programs of sub-cgroups
	queryEffective  = 1 << 0
	linkPinPrefix   = "link_"
	linkSparePrefix = "spare_"
)

func (h hook) pin(dir string) string { return filepath.Join(dir, linkPinPrefix+h.name) }

// install puts prog in place: by an atomic update of the pinned link when it
// sits on this cgroup and in its place, else by a new link.
func (h hook) install(dir, root string, rootID uint64, prog *ebpf.Program) error {
	pin := h.pin(dir)
	if l, err := link.LoadPinnedLink(pin, nil); err == nil {
		defer l.Close()
		info, err := l.Info()
		if err == nil && !h.everybodys() && info.Cgroup() != nil && info.Cgroup().CgroupId == rootID {
			if err := l.Update(prog); err != nil {
				return fmt.Errorf("update %s: %w", h.name, err)
			}
			if placed, err := h.placed(root, l); err != nil || placed {
				return errors.Join(err, h.unspare(dir))
			}
		}
	}
	// Attach first, then replace the pin: never a moment without a program.
	l, err := h.link(root, prog)
	if err != nil {
		return fmt.Errorf("attach %s to %s: %w", h.name, root, err)
	}
	defer l.Close()
	if err := h.unspare(dir); err != nil {
		return err
	}
	spare := h.spare(dir)
	if err := l.Pin(spare); err != nil {
		return fmt.Errorf("pin %s: %w", h.name, err)
	}
	if err := os.Rename(spare, pin); err != nil {
		return fmt.Errorf("pin %s: %w", h.name, err)
	}
	return nil
}

// everybodys reports a hook that no cgroup has. Its link can't be updated: a new
// one takes its place.
func (h hook) everybodys() bool { return h.attach == ebpf.AttachLSMMac }

// spare is where a link is pinned that is about to take the pin's place.
func (h hook) spare(dir string) string { return filepath.Join(dir, linkSparePrefix+h.name) }

// unspare detaches what an install that was cut short has left: a second
// program, of that version.
func (h hook) unspare(dir string) error {
	if err := os.Remove(h.spare(dir)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove a spare link: %w", err)
	}
	return nil
}

// link attaches prog, first as near to its place as the kernel can put it.
func (h hook) link(root string, prog *ebpf.Program) (link.Link, error) {
	if h.everybodys() {
		return link.AttachLSM(link.LSMOptions{Program: prog})
	}
	f, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	flags := []uint32{0}
	if h.place == first {
		flags = []uint32{fPreorder | fBefore, fPreorder, 0}
	}
	for _, fl := range flags {
		var l *link.RawLink
		l, err = link.AttachRawLink(link.RawLinkOptions{Target: int(f.Fd()), Program: prog, Attach: h.attach, Flags: fl})
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	return nil, err
}

// order returns the programs that the kernel runs at a cgroup, in their order.
func (h hook) order(cgroup string) ([]ebpf.ProgramID, error) {
	f, err := os.Open(cgroup)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	live, err := link.QueryPrograms(link.QueryOptions{Target: int(f.Fd()), Attach: h.attach, QueryFlags: queryEffective})
	if err != nil {
		return nil, fmt.Errorf("ask the kernel: %w", err)
	}
	var ids []ebpf.ProgramID
	for _, p := range live.Programs {
		ids = append(ids, p.ID)
	}
	return ids, nil
}

// placed reports whether the link's program stands where it must at root, as
// far as this kernel can do anything about it.
func (h hook) placed(root string, l link.Link) (bool, error) {
	if h.place == anywhere {
		return true, nil
	}
	info, err := l.Info()
	if err != nil {
		return false, err
	}
	ids, err := h.order(root)
	if err != nil {
		return false, err
	}
	i := slices.Index(ids, info.Program)
	switch {
	case i < 0:
		return false, nil
	case h.place == last:
		return i == len(ids)-1, nil
	}
	return i == 0 || !haveBefore(), nil
}

// attached reports whether the pinned link's program is among those that the
// kernel runs at the live cgroup2 root, and in its place.
func (h hook) attached(dir, root string, rootID uint64) error {
	l, err := link.LoadPinnedLink(h.pin(dir), nil)
	if err != nil {
		return fmt.Errorf("not pinned: %w", err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil || h.everybodys() {
		return err
	}
	if cg := info.Cgroup(); cg == nil || cg.CgroupId != rootID {
		return fmt.Errorf("attached to another cgroup than %s", root)
	}
	ids, err := h.order(root)
	if err != nil {
		return err
	}
	if !slices.Contains(ids, info.Program) {
		return fmt.Errorf("not attached to %s", root)
	}
	if placed, err := h.placed(root, l); err != nil || !placed {
		return errors.Join(err, errPlace)
	}
	return nil
}

var errPlace = errors.New("another program stands where it must stand: the next `sallyport guard up` puts it back")

// haveBefore reports whether the kernel can put a program before others of
// its cgroup.
func haveBefore() bool { return runs(6, 17) }

// runs reports whether the kernel is a version or a later one.
func runs(major, minor int) bool {
	var u unix.Utsname
	return unix.Uname(&u) == nil && since(unix.ByteSliceToString(u.Release[:]), major, minor)
}
