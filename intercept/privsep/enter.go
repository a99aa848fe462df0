package privsep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Entry says what a guarded cgroup is made with.
type Entry struct {
	Name       string // part of the cgroup's; "" takes a random one
	TokenFile  string // of the token that its processes present
	PersonFile string // of the token of the person that they act for, "" for nobody
}

// Enter asks the loader at socket to put this process into a guarded cgroup
// that presents the tokens of e, and returns the cgroup's path below the cgroup2
// root. The caller must be root. It stays in the cgroup whatever it does next:
// exec, or end.
func Enter(ctx context.Context, socket string, e Entry) (string, error) {
	var fds []int
	for _, file := range []*string{&e.TokenFile, &e.PersonFile} {
		if *file == "" && file == &e.PersonFile {
			continue
		}
		f, err := openTokenFile(file)
		if err != nil {
			return "", fmt.Errorf("token file: %w", err)
		}
		defer f.Close()
		fds = append(fds, int(f.Fd()))
	}
	conn, err := dialControl(ctx, socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	// The loader may refuse before it has read the request.
	_, _, werr := conn.WriteMsgUnix(appendEnter(nil, enter{e.Name, e.TokenFile, e.PersonFile}), unix.UnixRights(fds...), nil)
	buf := make([]byte, 32+maxString)
	n, err := conn.Read(buf)
	if err != nil {
		return "", fmt.Errorf("the loader did not answer: %w", errors.Join(werr, err))
	}
	cgroup, refused, err := parseEntered(buf[:n])
	if err != nil {
		return "", err
	}
	if refused != nil {
		return "", fmt.Errorf("the loader refused: %w", refused)
	}
	return cgroup, nil
}

// openTokenFile finds a file without reading it, and makes path its real one:
// the loader follows no link, so that a path which leads to the file today
// can't lead elsewhere tomorrow.
func openTokenFile(path *string) (*os.File, error) {
	real, err := filepath.Abs(*path)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if err != nil {
		return nil, err
	}
	*path = real
	return os.OpenFile(real, unix.O_PATH|unix.O_NOFOLLOW, 0)
}
