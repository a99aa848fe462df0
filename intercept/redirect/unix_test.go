package redirect_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept/redirect"
)

func init() {
	// send-unix NAME: sends a datagram without connect.
	roles["send-unix"] = func(args []string) any {
		drop()
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			panic(err)
		}
		if err := unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrUnix{Name: args[0]}); err != nil {
			return err.Error()
		}
		return ""
	}
	// squat NAME: tries to take an address until it can, and listens there.
	roles["squat"] = func(args []string) any {
		drop()
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			panic(err)
		}
		for err = unix.EADDRINUSE; err != nil; {
			err = unix.Bind(fd, &unix.SockaddrUnix{Name: args[0]})
		}
		if err := unix.Listen(fd, 4096); err != nil {
			panic(err)
		}
		fmt.Println("taken")
		io.Copy(io.Discard, os.Stdin)
		return nil
	}
	// dial-on NAME: connects until it has been refused for half a second, and
	// tells how many connections it had to which process.
	roles["dial-on"] = func(args []string) any {
		drop()
		to, got := &unix.SockaddrUnix{Name: args[0]}, map[int]int{}
		var refused time.Time
		for refused.IsZero() || time.Since(refused) < 500*time.Millisecond {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				panic(err)
			}
			switch err := unix.Connect(fd, to); err {
			case nil:
				peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
				if err != nil {
					panic(err)
				}
				if len(got) == 0 {
					fmt.Println("turned")
				}
				got[int(peer.Pid)]++
				refused = time.Time{}
			case unix.EAGAIN: // more than the passage accepts
			default:
				if refused.IsZero() {
					refused = time.Now()
				}
			}
			unix.Close(fd)
		}
		return got
	}
	// dial-unix NAME: connects to a unix socket; NAME is passed on as it is.
	roles["dial-unix"] = func(args []string) any {
		drop()
		d := dialled{PID: uint32(os.Getpid())}
		if len(args) > 1 {
			if err := os.Chdir(args[1]); err != nil {
				panic(err)
			}
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			panic(err)
		}
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: args[0]}); err != nil {
			d.Errno = err.Error()
			return d
		}
		name := "?"
		if sa, err := unix.Getpeername(fd); err == nil {
			name = sa.(*unix.SockaddrUnix).Name
		}
		f := os.NewFile(uintptr(fd), "socket")
		line, err := bufio.NewReader(f).ReadString('\n')
		d.Line, d.Peername = strings.TrimSpace(line), name
		if err != nil {
			d.ReadErr = err.Error()
		}
		return d
	}
}

