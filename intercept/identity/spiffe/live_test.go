package spiffe_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/identity/spiffe"
	"sallyport.dev/sallyport/intercept/identity/spiretest"
)

// An entry is deleted: sessions end when the agent learns of it, and nobody new
// gets in.
func TestWithdrawn(t *testing.T) {
	for _, name := range []string{"broker", "delegated"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, spiretest.Options{NoBroker: name == "delegated"})
			withdrawn(t, w, "an agent and a server that look for changes every 100 ms")
		})
	}
}

// The same at SPIRE's own pace.
func TestWithdrawnByDefault(t *testing.T) {
	t.Parallel()
	withdrawn(t, newWorld(t, spiretest.Options{Slow: true}), "SPIRE's own intervals")
}

func withdrawn(t *testing.T, w *world, pace string) {
	t.Helper()
	entry := w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
	a := ready(t, open(t, w.config()))
	peer := peerOf(t, agent(t, uidA))
	l := w.bind(a, w.connection(peer))
	stays(t, l, 0)
	from := time.Now()
	w.Delete(entry)
	ends(t, l, spiffe.ErrWithdrawn)
	t.Logf("entry deleted, session told after %s (%s)", time.Since(from).Round(time.Millisecond), pace)
	refused(t, a, w.connection(peer), spiffe.ErrNobody, "knows none")
	if _, err := l.JWT(context.Background(), "db.test"); !errors.Is(err, spiffe.ErrWithdrawn) {
		t.Fatal(err)
	}
}

// SVIDs are renewed, and the session goes on under the same name.
func TestRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}, TTL: 4 * time.Second})
	c := w.config()
	c.Keys = true
	a := ready(t, open(t, c))
	l := w.bind(a, w.connection(peerOf(t, agent(t, uidA))))
	first := l.Identity()
	if first.Expires.After(time.Now().Add(5 * time.Second)) {
		t.Fatalf("%+v", first)
	}
	stays(t, l, time.Until(first.Expires)+2*time.Second)
	now := l.Identity()
	if !now.Expires.After(first.Expires) || now.ID != first.ID || len(now.Thumbprints) != 2 || now.Certificate([32]byte{}) {
		t.Fatalf("%+v after %+v", now, first)
	}
	svid, err := l.GetX509SVID()
	if err != nil || svid.ID != first.ID || svid.PrivateKey == nil || !svid.Certificates[0].NotAfter.Equal(now.Expires) {
		t.Fatalf("%+v %v", svid, err)
	}
	if n := a.Attestations(); n != 1 {
		t.Fatalf("%d attestations: the agent's stream should have told of it", n)
	}
}

// A process that runs another program is another, for sessions it has too.
func TestExec(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
	c := w.config()
	c.Recheck = 500 * time.Millisecond
	a := ready(t, open(t, c))
	proc, run := waiting(t, w.Dir)
	peer := peerOf(t, proc)
	l := w.bind(a, w.connection(peer))
	stays(t, l, time.Second)
	run()
	took := ends(t, l, spiffe.ErrWithdrawn)
	t.Logf("another program, session told after %s (re-check every %s)", took.Round(time.Millisecond), c.Recheck)
	refused(t, a, w.connection(peer), spiffe.ErrNobody, "another program")
}

// swap is an API before which the process is replaced by another of the same
// number.
type swap struct {
	spiffe.API
	before func()
}

func (s swap) Watch(ctx context.Context, pid int32, told func([]spiffe.Told) error) error {
	s.before()
	return s.API.Watch(ctx, pid, told)
}

