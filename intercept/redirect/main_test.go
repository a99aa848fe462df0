package redirect_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// nobody is who daemons and agents run as: no capability is left.
const nobody = 65534

// roles are what the test binary does when it is started again as another
// process. Each gets its arguments and answers with one line of JSON.
var roles = map[string]func(args []string) any{}

func TestMain(m *testing.M) {
	if role := os.Getenv("REDIRECT_TEST_ROLE"); role != "" {
		answer := roles[role](os.Args[1:])
		if answer != nil {
			json.NewEncoder(os.Stdout).Encode(answer)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// drop gives up root for good.
func drop() {
	for _, err := range []error{syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)} {
		if err != nil {
			panic(err)
		}
	}
}

// start runs a role in a cgroup, which it is born in.
func start(t testing.TB, cgroup, role string, files []*os.File, args ...string) *exec.Cmd {
	t.Helper()
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(filepath.Join(root, cgroup))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "REDIRECT_TEST_ROLE="+role, "GORACE=atexit_sleep_ms=0")
	cmd.ExtraFiles = files
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	return cmd
}

// ask runs a role to its end and returns its answer.
func ask[T any](t testing.TB, cgroup, role string, args ...string) T {
	t.Helper()
	cmd := start(t, cgroup, role, nil, args...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", role, err)
	}
	var v T
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("%s: %v: %q", role, err, out)
	}
	return v
}

// flow is what the daemon tells a client about its own connection.
type flow struct {
	Peer        intercept.Peer
	Destination netip.AddrPort
	Reached     netip.AddrPort
	Path        string
}

func init() {
	// The daemon: no capability, listeners inherited, tells every client what
	// it knows about it, and its parent about strays.
	roles["daemon"] = func(args []string) any {
		apart := os.Getenv("REDIRECT_TEST_APART") // many descriptors between the listeners
		if apart != "" {
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 20000, Max: 20000}); err != nil {
				panic(err)
			}
		}
		drop()
		n, _ := strconv.Atoi(args[0])
		lns := make([]net.Listener, n)
		for i := range n {
			at := i
			if apart == "reversed" {
				at = n - 1 - i
			}
			f := os.NewFile(uintptr(3+at), "listener")
			l, err := net.FileListener(f)
			if err != nil {
				panic(err)
			}
			f.Close()
			lns[at] = l
			if apart != "" {
				for range 6000 {
					_, _ = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
				}
			}
		}
		l := redirect.NewListener(lns, func(local, remote netip.AddrPort) { fmt.Println("stray", remote) })
		go io.Copy(io.Discard, os.Stdin)
		fmt.Println("ready")
		for {
			f, err := l.Accept(context.Background())
			if err != nil {
				return err.Error()
			}
			go func() {
				json.NewEncoder(f.Conn).Encode(flow{f.Peer, f.Destination, f.Reached, f.Path})
				io.Copy(io.Discard, f.Conn)
				f.Conn.Close()
			}()
		}
	}
}

// passage is a guard with a daemon behind it.
type passage struct {
	*redirect.Guard
	port   uint16
	pins   string
	spaces []*os.File // further network namespaces that it listens in
	daemon *exec.Cmd
	out    *bufio.Reader
}

// config protects addresses in cgroup mode.
func config(t testing.TB, dst ...netip.AddrPort) redirect.Config {
	t.Helper()
	return configOf(t, endpoints(dst...)...)
}

func endpoints(all ...netip.AddrPort) (dst []intercept.Destination) {
	for _, a := range all {
		dst = append(dst, intercept.Endpoint(a))
	}
	return dst
}

func configOf(t testing.TB, dst ...intercept.Destination) redirect.Config {
	t.Helper()
	redirecttest.Lock(t)
	return redirect.Config{
		Mode: "cgroup", Port: redirecttest.Port(t), Pins: redirecttest.TempPins(t),
		Covered: []string{"/sallyport.guarded"}, Destinations: dst,
	}
}

func up(t testing.TB, cfg redirect.Config) *redirect.Guard {
	t.Helper()
	g, err := redirect.Up(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func open(t testing.TB, cfg redirect.Config, spaces ...*os.File) *passage {
	t.Helper()
	p := &passage{Guard: up(t, cfg), port: cfg.Port, pins: cfg.Pins, spaces: spaces}
	p.run(t)
	return p
}

// run starts a daemon that is exempt, and waits until it is ready.
func (p *passage) run(t testing.TB) {
	t.Helper()
	lns, err := p.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer lns.Close()
	files, err := lns.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, ns := range p.spaces {
		more, err := p.ListenIn(ns)
		if err != nil {
			t.Fatal(err)
		}
		defer more.Close()
		fs, err := more.Files()
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, fs...)
	}
	for _, f := range files {
		defer f.Close()
	}
	path, id := p.DaemonCgroup()
	p.daemon = start(t, path, "daemon", files, strconv.Itoa(len(files)))
	in, err := p.daemon.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.daemon.Start(); err != nil {
		t.Fatal(err)
	}
	daemon := p.daemon
	t.Cleanup(func() { in.Close(); daemon.Process.Kill(); daemon.Wait() })
	p.out = bufio.NewReader(out)
	if line, err := p.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("daemon: %q, %v", line, err)
	}
	tgid := uint32(p.daemon.Process.Pid)
	born, err := redirect.StartBoottime(tgid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Exempt(tgid, born, id); err != nil {
		t.Fatal(err)
	}
}

// server is a protected service: it says "direct" to whoever reaches it.
func server(t testing.TB, address string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "direct\n")
			go func() { io.Copy(io.Discard, c); c.Close() }()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// eventually waits for what the kernel does on its own time.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("not within a minute: %s", what)
}

func line(b []byte) string { return string(bytes.TrimSpace(b)) }
