package redirect_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// balancer attaches what a socket load balancer does: IPv4 connections to
// from go to to.
func balancer(t testing.TB, cgroup string, from, to netip.AddrPort) link.Link {
	t.Helper()
	port := func(a netip.AddrPort) int32 { return int32(a.Port()>>8 | a.Port()<<8) }
	addr := func(a netip.AddrPort) int32 {
		b := a.Addr().As4()
		return int32(uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24)
	}
	const userIP4, userPort = 4, 24 // struct bpf_sock_addr
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "balancer", Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, userIP4, asm.Word),
			asm.LoadMem(asm.R3, asm.R1, userPort, asm.Word),
			asm.Mov.Imm32(asm.R4, addr(from)),
			asm.JNE.Reg32(asm.R2, asm.R4, "end"),
			asm.JNE.Imm32(asm.R3, port(from), "end"),
			asm.Mov.Imm32(asm.R2, addr(to)),
			asm.StoreMem(asm.R1, userIP4, asm.R2, asm.Word),
			asm.Mov.Imm32(asm.R3, port(to)),
			asm.StoreMem(asm.R1, userPort, asm.R3, asm.Word),
			asm.Mov.Imm(asm.R0, 1).WithSymbol("end"),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	l, err := link.AttachCgroup(link.CgroupOptions{Path: filepath.Join(root, cgroup), Attach: ebpf.AttachCGroupInet4Connect, Program: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// An address that another program rewrites is protected on both sides: what
// was asked for, and what would have been reached.
func TestNeighbours(t *testing.T) {
	backend := server(t, "127.0.0.1:0")
	virtual := netip.MustParseAddrPort("192.0.2.10:5432")
	for _, protected := range []struct {
		name string
		dst  netip.AddrPort
	}{{"asked", virtual}, {"reached", backend}} {
		for _, where := range []string{"before", "after", "below"} {
			t.Run(protected.name+" "+where, func(t *testing.T) {
				cfg := config(t, protected.dst)
				below := redirecttest.Cgroup(t)
				cfg.Covered = append(cfg.Covered, below)
				cgroup := guarded
				if where == "before" {
					balancer(t, "/", virtual, backend)
				}
				p := open(t, cfg)
				switch where {
				case "after":
					balancer(t, "/", virtual, backend)
					// The next look finds it and puts the program last again.
					s, err := redirect.GetStatus(cfg.Pins)
					if err != nil || s.Up {
						t.Errorf("not noticed: %+v %v", s.Programs, err)
					}
					if len(s.Neighbours) != 1 || s.Neighbours[0].Name != "balancer" || s.Neighbours[0].Cgroup != "/" {
						t.Errorf("neighbours %+v", s.Neighbours)
					}
					g, err := redirect.Up(cfg)
					if err != nil {
						t.Fatal(err)
					}
					defer g.Close()
					if s, err := redirect.GetStatus(cfg.Pins); err != nil || !s.Up {
						t.Errorf("after another Up: %+v, %v", s.Programs, err)
					}
				case "below":
					balancer(t, below, virtual, backend)
					cgroup = below
				}
				d := ask[dialled](t, cgroup, "dial", "tcp", virtual.String())
				if protected.name == "asked" && where != "after" && release(t) < 617 {
					// Nothing can stand before that program: what was asked
					// for is not known. It is told, and its backend can be
					// protected.
					s, err := redirect.GetStatus(cfg.Pins)
					if err != nil || len(s.Neighbours) != 1 || s.Neighbours[0].Name != "balancer" || d.Line != "direct" {
						t.Errorf("neighbours %+v, %v, agent %+v", s.Neighbours, err, d)
					}
					return
				}
				f, ok := d.facts()
				if !ok || f.Reached != backend {
					t.Fatalf("%+v", d)
				}
				// Where a program of a sub-cgroup comes first, kernels before
				// 6.15 do not tell what was asked for.
				if f.Destination != virtual && (where == "after" || release(t) >= 617) {
					t.Errorf("asked for %s, the record says %s", virtual, f.Destination)
				}
				if d.Peername != f.Destination.String() {
					t.Errorf("peer name %s", d.Peername)
				}
				_ = p
			})
		}
	}
}

// release is the kernel's, as major*100+minor.
func release(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	var major, minor int
	for i, part := 0, &major; i < len(b); i++ {
		switch c := b[i]; {
		case c >= '0' && c <= '9':
			*part = *part*10 + int(c-'0')
		case c == '.' && part == &major:
			part = &minor
		default:
			return major*100 + minor
		}
	}
	return major*100 + minor
}
