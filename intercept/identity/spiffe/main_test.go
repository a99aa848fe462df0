package spiffe_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/cgroup"
	"sallyport.dev/sallyport/intercept/identity/spiffe"
	"sallyport.dev/sallyport/intercept/identity/spiretest"
	"sallyport.dev/sallyport/intercept/privsep"
)

const (
	uidA, uidB = 65534, 65533
	daemonUID  = 65532
	soon       = 2 * time.Minute // SPIRE's own steps on a busy machine
)

func TestMain(m *testing.M) {
	if os.Getenv("SPIFFE_TEST_DAEMON") != "" {
		os.Exit(daemon())
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests need root: run `make test`")
		os.Exit(1)
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// world is a trust domain in which this test program is the daemon, and the
// real prover of the loader.
type world struct {
	*spiretest.Spire
	t      testing.TB
	prover *privsep.Prover
}

func newWorld(t testing.TB, o spiretest.Options) *world {
	t.Helper()
	w := &world{Spire: spiretest.Start(t, o), t: t}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.Register(spiretest.Entry{Path: "/sallyport", Selectors: []string{"unix:uid:0", "unix:path:" + self}})
	w.prover = newProver(t, w.Dir)
	return w
}

// newProver proves processes of the two users.
func newProver(t testing.TB, dir string) *privsep.Prover {
	t.Helper()
	var ws []privsep.Workload
	for name, uid := range map[string]uint32{"a": uidA, "b": uidB} {
		path := filepath.Join(dir, name+".token")
		if err := errors.Join(os.WriteFile(path, []byte("not looked at"), 0o600), os.Chown(path, int(uid), -1)); err != nil {
			t.Fatal(err)
		}
		ws = append(ws, privsep.Workload{Name: name, Match: privsep.Match{UID: &uid}, TokenFile: path})
	}
	p, err := privsep.NewProver(cgroupRoot(t), "", ws)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// config is of both APIs.
func (w *world) config() spiffe.Config {
	c := spiffe.Config{Agent: "unix://" + w.Workload, Admin: "unix://" + w.Admin}
	if w.Broker != "" {
		c.Broker = "unix://" + w.Broker
	}
	return c
}

func open(t testing.TB, c spiffe.Config) *spiffe.Attestor {
	t.Helper()
	a, err := spiffe.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// ready waits until the agent tells the daemon's own identity.
func ready(t testing.TB, a *spiffe.Attestor) *spiffe.Attestor {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if err := a.Own().Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return a
}

// connection is one of a process, with the loader's proof.
func (w *world) connection(peer intercept.Peer, ids ...string) spiffe.Connection {
	return connection(w.t, w.prover, peer, ids...)
}

func connection(t testing.TB, p intercept.Prover, peer intercept.Peer, ids ...string) spiffe.Connection {
	t.Helper()
	c := spiffe.Connection{Peer: &peer, Workload: "w", Prove: func(ctx context.Context) error {
		pr, err := p.Prove(ctx, &peer)
		if err == nil && pr.Exe == "" {
			err = errors.New("it runs another program now")
		}
		return err
	}}
	for _, id := range ids {
		c.IDs = append(c.IDs, mustID(t, id))
	}
	return c
}

// bind binds what SPIRE knows, or gets to know soon.
func (w *world) bind(a *spiffe.Attestor, c spiffe.Connection) *spiffe.Lease {
	w.t.Helper()
	for end := time.Now().Add(soon); ; time.Sleep(20 * time.Millisecond) {
		l, err := a.Bind(context.Background(), c)
		if err == nil {
			w.t.Cleanup(l.Release)
			return l
		}
		if time.Now().After(end) {
			w.t.Fatal(err)
		}
	}
}

// refused binds nobody, now.
func refused(t testing.TB, a *spiffe.Attestor, c spiffe.Connection, is error, why string) {
	t.Helper()
	l, err := a.Bind(context.Background(), c)
	if l != nil || !errors.Is(err, is) || !strings.Contains(fmt.Sprint(err), why) {
		t.Fatalf("want a refusal (%v) with %q, got %v, %v", is, why, l, err)
	}
}

// ends waits for the end of a lease, and returns how long it took.
func ends(t testing.TB, l *spiffe.Lease, is error) time.Duration {
	t.Helper()
	from := time.Now()
	select {
	case <-l.Done():
	case <-time.After(soon):
		t.Fatal("the lease does not end")
	}
	if err := l.Err(); !errors.Is(err, is) {
		t.Fatalf("it ended with %v, not %v", err, is)
	}
	return time.Since(from)
}

// stays fails if the lease has ended, or does within d.
func stays(t testing.TB, l *spiffe.Lease, d time.Duration) {
	t.Helper()
	select {
	case <-l.Done():
		t.Fatalf("the lease has ended: %v", l.Err())
	case <-time.After(d):
	}
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
}

// agent is an unmodified process of a user.
func agent(t testing.TB, uid uint32) *exec.Cmd {
	t.Helper()
	return startAs(t, uid, "/bin/sh", "-c", "echo ready; exec sleep 600")
}

func startAs(t testing.TB, uid uint32, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: 65534}}
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(cmd) })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	// Until it is what it will be: the shell's exec.
	for name := ""; name == "sh" || name == ""; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if name = strings.TrimSpace(string(b)); args[0] != "/bin/sh" {
			break
		}
	}
	return cmd
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// peerOf is the record that the kernel makes when the process connects.
func peerOf(t testing.TB, cmd *exec.Cmd) intercept.Peer {
	t.Helper()
	prover, err := privsep.NewProver(cgroupRoot(t), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := prover.Peer(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	p.Exe, p.Cgroup = "", ""
	return p
}

func cgroupRoot(t testing.TB) string {
	t.Helper()
	root, err := cgroup.Root(cgroup.Mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	return root
}
