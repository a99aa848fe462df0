package redirect_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/redirect"
)

func init() {
	// reports: reads one report, without a capability, from descriptor 3.
	roles["reports"] = func([]string) any {
		drop()
		r, err := redirect.NewBypassReader(3)
		if err != nil {
			return err.Error()
		}
		defer r.Close()
		fmt.Println("ready")
		b, err := r.Read()
		if err != nil {
			return err.Error()
		}
		c, err := redirect.NewCounterReader(4)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		counters, err := c.Read()
		if err != nil || counters.Refused == 0 {
			return fmt.Sprintf("%+v, %v", counters, err)
		}
		return b
	}
	// apart ADDRESS OTHER: connects to both in a network namespace of its own.
	roles["apart"] = func(args []string) any {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return [2]string{err.Error()}
		}
		var errs [2]string
		for i, to := range args {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err == nil {
				err = unix.Connect(fd, sockaddr(unix.AF_INET, netip.MustParseAddrPort(to)))
				unix.Close(fd)
			}
			if err != nil {
				errs[i] = err.Error()
			}
		}
		return errs
	}
}

func TestReportsReachAnUnprivilegedDaemon(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	g := up(t, config(t, dst))
	fd, err := unix.FcntlInt(uintptr(g.ReportsFD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "reports")
	defer f.Close()
	fd, err = unix.FcntlInt(uintptr(g.CountersFD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	counters := os.NewFile(uintptr(fd), "counters")
	defer counters.Close()
	path, _ := g.DaemonCgroup()
	cmd := start(t, path, "reports", []*os.File{f, counters})
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); line != "ready\n" {
		rest, _ := io.ReadAll(r)
		t.Fatalf("%q %s %v", line, rest, err)
	}
	d := ask[dialled](t, guarded, "dial", "tcp", dst.String())
	var b redirect.Bypass
	if err := json.NewDecoder(r).Decode(&b); err != nil {
		t.Fatal(err)
	}
	if b.Reason != redirect.ReasonNoListener || b.Process == nil || b.Process.PID != d.PID || b.Destination != dst {
		t.Errorf("%+v", b)
	}
	if e := b.Event(); e.Kind != events.Bypass || e.Process == nil || e.Process.PID != d.PID || e.Message == "" {
		t.Errorf("event %+v", e)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestNewNamespaceHasNoWay(t *testing.T) {
	dst, free := server(t, "127.0.0.1:0"), server(t, "127.0.0.1:0")
	cfg := config(t, dst)
	cfg.Mode = "host"
	open(t, cfg)
	errs := ask[[2]string](t, "/", "apart", dst.String(), free.String())
	if errs[0] != syscall.EPERM.Error() || errs[1] != syscall.ENETUNREACH.Error() {
		t.Errorf("protected: %q, free: %q", errs[0], errs[1])
	}
}

// What user space says to a client stays whole: the passage's side of
// getpeername is the client itself.
func TestPassageSeesTheClient(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	cfg := config(t, dst)
	g := up(t, cfg)
	lns, err := g.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer lns.Close()
	cmd := start(t, guarded, "dial", nil, "tcp", dst.String())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := lns.TCP[0].AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	remote := c.RemoteAddr().String()
	c.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if remote == dst.String() {
		t.Errorf("the passage sees %s", remote)
	}
}
