package redirect_test

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/redirect"
)

// wired is a network namespace that stands for the host, with a server, and
// another for a container, at the two ends of a veth pair.
type wired struct {
	host, far *os.File
	got       chan string // what arrived at the server's datagram socket
	hostMAC   net.HardwareAddr
	cgroup    string // of who sends frames
}

var (
	hostAddr  = netip.MustParseAddrPort("10.78.0.1:5432") // protected
	hostAddr6 = netip.MustParseAddrPort("[fd00:78::1]:5432")
	hopAddr   = netip.MustParseAddr("10.78.0.9") // the host's too, and free
	hopAddr6  = netip.MustParseAddr("fd00:78::9")
	farAddr   = netip.MustParseAddr("10.78.0.2")
	farAddr6  = netip.MustParseAddr("fd00:78::2")
	farMAC    = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

func wire(t testing.TB) *wired {
	t.Helper()
	w := &wired{host: space(t, true), far: space(t, true), got: make(chan string, 64), cgroup: "/"}
	inside(t, w.host, func() error {
		return errors.Join(
			pair("near", "far", w.far), address("near", hostAddr.Addr()), address("near", hostAddr6.Addr()),
			address("near", hopAddr), address("near", hopAddr6), linkUp("near"),
			// Source routing is as much allowed as it can be.
			os.WriteFile("/proc/sys/net/ipv4/conf/all/accept_source_route", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv4/conf/near/accept_source_route", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/seg6_enabled", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv6/conf/near/seg6_enabled", []byte("1"), 0),
		)
	})
	inside(t, w.far, func() error {
		return errors.Join(address("far", farAddr), address("far", farAddr6), linkUp("far"))
	})
	inside(t, w.host, func() error {
		i, err := net.InterfaceByName("near")
		if err != nil {
			return err
		}
		w.hostMAC = i.HardwareAddr
		return w.listen(t)
	})
	return w
}

// listen has the server take datagrams and connections.
func (w *wired) listen(t testing.TB) error {
	c, err := net.ListenPacket("udp", ":5432")
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", ":5432")
	if err != nil {
		c.Close()
		return err
	}
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		b := make([]byte, 4096)
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			w.got <- string(b[:n])
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("direct\n"))
			c.Close()
		}
	}()
	t.Cleanup(func() { c.Close(); l.Close(); <-done; <-done })
	return nil
}

// arrives sends a frame from the container and reports whether its datagram
// comes to the server.
func (w *wired) arrives(t *testing.T, name string, frames ...[]byte) bool {
	t.Helper()
	for len(w.got) > 0 {
		<-w.got
	}
	w.send(t, frames...)
	select {
	case got := <-w.got:
		if got != name {
			t.Fatalf("%q arrived, want %q", got, name)
		}
		return true
	case <-time.After(300 * time.Millisecond):
		return false
	}
}

// send has a process with CAP_NET_RAW send frames by a packet socket: a covered
// one, where there is a guard.
func (w *wired) send(t *testing.T, frames ...[]byte) {
	t.Helper()
	var args []string
	for _, f := range frames {
		args = append(args, hex.EncodeToString(f))
	}
	out, err := start(t, w.cgroup, "frames", []*os.File{w.far}, args...).Output()
	if err != nil || line(out) != `""` {
		t.Fatalf("%s, %v", out, err)
	}
}

func init() {
	// frames HEX...: sends frames in the namespace of descriptor 3.
	roles["frames"] = func(args []string) any {
		enter(3)
		i, err := net.InterfaceByName("far")
		if err != nil {
			return err.Error()
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err.Error()
		}
		for _, a := range args {
			b, err := hex.DecodeString(a)
			if err == nil {
				err = unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: i.Index})
			}
			if err != nil {
				return err.Error()
			}
		}
		return ""
	}
}

// guard brings a guard up over that host. It covers the wire to the
// container.
func (w *wired) guard(t testing.TB, cfg redirect.Config) *redirect.Guard {
	t.Helper()
	var g *redirect.Guard
	inside(t, w.host, func() error {
		g = up(t, cfg)
		w.cgroup = guarded
		t.Cleanup(func() { w.down(t, cfg.Pins) })
		s, err := redirect.SpaceOf(w.far)
		if err != nil {
			return err
		}
		fresh, err := g.Wire(s)
		if err == nil && (len(fresh) != 1 || fresh[0].Name != "near" || fresh[0].Netns != s.Cookie) {
			t.Errorf("guarded %+v", fresh)
		}
		return err
	})
	return g
}

// down takes the guard down; it leaves nothing at the interface.
func (w *wired) down(t testing.TB, pins string) {
	t.Helper()
	w.cgroup = "/"
	inside(t, w.host, func() error {
		err := redirect.Down(pins)
		if left := qdiscs(t); slices.Contains(left, "clsact") {
			t.Errorf("left there: %q", left)
		}
		return err
	})
}

// qdiscs lists the kinds of them in this network namespace.
func qdiscs(t testing.TB) (kinds []string) {
	t.Helper()
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const head = 20 // struct tcmsg
	all, err := c.Execute(netlink.Message{Header: netlink.Header{Type: unix.RTM_GETQDISC, Flags: netlink.Request | netlink.Dump}, Data: make([]byte, head)})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		d, err := netlink.NewAttributeDecoder(m.Data[head:])
		if err != nil {
			t.Fatal(err)
		}
		for d.Next() {
			if d.Type() == 1 { // TCA_KIND
				kinds = append(kinds, d.String())
			}
		}
	}
	return kinds
}

