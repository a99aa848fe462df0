package redirect_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/redirect"
)

func init() {
	// show N: a daemon with N listeners, from descriptor 4 on, shows the peer and
	// the socket of each connection at descriptor 3.
	roles["show"] = func(args []string) any {
		drop()
		n, _ := strconv.Atoi(args[0])
		var lns []net.Listener
		for i := range n {
			l, err := net.FileListener(os.NewFile(uintptr(4+i), "listener"))
			if err != nil {
				panic(err)
			}
			lns = append(lns, l)
		}
		for l := redirect.NewListener(lns, nil); ; {
			f, err := l.Accept(context.Background())
			if err != nil {
				return err.Error()
			}
			show(f.Peer, f.Peer.Socket)
			f.Conn.Close()
		}
	}
	// call NETWORK ADDRESS: a client shows its own end.
	roles["call"] = func(args []string) any {
		drop()
		c, err := net.Dial(args[0], args[1])
		if err != nil {
			panic(err)
		}
		show(intercept.Peer{TGID: uint32(os.Getpid())}, c.(syscall.Conn))
		c.Read(make([]byte, 1))
		return nil
	}
}

func show(p intercept.Peer, c syscall.Conn) {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	rc, err := c.SyscallConn()
	if err != nil {
		panic(err)
	}
	rc.Control(func(fd uintptr) {
		if err := unix.Sendmsg(3, b, unix.UnixRights(int(fd)), nil, 0); err != nil {
			panic(err)
		}
	})
}

// shown returns what show says, and the socket.
func shown(t *testing.T, from *os.File) (p intercept.Peer, fd int) {
	t.Helper()
	b, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	n, on, _, _, err := unix.Recvmsg(int(from.Fd()), b, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b[:n], &p); err != nil {
		t.Fatal(err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:on])
	if err != nil || len(msgs) != 1 {
		t.Fatal(err, len(msgs))
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]) })
	return p, fds[0]
}

func shows(t *testing.T, cgroup, role string, files []*os.File, args ...string) *os.File {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	t.Cleanup(func() { ours.Close() })
	defer theirs.Close()
	_ = unix.SetsockoptTimeval(fds[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20})
	cmd := start(t, cgroup, role, append([]*os.File{theirs}, files...), args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return ours
}

// The loader reads at a socket that it is shown what the kernel told the
// daemon, and nothing at any other.
func TestRecordOfAShownSocket(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	cfg := config(t, dst)
	path := filepath.Join(publicDir(t), "db")
	local := redirect.HaveUnix() == nil
	if local {
		unixServer(t, path)
		cfg.Unix.Protected = []string{path}
	}
	g := up(t, cfg)
	lns, err := g.Listen()
	if err != nil {
		t.Fatal(err)
	}
	files, err := lns.Files()
	lns.Close()
	if err != nil {
		t.Fatal(err)
	}
	cgroup, _ := g.DaemonCgroup()
	daemon := shows(t, cgroup, "show", files, strconv.Itoa(len(files)))
	for _, f := range files {
		f.Close()
	}
	ends := map[string]string{"tcp": dst.String()}
	if local {
		ends["unix"] = path
	}
	for network, to := range ends {
		client := shows(t, guarded, "call", nil, network, to)
		called, mine := shown(t, client)
		told, accepted := shown(t, daemon)
		got, err := g.Record(accepted)
		if err != nil || got != told || got.TGID != called.TGID || got.Start == 0 {
			t.Errorf("%s: the record is %+v (%v), the daemon was told %+v, process %d called", network, got, err, told, called.TGID)
		}
		if p, err := g.Record(mine); !errors.Is(err, redirect.ErrStray) {
			t.Errorf("%s: the client's own end speaks for %+v, %v", network, p, err)
		}
	}
	stray, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(dst.String())))
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	_ = stray.SetDeadline(time.Now().Add(time.Second))
	rc, err := stray.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	rc.Control(func(fd uintptr) {
		if p, err := g.Record(int(fd)); !errors.Is(err, redirect.ErrStray) {
			t.Errorf("a connection that was not turned speaks for %+v, %v", p, err)
		}
	})
	for name, fd := range map[string]int{"the line": int(daemon.Fd()), "nothing": 9999, "negative": -1} {
		if p, err := g.Record(fd); !errors.Is(err, redirect.ErrStray) {
			t.Errorf("%s speaks for %+v, %v", name, p, err)
		}
	}
}

// What it costs the loader to look.
func BenchmarkRecord(b *testing.B) {
	dst := server(b, "127.0.0.1:0")
	g := up(b, config(b, dst))
	lns, err := g.Listen()
	if err != nil {
		b.Fatal(err)
	}
	defer lns.Close()
	cmd := start(b, guarded, "dial", nil, "tcp", dst.String())
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	c, err := lns.TCP[0].AcceptTCP()
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	rc, err := c.SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	rc.Control(func(fd uintptr) {
		for b.Loop() {
			if _, err := g.Record(int(fd)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
