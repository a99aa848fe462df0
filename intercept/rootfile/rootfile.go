// Package rootfile keeps small files that decide something for root: in a folder
// of root's own, written whole or not at all, and read only where nobody else
// can have put or changed them. Root is the effective user.
package rootfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrUnsafe: somebody else may have made the file, or is able to change it.
var ErrUnsafe = errors.New("not a file of root's alone")

// Folder makes a folder for root alone, or checks that one is: a folder itself
// and no link to one, root's, with mode 0700.
func Folder(dir string) error {
	if err := os.Mkdir(dir, 0o700); err == nil {
		return sync(filepath.Dir(dir))
	} else if !errors.Is(err, os.ErrExist) {
		return err
	}
	fd, err := openFolder(dir)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func openFolder(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return -1, fmt.Errorf("%s: must be a folder of root's with mode 0700", dir)
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if st.Uid != uint32(os.Geteuid()) || st.Mode&0o077 != 0 {
		unix.Close(fd)
		return -1, fmt.Errorf("%s: must be a folder of root's with mode 0700", dir)
	}
	return fd, nil
}

// List returns the names in a folder that Folder would take, in no order; none
// where there is no folder.
func List(dir string) ([]string, error) {
	fd, err := openFolder(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	return f.Readdirnames(-1)
}

// Read returns a file of at most limit bytes out of a folder that Folder would
// take. ErrUnsafe: what stands there is a link, no regular file, somebody
// else's, can be written by others, or is larger. What is no regular file is
// not waited for.
func Read(path string, limit int64) ([]byte, error) {
	dir, err := openFolder(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	// O_PATH: opening a device or a FIFO already does something.
	look, err := unix.Openat(dir, filepath.Base(path), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(look)
	var st unix.Stat_t
	if err := unix.Fstat(look, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	unsafe := func(why string) error { return fmt.Errorf("%s: %w: %s", path, ErrUnsafe, why) }
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, unsafe("it is no regular file")
	case st.Uid != uint32(os.Geteuid()):
		return nil, unsafe(fmt.Sprintf("it belongs to user %d", st.Uid))
	case st.Mode&0o022 != 0:
		return nil, unsafe("others may write to it")
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", look), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = unsafe(fmt.Sprintf("it is larger than %d bytes", limit))
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Write gives a file its content, at once or not at all, and durably, in a
// folder that it makes where there is none.
func Write(path string, b []byte) error {
	dir := filepath.Dir(path)
	if err := Folder(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return sync(dir)
}

// Rename gives a file another name in its folder, durably.
func Rename(path, name string) error {
	dir := filepath.Dir(path)
	if err := os.Rename(path, filepath.Join(dir, name)); err != nil {
		return err
	}
	return sync(dir)
}

// Remove removes a file durably.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return sync(filepath.Dir(path))
}

func sync(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
