package redirect_test

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept/redirect"
)

func init() {
	roles["dial-when-told"] = func(args []string) any {
		drop()
		io.Copy(io.Discard, os.Stdin)
		return dial(args[0], netip.MustParseAddrPort(args[1]))
	}
	// hold ADDRESS: connects, says so, and when told writes and reads on.
	roles["hold"] = func(args []string) any {
		drop()
		to := netip.MustParseAddrPort(args[0])
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return dialled{Errno: err.Error()}
		}
		if err := unix.Connect(fd, sockaddr(unix.AF_INET, to)); err != nil {
			return dialled{Errno: err.Error()}
		}
		first := converse(fd, dialled{PID: uint32(os.Getpid())})
		json.NewEncoder(os.Stdout).Encode(first)
		io.Copy(io.Discard, os.Stdin)
		return write(fd)
	}
	// inherited: writes on the connection that it was given as descriptor 3.
	roles["inherited"] = func([]string) any {
		drop()
		return write(3)
	}
}

// write sends on a connection, then says what became of it.
func write(fd int) (d dialled) {
	d.PID = uint32(os.Getpid())
	if _, err := unix.Write(fd, []byte("SELECT ssn FROM patients")); err != nil {
		d.Errno = err.Error()
		return d
	}
	return converse(fd, d)
}

func TestOlderConnectionIsSwept(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	cfg := config(t, dst)
	g := up(t, redirect.Config{Mode: "cgroup", Port: cfg.Port, Pins: cfg.Pins, Covered: cfg.Covered})
	cmd := start(t, guarded, "hold", nil, dst.String())
	in, _ := cmd.StdinPipe()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(out)
	var before, after dialled
	if err := dec.Decode(&before); err != nil || before.Line != "direct" {
		t.Fatalf("before: %+v, %v", before, err)
	}
	if s, err := g.Swept(); err != nil || len(s) != 0 {
		t.Fatalf("swept without destinations: %v, %v", s, err)
	}
	g = up(t, cfg)
	swept, err := g.Swept()
	if err != nil || len(swept) != 1 || swept[0].Destination != dst || swept[0].Peer.UID != nobody || swept[0].Peer.SockCgroup == 0 {
		t.Fatalf("swept %+v, %v", swept, err)
	}
	in.Close()
	if err := dec.Decode(&after); err != nil || after.Errno == "" {
		t.Errorf("the old connection still works: %+v, %v", after, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// A connection made outside and then handed in goes round every hook but the
// backstop.
func TestInheritedConnectionIsDroppedAndReported(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) { inherit(t, server(t, address)) })
	}
}

func inherit(t *testing.T, dst netip.AddrPort) {
	family := unix.AF_INET
	if dst.Addr().Is6() {
		family = unix.AF_INET6
	}
	cfg := config(t, dst)
	cfg.Mode = "host"
	cfg.Destinations = nil
	g := up(t, cfg)
	// The sweep would find it: the server becomes protected only after.
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	if err := unix.Connect(fd, sockaddr(family, dst)); err != nil {
		t.Fatal(err)
	}
	if d := converse(fd, dialled{}); d.Line != "direct" {
		t.Fatalf("%+v", d)
	}
	protect(t, cfg.Pins, dst)
	seen := attempts(t, g)
	cmd := start(t, guarded, "inherited", []*os.File{f})
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var d dialled
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatal(err)
	}
	if d.Line != "" || !strings.Contains(d.ReadErr, "unavailable") && d.Errno == "" {
		t.Errorf("the connection answered: %+v", d)
	}
	b := expect(t, seen, redirect.ReasonPacket)
	if b.Process == nil || b.Process.PID != d.PID || b.Process.UID != nobody {
		t.Errorf("process %+v, want pid %d", b.Process, d.PID)
	}
	if b.Destination != dst || !b.Source.IsValid() || b.Source.Port() == 0 || b.Transport != "tcp" || b.Bytes < 24 ||
		b.Peer.NetnsCookie == 0 || time.Since(b.Time).Abs() > time.Minute {
		t.Errorf("report %+v", b)
	}
	if c, err := g.Counters(); err != nil || c.Dropped == 0 {
		t.Errorf("counters %+v, %v", c, err)
	}
}

// protect adds a destination behind the loader's back, so without a sweep.
func protect(t *testing.T, pins string, dst netip.AddrPort) {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(pins, "v3", bpf.GuardMapDestinations), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	addr := dst.Addr().As16()
	key := bpf.GuardPrefix{Bits: 128}
	for i := range key.Addr {
		key.Addr[i] = binary.NativeEndian.Uint32(addr[4*i:])
	}
	ports := bpf.GuardPorts{N: 1}
	ports.At[0].First, ports.At[0].Last = dst.Port(), dst.Port()
	if err := m.Put(key, ports); err != nil {
		t.Fatal(err)
	}
}

