package spiffe_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity/spiffe"
	"sallyport.dev/sallyport/intercept/identity/spiretest"
)

func mustID(t testing.TB, s string) spiffeid.ID {
	t.Helper()
	id, err := spiffeid.FromString(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// An unmodified process, by each API and by what takes the one that is there.
func TestBind(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534", "unix:path:/usr/bin/sleep"}, Hint: "internal"})
	both := w.config()
	broker, admin, old := both, both, both
	broker.Admin, admin.Broker = "", ""
	old.Broker = "unix://" + w.Dir + "/nobody.sock"
	for name, x := range map[string]struct {
		c   spiffe.Config
		via string
	}{
		"broker":             {broker, spiffe.ViaBroker},
		"delegated":          {admin, spiffe.ViaDelegated},
		"both":               {both, spiffe.ViaBroker},
		"broker not offered": {old, spiffe.ViaDelegated},
	} {
		t.Run(name, func(t *testing.T) {
			a := ready(t, open(t, x.c))
			l := w.bind(a, w.connection(peerOf(t, agent(t, uidA)), "spiffe://one.test/agent", "spiffe://one.test/other"))
			is := l.Identity()
			if is.ID.String() != "spiffe://one.test/agent" || is.Hint != "internal" || is.Via != x.via ||
				!time.Now().Before(is.Expires) || !is.NotBefore.Before(time.Now()) || len(is.Thumbprints) != 1 || !is.Certificate(is.Thumbprints[0]) {
				t.Fatalf("%+v", is)
			}
			id := is.Intercept("billing")
			if !id.Valid(time.Now()) || id.Workload != "billing" || id.SPIFFE != "spiffe://one.test/agent" || id.Actor() != id.SPIFFE ||
				id.Principal() != "" || id.Issuer != "spiffe://one.test" || id.Proof != "spiffe" || id.Weakest() != "spiffe" || !id.Proofs.Workload.Holds("pidfd") {
				t.Fatalf("%+v", id)
			}
			if _, err := l.GetX509SVID(); err == nil {
				t.Fatal("a key was kept that nobody asked for")
			}
			j, err := l.JWT(context.Background(), "db.test")
			if err != nil || j.ID != is.ID || j.Audience[0] != "db.test" {
				t.Fatalf("%+v %v", j, err)
			}
			stays(t, l, 0)
		})
	}
}

// What is not asked for, or can't be known, gets nobody in.
func TestBindRefuses(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	a := ready(t, open(t, w.config()))
	proc := agent(t, uidA)
	peer := peerOf(t, proc)
	refused(t, a, w.connection(peer), spiffe.ErrNobody, "knows none for this process")
	if _, err := a.Bind(context.Background(), spiffe.Connection{Peer: &intercept.Peer{}}); !errors.Is(err, spiffe.ErrNobody) {
		t.Fatal(err)
	}
	// Registered while it waits: the agent says so by itself.
	w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
	l := w.bind(a, w.connection(peer))
	if n := a.Attestations(); n != 1 {
		t.Fatalf("%d attestations of one process", n)
	}
	refused(t, a, w.connection(peer, "spiffe://one.test/else"), spiffe.ErrNobody, "does not list")
	refused(t, a, w.connection(peerOf(t, agent(t, uidB))), spiffe.ErrNobody, "knows none")
	other := peer
	other.UID = uidB // not what the kernel says
	refused(t, a, w.connection(other), spiffe.ErrNobody, "connected as user")
	other = peer
	other.Start -= 20_000_000
	refused(t, a, w.connection(other), spiffe.ErrNobody, "gone")
	stays(t, l, 0)
	end(proc)
	ends(t, l, spiffe.ErrGone)
	refused(t, a, w.connection(peer), spiffe.ErrNobody, "gone")
}

// Two entries match: nobody is both, unless the configuration says who.
func TestAmbiguous(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/one", Selectors: []string{"unix:uid:65534"}})
	a := ready(t, open(t, w.config()))
	peer := peerOf(t, agent(t, uidA))
	l := w.bind(a, w.connection(peer))
	w.Register(spiretest.Entry{Path: "/two", Selectors: []string{"unix:path:/usr/bin/sleep"}})
	two := w.bind(a, w.connection(peer, "spiffe://one.test/two"))
	if id := two.Identity().ID.Path(); id != "/two" {
		t.Fatal(id)
	}
	refused(t, a, w.connection(peer), spiffe.ErrNobody, "can't be all of them")
	refused(t, a, w.connection(peer, "spiffe://one.test/one", "spiffe://one.test/two"), spiffe.ErrNobody, "can't be all of them")
	stays(t, l, 0) // it was one of them before, and is
	// The same name by two entries is one name.
	b := peerOf(t, agent(t, uidB))
	w.Register(spiretest.Entry{Path: "/same", Selectors: []string{"unix:uid:65533"}})
	twice := w.Register(spiretest.Entry{Path: "/same", Selectors: []string{"unix:uid:65533", "unix:gid:65534"}})
	l = w.bind(a, w.connection(b, "spiffe://one.test/same"))
	w.Delete(twice)
	stays(t, l, time.Second)
}

// Many connections of one process are one attestation.
func TestOneAttestation(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
	a := ready(t, open(t, w.config()))
	c := w.connection(peerOf(t, agent(t, uidA)))
	w.bind(a, c)
	before := a.Attestations()
	const connections = 10_000
	fresh := w.connection(peerOf(t, agent(t, uidA)))
	var wg sync.WaitGroup
	errs := make(chan error, connections)
	from := time.Now()
	for range connections {
		wg.Go(func() {
			l, err := a.Bind(context.Background(), fresh)
			if err == nil {
				defer l.Release()
				if l.Identity().ID.Path() != "/agent" {
					err = errors.New("somebody else")
				}
			}
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := a.Attestations() - before; n != 1 {
		t.Fatalf("%d attestations for %d connections of one process", n, connections)
	}
	t.Logf("%d connections at once, one attestation: %s", connections, time.Since(from).Round(time.Millisecond))
}

// held is an API that does not answer about some processes.
type held struct {
	spiffe.API
	pids *sync.Map
}

func (h held) Watch(ctx context.Context, pid int32, told func([]spiffe.Told) error) error {
	if _, hangs := h.pids.Load(uint32(pid)); hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return h.API.Watch(ctx, pid, told)
}

// Attestations of one workload that get no answer do not hold up those of
// others.
func TestOthersAreNotHeldUp(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/b", Selectors: []string{"unix:uid:65533"}})
	c := w.config()
	own := ready(t, open(t, c)).Own()
	other := w.connection(peerOf(t, agent(t, uidB)))
	other.Workload = "other"
	w.bind(ready(t, open(t, c)), other)
	api, err := spiffe.NewDelegated(c.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	c.Wait = time.Second
	hang := held{api, new(sync.Map)}
	a, err := spiffe.New(c, hang, own)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	for range 20 {
		stuck := w.connection(peerOf(t, agent(t, uidA)))
		hang.pids.Store(stuck.Peer.TGID, true)
		wg.Go(func() {
			if l, err := a.Bind(context.Background(), stuck); l != nil || !errors.Is(err, spiffe.ErrUnavailable) {
				t.Errorf("%v %v", l, err)
			}
		})
	}
	for end := time.Now().Add(soon); a.Attestations() < 8; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody asks")
		}
	}
	l, err := a.Bind(context.Background(), other)
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
}

// Processes that nobody needs are let go of, and those of one workload leave
// room for the others.
func TestBounded(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
	c := w.config()
	c.Processes, c.Recheck = 4, 200*time.Millisecond
	a := ready(t, open(t, c))
	l1 := w.bind(a, w.connection(peerOf(t, agent(t, uidA))))
	l2 := w.bind(a, w.connection(peerOf(t, agent(t, uidA))))
	third := w.connection(peerOf(t, agent(t, uidA)))
	refused(t, a, third, spiffe.ErrUnavailable, "identity.spiffe.processes")
	other := w.connection(peerOf(t, agent(t, uidA)))
	other.Workload = "other"
	l3 := w.bind(a, other)
	l1.Release()
	l1.Release() // counts once
	l4 := w.bind(a, third)
	stays(t, l2, 0)
	l2.Release()
	l3.Release()
	l4.Release()
	for end := time.Now().Add(soon); a.Processes() > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d processes are kept", a.Processes())
		}
	}
}
