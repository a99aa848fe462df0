package redirect_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ways to connect that are not connect(2).
func TestOtherWaysToConnect(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	open(t, config(t, dst))
	for _, way := range []string{"fast open", "io_uring", "io_uring, polled"} {
		t.Run(way, func(t *testing.T) {
			d := ask[dialled](t, guarded, "way", way, dst.String())
			if f, ok := d.facts(); !ok || f.Peer.TGID != d.PID || f.Destination != dst || f.Peer.UID != nobody {
				t.Errorf("not turned: %+v", d)
			}
		})
	}
}

// A connection is whose who made it, whatever becomes of the descriptor.
func TestConnectionIsItsMakers(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	open(t, config(t, dst))
	d := ask[[2]dialled](t, guarded, "hand on", dst.String())
	if f, ok := d[1].facts(); !ok || f.Peer.TGID != d[0].PID || d[0].PID == d[1].PID || f.Destination != dst {
		t.Errorf("made by %d, used by %d: %+v", d[0].PID, d[1].PID, d[1])
	}
}

func init() {
	// way WAY ADDRESS: connects in another way than by connect(2).
	roles["way"] = func(args []string) any {
		drop()
		to := netip.MustParseAddrPort(args[1])
		d := dialled{PID: uint32(os.Getpid())}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			d.Errno = err.Error()
			return d
		}
		switch args[0] {
		case "fast open":
			err = unix.Sendto(fd, []byte("x"), unix.MSG_FASTOPEN, sockaddr(unix.AF_INET, to))
		case "io_uring":
			err = ringConnect(fd, to, 0)
		default:
			err = ringConnect(fd, to, setupPolled)
		}
		if err != nil {
			d.Errno = err.Error()
			return d
		}
		return converse(fd, d)
	}
	// hand on ADDRESS: connects, and leaves the connection to another process.
	roles["hand on"] = func(args []string) any {
		drop()
		made := dialled{PID: uint32(os.Getpid())}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Connect(fd, sockaddr(unix.AF_INET, netip.MustParseAddrPort(args[0])))
		}
		if err != nil {
			made.Errno = err.Error()
			return [2]dialled{made}
		}
		f := os.NewFile(uintptr(fd), "connection")
		defer f.Close()
		other := exec.Command("/proc/self/exe")
		other.Env = []string{"REDIRECT_TEST_ROLE=handed"}
		other.ExtraFiles, other.Stderr = []*os.File{f}, os.Stderr
		out, err := other.Output()
		var used dialled
		if err == nil {
			err = json.Unmarshal(out, &used)
		}
		if err != nil {
			used.Errno = err.Error()
		}
		return [2]dialled{made, used}
	}
	roles["handed"] = func([]string) any { return converse(3, dialled{PID: uint32(os.Getpid())}) }
}

// Of linux/io_uring.h.
const (
	setupPolled  = 1 << 1 // a thread of the kernel takes the requests
	enterGet     = 1 << 0
	enterWake    = 1 << 1
	opConnect    = 16
	offRequests  = 0x10000000
	ringEntries  = 4
	requestSize  = 64
	singleMmap   = 1 << 0
	resultOffset = 8
)

// ringParams is struct io_uring_params.
type ringParams struct {
	sqEntries, cqEntries, flags uint32
	_                           [2]uint32
	features                    uint32
	_                           [4]uint32
	sq                          struct{ head, tail, mask, entries, flags, dropped, array, _ uint32 }
	_                           uint64
	cq                          struct{ head, tail, mask, entries, overflow, cqes, flags, _ uint32 }
	_                           uint64
}

// ringConnect connects by a request in an io_uring.
func ringConnect(sock int, to netip.AddrPort, flags uint32) error {
	p := ringParams{flags: flags}
	r, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, ringEntries, uintptr(ptr(&p)), 0)
	if e != 0 {
		return e
	}
	fd := int(r)
	defer unix.Close(fd)
	if p.features&singleMmap == 0 {
		return errors.New("an old io_uring")
	}
	size := max(p.sq.array+4*p.sqEntries, p.cq.cqes+16*p.cqEntries)
	ring, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(ring)
	requests, err := unix.Mmap(fd, offRequests, ringEntries*requestSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(requests)

	// The address stands in the place of the second request.
	addr := requests[requestSize : requestSize+unix.SizeofSockaddrInet4]
	binary.NativeEndian.PutUint16(addr, unix.AF_INET)
	binary.BigEndian.PutUint16(addr[2:], to.Port())
	copy(addr[4:], to.Addr().AsSlice())
	requests[0] = opConnect
	binary.NativeEndian.PutUint32(requests[4:], uint32(sock))
	binary.NativeEndian.PutUint64(requests[8:], uint64(len(addr)))
	binary.NativeEndian.PutUint64(requests[16:], uint64(uintptr(unsafe.Pointer(&addr[0]))))
	binary.NativeEndian.PutUint32(ring[p.sq.array:], 0)
	(*atomic.Uint32)(unsafe.Pointer(&ring[p.sq.tail])).Store(1)
	for {
		_, _, e := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(fd), 1, 1, enterGet|enterWake, 0, 0)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return e
		}
		break
	}
	if res := int32(binary.NativeEndian.Uint32(ring[p.cq.cqes+resultOffset:])); res < 0 {
		return unix.Errno(-res)
	}
	return nil
}
