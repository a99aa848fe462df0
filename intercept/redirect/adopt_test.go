package redirect_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Of listeners that were handed over what is missing is opened, whichever it is:
// a unit may name one family alone.
func TestAdoptOpensWhatIsMissing(t *testing.T) {
	for i, want := range []string{"::1", "127.0.0.1"} { // the other one is handed over
		t.Run(want, func(t *testing.T) {
			cfg := config(t, netip.MustParseAddrPort("192.0.2.7:5432"))
			g := up(t, cfg)
			lns, err := g.Listen()
			if err != nil {
				t.Fatal(err)
			}
			defer lns.Close()
			if len(lns.TCP) != 2 {
				t.Fatalf("%d listeners: this host lacks IPv6", len(lns.TCP))
			}
			f, err := lns.TCP[i].File()
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			lns.Close()
			missing, err := g.Adopt([]int{int(f.Fd())})
			if err != nil {
				t.Fatal(err)
			}
			if missing == nil || len(missing.TCP) != 1 {
				t.Fatalf("opened %+v, want the one at %s", missing, want)
			}
			defer missing.Close()
			at := netip.AddrPortFrom(netip.MustParseAddr(want), cfg.Port).String()
			if missing.TCP[0].Addr().String() != at {
				t.Errorf("opened %s, want %s", missing.TCP[0].Addr(), at)
			}
		})
	}
}

// A program that an installation left when it was cut short is taken off by the
// next, wherever the pinned one stands.
func TestSpareLinkIsTakenOff(t *testing.T) {
	cfg := config(t, netip.MustParseAddrPort("192.0.2.7:5432"))
	g := up(t, cfg)
	pinned, err := link.LoadPinnedLink(filepath.Join(g.Pins(), "link_egress"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer pinned.Close()
	info, err := pinned.Info()
	if err != nil {
		t.Fatal(err)
	}
	prog, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	spare, err := link.AttachCgroup(link.CgroupOptions{Path: g.CgroupRoot(), Attach: ebpf.AttachCGroupInetEgress, Program: prog})
	if err != nil {
		t.Fatal(err)
	}
	defer spare.Close()
	at := filepath.Join(g.Pins(), "spare_egress")
	if err := spare.Pin(at); err != nil {
		t.Fatal(err)
	}
	up(t, cfg)
	if _, err := os.Stat(at); err == nil {
		t.Error("it is pinned still")
	}
}
