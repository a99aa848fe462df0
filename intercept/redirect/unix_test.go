package redirect_test

import (
	"bufio"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/redirect"
)

func init() {
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
			if d := ask[dialled](t, guarded, "dial-unix", "@sallyport.passage"); d.Line != "" {
				t.Errorf("the passage dialled directly: %+v", d)
			}
			p.daemon.Process.Kill()
			p.daemon.Wait()
			if d := ask[dialled](t, guarded, "dial-unix", path); d.Errno == "" {
				t.Errorf("without a daemon: %+v", d)
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
