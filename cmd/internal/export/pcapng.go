package export

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events"
)

// ports by protocol: where Wireshark looks for them.
var ports = map[string]layers.TCPPort{"postgres": 5432}

// pcapng writes the decoded conversation as packets, for Wireshark. They are made
// for it: the transcript holds what was said, and nothing of how it travelled. The
// agent has an address of the documentation's (RFC 5737, RFC 3849), the server
// its own, with the protocol's usual port.
func pcapng(w io.Writer, s *Session) error {
	port, ok := ports[s.Protocol]
	if !ok {
		return errProtocol(s.Protocol)
	}
	server, client := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.1")
	if a, err := netip.ParseAddrPort(s.Destination); err == nil {
		server = a.Addr().Unmap()
	}
	if server.Is6() {
		client = netip.MustParseAddr("2001:db8::1")
	}
	options := pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "sallyport",
		Comment: fmt.Sprintf("session %.64s of %.200s at %.200s (%.200s): what was said, as recorded; the packets are made up", render.Line(s.ID), render.Line(s.Workload), render.Line(s.Resource), render.Line(s.Destination)),
	}}
	face := pcapgo.DefaultNgInterface
	face.Name, face.LinkType = "sallyport", layers.LinkTypeRaw
	ng, err := pcapgo.NewNgWriterInterface(w, face, options)
	if err != nil {
		return err
	}
	t := &tape{w: ng}
	t.ends[0] = end{addr: client, port: 49152}
	t.ends[1] = end{addr: server, port: port}
	if err := t.open(s.Opened); err != nil {
		return err
	}
	for c, err := range s.Chunks {
		if err != nil {
			return err
		}
		from, b := 0, c.Data
		switch c.Kind {
		case events.ChunkStatement:
			b = query(c.Data)
		case events.ChunkBinds:
			// The values stand beside the statement, whose own Bind named them.
			b = message('B', body(c.Data))
		case events.ChunkInput:
			b = message('d', c.Data)
		case events.ChunkResult:
			from = 1
		}
		if err := t.say(c.Time, from, b); err != nil {
			return err
		}
	}
	return ng.Flush()
}

func query(sql []byte) []byte { return message('Q', append(sql[:len(sql):len(sql)], 0)) }

// body is a Bind message without its type and length, where it has them.
func body(b []byte) []byte {
	if len(b) > 5 && b[0] == 'B' && int64(binary.BigEndian.Uint32(b[1:]))+1 == int64(len(b)) {
		return b[5:]
	}
	return b
}

func message(kind byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))
	return append(b, body...)
}

// tape writes the two directions of one TCP connection.
type tape struct {
	w    *pcapgo.NgWriter
	ends [2]end // the agent's, the server's
	id   uint16
}

type end struct {
	addr netip.Addr
	port layers.TCPPort
	seq  uint32
}

// open is the handshake, without which Wireshark doesn't know where a
// conversation begins.
func (t *tape) open(at time.Time) error {
	for i, flags := range []layers.TCP{{SYN: true}, {SYN: true, ACK: true}, {ACK: true}} {
		if err := t.packet(at, i%2, flags, nil); err != nil {
			return err
		}
		if flags.SYN {
			t.ends[i%2].seq++
		}
	}
	return nil
}

// maxSegment is what one packet carries: an IP packet has at most 65,535 bytes.
const maxSegment = 32 << 10

func (t *tape) say(at time.Time, from int, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), maxSegment)
		if err := t.packet(at, from, layers.TCP{ACK: true, PSH: n == len(b)}, b[:n]); err != nil {
			return err
		}
		t.ends[from].seq += uint32(n)
		b = b[n:]
	}
	return nil
}

func (t *tape) packet(at time.Time, from int, tcp layers.TCP, payload []byte) error {
	src, dst := &t.ends[from], &t.ends[1-from]
	tcp.SrcPort, tcp.DstPort, tcp.Seq, tcp.Window = src.port, dst.port, src.seq, 65535
	if tcp.ACK {
		tcp.Ack = dst.seq
	}
	t.id++
	var ip interface {
		gopacket.SerializableLayer
		gopacket.NetworkLayer
	}
	if src.addr.Is4() {
		ip = &layers.IPv4{Version: 4, TTL: 64, Id: t.id, Protocol: layers.IPProtocolTCP, SrcIP: net.IP(src.addr.AsSlice()), DstIP: net.IP(dst.addr.AsSlice())}
	} else {
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: net.IP(src.addr.AsSlice()), DstIP: net.IP(dst.addr.AsSlice())}
	}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		return err
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, &tcp, gopacket.Payload(payload)); err != nil {
		return err
	}
	n := len(buf.Bytes())
	return t.w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: n, Length: n}, buf.Bytes())
}
