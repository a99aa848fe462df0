package redirect

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/proc"
)

// StartBoottime returns when a process started, in ns since boot, truncated
// to the 10 ms that /proc shows. Compare with SameStart.
func StartBoottime(tgid uint32) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", tgid))
	if err != nil {
		return 0, err
	}
	ticks, err := proc.Start(b)
	if err != nil {
		return 0, fmt.Errorf("/proc/%d: %w", tgid, err)
	}
	return ticks * proc.Tick, nil
}

// SameStart reports whether two start times can be of one process: the
// kernel's record is exact, /proc is truncated to 10 ms.
func SameStart(a, b uint64) bool { return a != 0 && a/proc.Tick == b/proc.Tick }

// PidInode returns the inode number of a process's pidfd, which no other
// process of this boot has; 0 before kernel 6.9, where all share one.
func PidInode(tgid uint32) (uint64, error) {
	fd, err := unix.PidfdOpen(int(tgid), 0)
	if err != nil {
		return 0, fmt.Errorf("pidfd of %d: %w", tgid, err)
	}
	defer unix.Close(fd)
	return proc.Inode(fd)
}

// alive reports whether the process is still the one that started then.
func alive(tgid uint32, start uint64) bool {
	now, err := StartBoottime(tgid)
	return err == nil && SameStart(now, start) && !errors.Is(unix.Kill(int(tgid), 0), unix.ESRCH)
}
