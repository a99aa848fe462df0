package redirect_test

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

func init() {
	// socket FAMILY TYPE PROTOCOL: is one to be had? As root: no other
	// permission is in the way.
	roles["socket"] = func(args []string) any {
		var n [3]int
		for i := range n {
			n[i], _ = strconv.Atoi(args[i])
		}
		fd, err := unix.Socket(n[0], n[1], n[2])
		if err != nil {
			return err.Error()
		}
		unix.Close(fd)
		return ""
	}
	// bind ADDRESS: can it be had?
	roles["bind"] = func(args []string) any {
		l, err := net.Listen("tcp", args[0])
		if err != nil {
			return err.Error()
		}
		l.Close()
		return ""
	}
}

// attempts reads what the guard reports until the test ends.
func attempts(t *testing.T, g *redirect.Guard) <-chan redirect.Bypass {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(g.ReportsFD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, err := redirect.NewBypassReader(fd)
	if err != nil {
		t.Fatal(err)
	}
	all := make(chan redirect.Bypass, 4096)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			b, err := r.Read()
			if err != nil {
				return
			}
			all <- b
		}
	}()
	t.Cleanup(func() { r.Close(); <-done })
	return all
}

// expect waits for a report of a door that was tried.
func expect(t *testing.T, all <-chan redirect.Bypass, reason redirect.Reason) redirect.Bypass {
	t.Helper()
	for end := time.After(2 * time.Minute); ; {
		select {
		case b := <-all:
			if b.Reason == reason {
				return b
			}
		case <-end:
			t.Fatalf("no report: %s", reason)
		}
	}
}

func TestDoorsAreRefusedAndReported(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	p := open(t, config(t, dst))
	seen := attempts(t, p.Guard)
	own := netip.AddrPortFrom(dst.Addr(), p.port).String()
	alias := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), dst.Port()).String()
	mapped := netip.AddrPortFrom(netip.AddrFrom16(dst.Addr().As16()), dst.Port()).String()
	for _, c := range []struct {
		name, kind, to string
		reason         redirect.Reason
	}{
		{"udp connect", "udp", dst.String(), 0}, // resolvers do it: counted only
		{"udp connect mapped", "udp6", mapped, 0},
		{"udp sendto", "udp-send", dst.String(), redirect.ReasonDatagram},
		{"passage dialled", "tcp", own, redirect.ReasonDirect},
		{"another local address", "tcp", alias, redirect.ReasonAlias},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := ask[dialled](t, guarded, "dial", c.kind, c.to)
			if !d.refused() {
				t.Fatalf("not refused: %+v", d)
			}
			if c.reason == 0 {
				return
			}
			b := expect(t, seen, c.reason)
			if b.Process == nil || b.Process.PID != d.PID || b.Process.UID != nobody || b.Destination.String() != c.to {
				t.Errorf("report %+v, process %+v; want pid %d to %s", b, b.Process, d.PID, c.to)
			}
		})
	}
	for _, c := range []struct{ name, family, typ, proto string }{
		{"raw tcp", "2", "3", "6"}, {"raw ip", "2", "3", "255"}, {"raw icmp", "2", "3", "1"}, {"raw v6", "10", "3", "6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if e := ask[string](t, guarded, "socket", c.family, c.typ, c.proto); e != unix.EPERM.Error() {
				t.Fatalf("socket: %q", e)
			}
			expect(t, seen, redirect.ReasonSocket)
		})
		if e := ask[string](t, "/", "socket", c.family, c.typ, c.proto); e != "" {
			t.Errorf("%s: somebody who is not covered: %q", c.name, e)
		}
	}
	t.Run("uncovered reaches it directly", func(t *testing.T) {
		if d := ask[dialled](t, "/", "dial", "tcp", dst.String()); d.Line != "direct" {
			t.Errorf("%+v", d)
		}
		if d := ask[dialled](t, "/", "dial", "tcp", own); !d.refused() {
			t.Errorf("the passage dialled by somebody not covered: %+v", d)
		}
	})
}

func TestPortCannotBeSquatted(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	p := open(t, config(t, dst))
	seen := attempts(t, p.Guard)
	p.daemon.Process.Kill()
	p.daemon.Wait()
	for _, at := range []string{"127.0.0.1:", "127.0.0.2:", "0.0.0.0:", "[::1]:", "[::]:"} {
		for _, who := range []string{guarded, "/"} {
			if e := ask[string](t, who, "bind", at+strconv.Itoa(int(p.port))); !strings.Contains(e, unix.EPERM.Error()) {
				t.Errorf("bind %s from %s: %q", at, who, e)
			}
		}
	}
	if b := expect(t, seen, redirect.ReasonBind); b.Process == nil || b.Destination.Port() != p.port {
		t.Errorf("report %+v", b)
	}
}

