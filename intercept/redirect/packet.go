package redirect

import (
	"net/netip"
	"strconv"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// decode fills what a packet's head tells beyond the kernel's own report. A
// head that can't be decoded leaves b as it is.
func decode(b *Bypass, head []byte) {
	if len(head) == 0 {
		return
	}
	first := layers.LayerTypeIPv4
	if head[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(head, first, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	var src, dst netip.Addr
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		src, _ = netip.AddrFromSlice(ip.SrcIP)
		dst, _ = netip.AddrFromSlice(ip.DstIP)
	case *layers.IPv6:
		src, _ = netip.AddrFromSlice(ip.SrcIP)
		dst, _ = netip.AddrFromSlice(ip.DstIP)
	default:
		return
	}
	var sport, dport uint16
	switch t := p.TransportLayer().(type) {
	case *layers.TCP:
		sport, dport = uint16(t.SrcPort), uint16(t.DstPort)
	case *layers.UDP:
		sport, dport = uint16(t.SrcPort), uint16(t.DstPort)
	case *layers.SCTP:
		sport, dport = uint16(t.SrcPort), uint16(t.DstPort)
	case *layers.UDPLite:
		sport, dport = uint16(t.SrcPort), uint16(t.DstPort)
	}
	b.Source = netip.AddrPortFrom(src, sport)
	b.Destination = netip.AddrPortFrom(dst, dport)
}

// transport names an IP protocol number.
func transport(proto uint32) string {
	switch proto {
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 33:
		return "dccp"
	case 132:
		return "sctp"
	case 136:
		return "udplite"
	}
	return "ip " + strconv.FormatUint(uint64(proto), 10)
}
