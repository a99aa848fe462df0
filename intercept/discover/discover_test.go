package discover_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"sallyport.dev/sallyport/intercept/cgroup"
	"sallyport.dev/sallyport/intercept/discover"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// The test binary is also every process of these tests, under the name of what
// it plays.
func TestMain(m *testing.M) {
	if role := os.Getenv("DISCOVER_TEST"); role != "" {
		if err := play(role, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// play says what it listens at, or "ready", and stays until its input ends.
func play(role string, args []string) error {
	switch role {
	case "serve": // NETWORK ADDRESS [UPSTREAM]: holds what connects
		if len(args) > 2 {
			c, err := net.Dial("tcp", args[2])
			if err != nil {
				return err
			}
			defer c.Close()
		}
		l, err := net.Listen(args[0], args[1])
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go io.Copy(io.Discard, c) // until it ends
			}
		}()
		fmt.Println(l.Addr())
	case "tunnel": // its arguments are another program's
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		fmt.Println(l.Addr())
	case "prefork": // ADDRESS: listens, and has a worker that reaches it
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			return err
		}
		worker := exec.Command("/proc/self/exe", "tcp", args[0])
		worker.Env, worker.ExtraFiles = append(os.Environ(), "DISCOVER_TEST=hold"), []*os.File{f}
		in, err := worker.StdinPipe()
		if err != nil {
			return err
		}
		out, err := worker.StdoutPipe()
		if err != nil {
			return err
		}
		if err := worker.Start(); err != nil {
			return err
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			return err
		}
		fmt.Println(l.Addr())
		_, err = io.Copy(io.Discard, os.Stdin)
		in.Close()
		return errors.Join(err, worker.Wait())
	case "hold": // NETWORK ADDRESS
		c, err := net.Dial(args[0], args[1])
		if err != nil {
			return err
		}
		defer c.Close()
		fmt.Println("ready")
	case "call": // ADDRESS: three times
		for range 3 {
			c, err := net.Dial("tcp", args[0])
			if err != nil {
				return err
			}
			c.Close()
		}
		return nil
	case "take":
		root, err := redirect.Host{}.CgroupRoot()
		if err != nil {
			return err
		}
		_, err = discover.Take(context.Background(), discover.Options{CgroupRoot: root, Progress: func(int, int) { fmt.Println("ready") }})
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

type actor struct {
	cmd *exec.Cmd
	in  io.Closer
	out *bufio.Reader
	exe string
}

// as makes a process whose executable has a name.
func as(t *testing.T, name, role string, args ...string) *actor {
	t.Helper()
	exe := filepath.Join(t.TempDir(), name)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, self, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(exe); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		_ = os.Chmod(dir, 0o755) // another user runs it
	}
	a := &actor{cmd: exec.Command(exe, args...), exe: exe}
	a.cmd.Env = append(os.Environ(), "DISCOVER_TEST="+role)
	a.cmd.Stderr = os.Stderr
	// It is the thread's death that kills: threads that were in another namespace
	// must have come back.
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.out = bufio.NewReader(out)
	return a
}

// start returns the first line that the process says.
func (a *actor) start(t *testing.T) string {
	t.Helper()
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.in.Close()
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
	})
	line, err := a.out.ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", a.exe, err)
	}
	return strings.TrimSpace(line)
}