func (w *wired) status(t *testing.T, pins string) (s redirect.Status) {
	t.Helper()
	inside(t, w.host, func() (err error) {
		s, err = redirect.GetStatus(pins)
		return err
	})
	return s
}

// udp returns the layers of a datagram to the server; what stands between
// Ethernet and IP may be given.
func (w *wired) udp(t *testing.T, name string, ip gopacket.SerializableLayer, tags ...gopacket.SerializableLayer) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: farMAC, DstMAC: w.hostMAC, EthernetType: layers.EthernetTypeIPv4}
	udp := &layers.UDP{SrcPort: 1234, DstPort: layers.UDPPort(hostAddr.Port())}
	// Of where it goes in the end.
	_ = udp.SetNetworkLayerForChecksum(ip4(hostAddr.Addr()))
	if _, ok := ip.(*layers.IPv6); ok {
		eth.EthernetType = layers.EthernetTypeIPv6
		_ = udp.SetNetworkLayerForChecksum(ip6(hostAddr6.Addr()))
	}
	all := []gopacket.SerializableLayer{eth}
	if len(tags) > 0 {
		tags[len(tags)-1].(*layers.Dot1Q).Type = eth.EthernetType
		eth.EthernetType = layers.EthernetTypeDot1Q
		all = append(all, tags...)
	}
	return serialize(t, append(all, ip, udp, gopacket.Payload(name))...)
}

func serialize(t *testing.T, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func ip4(to netip.Addr) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: farAddr.AsSlice(), DstIP: to.AsSlice()}
}

func ip6(to netip.Addr) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: farAddr6.AsSlice(), DstIP: to.AsSlice()}
}

// pair makes a veth pair with its other end in a namespace.
func pair(near, far string, ns *os.File) error {
	const peerInfo = 1 // VETH_INFO_PEER
	info := make([]byte, unix.SizeofIfInfomsg)
	return newLink(near, "veth", func(e *netlink.AttributeEncoder) error {
		e.Do(peerInfo, func() ([]byte, error) {
			peer := netlink.NewAttributeEncoder()
			peer.String(unix.IFLA_IFNAME, far)
			peer.Bytes(unix.IFLA_ADDRESS, farMAC)
			peer.Uint32(unix.IFLA_NET_NS_FD, uint32(ns.Fd()))
			b, err := peer.Encode()
			return append(info, b...), err
		})
		return nil
	})
}

func newLink(name, kind string, data func(*netlink.AttributeEncoder) error) error {
	e := netlink.NewAttributeEncoder()
	e.String(unix.IFLA_IFNAME, name)
	e.Nested(unix.IFLA_LINKINFO, func(e *netlink.AttributeEncoder) error {
		e.String(unix.IFLA_INFO_KIND, kind)
		e.Nested(unix.IFLA_INFO_DATA, data)
		return nil
	})
	return request(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, make([]byte, unix.SizeofIfInfomsg), e)
}

func request(kind netlink.HeaderType, flags netlink.HeaderFlags, head []byte, e *netlink.AttributeEncoder) error {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	b, err := e.Encode()
	if err != nil {
		return err
	}
	_, err = c.Execute(netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Acknowledge | flags}, Data: append(head, b...)})
	return err
}

// address gives an interface an address that is used at once.
func address(name string, at netip.Addr) error {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	head := []byte{unix.AF_INET, 24, unix.IFA_F_NODAD, 0, byte(i.Index), byte(i.Index >> 8), 0, 0}
	if at.Is6() {
		head[0], head[1] = unix.AF_INET6, 64
	}
	e := netlink.NewAttributeEncoder()
	e.Bytes(unix.IFA_LOCAL, at.AsSlice())
	e.Bytes(unix.IFA_ADDRESS, at.AsSlice())
	return request(unix.RTM_NEWADDR, netlink.Create, head, e)
}

func linkUp(name string) error {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	head := make([]byte, unix.SizeofIfInfomsg)
	head[4], head[5] = byte(i.Index), byte(i.Index>>8)
	head[8], head[12] = unix.IFF_UP, unix.IFF_UP
	return request(unix.RTM_NEWLINK, 0, head, netlink.NewAttributeEncoder())
}

// dial connects from the container's namespace, in a cgroup.
func (w *wired) dial(t *testing.T, cgroup string, to netip.AddrPort) (d dialled) {
	t.Helper()
	out, err := start(t, cgroup, "dial-in", []*os.File{w.far}, "tcp", to.String()).Output()
	if err == nil {
		err = json.Unmarshal(out, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// tamper takes the program off the first wire, as root can.
func (w *wired) tamper(t *testing.T, pins string) {
	t.Helper()
	inside(t, w.host, func() error {
		near, err := net.InterfaceByName("near")
		if err != nil {
			return err
		}
		pin, err := filepath.Glob(filepath.Join(pins, "v*", fmt.Sprintf("tcx_%d", near.Index)))
		if err != nil {
			return err
		}
		if len(pin) == 1 {
			return os.Remove(pin[0])
		}
		head := make([]byte, 20) // struct tcmsg: the clsact of a kernel without tcx
		binary.NativeEndian.PutUint32(head[4:], uint32(near.Index))
		binary.NativeEndian.PutUint32(head[8:], 0xffff_0000)
		binary.NativeEndian.PutUint32(head[12:], 0xffff_fff1)
		return request(unix.RTM_DELQDISC, 0, head, netlink.NewAttributeEncoder())
	})
}
