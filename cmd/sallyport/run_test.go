package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/intercept/identity/oidctest"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
	"sallyport.dev/sallyport/protocols/postgres/parser"
)

// The test binary is sallyport itself for the processes of these tests: the
// loader, and what it starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 5 && os.Args[1] == stormCommand {
		os.Exit(storm(os.Args[2:]))
	}
	if os.Getenv("SALLYPORT_TEST") != "" || parser.IsChild() || len(os.Args) > 1 && (os.Args[1] == daemonCommand || slices.Contains([]string{resolverCommand, canaryCommand, signerCommand}, os.Args[1])) {
		os.Exit(run(os.Args[1:]))
	}
	code := oidctest.Main(m)
	if clusterDir != "" {
		os.RemoveAll(clusterDir)
	}
	os.Exit(code)
}

// Who is who on the test's host.
const (
	daemonUID = 64101
	agentUID  = 64102
)

// host is a machine with a guarded PostgreSQL server.
type host struct {
	t        *testing.T
	dir      string // everybody may enter
	config   string
	policy   string
	run      string
	pins     string
	port     uint16
	server   string // ip:port
	issuer   *oidctest.Provider
	loader   *exec.Cmd
	log      *syncBuffer
	ready    *net.UnixConn
	more     string // lines of the configuration
	subject  string // that the workload may present
	identity string // more lines of identity
	trust    string // more fields of the issuer
	catalog  string // more of the resource
	covered  string // more cgroups
	journal  string // its fields
	metrics  string
	wrap     []string // what starts the loader, and guard up
	env      []string // more of the loader's
	files    []*os.File
	reported bool
	recorded [][]byte // events, as published: see record
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const allowAll = `rules:
  - {name: all, effect: allow, identity: "*", resource: "*", commands: "*", relations: "*"}
`

// newHost prepares a machine; server is the guarded service, "" for an address
// where nobody answers.
func newHost(t *testing.T, server string) *host {
	t.Helper()
	redirecttest.Lock(t)
	dir, err := os.MkdirTemp("", "sallyport-run")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h := &host{
		t: t, dir: dir, config: filepath.Join(dir, "sallyport.yaml"), policy: filepath.Join(dir, "policy.yaml"),
		run: filepath.Join(dir, "run"), pins: redirecttest.TempPins(t), port: redirecttest.Port(t), server: server, subject: "agent-a",
	}
	if server == "" {
		h.server = fmt.Sprintf("127.0.0.1:%d", redirecttest.Port(t))
	}
	h.issuer = oidctest.Start(t)
	h.metrics = fmt.Sprintf("127.0.0.1:%d", redirecttest.Port(t))
	h.write(h.policy, allowAll)
	h.configure()
	h.ready, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.ready.Close() })
	t.Cleanup(h.kill)
	return h
}

func (h *host) write(path, text string) {
	h.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// configure writes the configuration, readable by root only.
func (h *host) configure() {
	h.t.Helper()
	h.write(h.config, fmt.Sprintf(`host: test
state: %s
run: %s
user: "%d:%d"
metrics: "%s"
interception: {mode: cgroup, cgroups: [/sallyport.guarded%s], port: %d, pins: %s}
resources:
  - {name: clinic, protocol: postgres, addresses: ["%s"]%s}
identity:
%s  issuers: [{url: "%s", audience: sallyport, skew: 1s%s}]
  workloads:
    - name: agent-a
      match: {cgroup: "/sallyport.guarded/**", uid: %d}
      subjects: [%s]
evidence:
  journal: {%s}
  nats: {listen: "127.0.0.1:0"}
%s`, filepath.Join(h.dir, "state"), h.run, daemonUID, daemonUID, h.metrics, h.covered, h.port, h.pins, h.server, h.catalog, h.identity, h.issuer.Issuer, h.trust, agentUID, h.subject, h.journal, h.more))
}

// command is a command of root's.
func (h *host) command(args ...string) *exec.Cmd {
	args = append([]string{"/proc/self/exe"}, args...)
	if h.wrap != nil {
		self, err := os.Executable()
		if err != nil {
			h.t.Fatal(err)
		}
		args[0] = self
		args = append(slices.Clone(h.wrap), args...)
	}
	return exec.Command(args[0], args[1:]...)
}

// start starts sallyport run, without waiting.
func (h *host) start() {
	h.t.Helper()
	h.log = &syncBuffer{}
	h.loader = h.command("run", "-c", h.config)
	h.loader.Env = append(os.Environ(), "SALLYPORT_TEST=1", "GORACE=atexit_sleep_ms=0", "NOTIFY_SOCKET="+h.ready.LocalAddr().String())
	h.loader.Env = append(h.loader.Env, h.env...)
	h.loader.ExtraFiles = h.files
	h.loader.Stderr = h.log
	h.loader.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := stand.Launch(h.loader); err != nil {
		h.t.Fatal(err)
	}
}

// serve starts it, and returns when it serves.
func (h *host) serve() {
	h.t.Helper()
	h.start()
	h.notified("READY=1")
}

// notified waits until the supervisor is told so.
func (h *host) notified(want string) {
	h.t.Helper()
	_ = h.ready.SetReadDeadline(time.Now().Add(2 * time.Minute))
	b := make([]byte, 100)
	for n := 0; string(b[:n]) != want; {
		var err error
		if n, err = h.ready.Read(b); err != nil {
			h.t.Fatalf("not notified of %s: %v; log:\n%s", want, err, h.log)
		}
	}
}

// wait returns the loader's exit code.
func (h *host) wait() int {
	h.t.Helper()
	done := make(chan error, 1)
	go func() { done <- h.loader.Wait() }()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		h.t.Fatalf("sallyport does not end; log:\n%s", h.log)
	}
	code := h.loader.ProcessState.ExitCode()
	h.loader = nil
	return code
}

