package redirect_test

import (
	"bufio"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept/redirect"
)

// share is SHARE of the programs.
const share = 4096

func init() {
	// pend N ADDRESS: begins N connections in the namespace of descriptor 3 and
	// holds them until its input ends.
	roles["pend"] = func(args []string) any {
		enter(3)
		n, _ := strconv.Atoi(args[0])
		many := uint64(n + 64)
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: many, Max: many}); err != nil {
			panic(err)
		}
		drop()
		for range n {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				panic(err)
			}
			if err := unix.Connect(fd, sockaddr(unix.AF_INET, netip.MustParseAddrPort(args[1]))); err != unix.EINPROGRESS {
				panic(err)
			}
		}
		os.Stdout.WriteString("pending\n")
		io.Copy(io.Discard, os.Stdin)
		return nil
	}
}

// end ends a process that may have ended, also when a test fails.
func end(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait()
}

// waitingIn is the kernel's count of records that wait, by namespace.
func waitingIn(t *testing.T, pins string, netns uint64) (n int64) {
	t.Helper()
	if err := pinned(t, pins, bpf.GuardMapShares).Lookup(netns, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Whoever keeps the connections of a network namespace pending, as its root can
// by dropping packets there, takes no place from others.
func TestNamespaceHasItsShare(t *testing.T) {
	far := netip.MustParseAddrPort("192.0.2.7:5432")
	ns := space(t, true)
	p := open(t, config(t, far))
	seen := attempts(t, p.Guard)
	lns, err := p.ListenIn(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer lns.Close()
	rc, err := lns.TCP[0].SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := rc.Control(func(fd uintptr) { err = unix.Listen(int(fd), 1) }); errors.Join(cerr, err) != nil {
		t.Fatal(errors.Join(cerr, err)) // two are accepted, and the rest waits
	}
	handover := pinned(t, p.pins, bpf.GuardMapHandover)
	cmd := start(t, guarded, "pend", []*os.File{ns}, strconv.Itoa(share+500), far.String())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer end(cmd)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "pending\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if n, counted := waitingRecords(t, handover), waitingIn(t, p.pins, lns.Netns); n != share || counted != share {
		t.Errorf("%d records wait, %d counted; want %d", n, counted, share)
	}
	if b := expect(t, seen, redirect.ReasonFull); b.Process == nil || b.Process.PID != uint32(cmd.Process.Pid) {
		t.Errorf("%+v", b)
	}
	if d := ask[dialled](t, guarded, "dial", "tcp", far.String()); d.Line == "" {
		t.Errorf("the other namespace suffers: %+v", d)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing waits", func() bool {
		return waitingRecords(t, handover) == 0 && waitingIn(t, p.pins, lns.Netns) == 0
	})
}

// The range that clients get their ports from is each namespace's own.
func TestPortMustBeOutOfClientsReachThere(t *testing.T) {
	cfg := config(t, netip.MustParseAddrPort("192.0.2.7:5432"))
	ns := space(t, true)
	g := up(t, cfg)
	sysctl := func(name, value string) {
		t.Helper()
		inside(t, ns, func() error { return os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0) })
	}
	sysctl("ip_local_port_range", "1024 65535")
	if lns, err := g.ListenIn(ns); !errors.Is(err, redirect.ErrPortRange) {
		if err == nil {
			lns.Close()
		}
		t.Fatalf("clients there may get port %d: %v", cfg.Port, err)
	}
	sysctl("ip_local_reserved_ports", strconv.Itoa(int(cfg.Port)))
	lns, err := g.ListenIn(ns)
	if err != nil {
		t.Fatalf("the port is reserved there: %v", err)
	}
	lns.Close()
}
