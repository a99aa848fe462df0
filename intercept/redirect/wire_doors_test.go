package redirect_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/redirect"
)

// frame is what a covered process of the container sends by a packet socket.
type frame struct {
	name string
	sent [][]byte
}

// frames are such as arrive at the server without a guard.
func (w *wired) frames(t *testing.T) (all []frame) {
	add := func(name string, sent ...[]byte) { all = append(all, frame{name, sent}) }
	tag := func() gopacket.SerializableLayer { return &layers.Dot1Q{Type: layers.EthernetTypeDot1Q} }
	add("IPv4", w.udp(t, "IPv4", ip4(hostAddr.Addr())))
	add("IPv6", w.udp(t, "IPv6", ip6(hostAddr6.Addr())))
	add("tagged", w.udp(t, "tagged", ip4(hostAddr.Addr()), tag()))
	add("tagged, IPv6", w.udp(t, "tagged, IPv6", ip6(hostAddr6.Addr()), tag()))
	add("tagged twice", w.udp(t, "tagged twice", ip4(hostAddr.Addr()), tag(), tag()))
	add("tagged seven times", w.udp(t, "tagged seven times", ip4(hostAddr.Addr()), tag(), tag(), tag(), tag(), tag(), tag(), tag()))
	options := ip4(hostAddr.Addr())
	options.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 1}}
	add("options", w.udp(t, "options", options))
	for name, kind := range map[string]byte{"loose source route": 131, "strict source route": 137} {
		ip := ip4(hopAddr)
		last := hostAddr.Addr().As4()
		ip.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: kind, OptionLength: 7, OptionData: append([]byte{4}, last[:]...)}}
		add(name, w.udp(t, name, ip))
	}
	add("segment routing", w.segments(t, "segment routing"))
	// Two fragments: the second has no ports.
	whole := w.udp(t, "fragments!", ip4(hostAddr.Addr()))
	first, second := ip4(hostAddr.Addr()), ip4(hostAddr.Addr())
	first.Id, second.Id, first.Flags, second.FragOffset = 7, 7, layers.IPv4MoreFragments, 2
	eth := func() *layers.Ethernet {
		return &layers.Ethernet{SrcMAC: farMAC, DstMAC: w.hostMAC, EthernetType: layers.EthernetTypeIPv4}
	}
	add("fragments!", serialize(t, eth(), second, gopacket.Payload(whole[14+20+16:])), serialize(t, eth(), first, gopacket.Payload(whole[34:50])))
	return all
}

// segments is a datagram to a free address, which goes on to the server by an
// IPv6 routing header.
func (w *wired) segments(t *testing.T, name string) []byte {
	last := hostAddr6.Addr()
	plain := w.udp(t, name, ip6(last))
	udp := plain[14+40:]
	route := []byte{unix.IPPROTO_UDP, 4, 4, 1, 1, 0, 0, 0} // two segments, the last of them first
	route = append(route, append(last.AsSlice(), hopAddr6.AsSlice()...)...)
	ip := ip6(hopAddr6)
	ip.NextHeader = layers.IPProtocol(unix.IPPROTO_ROUTING)
	eth := &layers.Ethernet{SrcMAC: farMAC, DstMAC: w.hostMAC, EthernetType: layers.EthernetTypeIPv6}
	return serialize(t, eth, ip, gopacket.Payload(append(route, udp...)))
}

func (w *wired) config(t *testing.T) redirect.Config { return config(t, hostAddr, hostAddr6) }

// Whatever frame leads to the server without the guard leads nowhere with it,
// and is on record.
func TestFramesAcrossAWire(t *testing.T) {
	cfg := func(t *testing.T, w *wired, mode string) redirect.Config {
		c := w.config(t)
		c.Mode = mode
		return c
	}
	for _, mode := range []string{"cgroup", "host"} {
		t.Run(mode, func(t *testing.T) {
			w := wire(t)
			all := w.frames(t)
			for _, f := range all {
				if !w.arrives(t, f.name, f.sent...) {
					t.Errorf("%s does not arrive without a guard", f.name)
				}
			}
			c := cfg(t, w, mode)
			g := w.guard(t, c)
			space, err := redirect.SpaceOf(w.far)
			if err != nil {
				t.Fatal(err)
			}
			seen := attempts(t, g)
			for _, f := range all {
				before, _ := g.Counters()
				if w.arrives(t, f.name, f.sent...) {
					t.Errorf("%s arrives", f.name)
				}
				if after, err := g.Counters(); err != nil || after.Dropped != before.Dropped+uint64(len(f.sent)) {
					t.Errorf("%s: counters %+v, then %+v, %v", f.name, before, after, err)
				}
			}
			b := expect(t, seen, redirect.ReasonPacket)
			if b.Destination != hostAddr || b.Source != netip.AddrPortFrom(farAddr, 1234) || b.Transport != "udp" || b.Peer.NetnsCookie != space.Cookie ||
				b.Peer.SockCgroup == 0 || b.Peer.UID != 0 || b.Bytes != len(all[0].sent[0])-14 {
				t.Errorf("report %+v", b)
			}
			// It holds when nobody is there any more, and goes with the guard.
			g.Close()
			if w.arrives(t, all[0].name, all[0].sent...) {
				t.Error("arrives without a loader")
			}
			w.down(t, c.Pins)
			for _, f := range all {
				if !w.arrives(t, f.name, f.sent...) {
					t.Errorf("%s does not arrive when the guard is down", f.name)
				}
			}
		})
	}
}

