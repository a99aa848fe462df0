package privsep

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ownRoot is the prefix of templates that are opened inside the process's root.
const ownRoot = "/proc/{pid}/root/"

// checkTemplate refuses what expand could not turn into one clean path.
func checkTemplate(t string) error {
	rest := strings.NewReplacer("{pid}", "0", "{uid}", "0").Replace(t)
	switch {
	case t == "":
		return nil
	case t[0] != '/' || len(t) > 1024:
		return fmt.Errorf("token_file %q: must be an absolute path of at most 1024 bytes", t)
	case strings.ContainsAny(rest, "{}\x00"):
		return fmt.Errorf("token_file %q: only {pid} and {uid} can be filled in", t)
	case strings.HasPrefix(rest, "/proc/") && !strings.HasPrefix(t, ownRoot):
		return fmt.Errorf("token_file %q: below /proc only %s... can be read", t, ownRoot)
	}
	for _, name := range strings.Split(rest[1:], "/") {
		if name == "" || name == "." || name == ".." {
			return fmt.Errorf("token_file %q: no name in it may be empty, . or .. (write it plainly)", t)
		}
	}
	return nil
}

// readTemplate reads the token file that a template names for a process.
func readTemplate(p *process, uid uint32, template string) ([]byte, error) {
	path := strings.NewReplacer(
		"{pid}", strconv.FormatUint(uint64(p.tgid), 10),
		"{uid}", strconv.FormatUint(uint64(uid), 10)).Replace(template)
	if !strings.HasPrefix(template, ownRoot) {
		return readHost(path, uid)
	}
	root, err := unix.Openat(p.dir, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w (root: %v)", ErrGone, err)
	}
	defer unix.Close(root)
	inside := strings.SplitN(path, "/", 5)[4]
	fd, err := locate(root, inside, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return nil, fmt.Errorf("token file %s: %w", path, err)
	}
	defer unix.Close(fd)
	return readLocated(fd, path, nil)
}

// readHost reads a token file by a path of the host, for a process of uid.
func readHost(path string, uid uint32) ([]byte, error) {
	fd, err := locateHost(path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return readLocated(fd, path, []uint32{0, uid})
}

func locateHost(path string) (int, error) {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	fd, err := locate(root, strings.TrimPrefix(path, "/"), unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	if errors.Is(err, unix.ELOOP) {
		return -1, fmt.Errorf("token file %s: a symbolic link on the way, which is not followed: name the file by its real path", path)
	}
	if err != nil {
		return -1, fmt.Errorf("token file %s: %w", path, err)
	}
	return fd, nil
}

// locate finds a file without opening it: nothing that is no regular file is
// ever opened, since opening a device or a FIFO already does something.
func locate(root int, path string, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve}
	for range 8 {
		fd, err := unix.Openat2(root, path, &how)
		// EAGAIN: a rename somewhere made the walk unsure (openat2(2)).
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// pseudo file systems make up what a file holds when it is read.
var pseudo = []int64{
	unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC,
	unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.BPF_FS_MAGIC, unix.SECURITYFS_MAGIC,
}

// readLocated reads an O_PATH descriptor's file. owners, when given, are the
// only users that may own the file or write to it.
func readLocated(fd int, path string, owners []uint32) ([]byte, error) {
	var st unix.Stat_t
	var fsys unix.Statfs_t
	if err := errors.Join(unix.Fstat(fd, &st), unix.Fstatfs(fd, &fsys)); err != nil {
		return nil, fmt.Errorf("token file %s: %w", path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG || slices.Contains(pseudo, int64(fsys.Type)):
		return nil, fmt.Errorf("token file %s: is not a regular file", path)
	case st.Size == 0:
		return nil, fmt.Errorf("token file %s: is empty", path)
	case st.Size > MaxToken:
		return nil, fmt.Errorf("token file %s: %d bytes are more than the limit of %d", path, st.Size, MaxToken)
	case st.Nlink > 1:
		return nil, fmt.Errorf("token file %s: has a second hard link, so that it may be somebody else's: copy it instead", path)
	case owners != nil && !slices.Contains(owners, st.Uid):
		return nil, fmt.Errorf("token file %s: belongs to user %d: it must belong to root or to the process's user (chown it)", path, st.Uid)
	case owners != nil && st.Mode&0o022 != 0:
		return nil, fmt.Errorf("token file %s: others may write to it: chmod go-w it", path)
	}
	// O_NONBLOCK: a lease on the file must not hold the loader up.
	rd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("token file %s: %w", path, err)
	}
	defer unix.Close(rd)
	b, err := readAll(rd, int(st.Size)+1, MaxToken)
	if err != nil {
		return nil, fmt.Errorf("token file %s: %w", path, err)
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("token file %s: is empty", path)
	}
	return b, nil
}

// readAll reads a file to its end, which a short read tells: of at most limit
// bytes, which are likely less than guess. It is regular, or one of /proc whose
// content is made in one piece.
func readAll(fd, guess, limit int) ([]byte, error) {
	b := make([]byte, 0, guess)
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		}
		if b = b[:len(b)+n]; len(b) > limit {
			return nil, fmt.Errorf("more than the limit of %d bytes", limit)
		}
		if len(b) < cap(b) {
			return b, nil
		}
		b = slices.Grow(b, cap(b))
	}
}
