package redirect

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept"
)

// LEVEL, RECORD and LOCAL of the programs.
const (
	factsLevel  = 0x53504f52
	factsRecord = 1
	factsLocal  = 2
)

// RecordSize is what the kernel keeps for each turned connection, at each end,
// in bytes.
const RecordSize = int(unsafe.Sizeof(bpf.GuardOrigin{}))

// Facts returns who made an accepted connection, and where it was going, from
// the kernel's record that came with the socket. It needs no capability, but
// only processes in the daemon's cgroup get an answer. ErrStray: there is no
// record, close the connection.
//
// Reached is where the connection would have gone without the passage: another
// address than dst where other programs rewrite what clients ask for.
func Facts(c *net.TCPConn) (peer intercept.Peer, dst, reached netip.AddrPort, err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return peer, dst, reached, err
	}
	var r bpf.GuardRecord
	size := uint32(unsafe.Sizeof(r))
	var errno unix.Errno
	if err := rc.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, factsLevel, factsRecord,
			uintptr(unsafe.Pointer(&r)), uintptr(unsafe.Pointer(&size)), 0)
	}); err != nil {
		return peer, dst, reached, err
	}
	if errno != 0 {
		return peer, dst, reached, fmt.Errorf("%w (%v)", ErrStray, errno)
	}
	if size != uint32(unsafe.Sizeof(r)) || r.Layout != layout {
		return peer, dst, reached, fmt.Errorf("%w (the record has layout %d)", ErrLayout, r.Layout)
	}
	return peerOf(&r), addrPort(r.Dst), addrPort(r.Reached), nil
}

func peerOf(r *bpf.GuardRecord) intercept.Peer {
	comm, _, _ := bytes.Cut(r.Comm[:], []byte{0})
	return intercept.Peer{
		TGID: r.Tgid, PID: r.Pid, Start: r.Start, PidInode: r.PidInode,
		UID: r.Uid, GID: r.Gid,
		CgroupID: r.Cgroup, SockCgroup: r.SockCgroup,
		// The kernel keeps major<<20|minor inside, stat(2) gives another form.
		ExeDev: unix.Mkdev(r.ExeDev>>20, r.ExeDev&(1<<20-1)), ExeInode: r.ExeInode,
		PidNS: r.PidNs, NetnsCookie: r.Netns,
		Comm: string(comm),
	}
}