func TestReportsCannotBeFlooded(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	g := up(t, config(t, dst))
	seen := attempts(t, g)
	n := ask[int](t, guarded, "flood", dst.String())
	if n < 1000 {
		t.Fatalf("only %d attempts", n)
	}
	first := expect(t, seen, redirect.ReasonDatagram)
	time.Sleep(100 * time.Millisecond)
	if more := len(seen); more > 20 {
		t.Errorf("%d reports of one process that does one thing", more)
	}
	c, err := g.Counters()
	if err != nil || c.Refused < uint64(n) {
		t.Errorf("counters %+v, %v, want %d refused", c, err, n)
	}
	// What was not told one by one is counted, and told at last.
	told := 1 + first.Repeats
	for len(seen) > 0 {
		told += 1 + (<-seen).Repeats
	}
	eventually(t, "the rest of the count is told", func() bool {
		rest, err := g.Repeats(1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range rest {
			if b.Reason != redirect.ReasonDatagram || b.Destination != dst || !b.Rest || b.Process == nil || b.Process.PID != first.Process.PID {
				t.Errorf("%+v", b)
			}
			told += b.Repeats
		}
		return told == uint64(n)
	})
	if again, err := g.Repeats(1000); err != nil || len(again) != 0 {
		t.Errorf("told twice: %+v, %v", again, err)
	}
}

// What is too much for one look stays in the map, and is not lost.
func TestRepeatsWaitForTheirTurn(t *testing.T) {
	var all []netip.AddrPort
	for range 3 {
		all = append(all, server(t, "127.0.0.1:0"))
	}
	g := up(t, config(t, all...))
	for _, dst := range all {
		ask[int](t, guarded, "flood", dst.String())
	}
	told := map[netip.AddrPort]bool{}
	for look := 0; len(told) < len(all); {
		rest, err := g.Repeats(1)
		if err != nil || len(rest) > 1 {
			t.Fatalf("%+v, %v", rest, err)
		}
		for _, b := range rest {
			if told[b.Destination] {
				t.Errorf("%s: told twice", b.Destination)
			}
			told[b.Destination] = true
		}
		if look++; look > 200 {
			t.Fatalf("told only %v", told)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func init() {
	roles["flood"] = func(args []string) any {
		drop()
		to := netip.MustParseAddrPort(args[0])
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return -1
		}
		n := 0
		for range 2000 {
			if unix.Sendto(fd, []byte("x"), 0, sockaddr(unix.AF_INET, to)) == unix.EPERM {
				n++
			}
		}
		return n
	}
}

// A raw socket that host mode leaves for ping can carry any packet with
// IP_HDRINCL: the backstop looks at it.
func TestCraftedPacketIsDropped(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	cfg := config(t, dst)
	cfg.Mode = "host"
	g := up(t, cfg)
	seen := attempts(t, g)
	for _, fragment := range []string{"whole", "later fragment"} {
		t.Run(fragment, func(t *testing.T) {
			before, _ := g.Counters()
			if e := ask[string](t, "/", "craft", dst.String(), fragment); e != "" && e != unix.EPERM.Error() {
				t.Fatal(e)
			}
			if after, err := g.Counters(); err != nil || after.Dropped != before.Dropped+1 {
				t.Errorf("counters %+v, then %+v, %v", before, after, err)
			}
		})
	}
	b := expect(t, seen, redirect.ReasonPacket)
	if b.Process == nil || b.Source.Addr().String() != "127.0.0.9" || b.Destination != dst {
		t.Errorf("report %+v", b)
	}
}

func init() {
	// craft ADDRESS whole|routed|...: sends a SYN of its own making, as root.
	roles["craft"] = func(args []string) any {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
		if err != nil {
			return err.Error()
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_HDRINCL, 1); err != nil {
			return err.Error()
		}
		to := netip.MustParseAddrPort(args[0])
		b := make([]byte, 40)
		b[0], b[3], b[8], b[9] = 0x45, 40, 64, unix.IPPROTO_TCP
		copy(b[12:], []byte{127, 0, 0, 9})
		addr := to.Addr().As4()
		copy(b[16:], addr[:])
		binary.BigEndian.PutUint16(b[20:], 1234)
		binary.BigEndian.PutUint16(b[22:], to.Port())
		b[32], b[33] = 0x50, 2
		switch args[1] {
		case "whole":
		case "routed":
			b = routed(b, addr[:])
		default:
			b[7] = 5 // its bytes are not a TCP header
			binary.BigEndian.PutUint16(b[22:], 9)
		}
		if err := unix.Sendto(fd, b, 0, sockaddr(unix.AF_INET, to)); err != nil {
			return err.Error()
		}
		return ""
	}
}
