package redirect

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// inNetns runs f on a thread that enters a network namespace and comes back.
// nil is the caller's own. A thread that can't come back is thrown away; the
// others stay, since what a thread has started may be told to die with it
// (PR_SET_PDEATHSIG).
func inNetns(ns *os.File, f func() error) error {
	if ns == nil {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("network namespace: %w", err)
			return
		}
		defer own.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter the network namespace: %w", err)
			return
		}
		err = f()
		if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// namespace is a network namespace with processes in it.
type namespace struct {
	file  *os.File
	inode uint64
}

// namespaces returns every network namespace that some process is in, the
// caller's first. The caller closes them.
func namespaces() ([]namespace, error) {
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, err
	}
	seen := map[uint64]bool{}
	var list []namespace
	for _, l := range append([]string{"/proc/self/ns/net"}, links...) {
		fi, err := os.Stat(l)
		if err != nil {
			continue // the process has ended
		}
		inode := fi.Sys().(*syscall.Stat_t).Ino
		if seen[inode] {
			continue
		}
		f, err := os.Open(l)
		if err != nil {
			continue
		}
		if fi, err := f.Stat(); err != nil || fi.Sys().(*syscall.Stat_t).Ino != inode {
			f.Close() // its number has another owner now, who is listed too
			continue
		}
		seen[inode] = true
		list = append(list, namespace{f, inode})
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no network namespace can be read in /proc: mount it")
	}
	return list, nil
}

// ownersOf finds the processes that hold sockets, by the sockets' inodes.
func ownersOf(inodes map[uint32]bool) map[uint32]uint32 {
	owners := map[uint32]uint32{}
	if len(inodes) == 0 {
		return owners
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*/fd")
	for _, dir := range dirs {
		pid, err := strconv.ParseUint(filepath.Base(filepath.Dir(dir)), 10, 32)
		if err != nil {
			continue
		}
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue // it has ended
		}
		for _, fd := range fds {
			to, err := os.Readlink(filepath.Join(dir, fd.Name()))
			var inode uint32
			if err != nil {
				continue
			}
			if _, err := fmt.Sscanf(to, "socket:[%d]", &inode); err == nil && inodes[inode] && owners[inode] == 0 {
				owners[inode] = uint32(pid)
			}
		}
	}
	return owners
}
