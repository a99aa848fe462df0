package redirect_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
)

func init() {
	// stream-in N ADDRESS: sends datagrams from the namespace of descriptor 3.
	roles["stream-in"] = func(args []string) any {
		enter(3)
		var n int
		fmt.Sscan(args[0], &n)
		to := sockaddr(unix.AF_INET, netip.MustParseAddrPort(args[1]))
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		for i := 0; err == nil && i < n; i++ {
			if err = unix.Sendto(fd, []byte("x"), 0, to); err == unix.ECONNREFUSED {
				err = nil // nobody is there
			}
		}
		return fmt.Sprint(err)
	}
}

// What a packet costs at its socket and at the host's end of a wire, by the
// kernel's statistics, with 5,000 destinations that it does not go to.
func BenchmarkWire(b *testing.B) {
	w := wire(b)
	cfg := config(b, hostAddr)
	for i := range 5000 {
		a := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		cfg.Destinations = append(cfg.Destinations, intercept.Endpoint(netip.AddrPortFrom(a, 5432)))
	}
	g := w.guard(b, cfg)
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	programs := map[string]*ebpf.Program{"ns/egress": programAt(b, g.Pins(), "link_egress"), "ns/wire": programAt(b, g.Pins(), "tcx_*")}
	before := map[string]*ebpf.ProgramStats{}
	for unit, p := range programs {
		if before[unit], err = p.Stats(); err != nil {
			b.Fatal(err)
		}
	}
	out, err := start(b, guarded, "stream-in", []*os.File{w.far}, fmt.Sprint(b.N), "10.78.0.1:9").Output()
	if err != nil || line(out) != `"\u003cnil\u003e"` {
		b.Fatalf("%s, %v", out, err)
	}
	for unit, p := range programs {
		after, err := p.Stats()
		if err != nil {
			b.Fatal(err)
		}
		runs := after.RunCount - before[unit].RunCount
		if runs == 0 { // fewer than were sent: a busy host drops some before
			b.Fatalf("%s: no packet was seen", unit)
		}
		b.ReportMetric(float64(after.Runtime-before[unit].Runtime)/float64(runs), unit)
	}
}

// programAt returns the program of a pinned link.
func programAt(b *testing.B, dir, name string) *ebpf.Program {
	b.Helper()
	pin, err := filepath.Glob(filepath.Join(dir, name))
	if err != nil || len(pin) != 1 {
		b.Fatalf("%q, %v", pin, err)
	}
	l, err := link.LoadPinnedLink(pin[0], nil)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		b.Fatal(err)
	}
	p, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Close() })
	return p
}
