package doors_test

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/doors"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// door is one of the table: what the document says of it, and how it is tried.
type door struct {
	doors.Door
	target string // that its attempts are told; default home
	// early: it begins before the guard is up, and calls attempt.guard itself.
	early bool
	// listed: it is tried with an allow-list of unix sockets.
	listed bool
	// alone: it must not be tried beside others that are alone.
	alone bool
	try   func(*attempt)
}

// phase is one state of the host that all doors are tried in.
type phase struct {
	mode   string // "" without a guard
	dead   bool   // the daemon was killed
	listed bool   // covered processes may connect to listed unix sockets only
	again  bool   // once more, for attempts that got nowhere
}

func (p phase) String() string {
	s := cmp.Or(p.mode, "no guard")
	if p.listed {
		s += ", allow-list"
	}
	if p.dead {
		s += ", daemon dead"
	}
	if p.again {
		s += ", again"
	}
	return s
}

// world is what the attempts of one phase share.
type world struct {
	*host
	phase    phase
	base     string // cgroup of the phase
	up       chan struct{}
	alone    sync.Mutex
	patience time.Duration
}

// host is what all phases share: the server, namespaces and wires.
type host struct {
	dir      string // of files that agents can reach
	programs string
	root     string // of cgroup2
	ledger   ledger
	far      *os.File // a network namespace at the other end of a wire, without a passage
	served   *os.File // another, which has one
}

const (
	passagePort = 15432
	plainPort   = 15433 // a server's, for the proof that a passage could be dialled

	home  = "127.0.0.1:5432"
	home6 = "[::1]:5432"
	near  = "10.77.0.1:5432" // this end of the wire
	away  = "10.77.0.2:5432" // the other end
	free  = "127.0.0.1:15433"

	ownForwarder = "127.0.0.1:7005" // a forwarder's port that is protected itself

	abstract = "sallyport-doors"
	datagram = "sallyport-doors-datagram"
)

// wired are addresses of this host on wires that attempts have made for
// namespaces of their own.
func wired(n int) string { return fmt.Sprintf("10.77.%d.1:5432", n) }

func protected() (out []netip.AddrPort) {
	for _, a := range []string{home, home6, near, away, wired(1), wired(2), wired(9), ownForwarder} {
		out = append(out, netip.MustParseAddrPort(a))
	}
	return out
}

func (w *world) socketPath() string { return filepath.Join(w.dir, "server", ".s.5432") }

// protects reports whether a record names what the attempts are after.
func (w *world) protects(f flow) bool {
	return slices.Contains(protected(), f.Destination) || f.Path == w.socketPath() || f.Path == "@"+abstract
}

// cgroup returns the folder of one of the phase's cgroups.
func (w *world) cgroup(name string) string {
	if name == "" {
		name = "inside"
	}
	return filepath.Join(w.root, w.base, name)
}

// makeCgroups makes the phase's. Agents may move within them, as where cgroups
// were delegated carelessly.
func (w *world) makeCgroups(t *testing.T) {
	t.Helper()
	w.base = redirecttest.Cgroup(t)
	top := filepath.Join(w.root, w.base)
	names := []string{"inside", "outside", "remade", "relay"}
	for _, n := range names {
		if err := os.Mkdir(filepath.Join(top, n), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		_ = os.WriteFile(filepath.Join(top, "cgroup.kill"), []byte("1"), 0)
		for _, n := range names {
			var err error
			for range 3000 {
				if err = unix.Rmdir(filepath.Join(top, n)); err == nil || errors.Is(err, unix.ENOENT) {
					err = nil
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			if err != nil {
				t.Errorf("cgroup %s: %v", n, err)
			}
		}
	})
	for _, n := range []string{"", "inside", "outside"} {
		if err := os.Chown(filepath.Join(top, n, "cgroup.procs"), nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
}

// raise brings the guard of the phase up, with a daemon behind it.
func (w *world) raise(t *testing.T) {
	t.Helper()
	cfg := redirect.Config{
		Mode: w.phase.mode, Port: passagePort, Pins: redirecttest.TempPins(t),
		Covered: []string{w.base + "/inside", w.base + "/remade"},
		Exempt:  []string{w.base + "/relay"},
	}
	for _, a := range protected() {
		cfg.Destinations = append(cfg.Destinations, intercept.Endpoint(a))
	}
	if redirect.HaveUnix() == nil {
		cfg.Unix.Protected = []string{w.socketPath(), "@" + abstract, "@" + datagram}
		if w.phase.listed {
			cfg.Unix.Allow = []string{w.dir + "/allowed/**"}
		}
	}
	g, err := redirect.Up(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	for _, ns := range []*os.File{w.far, w.served} {
		s, err := redirect.SpaceOf(ns)
		if err == nil {
			_, err = g.Wire(s)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	stop, err := w.daemon(g)
	if err != nil {
		t.Fatal(err)
	}
	if w.phase.dead {
		stop()
	} else {
		t.Cleanup(stop)
	}
}

// try tries doors and returns what became of each attempt.
func (w *world) try(t *testing.T, all []*door) map[string]*attempt {
	t.Helper()
	w.makeCgroups(t)
	out := map[string]*attempt{}
	var running, early sync.WaitGroup
	slots := make(chan struct{}, 4*runtime.NumCPU())
	begin := func(d *door) {
		a := &attempt{w: w, door: d, token: fmt.Sprintf("%s %s", d.Name, w.phase), ready: func() {}}
		out[d.Name] = a
		if d.early {
			early.Add(1)
			a.ready = sync.OnceFunc(early.Done)
		}
		running.Go(func() {
			defer a.ready()
			if d.alone {
				w.alone.Lock()
				defer w.alone.Unlock()
			}
			if !d.early {
				slots <- struct{}{}
				defer func() { <-slots }()
			}
			d.try(a)
		})
	}
	for _, d := range all {
		if d.early {
			begin(d)
		}
	}
	early.Wait()
	if w.phase.mode != "" {
		w.raise(t)
	}
	close(w.up)
	for _, d := range all {
		if !d.early {
			begin(d)
		}
	}
	running.Wait()
	time.Sleep(w.patience / 2) // for what was sent and not seen to arrive
	for name, a := range out {
		// Not later: what was dropped is sent again when the guard has gone.
		a.arrived = w.ledger.places(a.token)
		if a.err != nil {
			t.Errorf("%s: %v", name, a.err)
		}
		if os.Getenv("DOORS_LOG") != "" {
			t.Logf("%s: %s: %q arrived at %q", w.phase, name, a.log, a.arrived)
		}
	}
	return out
}

// answer judges an attempt by where its token arrived.
func (a *attempt) answer(t *testing.T) doors.Answer {
	t.Helper()
	verdict := doors.Refused
	for _, place := range a.arrived {
		switch place {
		case atServer, atSquatter:
			return doors.Passes
		case atPassage:
			verdict = doors.Redirected
		default:
			t.Errorf("%s: %s: arrived at %s", a.w.phase, a.door.Name, place)
		}
	}
	return verdict
}

// kernel returns the series that runs.
func kernel(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(strings.TrimSpace(string(b)), "%d.%d", &major, &minor); err != nil {
		t.Fatalf("kernel %q: %v", b, err)
	}
	return fmt.Sprintf("%d.%d", major, minor)
}
