package redirect_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/redirect"
)

// dialled is what an agent saw of its own connection.
type dialled struct {
	Errno    string // of socket or connect
	Peername string // getpeername(2)
	Line     string // first line read: "direct", the daemon's answer, or ""
	ReadErr  string

	PID, TID uint32 // its own facts, to compare with
	Start    uint64
	PidInode uint64
}

// facts parses the daemon's answer.
func (d *dialled) facts() (f flow, ok bool) {
	return f, json.Unmarshal([]byte(d.Line), &f) == nil
}

// refused reports that connect(2) itself said EPERM.
func (d *dialled) refused() bool { return d.Errno == unix.EPERM.Error() }

func init() {
	// dial FAMILY ADDRESS [as nobody]: connects with plain system calls.
	roles["dial"] = func(args []string) any {
		drop()
		return dial(args[0], netip.MustParseAddrPort(args[1]))
	}
}

// dial connects by hand. Kinds: tcp, mptcp, tcp6 (an IPv6 socket, IPv4
// addresses mapped), udp (connect), udp-send (sendto), bound (from 127.0.0.9).
func dial(kind string, to netip.AddrPort) (d dialled) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	d.PID, d.TID = uint32(os.Getpid()), uint32(unix.Gettid())
	d.Start, _ = redirect.StartBoottime(d.PID)
	d.PidInode, _ = redirect.PidInode(d.PID)
	family, typ, proto := unix.AF_INET, unix.SOCK_STREAM, 0
	if to.Addr().Is6() || strings.HasSuffix(kind, "6") {
		family = unix.AF_INET6
	}
	switch {
	case kind == "mptcp":
		proto = unix.IPPROTO_MPTCP
	case strings.HasPrefix(kind, "udp"):
		typ = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		d.Errno = err.Error()
		return d
	}
	defer unix.Close(fd)
	if kind == "bound" {
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 9}}); err != nil {
			d.Errno = err.Error()
			return d
		}
	}
	if kind == "udp-send" {
		if err := unix.Sendto(fd, []byte("x"), 0, sockaddr(family, to)); err != nil {
			d.Errno = err.Error()
		}
		return d
	}
	if err := unix.Connect(fd, sockaddr(family, to)); err != nil {
		d.Errno = err.Error()
		return d
	}
	return converse(fd, d)
}

// converse reads what the other side says first.
func converse(fd int, d dialled) dialled {
	if sa, err := unix.Getpeername(fd); err == nil {
		d.Peername = fromSockaddr(sa).String()
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 3})
	var all []byte
	buf := make([]byte, 4096)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			d.ReadErr = err.Error()
			break
		}
		all = append(all, buf[:n]...)
		if n == 0 || strings.Contains(string(all), "\n") {
			break
		}
	}
	d.Line = line(all)
	return d
}

func sockaddr(family int, a netip.AddrPort) unix.Sockaddr {
	if family == unix.AF_INET {
		return &unix.SockaddrInet4{Addr: a.Addr().Unmap().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func fromSockaddr(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
