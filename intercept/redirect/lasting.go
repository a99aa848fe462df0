package redirect

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// lasting is a unix listener that lives longer than all TCP listeners of its
// process, also when that is killed: nobody can take its address while its
// witness lives, by which the programs tell that it does (unix.c).
type lasting struct {
	*net.UnixListener
	behind *os.File // a socket that nobody reads, with the listener in a message
}

// outlast takes over l. When a process ends, the kernel closes what is in a
// message after all that is in the table of descriptors. Where there is no
// descriptor left for that, l serves all the same, and the order of a sudden
// end is the kernel's.
func outlast(l *net.UnixListener) *lasting {
	kept := &lasting{UnixListener: l}
	rc, err := l.SyscallConn()
	if err != nil {
		return kept
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return kept
	}
	kept.behind = os.NewFile(uintptr(pair[1]), "passage")
	_ = rc.Control(func(fd uintptr) {
		_ = unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(int(fd)), nil, 0)
	})
	unix.Close(pair[0])
	return kept
}

// Close ends the listener.
func (l *lasting) Close() error {
	err := l.UnixListener.Close()
	if l.behind != nil {
		err = errors.Join(err, l.behind.Close())
	}
	return err
}