func cgroupRoot(t testing.TB) string {
	t.Helper()
	root, err := cgroup.Root(cgroup.Mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// attached counts the programs of connect4 at the root.
func attached(t *testing.T, root string) int {
	t.Helper()
	f, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	q, err := link.QueryPrograms(link.QueryOptions{Target: int(f.Fd()), Attach: ebpf.AttachCGroupInet4Connect})
	if err != nil {
		t.Fatal(err)
	}
	return len(q.Programs)
}

func TestTake(t *testing.T) {
	redirecttest.Lock(t)
	root := cgroupRoot(t)
	before := attached(t, root)

	server := as(t, "postgres", "serve", "tcp", "127.0.0.1:0")
	addr := server.start(t)
	path := filepath.Join(t.TempDir(), ".s.PGSQL.5432")
	as(t, "postgres", "serve", "unix", path).start(t)
	local := as(t, "cron", "hold", "unix", path)
	local.start(t)
	old := as(t, "backup", "hold", "tcp", addr)
	old.start(t)
	pooler := as(t, "pgbouncer", "serve", "tcp", "127.0.0.1:0", addr)
	pool := pooler.start(t)
	web := as(t, "webapp", "serve", "tcp", "127.0.0.1:0", addr)
	site := web.start(t)
	away := as(t, "redis-server", "serve", "tcp", "0.0.0.0:7777")
	away.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	away.start(t)

	cgroup := redirecttest.Cgroup(t)
	caller := as(t, "caller", "call", addr)
	dir, err := os.Open(filepath.Join(root, cgroup))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	caller.cmd.SysProcAttr.UseCgroupFD, caller.cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	caller.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 64102, Gid: 64102}

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	looks := 0
	inv, err := discover.Take(ctx, discover.Options{CgroupRoot: root, Every: 50 * time.Millisecond, Progress: func(int, int) {
		if looks++; looks == 1 {
			if err := caller.cmd.Run(); err != nil {
				t.Error(err)
			}
		} else {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if n := attached(t, root); n != before {
		t.Errorf("%d programs are attached, %d were before", n, before)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Fatal("it did not look twice")
	}

	contact := func(exe string) *discover.Contact {
		t.Helper()
		for i := range inv.Contacts {
			if c := &inv.Contacts[i]; c.Exe == exe || exe == caller.exe && c.Cgroup == cgroup {
				return c
			}
		}
		t.Fatalf("%s is not in the inventory: %+v", exe, inv.Contacts)
		return nil
	}
	// A process that is gone before it can be looked at still has its cgroup,
	// its user and its count.
	c := contact(caller.exe)
	if c.Destination.String() != addr || c.Connections != 3 || c.Existing != 0 || c.UID != 64102 || c.Cgroup != cgroup ||
		c.Protocol != "postgres" || c.Basis != discover.ByServer || c.Last.Before(c.First) || time.Since(c.First) > time.Minute {
		t.Errorf("caller: %+v", c)
	}
	if c := contact(old.exe); c.Destination.String() != addr || c.Connections != 1 || c.Existing != 1 || c.Protocol != "postgres" {
		t.Errorf("an older connection: %+v", c)
	}
	if c := contact(local.exe); c.Path != path || c.Protocol != "postgres" || c.Existing != 1 {
		t.Errorf("a unix socket: %+v", c)
	}
	if slices.ContainsFunc(inv.Contacts, func(c discover.Contact) bool { return c.Exe == server.exe }) {
		t.Error("the server's own ends are taken for connections of the server's")
	}
	i := slices.IndexFunc(inv.Listeners, func(l discover.Listener) bool { return l.Exe == away.exe })
	if i < 0 || inv.Listeners[i].Protocol != "redis" || inv.Listeners[i].NetNS == c.NetNS || inv.Listeners[i].NetNS == 0 {
		t.Errorf("a server in another namespace: %d, %+v", i, inv.Listeners)
	}
	for exe, want := range map[string]struct {
		known bool
		at    string
	}{pooler.exe: {true, pool}, web.exe: {false, site}} {
		i := slices.IndexFunc(inv.Forwarders, func(f discover.Forwarder) bool { return f.Exe == exe })
		if i < 0 {
			t.Errorf("%s is not taken for a forwarder: %+v", exe, inv.Forwarders)
			continue
		}
		f := inv.Forwarders[i]
		if f.Known != want.known || !slices.Equal(f.Listens, []string{want.at}) || len(f.Reaches) != 1 || f.Reaches[0].Target != addr || f.Reaches[0].Protocol != "postgres" {
			t.Errorf("%s: %+v", exe, f)
		}
	}
	if slices.ContainsFunc(inv.Forwarders, func(f discover.Forwarder) bool { return f.Exe == server.exe }) {
		t.Error("the server is taken for a forwarder")
	}
}

// Whatever ends the process, nothing of it stays in the kernel.
func TestKilled(t *testing.T) {
	redirecttest.Lock(t)
	root := cgroupRoot(t)
	before := attached(t, root)
	a := as(t, "sallyport", "take")
	a.start(t)
	if n := attached(t, root); n != before+1 {
		t.Fatalf("%d programs are attached, %d were before", n, before)
	}
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = a.cmd.Wait()
	for range 3000 {
		if attached(t, root) == before {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d programs are attached, %d were before", attached(t, root), before)
}