// What goes to free addresses and ports, and what is no IP, is let through.
func TestFramesToFreeDestinations(t *testing.T) {
	w := wire(t)
	c := config(t, netip.MustParseAddrPort("10.78.0.1:5433"))
	g := w.guard(t, c)
	for _, name := range []string{"IPv4", "IPv6", "tagged", "tagged twice", "options", "segment routing"} {
		for _, f := range w.frames(t) {
			if f.name == name && !w.arrives(t, f.name, f.sent...) {
				t.Errorf("%s does not arrive", name)
			}
		}
	}
	w.send(t, serialize(t, &layers.Ethernet{SrcMAC: farMAC, DstMAC: w.hostMAC, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{AddrType: 1, Protocol: 0x0800, HwAddressSize: 6, ProtAddressSize: 4, Operation: 1, SourceHwAddress: farMAC, SourceProtAddress: farAddr.AsSlice(), DstHwAddress: make([]byte, 6), DstProtAddress: hostAddr.Addr().AsSlice()}))
	if n, err := g.Counters(); err != nil || n.Dropped != 0 {
		t.Errorf("counters %+v, %v", n, err)
	}
}

// A reset that a packet socket sends is dropped like any other frame; one that
// the kernel owes for a connection to nobody is not.
func TestResetsAcrossAWire(t *testing.T) {
	w := wire(t)
	owed := netip.MustParseAddrPort("10.78.0.1:5433")
	c := config(t, hostAddr, owed)
	c.Mode = "host" // the kernel's own sockets are covered in it
	g := w.guard(t, c)
	reset := &layers.TCP{SrcPort: 1234, DstPort: 5432, RST: true, Window: 1}
	ip := ip4(hostAddr.Addr())
	ip.Protocol = layers.IPProtocolTCP
	_ = reset.SetNetworkLayerForChecksum(ip)
	bare := serialize(t, &layers.Ethernet{SrcMAC: farMAC, DstMAC: w.hostMAC, EthernetType: layers.EthernetTypeIPv4}, ip, reset)
	w.send(t, bare[:14+20+20])
	n, err := g.Counters()
	if err != nil || n.Dropped != 1 {
		t.Errorf("counters %+v, %v", n, err)
	}
	inside(t, w.host, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 5}); err != nil {
			return err
		}
		// From a protected address and port: the answer goes there.
		if err := unix.Bind(fd, sockaddr(unix.AF_INET, owed)); err != nil {
			return err
		}
		if err := unix.Connect(fd, sockaddr(unix.AF_INET, netip.AddrPortFrom(farAddr, 9))); err != unix.ECONNREFUSED {
			t.Errorf("connect to nobody: %v", err)
		}
		return nil
	})
	if n, err := g.Counters(); err != nil || n.Dropped != 1 {
		t.Errorf("counters %+v, %v", n, err)
	}
}

// Who shares the container's namespace and is not covered gets through by
// ordinary sockets, and by no other; what is forwarded has no socket.
func TestNeighboursOfAWire(t *testing.T) {
	w := wire(t)
	for _, mode := range []string{"cgroup", "host"} {
		t.Run(mode, func(t *testing.T) {
			c := w.config(t)
			c.Mode, c.Exempt = mode, []string{"/"}
			if mode == "cgroup" {
				c.Exempt = nil
			}
			w.guard(t, c)
			if d := w.dial(t, "/", hostAddr); d.Line != "direct" {
				t.Errorf("who is not covered: %+v", d)
			}
			if d := w.dial(t, "/", hostAddr6); d.Line != "direct" {
				t.Errorf("who is not covered, IPv6: %+v", d)
			}
			if d := w.dial(t, guarded, hostAddr); !d.refused() {
				t.Errorf("who is covered: %+v", d)
			}
			w.cgroup = "/"
			if f := w.frames(t)[0]; w.arrives(t, f.name, f.sent...) {
				t.Error("a packet socket of who is not covered gets through")
			}
		})
	}
}

