package privsep

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// User is who a command runs as.
type User struct {
	UID, GID uint32
	Groups   []uint32
}

// Exec replaces this process by a command that runs as u. Unless u is root,
// it can get no privilege back: no capability, not even by set-user-id
// programs (bounding set, no_new_privs). Exec returns only to say why not.
func Exec(u User, path string, args, env []string) error {
	// Credentials belong to threads. execve makes this one the process.
	runtime.LockOSThread()
	if u.UID != 0 {
		if err := renounce(); err != nil {
			return err
		}
	}
	if err := setCredentials(u.UID, u.GID, u.Groups); err != nil {
		return err
	}
	if err := unix.Exec(path, args, env); err != nil {
		return fmt.Errorf("run %s: %w", path, err)
	}
	return nil
}

// setCredentials changes the calling thread alone: what package syscall has
// changes all threads, which a thread that has renounced must not wait for.
func setCredentials(uid, gid uint32, groups []uint32) error {
	var p unsafe.Pointer
	if len(groups) > 0 {
		p = unsafe.Pointer(&groups[0])
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(p), 0); e != 0 {
		return fmt.Errorf("set groups: %w", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); e != 0 {
		return fmt.Errorf("set group %d: %w", gid, e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
		return fmt.Errorf("set user %d: %w", uid, e)
	}
	return nil
}
