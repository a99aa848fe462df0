package redirect

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"sallyport.dev/sallyport/bpf"
)

// securityModules lists the kernel's, with commas between (securityfs).
const securityModules = "/sys/kernel/security/lsm"

// HaveStream returns nil where the kernel lets a program see both ends of a unix
// connection: a turned one then arrives at the passage's own listener or nowhere,
// whoever has its address.
func HaveStream() error {
	if err := errors.Join(HaveUnix(), haveStream()); err != nil {
		return err
	}
	all, err := os.ReadFile(securityModules)
	if err != nil {
		return fmt.Errorf("security modules: %w", err)
	}
	if !slices.Contains(strings.Split(strings.TrimSpace(string(all)), ","), "bpf") {
		return fmt.Errorf("bpf is not among the security modules (%s): add it to lsm= of the kernel's command line", strings.TrimSpace(string(all)))
	}
	return nil
}

// haveStream asks whether the kernel takes programs at unix_stream_connect
// (CONFIG_BPF_LSM). Whether it also runs them is
// said by its list of security modules: bpf must be on it.
var haveStream = sync.OnceValue(func() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "unix_stream_connect", License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return err
	}
	return p.Close()
})

// loadStream loads the program that sees both ends of a unix connection, where
// the kernel has its hook.
func (g *Guard) loadStream(progs *bpf.StreamPrograms, opts *ebpf.CollectionOptions) error {
	if g.unix == nil || haveStream() != nil {
		return nil
	}
	spec, err := bpf.LoadStream()
	if err != nil {
		return fmt.Errorf("read programs: %w", err)
	}
	if err := spec.LoadAndAssign(progs, opts); err != nil {
		if errors.Is(err, ebpf.ErrMapIncompatible) {
			return fmt.Errorf("%w (%v)", ErrLayout, err)
		}
		return fmt.Errorf("load the program of unix connections: %w", err)
	}
	return nil
}

// ownListener tells that program which socket is the passage's own.
func (g *Guard) ownListener(fd int) error {
	if g.unix == nil {
		return nil
	}
	l := bpf.UnixLocal{}
	l.Record.Layout, l.Record.Side = layout, uint32(bpf.StreamSideSIDE_LISTENER)
	return g.unix.Locals.Put(int32(fd), l)
}