// A namespace behind the container's sends through it: by nobody's socket.
func TestForwardedFrames(t *testing.T) {
	w := wire(t)
	behind := space(t, true)
	inside(t, w.far, func() error { return pair("down", "far", behind) })
	from := ip4(hostAddr.Addr())
	from.SrcIP = net.IP{10, 78, 0, 7}
	plain := w.udp(t, "forwarded", from)
	copy(plain[14+20+6:], []byte{0, 0}) // no checksum of UDP
	inside(t, w.far, func() error {
		i, err := net.InterfaceByName("down")
		if err != nil {
			return err
		}
		copy(plain, i.HardwareAddr)
		return errors.Join(linkUp("down"), os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("0"), 0), os.WriteFile("/proc/sys/net/ipv4/conf/down/rp_filter", []byte("0"), 0))
	})
	inside(t, behind, func() error { return linkUp("far") })
	inside(t, w.host, func() error {
		return errors.Join(os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("0"), 0), os.WriteFile("/proc/sys/net/ipv4/conf/near/rp_filter", []byte("0"), 0))
	})
	through := &wired{far: behind, got: w.got, cgroup: "/"}
	if !through.arrives(t, "forwarded", plain) {
		t.Fatal("does not arrive without a guard")
	}
	g := w.guard(t, w.config(t))
	before, _ := g.Counters()
	if through.arrives(t, "forwarded", plain) {
		t.Error("arrives")
	}
	if after, err := g.Counters(); err != nil || after.Dropped != before.Dropped+1 {
		t.Errorf("counters %+v, then %+v, %v", before, after, err)
	}
}

// A wire that comes later is guarded as soon as it is looked for, and one whose
// program was taken off is noticed and put back.
func TestWiresComeAndGo(t *testing.T) {
	w := wire(t)
	c := w.config(t)
	g := w.guard(t, c)
	s, err := redirect.SpaceOf(w.far)
	if err != nil {
		t.Fatal(err)
	}
	changes := make(chan error, 64)
	inside(t, w.host, func() error {
		r, err := redirect.Links()
		if err != nil {
			return err
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				err := r.Read()
				if err != nil {
					return
				}
				select {
				case changes <- nil:
				default:
				}
			}
		}()
		t.Cleanup(func() { r.Close(); <-done })
		return pair("later", "other", w.far)
	})
	<-changes
	inside(t, w.host, func() error {
		fresh, err := g.Wire(s)
		if err != nil || len(fresh) != 1 || fresh[0].Name != "later" {
			t.Errorf("guarded %+v, %v", fresh, err)
		}
		if again, err := g.Wire(s); err != nil || len(again) != 0 {
			t.Errorf("guarded again: %+v, %v", again, err)
		}
		return nil
	})
	if st := w.status(t, c.Pins); !st.Up || len(st.Wires) != 2 || !st.Wires[0].Attached || st.Wires[0].Netns != s.Cookie {
		t.Errorf("status %+v", st)
	}
	plain := w.frames(t)[0]
	w.tamper(t, c.Pins)
	eventually(t, "it is taken off", func() bool { return w.arrives(t, plain.name, plain.sent...) })
	if st := w.status(t, c.Pins); st.Up || !slices.ContainsFunc(st.Wires, func(w redirect.WireStatus) bool { return !w.Attached && w.Problem != "" }) {
		t.Errorf("status %+v", st)
	}
	inside(t, w.host, func() error { up(t, c); return nil })
	if st := w.status(t, c.Pins); !st.Up || w.arrives(t, plain.name, plain.sent...) {
		t.Errorf("not put back: %+v", st)
	}
	inside(t, w.host, func() error { return g.Unwire() })
	if st := w.status(t, c.Pins); !st.Up || len(st.Wires) != 0 || !w.arrives(t, plain.name, plain.sent...) {
		t.Errorf("still guarded: %+v", st)
	}
}

// What egress says of source routes: the first hop is not where it goes.
func TestSourceRoutedPacketIsDropped(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	cfg := config(t, dst)
	cfg.Mode = "host"
	g := up(t, cfg)
	before, _ := g.Counters()
	if e := ask[string](t, "/", "craft", dst.String(), "routed"); e != "" && e != unix.EPERM.Error() {
		t.Fatal(e)
	}
	if after, err := g.Counters(); err != nil || after.Dropped != before.Dropped+1 {
		t.Errorf("counters %+v, then %+v, %v", before, after, err)
	}
}

// routed has an IPv4 packet go to 127.0.0.8 first.
func routed(b []byte, last net.IP) []byte {
	option := append([]byte{1, 131, 7, 4}, last.To4()...)
	b = slices.Concat(b[:20], option, b[20:])
	b[0] += 2
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[16:20], []byte{127, 0, 0, 8})
	return b
}
