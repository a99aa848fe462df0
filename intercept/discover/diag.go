package discover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Netlink's sock_diag: linux/sock_diag.h, linux/inet_diag.h, linux/unix_diag.h.
const (
	sockDiagByFamily = 20
	diagCgroupID     = 21 // INET_DIAG_CGROUP_ID, kernel 5.9

	tcpEstablished = 1
	tcpSynSent     = 2
	tcpListen      = 10
	tcpCloseWait   = 8

	unixShowName = 1
	unixShowPeer = 4
	unixName     = 0 // attributes
	unixPeer     = 2
)

type inetID struct {
	sport, dport [2]byte // big-endian
	src, dst     [16]byte
	iface        uint32
	cookie       [2]uint32
}

type inetReq struct {
	family, protocol, ext, pad uint8
	states                     uint32
	id                         inetID
}

type inetMsg struct {
	family, state, timer, retrans uint8
	id                            inetID
	expires, rqueue, wqueue       uint32
	uid, inode                    uint32
}

type unixReq struct {
	family, protocol uint8
	pad              uint16
	states, inode    uint32
	show             uint32
	cookie           [2]uint32
}

type unixMsg struct {
	family, typ, state, pad uint8
	inode                   uint32
	cookie                  [2]uint32
}

// socket is one end of a connection, or a listening socket.
type socket struct {
	listens bool
	local   netip.AddrPort
	remote  netip.AddrPort
	path    string // of a unix socket that is bound
	inode   uint32
	peer    uint32 // a unix socket's other end, by inode
	uid     uint32
	cgroup  uint64
}

// sockets lists the TCP sockets and the unix stream sockets of the calling
// thread's network namespace.
func sockets() ([]socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	var all []socket
	var errs []error
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := inetReq{family: family, protocol: unix.IPPROTO_TCP, states: 1<<tcpEstablished | 1<<tcpSynSent | 1<<tcpCloseWait | 1<<tcpListen}
		err := dump(fd, raw(unsafe.Pointer(&req), unsafe.Sizeof(req)), func(b []byte) {
			var m inetMsg
			if !fill(raw(unsafe.Pointer(&m), unsafe.Sizeof(m)), b) {
				return
			}
			all = append(all, socket{
				listens: m.state == tcpListen, inode: m.inode, uid: m.uid,
				local: address(m.family, m.id.src, m.id.sport), remote: address(m.family, m.id.dst, m.id.dport),
				cgroup: number(attribute(b[unsafe.Sizeof(m):], diagCgroupID)),
			})
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("sock_diag: list TCP sockets: %w", err))
		}
	}
	req := unixReq{family: unix.AF_UNIX, states: 1<<tcpEstablished | 1<<tcpListen, show: unixShowName | unixShowPeer}
	err = dump(fd, raw(unsafe.Pointer(&req), unsafe.Sizeof(req)), func(b []byte) {
		var m unixMsg
		if !fill(raw(unsafe.Pointer(&m), unsafe.Sizeof(m)), b) || m.typ != unix.SOCK_STREAM {
			return
		}
		s := socket{listens: m.state == tcpListen, inode: m.inode}
		name := attribute(b[unsafe.Sizeof(m):], unixName)
		if len(name) > 0 && name[0] == 0 { // abstract
			s.path = "@" + string(name[1:])
		} else {
			s.path = strings.TrimRight(string(name), "\x00")
		}
		if p := attribute(b[unsafe.Sizeof(m):], unixPeer); len(p) >= 4 {
			s.peer = binary.NativeEndian.Uint32(p)
		}
		if s.path != "" {
			all = append(all, s)
		}
	})
	if err != nil && !errors.Is(err, unix.ENOENT) { // a kernel without unix_diag
		errs = append(errs, fmt.Errorf("sock_diag: list unix sockets: %w", err))
	}
	return all, errors.Join(errs...)
}

// raw is a structure as the kernel has it.
func raw(p unsafe.Pointer, size uintptr) []byte { return unsafe.Slice((*byte)(p), size) }

// fill copies the fixed part of a message into a structure.
func fill(structure, b []byte) bool { return copy(structure, b) == len(structure) }

func address(family uint8, a [16]byte, port [2]byte) netip.AddrPort {
	addr := netip.AddrFrom16(a)
	if family == unix.AF_INET {
		addr = netip.AddrFrom4([4]byte(a[:4]))
	}
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(port[:]))
}

// dump sends one request and hands over the body of each answer.
func dump(fd int, req []byte, each func(body []byte)) error {
	h := unix.NlMsghdr{Len: uint32(unix.SizeofNlMsghdr + len(req)), Type: sockDiagByFamily, Flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP}
	if err := unix.Sendto(fd, slices.Concat(raw(unsafe.Pointer(&h), unsafe.Sizeof(h)), req), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.SizeofNlMsghdr || size > len(b) {
				return errors.New("a message is cut short")
			}
			body := b[unix.SizeofNlMsghdr:size]
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR:
				if len(body) < 4 {
					return errors.New("an error is cut short")
				}
				return unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
			case sockDiagByFamily:
				each(body)
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}

// attribute returns a netlink attribute's value, nil without it.
func attribute(b []byte, kind uint16) []byte {
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:]) == kind {
			return b[4:size]
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil
}

func number(b []byte) uint64 {
	if len(b) < 8 {
		return 0
	}
	return binary.NativeEndian.Uint64(b)
}
