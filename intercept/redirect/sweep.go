package redirect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/proc"
)

// Netlink's inet_diag, linux/inet_diag.h and linux/sock_diag.h.
const (
	sockDiagByFamily = 20
	sockDestroy      = 21
	diagCgroupID     = 21 // INET_DIAG_CGROUP_ID, kernel 5.9

	tcpListen = 10
	tcpClose  = 7
)

type diagSockID struct {
	sport, dport [2]byte // big-endian
	src, dst     [16]byte
	iface        uint32
	cookie       [2]uint32
}

type diagReq struct {
	family, protocol, ext, pad uint8
	states                     uint32
	id                         diagSockID
}

type diagMsg struct {
	family, state, timer, retrans uint8
	id                            diagSockID
	expires, rqueue, wqueue       uint32
	uid, inode                    uint32

	cgroup uint64 // of an attribute behind it
}

// diagMsgSize is what the kernel sends of a diagMsg.
const diagMsgSize = int(unsafe.Offsetof(diagMsg{}.cgroup))

// sweep destroys covered connections to protected destinations, in every
// network namespace that has a process. The guard is attached already: no new
// one can appear.
func (g *Guard) sweep() ([]Bypass, error) {
	if g.cfg.Observe {
		return nil, nil
	}
	covered, err := g.coverage()
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	all, err := namespaces()
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	// First all of them are found, with their processes: one whose connection
	// ends may end itself.
	found := make([][]diagMsg, len(all))
	inodes := map[uint32]bool{}
	var errs []error
	for i, ns := range all {
		defer ns.file.Close()
		errs = append(errs, inNetns(ns.file, func() (err error) {
			found[i], err = g.listOlder(covered)
			return err
		}))
		for _, m := range found[i] {
			inodes[m.inode] = true
		}
	}
	owners := ownersOf(inodes)
	var swept []Bypass
	for i, ns := range all {
		for _, m := range found[i] {
			b := Bypass{
				Time: time.Now(), Reason: ReasonSwept, Transport: "tcp", Source: m.source(), Destination: m.destination(),
				Peer: intercept.Peer{SockCgroup: m.cgroup, UID: m.uid},
			}
			if pid := owners[m.inode]; pid != 0 {
				b.Process = describe(pid)
			}
			swept = append(swept, b)
		}
		if len(found[i]) > 0 {
			errs = append(errs, inNetns(ns.file, func() error { return destroy(found[i]) }))
		}
	}
	return swept, errors.Join(errs...)
}

// listOlder lists those of the thread's own network namespace.
func (g *Guard) listOlder(covered func(cgroup uint64) bool) ([]diagMsg, error) {
	fd, err := diagSocket()
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	defer unix.Close(fd)
	own, err := ownAddresses()
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	var found []diagMsg
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := diagReq{family: family, protocol: unix.IPPROTO_TCP, states: ^uint32(1<<tcpListen | 1<<tcpClose)}
		var lerr error
		err := diag(fd, sockDiagByFamily, unix.NLM_F_DUMP, &req, func(m *diagMsg) {
			// Without a cgroup and an owner it is what the kernel keeps of a
			// connection that has ended (TIME_WAIT): nobody sends on it.
			if m.cgroup == 0 && m.inode == 0 || !covered(m.cgroup) {
				return
			}
			protected, err := g.protects(m.destination(), own)
			if protected {
				found = append(found, *m)
			}
			lerr = errors.Join(lerr, err)
		})
		if err := errors.Join(err, lerr); err != nil {
			return found, fmt.Errorf("sweep: list connections: %w", err)
		}
	}
	return found, nil
}

// destroy ends connections of the thread's own network namespace.
func destroy(found []diagMsg) error {
	fd, err := diagSocket()
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	defer unix.Close(fd)
	var errs []error
	for i := range found {
		m := &found[i]
		req := diagReq{family: m.family, protocol: unix.IPPROTO_TCP, id: m.id}
		err := diag(fd, sockDestroy, unix.NLM_F_ACK, &req, nil)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("sweep: destroy %s -> %s: %w (its packets are dropped; end its process)", m.source(), m.destination(), err))
		}
	}
	return errors.Join(errs...)
}

func diagSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (m *diagMsg) source() netip.AddrPort      { return sockAddr(m.family, m.id.src, m.id.sport) }
func (m *diagMsg) destination() netip.AddrPort { return sockAddr(m.family, m.id.dst, m.id.dport) }

