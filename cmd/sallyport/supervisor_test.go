package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/intercept/redirect"
)

// manager is the service manager's side of sd_notify(3): a store of
// descriptors by name, and what was said.
type manager struct {
	t    *testing.T
	conn *net.UnixConn

	mu    sync.Mutex
	store map[string][]*os.File
	said  []string
}

func newManager(h *host) *manager {
	h.t.Helper()
	path := filepath.Join(h.dir, "manager")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		h.t.Fatal(err)
	}
	m := &manager{t: h.t, conn: c, store: map[string][]*os.File{}}
	go m.listen()
	h.t.Cleanup(func() {
		c.Close()
		m.drop()
	})
	h.env = []string{"NOTIFY_SOCKET=" + path, "FDSTORE=512"}
	return m
}

func (m *manager) listen() {
	b, oob := make([]byte, 4096), make([]byte, 4096)
	for {
		n, on, _, _, err := m.conn.ReadMsgUnix(b, oob)
		if err != nil {
			return
		}
		fields := map[string]string{}
		for line := range strings.Lines(string(b[:n])) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
			fields[k] = v
		}
		m.mu.Lock()
		name := fields["FDNAME"]
		if fields["FDSTORE"] == "1" {
			for _, fd := range rights(oob[:on]) {
				m.store[name] = append(m.store[name], os.NewFile(uintptr(fd), name))
			}
		}
		if fields["FDSTOREREMOVE"] == "1" {
			for _, f := range m.store[name] {
				f.Close()
			}
			delete(m.store, name)
		}
		m.said = append(m.said, string(b[:n]))
		m.mu.Unlock()
	}
}

// kept returns how many descriptors are in the store.
func (m *manager) kept() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, fs := range m.store {
		n += len(fs)
	}
	return n
}

// drop is what a stop of the service does with the store.
func (m *manager) drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, fs := range m.store {
		for _, f := range fs {
			f.Close()
		}
	}
	m.store = map[string][]*os.File{}
}

func (m *manager) ready() {
	m.t.Helper()
	within(m.t, "READY=1", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		for i, s := range m.said {
			if s == "READY=1" {
				m.said = m.said[i+1:]
				return true
			}
		}
		return false
	})
}

// start starts the service with descriptors, and waits until it serves.
func (m *manager) start(h *host, files map[string][]*os.File) {
	h.t.Helper()
	var names []string
	h.files = nil
	for name, fs := range files {
		for _, f := range fs {
			names, h.files = append(names, name), append(h.files, f)
		}
	}
	base := h.env
	// Its own pid is part of what a service is told.
	h.wrap = []string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`}
	h.env = append(h.env, fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	h.start()
	h.env, h.files, h.wrap = base, nil, nil
	m.ready()
}

// restart is start with what is in the store, which stays there.
func (m *manager) restart(h *host) {
	h.t.Helper()
	m.mu.Lock()
	files := map[string][]*os.File{}
	for name, fs := range m.store {
		files[name] = append(files[name], fs...)
	}
	m.mu.Unlock()
	m.start(h, files)
}

// waiting starts an agent that connects once it is told so, by closing in.
func (h *host) waiting(token string) (cmd *exec.Cmd, in interface{ Close() error }, out *syncBuffer) {
	h.t.Helper()
	out = &syncBuffer{}
	cmd = h.agent(token, "sh", "-c", "echo here; read x; exec psql -X -A -t -h 127.0.0.1 -p "+port(h.server)+" -c \"select 'served'\"")
	cmd.Stdout, cmd.Stderr = out, out
	w, err := cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := stand.Launch(cmd); err != nil {
		h.t.Fatal(err)
	}
	within(h.t, "an agent in its cgroup", func() bool { return has(out.String(), "here") })
	return cmd, w, out
}

// end ends the service by a signal, and returns its exit code.
func (h *host) end(s os.Signal) int {
	h.t.Helper()
	h.signal(s)
	return h.wait()
}

// A restart by the service manager refuses nobody; its stop, and any other end,
// refuses everybody.
func TestServiceManagerKeepsThePassage(t *testing.T) {
	h := newHost(t, startPostgres(t))
	m := newManager(h)
	h.start()
	m.ready()
	token := h.token("agent-a")

	cmd, in, out := h.waiting(token)
	if code := h.end(syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	within(t, "two listeners are kept", func() bool { return m.kept() == 2 })
	in.Close()
	time.Sleep(300 * time.Millisecond) // it waits in the backlog
	m.restart(h)
	if err := cmd.Wait(); err != nil || !has(out.String(), "served\n") {
		t.Errorf("an agent that came during the restart: %v %s", err, out)
	}
	within(t, "nothing is kept while it serves", func() bool { return m.kept() == 0 })

	// Stopped.
	cmd, in, out = h.waiting(token)
	if code := h.end(syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	m.drop()
	in.Close()
	if err := cmd.Wait(); err == nil || !has(out.String(), "refused") {
		t.Errorf("an agent after the stop: %v %s", err, out)
	}

	// Killed.
	m.start(h, nil)
	cmd, in, out = h.waiting(token)
	pid := h.daemon()
	h.end(syscall.SIGKILL)
	dead(t, pid)
	if m.kept() != 0 {
		t.Error("the store is not empty")
	}
	in.Close()
	if err := cmd.Wait(); err == nil || !has(out.String(), "refused") {
		t.Errorf("an agent after the kill: %v %s", err, out)
	}
}

// What a socket unit has bound is used, if it is what it must be.
func TestSocketActivation(t *testing.T) {
	h := newHost(t, startPostgres(t))
	m := newManager(h)
	listener := func(mptcp bool, addr string) *os.File {
		t.Helper()
		var lc net.ListenConfig
		lc.SetMultipathTCP(mptcp)
		l, err := lc.Listen(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	good := listener(false, fmt.Sprintf("127.0.0.1:%d", h.port))
	m.start(h, map[string][]*os.File{
		"passage":        {good, listener(false, "127.0.0.1:0"), listener(true, "127.0.0.1:0"), listener(false, fmt.Sprintf("127.0.0.2:%d", h.port))},
		"passage-file":   {h.logFile()},
		"something-else": {listener(false, "127.0.0.1:0")},
	})
	if s, err := redirect.GetStatus(h.pins); err != nil || s.Listening != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if out, err := h.psql("agent-a", "-c", "select 42"); err != nil || out != "42\n" {
		t.Errorf("%q, %v", out, err)
	}
	if n := strings.Count(h.log.String(), "is not used"); n != 5 || !has(h.log.String(), "not plain TCP", "is not at 127.0.0.1", "sockets=1", "its name does not begin with passage") {
		t.Errorf("%d descriptors were refused:\n%s", n, h.log)
	}
	// The unit's socket is there still when the service has ended.
	if v, err := unix.GetsockoptInt(int(good.Fd()), unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || v != 1 {
		t.Errorf("%d, %v", v, err)
	}
	if code := h.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func (h *host) logFile() *os.File {
	h.t.Helper()
	f, err := os.Create(filepath.Join(h.dir, "file"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { f.Close() })
	return f
}
