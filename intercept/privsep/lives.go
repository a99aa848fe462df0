package privsep

import (
	"errors"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
)

// Lives reports whether a process that was proved before lives on: its pid's
// inode number is that of the kernel's record, and it has not ended. It takes no
// privilege. Before kernel 6.9, where pids have no such number, it knows nothing
// and says no.
func Lives(peer *intercept.Peer) bool {
	if peer.PidInode == 0 {
		return false
	}
	fd, err := unix.PidfdOpen(int(peer.TGID), 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var fsys unix.Statfs_t
	var st unix.Stat_t
	if errors.Join(unix.Fstatfs(fd, &fsys), unix.Fstat(fd, &st)) != nil || fsys.Type != unix.PID_FS_MAGIC || st.Ino != peer.PidInode {
		return false
	}
	for fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}; ; {
		n, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return err == nil && n == 0
		}
	}
}
