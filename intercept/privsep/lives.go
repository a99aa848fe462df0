package privsep

import (
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/proc"
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
	inode, err := proc.Inode(fd)
	if err != nil || inode != peer.PidInode {
		return false
	}
	ended, err := proc.Ended(fd)
	return err == nil && !ended
}