// The number is somebody else's when the agent looks.
func TestPidReuse(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/b", Selectors: []string{"unix:uid:65533"}})
	c := w.config()
	own := ready(t, open(t, c)).Own()
	api, err := spiffe.NewDelegated(c.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	w.bind(ready(t, open(t, c)), w.connection(peerOf(t, agent(t, uidB)))) // the agent knows it
	var victim atomic.Pointer[exec.Cmd]
	var swaps atomic.Int32
	a, err := spiffe.New(c, swap{api, func() {
		v := victim.Load()
		end(v)
		if reuse(t, v.Process.Pid, uidB) {
			swaps.Add(1)
		}
	}}, own)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for tries := 0; swaps.Load() < 3; tries++ {
		if tries == 50 {
			t.Fatal("no process gets a number again")
		}
		v := agent(t, uidA)
		victim.Store(v)
		refused(t, a, w.connection(peerOf(t, v)), spiffe.ErrNobody, "gone")
	}
}

// The program that the agent looks at is not the one that connected.
func TestExecWhileAttested(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/trusted", Selectors: []string{"unix:uid:65534", "unix:path:/usr/bin/sleep"}})
	c := w.config()
	own := ready(t, open(t, c)).Own()
	w.bind(ready(t, open(t, c)), w.connection(peerOf(t, agent(t, uidA)))) // the agent knows what it may be
	api, err := spiffe.NewDelegated(c.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	proc, run := waiting(t, w.Dir)
	a, err := spiffe.New(c, swap{api, run}, own)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	refused(t, a, w.connection(peerOf(t, proc)), spiffe.ErrNobody, "another program")
}

// waiting is a shell of the first user, which becomes sleep when it is told.
func waiting(t *testing.T, dir string) (*exec.Cmd, func()) {
	t.Helper()
	flag := filepath.Join(dir, "go")
	proc := startAs(t, uidA, "/bin/bash", "-c", "echo ready; while ! test -e "+flag+"; do read -t 0.05 <> <(:); done; exec sleep 600")
	return proc, func() {
		t.Helper()
		if err := os.WriteFile(flag, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		for name := ""; name != "sleep\n"; time.Sleep(time.Millisecond) {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", proc.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			name = string(b)
		}
	}
}

// reuse starts a process of a user under a number that was just given up,
// unless somebody else is quicker.
func reuse(t *testing.T, pid int, uid uint32) bool {
	t.Helper()
	for range 10 {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := agent(t, uid)
		if cmd.Process.Pid == pid {
			return true
		}
		end(cmd)
	}
	return false
}

// A storm of processes that come and go: each gets what is its own, or nothing.
func TestStorm(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/a", Selectors: []string{"unix:uid:65534"}})
	w.Register(spiretest.Entry{Path: "/b", Selectors: []string{"unix:uid:65533"}})
	c := w.config()
	a := ready(t, open(t, c))
	w.bind(a, w.connection(peerOf(t, agent(t, uidA))))
	w.bind(a, w.connection(peerOf(t, agent(t, uidB))))
	type result struct {
		want string
		is   string
		err  error
	}
	results := make(chan result)
	const n = 60
	for i := range n {
		uid, want := uint32(uidA), "/a"
		if i%2 == 1 {
			uid, want = uidB, "/b"
		}
		proc := agent(t, uid)
		conn := w.connection(peerOf(t, proc))
		go func() {
			r := result{want: want}
			l, err := a.Bind(context.Background(), conn)
			if r.err = err; err == nil {
				r.is = l.Identity().ID.Path()
				l.Release()
			}
			results <- r
		}()
		if i%3 == 0 {
			// The next one gets its number.
			end(proc)
			if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(proc.Process.Pid-1)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	bound := 0
	for range n {
		r := <-results
		switch {
		case r.err == nil && r.is != r.want:
			t.Errorf("%s was taken for %s", r.want, r.is)
		case r.err == nil:
			bound++
		case !errors.Is(r.err, spiffe.ErrNobody):
			t.Error(r.err)
		}
	}
	if bound < n/2 {
		t.Errorf("only %d of %d were bound", bound, n)
	}
}

// In another cgroup a process may be somebody else, by what an agent goes by.
func TestAnotherCgroup(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
	c := w.config()
	c.Recheck = 500 * time.Millisecond
	a := ready(t, open(t, c))
	slow := ready(t, open(t, w.config()))
	proc := agent(t, uidA)
	peer := peerOf(t, proc)
	l := w.bind(a, w.connection(peer))
	w.bind(slow, w.connection(peer))
	dir := filepath.Join(cgroupRoot(t), fmt.Sprintf("spiffe-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end(proc)
		for range 6000 {
			if os.Remove(dir) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Error(os.Remove(dir))
	})
	if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(proc.Process.Pid)), 0o644); err != nil {
		t.Fatal(err)
	}
	ends(t, l, spiffe.ErrWithdrawn)
	refused(t, a, w.connection(peer), spiffe.ErrNobody, "left the cgroup")
	w.bind(a, w.connection(peerOf(t, proc))) // as it is now
	before := slow.Attestations()
	w.bind(slow, w.connection(peerOf(t, proc)))
	if slow.Attestations() != before+1 {
		t.Fatal("it was not attested again")
	}
}
