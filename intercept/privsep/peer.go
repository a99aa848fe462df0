package privsep

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/proc"
)

// Peer returns what the kernel would record if a process connected now, for
// looking at: it proves nothing of a connection.
func (p *Prover) Peer(pid int) (peer intercept.Peer, err error) {
	ps := &process{tgid: uint32(pid), pidfd: -1, dir: -1}
	defer ps.close()
	if ps.pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
		return peer, fmt.Errorf("process %d: %w", pid, err)
	}
	if ps.dir, err = unix.Open("/proc/"+strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return peer, fmt.Errorf("process %d: %w", pid, err)
	}
	peer.TGID, peer.PID = ps.tgid, ps.tgid
	if peer.PidInode, err = proc.Inode(ps.pidfd); err != nil {
		return peer, err
	}
	start, err := ps.start()
	if err != nil {
		return peer, err
	}
	peer.Start = start * proc.Tick
	if peer.UID, err = ps.uid(); err != nil {
		return peer, err
	}
	if peer.Cgroup, err = ps.cgroup(); err != nil {
		return peer, err
	}
	if peer.CgroupID, err = p.cgroupID(peer.Cgroup); err != nil {
		return peer, fmt.Errorf("cgroup %s: %w", peer.Cgroup, err)
	}
	if peer.ExeDev, peer.ExeInode, peer.Exe, err = ps.exe(); err != nil {
		return peer, err
	}
	return peer, ps.alive()
}
