package privsep

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/proc"
)

// ErrGone: the process that connected has ended; whoever has its number now
// is somebody else.
var ErrGone = errors.New("the process that connected is gone")

// process is a process held by its pidfd: everything read through dir is its
// own or fails, whatever happens to its number.
type process struct {
	tgid  uint32
	pidfd int
	dir   int // /proc/TGID
}

// openProcess takes hold of the process that the kernel recorded in peer.
func openProcess(peer *intercept.Peer) (_ *process, err error) {
	p := &process{tgid: peer.TGID, pidfd: -1, dir: -1}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if peer.TGID == 0 || peer.Start == 0 || peer.CgroupID == 0 {
		return nil, errors.New("the kernel's record of the connection is incomplete")
	}
	if p.pidfd, err = unix.PidfdOpen(int(peer.TGID), 0); err != nil {
		return nil, fmt.Errorf("%w (pidfd: %v)", ErrGone, err)
	}
	if err := p.samePid(peer.PidInode); err != nil {
		return nil, err
	}
	p.dir, err = unix.Open("/proc/"+strconv.FormatUint(uint64(peer.TGID), 10), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", ErrGone, err)
	}
	// While the pidfd's process lives, its number is its own: dir is too.
	if err := p.alive(); err != nil {
		return nil, err
	}
	start, err := p.start()
	if err != nil {
		return nil, err
	}
	if start != peer.Start/proc.Tick {
		return nil, fmt.Errorf("%w (its start time is another)", ErrGone)
	}
	return p, nil
}

// samePid compares the pidfd's inode number, unique for a boot from kernel
// 6.9 on; before, all pidfds share one and prove nothing.
func (p *process) samePid(inode uint64) error {
	now, err := proc.Inode(p.pidfd)
	switch {
	case err != nil:
		return fmt.Errorf("process %d: %w", p.tgid, err)
	case now != 0 && now != inode:
		return fmt.Errorf("%w (its pid inode is another)", ErrGone)
	}
	return nil
}

func (p *process) close() {
	for _, fd := range []int{p.pidfd, p.dir} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// alive fails once the process has ended.
func (p *process) alive() error { return pidfdAlive(p.pidfd) }

func pidfdAlive(pidfd int) error {
	ended, err := proc.Ended(pidfd)
	if ended {
		return ErrGone
	}
	return err
}

// start returns the start time in ticks since boot.
func (p *process) start() (uint64, error) {
	b, err := p.read("stat")
	if err != nil {
		return 0, err
	}
	ticks, err := proc.Start(b)
	if err != nil {
		return 0, fmt.Errorf("/proc/%d: %w", p.tgid, err)
	}
	return ticks, nil
}

// uid returns the real user id.
func (p *process) uid() (uint32, error) {
	b, err := p.read("status")
	if err != nil {
		return 0, err
	}
	u, err := proc.Users(b)
	if err != nil {
		return 0, fmt.Errorf("/proc/%d: %w", p.tgid, err)
	}
	return u.Real, nil
}

// cgroup returns the path below the cgroup2 root.
func (p *process) cgroup() (string, error) {
	b, err := p.read("cgroup")
	if err != nil {
		return "", err
	}
	path := proc.Cgroup(b)
	switch {
	case path == "":
		return "", errors.New("it is in no cgroup2 cgroup")
	case !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "/..") || len(path) > maxString:
		return "", fmt.Errorf("its cgroup %q is outside of the loader's own view: run the loader in the root cgroup namespace", path)
	}
	return path, nil
}

// exe returns the executable's device, inode and path. The path is as the
// process's own mount namespace names it and proves nothing.
func (p *process) exe() (dev, inode uint64, path string, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(p.dir, "exe", &st, 0); err != nil {
		return 0, 0, "", fmt.Errorf("/proc/%d/exe: %w", p.tgid, err)
	}
	b := make([]byte, maxString)
	n, err := unix.Readlinkat(p.dir, "exe", b)
	if err != nil || n == len(b) {
		return 0, 0, "", fmt.Errorf("/proc/%d/exe: cannot be read (%v)", p.tgid, err)
	}
	return st.Dev, st.Ino, string(b[:n]), nil
}

func (p *process) read(name string) ([]byte, error) {
	fd, err := unix.Openat(p.dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w (%s: %v)", ErrGone, name, err)
	}
	defer unix.Close(fd)
	b, err := readAll(fd, 4<<10, 64<<10)
	if err != nil {
		return nil, fmt.Errorf("/proc/%d/%s: %w", p.tgid, name, err)
	}
	return b, nil
}
