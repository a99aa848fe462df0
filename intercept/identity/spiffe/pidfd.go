package spiffe

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/proc"
)

// ErrGone: the process that connected has ended.
var ErrGone = errors.New("the process that connected is gone")

// openPidfd takes hold of a process by its number. Before kernel 6.9 a pidfd
// has no inode number of its own; there the loader's proof, which comes after,
// is what says that the number was the process's all the time.
func openPidfd(peer *intercept.Peer) (*os.File, error) {
	// Nonblocking, so that the runtime's poller waits for its end.
	fd, err := unix.PidfdOpen(int(peer.TGID), unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("%w (pidfd: %v)", ErrGone, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	inode, err := proc.Inode(fd)
	if err == nil && inode != 0 && inode != peer.PidInode {
		err = fmt.Errorf("%w (its pid inode is another)", ErrGone)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// alive fails once the process of a pidfd has ended.
func alive(f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := rc.Control(func(fd uintptr) { err = dead(fd) })
	return errors.Join(cerr, err)
}

func dead(fd uintptr) error {
	ended, err := proc.Ended(int(fd))
	if ended {
		return ErrGone
	}
	return err
}

// awaitEnd returns ErrGone when the process has ended, or why that can't be
// told any more: f was closed.
func awaitEnd(f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if rerr := rc.Read(func(fd uintptr) bool { err = dead(fd); return err != nil }); rerr != nil {
		return rerr
	}
	return err
}