// unixServer says "direct" at a unix socket.
func unixServer(t testing.TB, name string) {
	t.Helper()
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(name, "@") {
		if err := os.Chmod(name, 0o777); err != nil {
			t.Fatal(err)
		}
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
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

// publicDir is a folder that agents can enter.
func publicDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// unixAddress is where the passage listens for unix sockets, as everybody can
// see it.
func unixAddress(t testing.TB) string {
	t.Helper()
	all, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	at := regexp.MustCompile(`@sallyport\.passage\.[0-9a-f]{32}`).FindString(string(all))
	if at == "" {
		t.Fatal("no passage in /proc/net/unix")
	}
	return at
}

func needUnix(t testing.TB) {
	t.Helper()
	if err := redirect.HaveUnix(); err != nil {
		t.Skip(err)
	}
}

func TestUnixSocketLandsInThePassage(t *testing.T) {
	needUnix(t)
	dir := publicDir(t)
	path, abstract := filepath.Join(dir, ".s.PGSQL.5432"), "@sallyport-test-server"
	unixServer(t, path)
	unixServer(t, abstract)
	for _, mode := range []string{"cgroup", "host"} {
		t.Run(mode, func(t *testing.T) {
			cfg := config(t)
			cfg.Mode = mode
			cfg.Unix.Protected = []string{path, abstract}
			p := open(t, cfg)
			for _, name := range []string{path, abstract} {
				d := ask[dialled](t, guarded, "dial-unix", name)
				f, ok := d.facts()
				if !ok || f.Path != name || f.Peer.TGID != d.PID || f.Peer.UID != nobody || f.Peer.CgroupID == 0 || f.Peer.Start == 0 {
					t.Fatalf("%s: %+v", name, d)
				}
				if d.Peername != name {
					t.Errorf("%s: peer name %q", name, d.Peername)
				}
			}
			// Nobody else is turned, and the passage's own name leads nowhere.
			if mode == "cgroup" {
				if d := ask[dialled](t, "/", "dial-unix", path); d.Line != "direct" {
					t.Errorf("uncovered: %+v", d)
				}
			}
			address := unixAddress(t)
			if d := ask[dialled](t, guarded, "dial-unix", address); d.Line != "" {
				t.Errorf("the passage dialled directly: %+v", d)
			}
			p.daemon.Process.Kill()
			p.daemon.Wait()
			if d := ask[dialled](t, guarded, "dial-unix", path); !d.refused() {
				t.Errorf("without a daemon: %+v", d)
			}
			// Whoever takes the address then gets nobody, with the port or without.
			unixServer(t, address)
			if d := ask[dialled](t, guarded, "dial-unix", path); !d.refused() {
				t.Errorf("turned to who took the address: %+v", d)
			}
			p.run(t)
			d := ask[dialled](t, guarded, "dial-unix", path)
			if f, ok := d.facts(); !ok || f.Path != path {
				t.Errorf("with a daemon again: %+v", d)
			}
		})
	}
}

// A client that was turned to an address, which somebody else has by the time that
// it is looked up, gets nobody: only the listener counts. Where the kernel takes no
// program at unix_stream_connect, only the address does, as docs/threat-model.md
// and `sallyport doctor` say: what is told and what is so must agree.
func TestUnixListenerCountsAndNotItsAddress(t *testing.T) {
	needUnix(t)
	weaker := redirect.HaveStream()
	const path = "/run/sallyport-test/db"
	cfg := config(t)
	cfg.Unix.Protected = []string{path}
	p := open(t, cfg)
	if d := ask[dialled](t, guarded, "dial-unix", path); d.ReadErr != "" {
		t.Fatalf("%+v", d)
	}
	seen := attempts(t, p.Guard)
	other := "@sallyport.passage." + strings.Repeat("e", 32)
	unixServer(t, other)
	listeners, err := ebpf.LoadPinnedMap(filepath.Join(p.Pins(), bpf.GuardMapListeners), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer listeners.Close()
	var netns uint64
	var at bpf.GuardListener
	for all := listeners.Iterate(); all.Next(&netns, &at); {
		copy(at.Local[1:], other[1:])
		if err := listeners.Put(netns, at); err != nil {
			t.Fatal(err)
		}
	}
	d := ask[dialled](t, guarded, "dial-unix", path)
	if weaker == nil {
		if !d.refused() {
			t.Errorf("turned to who has the address: %+v", d)
		}
		expect(t, seen, redirect.ReasonNoListener)
	} else if d.Line != "direct" {
		t.Errorf("the address does not count, although %v: %+v", weaker, d)
	}
	// Whom nobody turns, nobody hinders.
	if d := ask[dialled](t, guarded, "dial-unix", other); d.Line != "direct" {
		t.Errorf("%+v", d)
	}
}

// Clients that never stop connecting, and somebody who never stops trying to
// take the address: none gets to the other when the daemon is killed, in
// whatever order its descriptors are closed.
func TestUnixAddressIsHeldToTheLast(t *testing.T) {
	needUnix(t)
	const path = "/run/sallyport-test/db"
	for _, order := range []string{"straight", "reversed"} {
		t.Run(order, func(t *testing.T) {
			t.Setenv("REDIRECT_TEST_APART", order)
			cfg := config(t)
			cfg.Unix.Protected = []string{path}
			p := open(t, cfg)
			squatter := start(t, "/", "squat", nil, unixAddress(t))
			in, err := squatter.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			squats, err := squatter.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := squatter.Start(); err != nil {
				t.Fatal(err)
			}
			defer end(squatter)
			victim := start(t, guarded, "dial-on", nil, path)
			out, err := victim.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := victim.Start(); err != nil {
				t.Fatal(err)
			}
			defer end(victim)
			lines := bufio.NewReader(out)
			if line, err := lines.ReadString('\n'); line != "turned\n" {
				t.Fatalf("%q, %v", line, err)
			}
			p.daemon.Process.Kill()
			if line, err := bufio.NewReader(squats).ReadString('\n'); line != "taken\n" {
				t.Fatalf("%q, %v", line, err)
			}
			var got map[int]int
			if err := json.NewDecoder(lines).Decode(&got); err != nil {
				t.Fatal(err)
			}
			if n := got[squatter.Process.Pid]; n != 0 || len(got) == 0 {
				t.Errorf("%d connections got to who took the address: %v", n, got)
			}
			in.Close()
			if err := squatter.Wait(); err != nil {
				t.Error(err)
			}
			p.daemon.Wait()
			if err := victim.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUnixAllowList(t *testing.T) {
	needUnix(t)
	dir := publicDir(t)
	path, free := filepath.Join(dir, "db"), filepath.Join(dir, "free")
	unixServer(t, path)
	unixServer(t, free)
	link, hard := filepath.Join(dir, "link"), filepath.Join(dir, "hard")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, hard); err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	cfg.Unix.Protected = []string{path}
	cfg.Unix.Allow = []string{free, "/run/sallyport-test/**", "@allowed"}
	p := open(t, cfg)
	seen := attempts(t, p.Guard)
	if d := ask[dialled](t, guarded, "dial-unix", free); d.Line != "direct" {
		t.Errorf("allowed: %+v", d)
	}
	for _, name := range []string{
		link, hard, dir + "/./db", "//" + path[1:], "/proc/self/root" + path, "db", "./db",
		"/run/sallyport-test/../.." + path, "@other", "@allowed\x00",
	} {
		d := ask[dialled](t, guarded, "dial-unix", strings.ReplaceAll(name, "\x00", "_"), dir)
		if !d.refused() {
			t.Errorf("%q: %+v", name, d)
		}
	}
	if b := expect(t, seen, redirect.ReasonUnix); b.Process == nil || b.Process.UID != nobody {
		t.Errorf("%+v", b)
	}
	d := ask[dialled](t, guarded, "dial-unix", path)
	if _, ok := d.facts(); !ok {
		t.Errorf("protected: %+v", d)
	}
}

// A datagram needs no connect.
func TestUnixDatagrams(t *testing.T) {
	needUnix(t)
	dir := publicDir(t)
	path, free, abstract := filepath.Join(dir, "db"), filepath.Join(dir, "free"), "@sallyport-test-datagrams"
	for _, name := range []string{path, free, abstract} {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if name[0] == '/' {
			if err := os.Chmod(name, 0o777); err != nil {
				t.Fatal(err)
			}
		}
	}
	cfg := config(t)
	cfg.Unix.Protected = []string{path, abstract}
	p := open(t, cfg)
	seen := attempts(t, p.Guard)
	send := func(cgroup, name string) string { return ask[string](t, cgroup, "send-unix", name) }
	for _, name := range []string{path, abstract} {
		if e := send("/", name); e != "" {
			t.Fatalf("%s, who is not covered: %s", name, e)
		}
		if e := send(guarded, name); e != unix.EPERM.Error() {
			t.Errorf("%s: %q", name, e)
		}
		if b := expect(t, seen, redirect.ReasonDatagram); b.Process == nil || b.Process.UID != nobody {
			t.Errorf("%+v", b)
		}
	}
	if e := send(guarded, free); e != "" {
		t.Errorf("without an allow-list: %s", e)
	}
	cfg.Unix.Allow = []string{"@other"}
	up(t, cfg)
	if e := send(guarded, free); e != unix.EPERM.Error() {
		t.Errorf("not on the allow-list: %q", e)
	}
	expect(t, seen, redirect.ReasonUnix)
	cfg.Unix.Allow = []string{free}
	up(t, cfg)
	if e := send(guarded, free); e != "" {
		t.Errorf("on the allow-list: %s", e)
	}
}

func TestUnixNamesAreChecked(t *testing.T) {
	for _, name := range []string{"", "@", "db", "./db", "/a/../b", "/a//b", "/a/", "/a/**", "/" + strings.Repeat("x", 108)} {
		cfg := redirect.Config{Mode: "host", Port: 15432}
		cfg.Unix.Protected = []string{name}
		if g, err := redirect.Up(cfg); err == nil {
			g.Close()
			t.Errorf("%q was taken", name)
		}
	}
}
