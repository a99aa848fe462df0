package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxStore is the size of what is read of a store of certificates, in bytes.
const maxStore = 8 << 20

// tree is a file system as seen from its root: this machine's, an image's, a
// process's own, or a user's home. Whoever it belongs to may put links, pipes and
// devices into it: no path leads out of it, and only regular files are opened.
type tree struct {
	dir     *os.File
	path    string // of its root, "/" for this machine's
	owner   *owner // of what is written, nil for this process
	noLinks bool   // none is followed: a user's own
	kernel  bool   // it is /proc, whose files have no size
}

type owner struct{ uid, gid int }

func openTree(root string) (*tree, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	return &tree{dir: os.NewFile(uintptr(fd), root), path: path.Clean(root)}, nil
}

func (t *tree) Close() error { return t.dir.Close() }

// at finds a path without opening what is there (O_PATH).
func (t *tree) at(name string) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if t.noLinks {
		how.Resolve |= unix.RESOLVE_NO_SYMLINKS
	}
	fd, err := unix.Openat2(int(t.dir.Fd()), path.Clean("/"+name), &how)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: t.name(name), Err: err}
	}
	return os.NewFile(uintptr(fd), t.name(name)), nil
}

// name is a path inside as this machine writes it, for messages.
func (t *tree) name(inside string) string { return path.Join(t.path, inside) }

// again is a name for what is open, which no rename can lead elsewhere.
func again(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// real is a path inside with its links followed, "" where nothing is there.
func (t *tree) real(name string) string {
	f, err := t.at(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	root, err := os.Readlink(again(t.dir))
	if err != nil {
		return ""
	}
	to, err := os.Readlink(again(f))
	if err != nil {
		return ""
	}
	return path.Clean("/" + strings.TrimPrefix(to, strings.TrimSuffix(root, "/")))
}

// stat tells of a path, after links.
func (t *tree) stat(name string) (st unix.Stat_t, err error) {
	f, err := t.at(name)
	if err != nil {
		return st, err
	}
	defer f.Close()
	return st, unix.Fstat(int(f.Fd()), &st)
}

func (t *tree) exists(name string) bool {
	_, err := t.stat(name)
	return err == nil
}

// read returns a regular file of at most maxStore bytes.
func (t *tree) read(name string) ([]byte, error) {
	look, err := t.at(name)
	if err != nil {
		return nil, err
	}
	defer look.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(look.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s: no regular file", look.Name())
	}
	if st.Size == 0 && !t.kernel { // in a process's own root it may be one of the kernel's, which act on being read
		return nil, nil
	}
	if t.owner != nil && int(st.Uid) != t.owner.uid {
		return nil, fmt.Errorf("%s: belongs to user %d", look.Name(), st.Uid)
	}
	f, err := os.OpenFile(again(look), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxStore+1))
	if err == nil && len(b) > maxStore {
		err = fmt.Errorf("%s: larger than %d bytes", look.Name(), maxStore)
	}
	return b, err
}

// list returns the names in a folder, in order; none where there is no folder.
func (t *tree) list(name string) []string {
	look, err := t.at(name)
	if err != nil {
		return nil
	}
	defer look.Close()
	f, err := os.OpenFile(again(look), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(10_000)
	slices.Sort(names)
	return names
}

// folder finds a folder, and makes it where it is not there.
func (t *tree) folder(name string) (*os.File, error) {
	f, err := t.at(name)
	if !errors.Is(err, unix.ENOENT) || path.Clean("/"+name) == "/" {
		return f, err
	}
	above, err := t.folder(path.Dir(path.Clean("/" + name)))
	if err != nil {
		return nil, err
	}
	defer above.Close()
	base := path.Base(name)
	if err := unix.Mkdirat(int(above.Fd()), base, 0o700); err != nil {
		return nil, &os.PathError{Op: "mkdir", Path: t.name(name), Err: err}
	}
	// By descriptor: whoever owns the folder above may put another thing here.
	fd, err := unix.Openat(int(above.Fd()), base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: t.name(name), Err: err}
	}
	made := os.NewFile(uintptr(fd), t.name(name))
	if t.owner != nil {
		err = unix.Fchown(fd, t.owner.uid, t.owner.gid)
	} else {
		err = unix.Fchmod(fd, 0o755)
	}
	if err != nil {
		made.Close()
		return nil, &os.PathError{Op: "mkdir", Path: t.name(name), Err: err}
	}
	return made, nil
}

// write gives a file its content, at once or not at all. It reports whether that
// changed anything.
func (t *tree) write(name string, b []byte, mode uint32) (changed bool, err error) {
	if have, err := t.read(name); err == nil && bytes.Equal(have, b) {
		return false, nil
	}
	dir, err := t.folder(path.Dir(path.Clean("/" + name)))
	if err != nil {
		return false, err
	}
	defer dir.Close()
	const temporary = ".sallyport-new"
	_ = unix.Unlinkat(int(dir.Fd()), temporary, 0)
	fd, err := unix.Openat(int(dir.Fd()), temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return false, &os.PathError{Op: "write", Path: t.name(name), Err: err}
	}
	f := os.NewFile(uintptr(fd), t.name(name))
	_, err = f.Write(b)
	if err == nil {
		err = unix.Fchmod(fd, mode)
	}
	if err == nil && t.owner != nil {
		err = unix.Fchown(fd, t.owner.uid, t.owner.gid)
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = unix.Renameat(int(dir.Fd()), temporary, int(dir.Fd()), path.Base(name))
	}
	if err != nil {
		_ = unix.Unlinkat(int(dir.Fd()), temporary, 0)
		return false, fmt.Errorf("write %s: %w", t.name(name), err)
	}
	return true, nil
}

// remove takes a file away; false where there was none.
func (t *tree) remove(name string) (changed bool, err error) {
	dir, err := t.at(path.Dir(path.Clean("/" + name)))
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer dir.Close()
	switch err := unix.Unlinkat(int(dir.Fd()), path.Base(name), 0); {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, &os.PathError{Op: "remove", Path: t.name(name), Err: err}
	}
	return true, nil
}
