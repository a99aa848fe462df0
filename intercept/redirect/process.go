package redirect

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// tick is the resolution of a start time in /proc/PID/stat, in ns: USER_HZ is
// 100 on every architecture that the programs are built for.
const tick = 10_000_000

// StartBoottime returns when a process started, in ns since boot, truncated
// to the 10 ms that /proc shows. Compare with SameStart.
func StartBoottime(tgid uint32) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", tgid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything; field 22 counts from after it.
	i := bytes.LastIndexByte(b, ')')
	fields := bytes.Fields(b[i+1:])
	if i < 0 || len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: cut short", tgid)
	}
	n, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("/proc/%d/stat: %w", tgid, err)
	}
	return n * tick, nil
}

// SameStart reports whether two start times can be of one process: the
// kernel's record is exact, /proc is truncated to 10 ms.
func SameStart(a, b uint64) bool { return a != 0 && a/tick == b/tick }

// PidInode returns the inode number of a process's pidfd, which no other
// process of this boot has; 0 before kernel 6.9, where all share one.
func PidInode(tgid uint32) (uint64, error) {
	fd, err := unix.PidfdOpen(int(tgid), 0)
	if err != nil {
		return 0, fmt.Errorf("pidfd of %d: %w", tgid, err)
	}
	defer unix.Close(fd)
	var fsys unix.Statfs_t
	if err := unix.Fstatfs(fd, &fsys); err != nil {
		return 0, fmt.Errorf("pidfd of %d: %w", tgid, err)
	}
	if fsys.Type != unix.PID_FS_MAGIC {
		return 0, nil // an anonymous inode, shared
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("pidfd of %d: %w", tgid, err)
	}
	return st.Ino, nil
}

// alive reports whether the process is still the one that started then.
func alive(tgid uint32, start uint64) bool {
	now, err := StartBoottime(tgid)
	return err == nil && SameStart(now, start) && !errors.Is(unix.Kill(int(tgid), 0), unix.ESRCH)
}
