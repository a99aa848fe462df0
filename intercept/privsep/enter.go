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

// Enter asks the loader at socket to put this process into a guarded cgroup
// that presents tokenFile, and returns the cgroup's path below the cgroup2
// root. name is part of the cgroup's; "" takes a random one. The caller must
// be root. It stays in the cgroup whatever it does next: exec, or end.
func Enter(ctx context.Context, socket, name, tokenFile string) (string, error) {
	// The loader follows no link: a path that leads to the file today is not
	// allowed to lead elsewhere tomorrow.
	path, err := filepath.Abs(tokenFile)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	defer f.Close()
	conn, err := dialControl(ctx, socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	// The loader may refuse before it has read the request.
	_, _, werr := conn.WriteMsgUnix(appendEnter(nil, enter{name, path}), unix.UnixRights(int(f.Fd())), nil)
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
