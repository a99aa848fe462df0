package redirect_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept/redirect"
)

type stormed struct {
	PID   uint32
	Done  int
	Mixed []string
}

func init() {
	// storm N ADDRESSES: connects N times from several goroutines and checks
	// that what the daemon says is of this process and this connection.
	roles["storm"] = func(args []string) any {
		drop()
		n, _ := strconv.Atoi(args[0])
		s := stormed{PID: uint32(os.Getpid())}
		var mu sync.Mutex
		var wg sync.WaitGroup
		const workers = 8
		for w := range workers {
			wg.Go(func() {
				for i := w; i < n; i += workers {
					to := netip.MustParseAddrPort(args[1+i%(len(args)-1)])
					family := unix.AF_INET
					if to.Addr().Is6() {
						family = unix.AF_INET6
					}
					problem := converseOnce(family, to, s.PID)
					mu.Lock()
					s.Done++
					if problem != "" {
						s.Mixed = append(s.Mixed, problem)
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(s.Mixed) > 5 {
			s.Mixed = s.Mixed[:5]
		}
		return s
	}
	// vanish N ADDRESS: starts N connections and dies in the middle of them.
	roles["vanish"] = func(args []string) any {
		drop()
		n, _ := strconv.Atoi(args[0])
		for range n {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				break
			}
			_ = unix.Connect(fd, sockaddr(unix.AF_INET, netip.MustParseAddrPort(args[1])))
		}
		unix.Kill(os.Getpid(), unix.SIGKILL)
		return nil
	}
}

func converseOnce(family int, to netip.AddrPort, pid uint32) string {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err.Error()
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, sockaddr(family, to)); err != nil {
		return "connect: " + err.Error()
	}
	d := converse(fd, dialled{})
	// No TIME_WAIT: the storm would run out of ports.
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	f, ok := d.facts()
	if !ok || f.Peer.TGID != pid || f.Destination != to || d.Peername != to.String() {
		return fmt.Sprintf("want pid %d to %s: %+v", pid, to, d)
	}
	return ""
}

func pinned(t *testing.T, pins, name string) *ebpf.Map {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(pins, "v3", name), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func waitingRecords(t *testing.T, m *ebpf.Map) (n int) {
	t.Helper()
	var k bpf.GuardFlowKey
	var v bpf.GuardRecord
	it := m.Iterate()
	for it.Next(&k, &v) {
		n++
	}
	return n
}

func TestStormMixesNothingUp(t *testing.T) {
	a, b, v6 := server(t, "127.0.0.1:0"), server(t, "127.0.0.1:0"), server(t, "[::1]:0")
	p := open(t, config(t, a, b, v6))
	const clients, each = 5, 1000
	results := make([]stormed, clients)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			out, err := start(t, guarded, "storm", nil, strconv.Itoa(each), a.String(), b.String(), v6.String()).Output()
			if err == nil {
				err = json.Unmarshal(out, &results[i])
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, r := range results {
		if r.Done != each || len(r.Mixed) > 0 {
			t.Errorf("client %d: %d done, wrong: %v", r.PID, r.Done, r.Mixed)
		}
	}
	c, err := p.Counters()
	if err != nil || c.Turned != clients*each || c.Handed != c.Turned {
		t.Errorf("counters %+v, %v", c, err)
	}
	if n := waitingRecords(t, pinned(t, p.pins, bpf.GuardMapHandover)); n != 0 {
		t.Errorf("%d records left in the hand-over", n)
	}
	own, err := redirect.NetnsCookie(nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := waitingIn(t, p.pins, own); n != 0 {
		t.Errorf("%d records counted that are not there", n)
	}
}

func TestDeadClientsLeaveNothing(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	cfg := config(t, dst)
	g := up(t, cfg)
	lns, err := g.Listen() // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer lns.Close()
	handover := pinned(t, cfg.Pins, bpf.GuardMapHandover)
	_ = start(t, guarded, "vanish", nil, "200", dst.String()).Run()
	eventually(t, "records of dead clients are gone", func() bool { return waitingRecords(t, handover) == 0 })

	// What they left in the backlog has its record still, and nobody else's;
	// and this process, outside the daemon's cgroup, can't read it.
	c, err := lns.TCP[0].AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if peer, dst, _, err := redirect.Facts(c); !errors.Is(err, redirect.ErrStray) {
		t.Errorf("facts read outside the daemon's cgroup: %+v %s %v", peer, dst, err)
	}
	lns.Close()
	_ = start(t, guarded, "vanish", nil, "50", dst.String()).Run() // nobody listens
	eventually(t, "records of refused clients are gone", func() bool { return waitingRecords(t, handover) == 0 })
	if n := waitingIn(t, cfg.Pins, lns.Netns); n != 0 {
		t.Errorf("%d records counted that are not there", n)
	}
}

func TestFullHandoverRefuses(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	p := open(t, config(t, dst))
	seen := attempts(t, p.Guard)
	m := pinned(t, p.pins, bpf.GuardMapHandover)
	for i := range m.MaxEntries() {
		if err := m.Put(bpf.GuardFlowKey{Netns: 1 << 60, Zero: i}, bpf.GuardRecord{}); err != nil {
			t.Fatal(err)
		}
	}
	d := ask[dialled](t, guarded, "dial", "tcp", dst.String())
	if _, ok := d.facts(); ok || d.Line == "direct" {
		t.Fatalf("got through without a record: %+v", d)
	}
	if b := expect(t, seen, redirect.ReasonFull); b.Process == nil || b.Process.PID != d.PID || b.Destination != dst {
		t.Errorf("report %+v", b)
	}
	if line, err := p.out.ReadString('\n'); !strings.HasPrefix(line, "stray 127.0.0.1:") {
		t.Errorf("the daemon said %q, %v", line, err)
	}
}

func TestStrayIsClosedAndTold(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	p := open(t, config(t, dst))
	// Withdrawn, the port is nobody's to the programs, while the daemon still listens.
	if err := p.Withdraw(); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
	want := "stray 127.0.0.1:"
	if err == nil {
		defer c.Close()
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("read %d bytes from the passage", n)
		}
		want = "stray " + c.LocalAddr().String() + "\n"
	} else if !errors.Is(err, unix.ECONNRESET) { // reset before connect returned
		t.Fatal(err)
	}
	if line, err := p.out.ReadString('\n'); !strings.HasPrefix(line, want) {
		t.Errorf("the daemon said %q, %v; want %q", line, err, want)
	}
}

// A socket that was turned once and then connects elsewhere, or again, speaks
// with the record of its last connect.
func TestSecondConnect(t *testing.T) {
	dst, free := server(t, "127.0.0.1:0"), server(t, "127.0.0.1:0")
	p := open(t, config(t, dst))
	d := ask[[3]dialled](t, guarded, "reconnect", dst.String(), free.String())
	if _, ok := d[0].facts(); !ok || d[0].Peername != dst.String() {
		t.Errorf("first: %+v", d[0])
	}
	if d[1].Line != "direct" || d[1].Peername != free.String() {
		t.Errorf("elsewhere: %+v", d[1])
	}
	if _, ok := d[2].facts(); !ok || d[2].Peername != dst.String() {
		t.Errorf("again: %+v", d[2])
	}
	if n := waitingRecords(t, pinned(t, p.pins, bpf.GuardMapHandover)); n != 0 {
		t.Errorf("%d records left", n)
	}
}

func init() {
	roles["reconnect"] = func(args []string) any {
		drop()
		var all [3]dialled
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return all
		}
		for i, to := range []string{args[0], args[1], args[0]} {
			if err := unix.Connect(fd, sockaddr(unix.AF_INET, netip.MustParseAddrPort(to))); err != nil {
				all[i].Errno = err.Error()
				return all
			}
			all[i] = converse(fd, dialled{})
			// connect(AF_UNSPEC) disconnects.
			var unspec [16]byte
			unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(ptr(&unspec)), 16)
		}
		return all
	}
}
