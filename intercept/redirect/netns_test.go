package redirect_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/redirect"
)

func init() {
	// dial-in KIND ADDRESS: dials in the network namespace of descriptor 3.
	roles["dial-in"] = func(args []string) any {
		enter(3)
		drop()
		return dial(args[0], netip.MustParseAddrPort(args[1]))
	}
	// many-in N ADDRESS: dials N times in the namespace of descriptor 3, and
	// tells how many got the passage with the right facts.
	roles["many-in"] = func(args []string) any {
		enter(3)
		drop()
		var n, good int
		fmt.Sscan(args[0], &n)
		for range n {
			d := dial("tcp", netip.MustParseAddrPort(args[1]))
			if f, ok := d.facts(); ok && f.Peer.TGID == uint32(os.Getpid()) {
				good++
			}
		}
		return good
	}
	// hold-in ADDRESS: keeps a connection open from that namespace, until its
	// input ends.
	roles["hold-in"] = func(args []string) any {
		enter(3)
		c, err := net.Dial("tcp", args[0])
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		b := make([]byte, 64)
		if _, err := c.Read(b); err != nil {
			return err.Error()
		}
		fmt.Println("held")
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Minute))
		_, err = c.Read(b)
		return fmt.Sprint(err)
	}
}

func enter(fd int) {
	runtime.LockOSThread()
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		panic(err)
	}
}

