package discover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
)

// programs count who connects whither. Nothing of them is pinned: the kernel
// takes them away with the last descriptor, however the process ends.
type programs struct {
	objects bpf.DiscoverObjects
	links   []link.Link
	ring    *ringbuf.Reader
}

// attach puts the programs at a cgroup2 root.
func attach(root string) (_ *programs, err error) {
	p := &programs{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if err := bpf.LoadDiscoverObjects(&p.objects, nil); err != nil {
		return nil, fmt.Errorf("load the programs: %w (`sallyport doctor` tells what the kernel lacks)", err)
	}
	if p.ring, err = ringbuf.NewReader(p.objects.Arrivals); err != nil {
		return nil, fmt.Errorf("read the programs' reports: %w", err)
	}
	for _, h := range []struct {
		prog *ebpf.Program
		at   ebpf.AttachType
	}{
		{p.objects.Discover4, ebpf.AttachCGroupInet4Connect},
		{p.objects.Discover6, ebpf.AttachCGroupInet6Connect},
	} {
		l, err := inFront(root, h.prog, h.at)
		if err != nil {
			return nil, fmt.Errorf("attach to %s: %w", root, err)
		}
		p.links = append(p.links, l)
	}
	return p, nil
}

// preorder is BPF_F_PREORDER, linux/bpf.h, kernel 6.15.
const preorder = 1 << 6

// inFront attaches a program before those that may change an address, and
// before the guard's that must be the last; before kernel 6.15 behind all.
func inFront(root string, prog *ebpf.Program, at ebpf.AttachType) (link.Link, error) {
	f, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	o := link.RawLinkOptions{Target: int(f.Fd()), Program: prog, Attach: at, Flags: preorder}
	l, err := link.AttachRawLink(o)
	if errors.Is(err, unix.EINVAL) {
		o.Flags = 0
		l, err = link.AttachRawLink(o)
	}
	return l, err
}

// arrival waits for a kind of connection that was not seen before.
func (p *programs) arrival() (f bpf.DiscoverFresh, err error) {
	r, err := p.ring.Read()
	if err != nil {
		return f, err
	}
	if !fill(raw(unsafe.Pointer(&f), unsafe.Sizeof(f)), r.RawSample) {
		return f, errors.New("a report of the programs is cut short")
	}
	return f, nil
}

// counts returns all that was counted.
func (p *programs) counts() (map[bpf.DiscoverReach]bpf.DiscoverSeen, error) {
	all := map[bpf.DiscoverReach]bpf.DiscoverSeen{}
	var k bpf.DiscoverReach
	var v bpf.DiscoverSeen
	it := p.objects.Reached.Iterate()
	for it.Next(&k, &v) {
		all[k] = v
	}
	return all, it.Err()
}

// unseen returns how much of a kind was not kept.
func (p *programs) unseen(which bpf.DiscoverUnseen) (n uint64, err error) {
	err = p.objects.Missed.Lookup(uint32(which), &n)
	return n, err
}

// detach takes the programs off; what they counted stays to be read.
func (p *programs) detach() {
	for _, l := range p.links {
		l.Close()
	}
	p.links = nil
}

func (p *programs) close() {
	p.detach()
	if p.ring != nil {
		p.ring.Close()
	}
	p.objects.Close()
}

// destination returns where a connection was to go.
func destination(k *bpf.DiscoverReach) netip.AddrPort {
	var a [16]byte
	for i, w := range k.Addr {
		binary.NativeEndian.PutUint32(a[4*i:], w)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(a).Unmap(), k.Port)
}

// ticks is the kernel's TICK of /proc/PID/stat, in nanoseconds.
const ticks = 10_000_000

// clock turns times since boot into those of the wall.
func clock() (func(boot uint64) time.Time, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return nil, fmt.Errorf("clock: %w", err)
	}
	zero := time.Now().Add(-time.Duration(ts.Nano()))
	return func(boot uint64) time.Time { return zero.Add(time.Duration(boot)).Round(time.Millisecond) }, nil
}

// commandLine returns a process's arguments. They may hold secrets: nothing of
// them is shown but the addresses that a known forwarder was given.
func commandLine(pid uint32) []string {
	b, err := os.ReadFile(fmt.Sprintf("%s/%d/cmdline", procfs, pid))
	if err != nil {
		return nil
	}
	var args []string
	for i := 0; i < len(b); {
		n := slices.Index(b[i:], 0)
		if n < 0 {
			n = len(b) - i
		}
		args = append(args, string(b[i:i+n]))
		i += n + 1
	}
	return args
}
