package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/render"
)

// Names of descriptors at the service manager (sd_listen_fds(3)): listeners of
// the passage, by a socket unit or from its store, and connections.
const (
	storedListener = "passage"
	storedFlow     = "passage-flow"
)

// notify tells the supervisor, as sd_notify(3) does, if it asks to be told. The
// descriptors that go along stay the caller's.
func notify(state string, fds ...int) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if err := notifyAt(path, state, fds); err != nil {
		slog.Warn("the supervisor can't be told", "error", err)
	}
}

func notifyAt(path, state string, fds []int) error {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	// A manager that does not read does not hold up the end.
	if err := unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return err
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(s, []byte(state), oob, &unix.SockaddrUnix{Name: path}, unix.MSG_NOSIGNAL)
}

// storeSize is how many descriptors the service manager keeps over a restart,
// 0 where it keeps none.
func storeSize() int {
	n, err := strconv.Atoi(os.Getenv("FDSTORE"))
	if err != nil || os.Getenv("NOTIFY_SOCKET") == "" {
		return 0
	}
	return n
}

// fromSupervisor takes the descriptors that the service manager hands over
// (sd_listen_fds(3)). Those that can't be the passage's are closed, which the
// log tells.
func (l *loader) fromSupervisor() {
	pid, n := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, k := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(k)
	}
	count, err := strconv.Atoi(n)
	if err != nil || pid != strconv.Itoa(os.Getpid()) {
		return
	}
	for i := range count {
		fd, name := 3+i, ""
		if i < len(names) {
			name = names[i]
		}
		unix.CloseOnExec(fd)
		what := flowName
		if name != storedFlow {
			what = ""
		}
		err := errors.New("its name does not begin with " + storedListener)
		if strings.HasPrefix(name, storedListener) {
			err = l.keep(what, fd)
		}
		if err != nil {
			l.log.Warn("a descriptor of the service manager's is not used", "name", render.Line(name), "error", err)
			unix.Close(fd)
		}
	}
	if len(l.held) > 0 {
		l.log.Info("the passage was kept open by the service manager", "sockets", len(l.held))
	}
	// What stays in the store would take connections when this process is dead.
	notify("FDSTOREREMOVE=1\nFDNAME=" + storedListener)
	notify("FDSTOREREMOVE=1\nFDNAME=" + storedFlow)
}

// store hands the passage to the service manager before the end, if it keeps
// descriptors: connections wait there for the next start. When it stops the
// service it closes them, and they are refused.
func (l *loader) store() {
	size := storeSize()
	if size <= 0 || !l.serving {
		return
	}
	all, err := l.pause(nil)
	if err == nil && len(all) > size {
		err = fmt.Errorf("there are %d sockets, more than its FileDescriptorStoreMax (%d)", len(all), size)
	}
	if err != nil {
		l.log.Warn("the service manager can't keep the passage open: connections are refused until the next start", "error", err)
		go closeSockets(all)
		return
	}
	for name, mine := range map[string]func(string) bool{
		storedListener: func(s string) bool { return s != flowName },
		storedFlow:     func(s string) bool { return s == flowName },
	} {
		var fds []int
		for _, s := range all {
			if mine(s.name) {
				fds = append(fds, s.fd)
			}
		}
		for len(fds) > 0 {
			n := min(len(fds), maxFDs)
			notify("FDSTORE=1\nFDNAME="+name, fds[:n]...)
			fds = fds[n:]
		}
	}
	go closeSockets(all)
}
