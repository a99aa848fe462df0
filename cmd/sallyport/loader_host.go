package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// daemonUser finds the account that the daemon runs as: a name that the
// system knows, or uid:gid.
func daemonUser(s string) (uid, gid uint32, err error) {
	u, g, pair := strings.Cut(s, ":")
	if !pair {
		found, err := user.Lookup(s)
		if err != nil {
			return 0, 0, fmt.Errorf("user %q: no such account: make one (useradd --system --shell /usr/sbin/nologin %s), or give uid:gid", s, s)
		}
		u, g = found.Uid, found.Gid
	}
	un, uerr := strconv.ParseUint(u, 10, 31)
	gn, gerr := strconv.ParseUint(g, 10, 31)
	if err := errors.Join(uerr, gerr); err != nil {
		return 0, 0, fmt.Errorf("user %q: %w", s, err)
	}
	if un == 0 || gn == 0 {
		return 0, 0, fmt.Errorf("user %q: has root's user or group: the daemon must be unprivileged", s)
	}
	return uint32(un), uint32(gn), nil
}

// stateFolder makes the folder of the daemon's state, for it alone. What
// stands in it is not touched.
func stateFolder(dir string, uid, gid uint32) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	// Its parent is root's; the folder itself may be the daemon's already.
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("state %s: %w (it must be a folder, not a link)", dir, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("state %s: %w", dir, err)
	}
	if st.Uid != 0 && st.Uid != uid {
		return fmt.Errorf("state %s: belongs to user %d, not to the daemon's (%d): chown -R it if it is sallyport's, or name another folder (state)", dir, st.Uid, uid)
	}
	if err := unix.Fchown(fd, int(uid), int(gid)); err != nil {
		return fmt.Errorf("state %s: %w", dir, err)
	}
	// The group's x is the mask of an access control list that lets a reader of
	// the keys through: chmod would end it.
	if st.Mode&0o767 != 0o700 {
		if err := unix.Fchmod(fd, 0o700); err != nil {
			return fmt.Errorf("state %s: %w", dir, err)
		}
	}
	return nil
}
