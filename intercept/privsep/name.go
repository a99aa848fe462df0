package privsep

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
)

// Name says which workload a process belongs to that the kernel refused, for
// the record: by the kernel's facts of that moment, so that the process may be
// gone since. Nothing is proved and no token is read. The workload is "" where
// none matches, or more than one; Exe and Cgroup where they can't be known any
// more.
func (p *Prover) Name(_ context.Context, peer *intercept.Peer) (intercept.Proof, error) {
	id := peer.CgroupID
	if id == 0 {
		id = peer.SockCgroup // of a packet that the kernel sent by itself
	}
	if id == 0 {
		return intercept.Proof{}, nil
	}
	f := facts{uid: peer.UID, cgroupID: id, dev: peer.ExeDev, inode: peer.ExeInode, exeReplaced: peer.ExeInode == 0}
	if proc, err := openProcess(peer); err == nil {
		if dev, inode, exe, err := proc.exe(); err == nil && dev == peer.ExeDev && inode == peer.ExeInode {
			f.exe = exe
		}
		if path, err := proc.cgroup(); err == nil {
			if now, err := p.cgroupID(path); err == nil && now == id {
				f.cgroup = path
			}
		}
		proc.close()
	}
	if f.cgroup == "" {
		f.cgroup, _ = p.cgroupPath(id) // gone: nothing can be said of it
	}
	named := intercept.Proof{Exe: f.exe, Cgroup: f.cgroup}
	if f.cgroup == "" {
		return named, nil
	}
	if w, err := p.match(f); err == nil {
		named.Workload = w.Name
	}
	return named, nil
}

// fileidKernfs is FILEID_KERNFS: a handle that is the id of a file in a kernel
// file system, cgroup2 among them.
const fileidKernfs = 0xfe

// cgroupPath finds a cgroup by its id.
func (p *Prover) cgroupPath(id uint64) (string, error) {
	root, err := unix.Open(p.root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(root)
	h := unix.NewFileHandle(fileidKernfs, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(root, h, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("cgroup %d: %w", id, err)
	}
	defer unix.Close(fd)
	dir, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "", err
	}
	path, ok := strings.CutPrefix(dir, p.root)
	if path == "" {
		path = "/"
	}
	if !ok || path[0] != '/' || len(path) > maxString {
		return "", fmt.Errorf("cgroup %d: at %s, outside of %s", id, dir, p.root)
	}
	if now, err := p.cgroupID(path); err != nil || now != id {
		return "", fmt.Errorf("cgroup %d: is gone", id)
	}
	return path, nil
}