// protects asks the map that the programs ask, as the backstop does: a
// protected port of this host is so at each of the namespace's own addresses.
func (g *Guard) protects(a netip.AddrPort, own []netip.Addr) (bool, error) {
	keys := []bpf.GuardPrefix{prefixKey(netip.PrefixFrom(a.Addr(), a.Addr().BitLen()))}
	if a.Addr().IsLoopback() || slices.Contains(own, a.Addr()) {
		keys = append(keys, localKey)
	}
	for _, key := range keys {
		var ports bpf.GuardPorts
		err := g.maps.Destinations.Lookup(key, &ports)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return false, err
		}
		if err == nil && hasPort(&ports, a.Port()) {
			return true, nil
		}
	}
	return false, nil
}

// describe names a live process as far as /proc tells.
func describe(pid uint32) *events.Process {
	p := &events.Process{PID: pid}
	p.Start, _ = StartBoottime(pid)
	p.Exe, _ = os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil {
		p.Comm = strings.TrimSpace(string(comm))
	}
	if cgroup, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)); err == nil {
		p.Cgroup = proc.Cgroup(cgroup)
	}
	var st unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d", pid), &st) == nil {
		p.UID, p.GID = st.Uid, st.Gid
	}
	return p
}

// coverage returns whether sockets of a cgroup are covered, as the egress
// program decides it.
func (g *Guard) coverage() (func(cgroup uint64) bool, error) {
	daemon, exempt, covered := map[uint64]string{}, map[uint64]string{}, map[uint64]string{}
	names := map[uint64]string{}
	if err := errors.Join(subtree(g.root, daemonCgroup, daemon), subtree(g.root, "/", names)); err != nil {
		return nil, err
	}
	var set bpf.GuardSettings
	if err := g.maps.Config.Lookup(uint32(0), &set); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	coveredIDs, err1 := content[uint64, uint32](g.maps.Covered)
	exemptIDs, err2 := content[uint64, uint32](g.maps.Exempt)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	coveredIDs[set.Around] = 1
	for id := range coveredIDs {
		if names[id] != "" && id != g.daemonID {
			if err := subtree(g.root, names[id], covered); err != nil {
				return nil, err
			}
		}
	}
	for id := range exemptIDs {
		if names[id] != "" {
			if err := subtree(g.root, names[id], exempt); err != nil {
				return nil, err
			}
		}
	}
	return func(id uint64) bool {
		if daemon[id] != "" {
			return false
		}
		return covered[id] != "" || g.cfg.Mode == "host" && exempt[id] == ""
	}, nil
}

func sockAddr(family uint8, a [16]byte, port [2]byte) netip.AddrPort {
	addr := netip.AddrFrom16(a)
	if family == unix.AF_INET {
		addr = netip.AddrFrom4([4]byte(a[:4]))
	}
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(port[:]))
}

// diag sends one request and reads all its answers.
func diag(fd int, kind, flags uint16, req *diagReq, each func(*diagMsg)) error {
	body := unsafe.Slice((*byte)(unsafe.Pointer(req)), unsafe.Sizeof(*req))
	h := unix.NlMsghdr{Len: uint32(unix.SizeofNlMsghdr + len(body)), Type: kind, Flags: unix.NLM_F_REQUEST | flags}
	msg := slices.Concat(unsafe.Slice((*byte)(unsafe.Pointer(&h)), unix.SizeofNlMsghdr), body)
	if err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return err
		}
		done, err := answers(buf[:n], each)
		if done || err != nil {
			return err
		}
	}
}

// answers walks the messages of one datagram; done after the last of a dump.
func answers(b []byte, each func(*diagMsg)) (done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return true, errors.New("netlink: a message is cut short")
		}
		body := b[unix.SizeofNlMsghdr:size]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return true, errors.New("netlink: an error is cut short")
			}
			if errno := int32(binary.NativeEndian.Uint32(body)); errno != 0 {
				return true, unix.Errno(-errno)
			}
			return true, nil
		case sockDiagByFamily:
			var m diagMsg
			if len(body) < diagMsgSize {
				return true, errors.New("netlink: a socket is cut short")
			}
			copy(unsafe.Slice((*byte)(unsafe.Pointer(&m)), diagMsgSize), body)
			m.cgroup = attribute(body[diagMsgSize:], diagCgroupID)
			each(&m)
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return false, nil
}

// attribute returns a netlink attribute's 64-bit value, 0 without it.
func attribute(b []byte, kind uint16) uint64 {
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			return 0
		}
		if binary.NativeEndian.Uint16(b[2:]) == kind && size >= 12 {
			return binary.NativeEndian.Uint64(b[4:])
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return 0
}
