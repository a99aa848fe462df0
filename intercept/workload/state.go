package workload

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits of what is read of a runtime's state.
const (
	maxState   = 4 << 20  // one container's file, in bytes
	maxIndex   = 32 << 20 // a storage's index of all its containers
	maxToken   = 64 << 10
	maxEntries = 256 // of a folder that is looked through
)

// root returns a file system's path in front of which Root stands.
func (h Host) root() string {
	if h.Root == "" {
		return "/"
	}
	return h.Root
}

// folder opens a folder of the host's. Links on the way are followed as far as
// they stay below Root: data folders are often moved to another disk.
func (h Host) folder(path string) (int, error) {
	root, err := unix.Open(h.root(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	return openat2(root, strings.TrimPrefix(path, "/"), unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

func openat2(dir int, path string, flags, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve}
	for range 8 {
		fd, err := unix.Openat2(dir, path, &how)
		// EAGAIN: a rename somewhere made the walk unsure (openat2(2)).
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// read reads a file of at most limit bytes below a folder. No link below the
// folder is followed; the file and the folders that lead to it must be root's,
// and nobody else may write to them. fs.ErrNotExist: there is none.
func (h Host) read(folder, name string, limit int64) ([]byte, error) {
	dir, err := h.folder(folder)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", folder, err)
	}
	defer unix.Close(dir)
	if err := owned(dir); err != nil {
		return nil, fmt.Errorf("%s: %w", folder, err)
	}
	for rest := name; ; {
		i := strings.IndexByte(rest, '/')
		if i < 0 {
			break
		}
		rest = rest[i+1:]
		sub := name[:len(name)-len(rest)-1]
		fd, err := openat2(dir, sub, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", folder, sub, err)
		}
		err = owned(fd)
		unix.Close(fd)
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", folder, sub, err)
		}
	}
	fd, err := openat2(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", folder, name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := owned(fd); err != nil {
		return nil, fmt.Errorf("%s/%s: %w", folder, name, err)
	}
	b, err := readRegular(f, limit)
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", folder, name, err)
	}
	return b, nil
}

// owned refuses what somebody besides root can write to.
func owned(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Uid != 0 || st.Mode&0o022 != 0 {
		return fmt.Errorf("user %d, mode %o: only root may be able to write to it, else it proves nothing", st.Uid, st.Mode&0o7777)
	}
	return nil
}

func readRegular(f *os.File, limit int64) ([]byte, error) {
	fi, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !fi.Mode().IsRegular():
		return nil, errors.New("is not a regular file")
	case fi.Size() > limit:
		return nil, fmt.Errorf("%d bytes are more than the limit of %d", fi.Size(), limit)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("more than the limit of %d bytes", limit)
	}
	return b, err
}

// names lists a folder, sorted; none where it is not there.
func (h Host) names(folder string) ([]string, error) {
	fd, err := h.folder(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", folder, err)
	}
	d := os.NewFile(uintptr(fd), folder)
	defer d.Close()
	names, err := d.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", folder, err)
	}
	if len(names) > maxEntries {
		return nil, fmt.Errorf("%s: more than %d entries", folder, maxEntries)
	}
	return names, nil
}

// ociConfig is what of a container's OCI config is looked at.
// https://github.com/opencontainers/runtime-spec/blob/main/config.md
type ociConfig struct {
	Version     string            `json:"ociVersion"`
	Annotations map[string]string `json:"annotations"`
	Linux       struct {
		CgroupsPath string `json:"cgroupsPath"`
	} `json:"linux"`
}

// readConfig reads an OCI config that says that its container lives in a cgroup.
func (h Host) readConfig(folder, name, cgroup string) (*ociConfig, error) {
	b, err := h.read(folder, name, maxState)
	if err != nil {
		return nil, err
	}
	c := &ociConfig{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(folder, name), err)
	}
	if c.Version == "" || cgroup != "" && expandCgroupsPath(c.Linux.CgroupsPath) != cgroup {
		return nil, fmt.Errorf("%s: says that the container lives in another cgroup (%q)", filepath.Join(folder, name), c.Linux.CgroupsPath)
	}
	return c, nil
}