// space makes a network namespace that lasts as long as the test.
func space(t testing.TB, loopback bool) *os.File {
	t.Helper()
	var f *os.File
	inside(t, nil, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if loopback {
			if err := loopbackUp(); err != nil {
				return err
			}
		}
		var err error
		f, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	t.Cleanup(func() { f.Close() })
	return f
}

// inside runs f on a thread that enters a network namespace, and comes back
// from wherever f leaves it: children die with the thread that started them.
func inside(t testing.TB, ns *os.File, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		defer close(done) // also where f ends the test
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer own.Close()
		if ns != nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		defer func() { done <- errors.Join(err, unix.Setns(int(own.Fd()), unix.CLONE_NEWNET)) }()
		if err == nil {
			err = errors.New("the test has ended")
			err = f()
		}
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// What has only a loopback, as a container with --network none, gets through
// the passage to a destination that it has no route to.
func TestPassageInANamespaceWithoutARoute(t *testing.T) {
	far := netip.MustParseAddrPort("192.0.2.7:5432")
	for _, mode := range []string{"cgroup", "host"} {
		t.Run(mode, func(t *testing.T) {
			cfg := config(t, far)
			cfg.Mode = mode
			ns := space(t, true)
			open(t, cfg, ns)
			var d dialled
			askIn(t, ns, "dial-in", &d, "tcp", far.String())
			f, ok := d.facts()
			if !ok || f.Destination != far || f.Peer.TGID != d.PID {
				t.Fatalf("%+v", d)
			}
			if d.Peername != far.String() {
				t.Errorf("peer name %s", d.Peername)
			}
			here := ask[dialled](t, guarded, "dial", "tcp", far.String())
			other, ok := here.facts()
			if !ok || other.Peer.NetnsCookie == f.Peer.NetnsCookie {
				t.Errorf("both in namespace %d: %+v", f.Peer.NetnsCookie, here)
			}
		})
	}
}

// A namespace is born with its loopback down: the passage stands there
// before, and works once it is up.
func TestPassageBeforeTheLoopback(t *testing.T) {
	far := netip.MustParseAddrPort("192.0.2.7:5432")
	ns := space(t, false)
	open(t, config(t, far), ns)
	var d dialled
	askIn(t, ns, "dial-in", &d, "tcp", far.String())
	if _, ok := d.facts(); ok || d.Errno == "" {
		t.Errorf("without a loopback: %+v", d)
	}
	inside(t, ns, loopbackUp)
	d = dialled{}
	askIn(t, ns, "dial-in", &d, "tcp", far.String())
	if _, ok := d.facts(); !ok {
		t.Errorf("with it: %+v", d)
	}
}

func TestNamespaceWithdrawn(t *testing.T) {
	far := netip.MustParseAddrPort("192.0.2.7:5432")
	ns := space(t, true)
	p := open(t, config(t, far), ns)
	var d dialled
	askIn(t, ns, "dial-in", &d, "tcp", far.String())
	f, ok := d.facts()
	if !ok {
		t.Fatalf("%+v", d)
	}
	if err := p.Unlisten(f.Peer.NetnsCookie); err != nil {
		t.Fatal(err)
	}
	d = dialled{}
	askIn(t, ns, "dial-in", &d, "tcp", far.String())
	if !d.refused() {
		t.Errorf("withdrawn: %+v", d)
	}
	if here := ask[dialled](t, guarded, "dial", "tcp", far.String()); here.Line == "" {
		t.Errorf("the other namespace suffers: %+v", here)
	}
}

// The same loopback addresses in several namespaces at once: nobody gets
// another's record.
func TestNamespacesAreNotMixedUp(t *testing.T) {
	far := netip.MustParseAddrPort("192.0.2.7:5432")
	a, b := space(t, true), space(t, true)
	open(t, config(t, far), a, b)
	const each = 300
	var wg sync.WaitGroup
	var good [4]int
	for i := range good {
		ns := a
		if i%2 == 1 {
			ns = b
		}
		wg.Go(func() { askIn(t, ns, "many-in", &good[i], fmt.Sprint(each), far.String()) })
	}
	wg.Wait()
	for i, n := range good {
		if n != each {
			t.Errorf("client %d: %d of %d with its own facts", i, n, each)
		}
	}
}

func TestBirthIsToldBeforeTheConnect(t *testing.T) {
	far := netip.MustParseAddrPort("192.0.2.7:5432")
	ns := space(t, true)
	p := open(t, config(t, far))
	r, err := p.Births()
	if err != nil {
		t.Fatal(err)
	}
	births := make(chan redirect.Birth, 64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			b, err := r.Read()
			if err != nil {
				return
			}
			births <- b
		}
	}()
	t.Cleanup(func() { r.Close(); <-done })
	cmd := start(t, guarded, "hold-in", []*os.File{ns}, "127.0.0.1:1") // makes a socket, reaches nobody
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	select {
	case b := <-births:
		if b.TGID != uint32(cmd.Process.Pid) || b.Netns == 0 {
			t.Errorf("%+v, want process %d", b, cmd.Process.Pid)
		}
	case <-time.After(2 * time.Minute):
		t.Error("no birth was told")
	}
}

// A connection in another namespace that is older than the guard is ended,
// and its process named.
func TestOlderConnectionInAnotherNamespaceIsSwept(t *testing.T) {
	ns := space(t, true)
	var l net.Listener
	inside(t, ns, func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "direct\n")
			go func() { io.Copy(io.Discard, c); c.Close() }()
		}
	}()
	t.Cleanup(func() { l.Close(); <-served })
	dst := l.Addr().(*net.TCPAddr).AddrPort()
	cfg := config(t, dst)
	cfg.Mode = "host"
	cmd := start(t, "/", "hold-in", []*os.File{ns}, dst.String())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscan(out, new(string)); err != nil {
		t.Fatal(err)
	}
	swept, err := up(t, cfg).Swept()
	if err != nil {
		t.Error(err)
	}
	var found *redirect.Bypass
	for i := range swept {
		if swept[i].Destination == dst {
			found = &swept[i]
		}
	}
	if found == nil || found.Process == nil || found.Process.PID != uint32(cmd.Process.Pid) || found.Process.Exe == "" || found.Process.Start == 0 {
		t.Fatalf("swept %+v, want process %d", swept, cmd.Process.Pid)
	}
	var end string
	if err := json.NewDecoder(out).Decode(&end); err != nil || end == "" {
		t.Errorf("its end: %q, %v", end, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// askIn runs a role with a namespace as its descriptor 3.
func askIn(t testing.TB, ns *os.File, role string, answer any, args ...string) {
	t.Helper()
	cmd := start(t, guarded, role, []*os.File{ns}, args...)
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s: %v", role, err)
		return
	}
	if err := json.Unmarshal(out, answer); err != nil {
		t.Errorf("%s: %v: %q", role, err, out)
	}
}