func (h *host) signal(s os.Signal) {
	h.t.Helper()
	if err := h.loader.Process.Signal(s); err != nil {
		h.t.Fatal(err)
	}
}

// stop ends it in order.
func (h *host) stop() {
	h.t.Helper()
	h.signal(syscall.SIGTERM)
	h.notified("STOPPING=1")
	if code := h.wait(); code != 0 {
		h.t.Fatalf("exit code %d; log:\n%s", code, h.log)
	}
}

func (h *host) kill() {
	if h.loader != nil {
		_ = h.loader.Process.Kill()
		_ = h.loader.Wait()
	}
	if h.t.Failed() && h.log != nil && !h.reported {
		h.reported = true
		h.t.Logf("log of sallyport:\n%s", h.log)
	}
}

// daemon returns the daemon's process, as the kernel knows it.
func (h *host) daemon() int {
	h.t.Helper()
	s, err := redirect.GetStatus(h.pins)
	if err != nil || !s.Daemon {
		h.t.Fatalf("no daemon: %+v, %v", s, err)
	}
	return int(s.DaemonPID)
}

// token writes the agent's token and returns its file.
func (h *host) token(client string) string {
	h.t.Helper()
	f := filepath.Join(h.dir, client+".jwt")
	h.write(f, h.issuer.Token(client))
	return f
}

// record reads the journal of a sallyport that has ended.
func (h *host) record() []ocsf.View {
	h.t.Helper()
	j, err := journal.Open(filepath.Join(h.dir, "state", "journal"), journal.Options{Encode: ocsf.Append, CheckpointEvery: -1})
	if err != nil {
		h.t.Fatal(err)
	}
	defer j.Close()
	var all []ocsf.View
	h.recorded = nil
	r := j.Reader(j.First())
	for range j.Last() - j.First() + 1 {
		rec, err := r.Next(context.Background())
		if err != nil {
			h.t.Fatal(err)
		}
		if rec.Kind == 0 {
			continue
		}
		v, err := ocsf.Decode(rec.Payload)
		if err != nil {
			h.t.Fatal(err)
		}
		all, h.recorded = append(all, v), append(h.recorded, bytes.Clone(rec.Payload))
	}
	r.Close()
	return all
}

// recorded returns the events of a kind.
func recorded(all []ocsf.View, k events.Kind) (out []ocsf.View) {
	for _, v := range all {
		if v.Kind == k.String() {
			out = append(out, v)
		}
	}
	return out
}

// dead waits until a process has ended.
func dead(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n, err := 0, error(unix.EINTR)
	for err == unix.EINTR {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 120_000)
	}
	if n != 1 {
		t.Fatalf("process %d lives on (%v)", pid, err)
	}
}

// within waits for what happens on another process's own time.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(25 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 2 minutes: %s", what)
		}
	}
}

func has(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}
