package stand

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Lock waits until no other stand and no kernel test runs on this host, and
// keeps them out until unlock is called; they share the file. The guard attaches
// to the host's one cgroup2 root. A Stand takes it itself. waiting, when not
// nil, is called if there is somebody to wait for.
func Lock(ctx context.Context, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "sallyport-kernel.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another stand or kernel test runs on this host: %w", context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