func TestNoDaemonNoWay(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	cfg := config(t, dst)
	g := up(t, cfg)
	if d := ask[dialled](t, guarded, "dial", "tcp", dst.String()); !d.refused() {
		t.Fatalf("guard without a daemon: %+v", d)
	}
	s, err := redirect.GetStatus(cfg.Pins)
	if err != nil || !s.Up || s.Daemon || len(s.Destinations) != 1 || s.Destinations[0] != intercept.Endpoint(dst) || s.Counters.Refused == 0 {
		t.Fatalf("status %+v, %v", s, err)
	}
	p := &passage{Guard: g, port: cfg.Port, pins: cfg.Pins}
	p.run(t)
	if s, err := redirect.GetStatus(cfg.Pins); err != nil || !s.Daemon || s.DaemonPID != uint32(p.daemon.Process.Pid) {
		t.Fatalf("status with a daemon %+v, %v", s, err)
	}
	if d := ask[dialled](t, guarded, "dial", "tcp", dst.String()); d.Errno != "" || d.Line == "direct" {
		t.Fatalf("with a daemon: %+v", d)
	}

	p.daemon.Process.Kill()
	p.daemon.Wait()
	if d := ask[dialled](t, guarded, "dial", "tcp", dst.String()); d.Errno != unix.ECONNREFUSED.Error() {
		t.Fatalf("after kill -9: %+v", d)
	}
	if err := g.Withdraw(); err != nil {
		t.Fatal(err)
	}
	if d := ask[dialled](t, guarded, "dial", "tcp", dst.String()); !d.refused() {
		t.Fatalf("withdrawn: %+v", d)
	}
	p.run(t)
	if d := ask[dialled](t, guarded, "dial", "tcp", dst.String()); d.Errno != "" || d.Line == "direct" {
		t.Fatalf("daemon back: %+v", d)
	}
	if s, err := redirect.GetStatus(cfg.Pins); err != nil || s.Daemon != true {
		t.Fatalf("status %+v, %v", s, err)
	}
	if err := redirect.Down(cfg.Pins); err == nil {
		t.Error("down with a daemon in its cgroup: no error")
	}
	if _, err := redirect.GetStatus(cfg.Pins); err == nil {
		t.Error("status after down")
	}
	if d := ask[dialled](t, "/", "dial", "tcp", dst.String()); d.Line != "direct" {
		t.Errorf("after down: %+v", d)
	}
}

// The old port is no longer kept from squatters once another is configured.
func TestNewPortWithdrawsThePassage(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	cfg := config(t, dst)
	open(t, cfg)
	cfg.Port = redirecttest.Port(t)
	g := up(t, cfg)
	if d := ask[dialled](t, guarded, "dial", "tcp", dst.String()); !d.refused() {
		t.Fatalf("turned to the old port: %+v", d)
	}
	p := &passage{Guard: g, port: cfg.Port, pins: cfg.Pins}
	p.run(t)
	if d := ask[dialled](t, guarded, "dial", "tcp", dst.String()); d.Errno != "" || d.Line == "direct" {
		t.Errorf("at the new port: %+v", d)
	}
}

func TestExemptionCannotBeBorrowed(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	cfg := config(t, dst)
	cfg.Mode = "host"
	g := up(t, cfg)
	path, id := g.DaemonCgroup()
	if d := ask[dialled](t, path, "dial", "tcp", dst.String()); !d.refused() {
		t.Errorf("a neighbour in the daemon's cgroup: %+v", d)
	}
	// The right process with another start time, or in another cgroup, is not it.
	self := uint32(os.Getpid())
	born, err := redirect.StartBoottime(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Exempt(self, born+20_000_000, id); err == nil {
		t.Error("exempted a process that did not start then")
	}
	if err := g.Exempt(self, born, id); err != nil {
		t.Fatal(err)
	}
	if d := dial("tcp", dst); !d.refused() {
		t.Errorf("exempt, but outside the daemon's cgroup: %+v", d)
	}
	// Host mode covers everybody, exempt cgroups only by name.
	if d := ask[dialled](t, "/", "dial", "tcp", dst.String()); !d.refused() {
		t.Errorf("host mode, outside any cgroup: %+v", d)
	}
	free := redirecttest.Cgroup(t)
	if d := ask[dialled](t, free, "dial", "tcp", dst.String()); !d.refused() {
		t.Errorf("host mode, in a cgroup: %+v", d)
	}
	cfg.Exempt = []string{free}
	up(t, cfg)
	if d := ask[dialled](t, free, "dial", "tcp", dst.String()); d.Line != "direct" {
		t.Errorf("exempt cgroup: %+v", d)
	}
	if d := ask[dialled](t, guarded, "dial", "tcp", dst.String()); !d.refused() {
		t.Errorf("guarded: %+v", d)
	}
}

func TestExemptDaemonReachesTheServer(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	cfg := config(t, dst)
	cfg.Mode = "host"
	g := up(t, cfg)
	path, id := g.DaemonCgroup()
	cmd := start(t, path, "dial-when-told", nil, "tcp", dst.String())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out := &strings.Builder{}
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	born, err := redirect.StartBoottime(uint32(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Exempt(uint32(cmd.Process.Pid), born, id); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `"Line":"direct"`) {
		t.Errorf("the daemon: %s", out)
	}
	// The last segments, which the kernel sends for a socket that is gone, too.
	time.Sleep(200 * time.Millisecond)
	if c, err := g.Counters(); err != nil || c.Dropped != 0 {
		t.Errorf("counters %+v, %v: packets of the daemon were dropped", c, err)
	}
}
