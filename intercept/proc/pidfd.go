package proc

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Inode returns the inode number of the pid behind a pidfd, which no other
// process of this boot has; 0 before kernel 6.9, where all pidfds share one.
func Inode(pidfd int) (uint64, error) {
	var fsys unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Fstatfs(pidfd, &fsys), unix.Fstat(pidfd, &st)); err != nil {
		return 0, fmt.Errorf("look at a pidfd: %w", err)
	}
	if fsys.Type != unix.PID_FS_MAGIC {
		return 0, nil
	}
	return st.Ino, nil
}

// Ended reports whether the process of a pidfd has ended.
func Ended(pidfd int) (bool, error) {
	for fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}; ; {
		n, err := unix.Poll(fds, 0)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return false, fmt.Errorf("poll a pidfd: %w", err)
		default:
			return n != 0, nil
		}
	}
}
