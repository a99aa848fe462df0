package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/cgroup"
	"sallyport.dev/sallyport/intercept/redirect"
)

// leaveTime is what killed processes have to leave their cgroup.
const leaveTime = time.Second

// room is the cgroup that this loader's daemon is born in with its helpers, and
// that none of them can leave: what a daemon may have forked ends with it. It is
// below the one that the programs know, beside those of other loaders. The zero
// room is none.
type room struct{ dir string }

// open makes it, and empties those of loaders that are gone. The file is the
// cgroup's folder, the number its id.
func (r *room) open(daemons string, log *slog.Logger) (f *os.File, id uint64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cgroup of the daemon: %w", err)
		}
	}()
	entries, err := os.ReadDir(daemons)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		var pid uint32
		if _, err := fmt.Sscanf(e.Name(), "%d-", &pid); err != nil || !e.IsDir() {
			continue
		}
		// Another one that lives ends its own.
		if name, err := roomName(pid); err != nil || name != e.Name() {
			(&room{filepath.Join(daemons, e.Name())}).close(log)
		}
	}
	name, err := roomName(uint32(os.Getpid()))
	if err != nil {
		return nil, 0, err
	}
	dir := filepath.Join(daemons, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, 0, err
	}
	r.dir = dir
	if f, err = os.Open(dir); err != nil {
		return nil, 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Ino, nil
}

// roomName is of a loader's own, for good.
func roomName(pid uint32) (string, error) {
	start, err := redirect.StartBoottime(pid)
	return fmt.Sprintf("%d-%d", pid, start), err
}

// close ends all that is left in the room, and removes it.
func (r *room) close(log *slog.Logger) {
	if r.dir == "" {
		return
	}
	err := cgroup.Kill(r.dir)
	if err == nil {
		err = cgroup.Remove(r.dir, leaveTime)
	}
	if err != nil {
		log.Error("what a daemon left behind does not end: end the processes in its cgroup.procs", "error", err)
	}
	r.dir = ""
}
