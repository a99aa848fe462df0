package spiffe_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/identity/spiffe"
	"sallyport.dev/sallyport/intercept/identity/spiretest"
)

// No agent when the daemon starts: nobody gets in, and then they do.
func TestAgentDownAtStart(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
	w.StopAgent()
	c := w.config()
	c.Wait = 300 * time.Millisecond
	a := open(t, c)
	conn := w.connection(peerOf(t, agent(t, uidA)))
	refused(t, a, conn, spiffe.ErrUnavailable, "does not answer")
	if err := a.Own().Check(); !errors.Is(err, spiffe.ErrUnavailable) {
		t.Fatal(err)
	}
	if _, err := a.Own().VerifyJWT("x", "db.test"); err == nil {
		t.Fatal("verified")
	}
	w.StartAgent()
	w.bind(a, conn)
	if err := a.Own().Check(); err != nil {
		t.Fatal(err)
	}
}

// The agent dies under sessions: they go on, nobody new gets in; it comes back
// and nothing was lost.
func TestAgentRestarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
	c := w.config()
	c.Wait = 300 * time.Millisecond
	a := ready(t, open(t, c))
	known := w.connection(peerOf(t, agent(t, uidA)))
	l := w.bind(a, known)
	w.StopAgent()
	awaitLoss(t, a, known)
	refused(t, a, w.connection(peerOf(t, agent(t, uidA))), spiffe.ErrUnavailable, "")
	stays(t, l, time.Second)
	w.StartAgent()
	w.bind(a, known)
	stays(t, l, time.Second)
}

// awaitLoss returns when not even a process that is known gets in.
func awaitLoss(t *testing.T, a *spiffe.Attestor, c spiffe.Connection) {
	t.Helper()
	for end := time.Now().Add(soon); ; {
		l, err := a.Bind(context.Background(), c)
		if errors.Is(err, spiffe.ErrUnavailable) {
			return
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("without an agent: %v", err)
		}
		l.Release()
	}
}

// Without the agent an identity lasts as long as configured, and as its SVID at
// the longest.
func TestAgentGone(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct{ ttl, offline, least, most time.Duration }{
		"until it expires":  {6 * time.Second, 0, time.Second, time.Minute},
		"offline":           {time.Hour, time.Second, 900 * time.Millisecond, time.Minute},
		"the earlier of it": {6 * time.Second, time.Hour, time.Second, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, spiretest.Options{})
			w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}, TTL: x.ttl})
			c := w.config()
			c.Wait, c.Offline = 300*time.Millisecond, x.offline
			a := ready(t, open(t, c))
			l := w.bind(a, w.connection(peerOf(t, agent(t, uidA))))
			w.StopAgent()
			took := ends(t, l, spiffe.ErrExpired)
			left := time.Until(l.Identity().Expires)
			t.Logf("agent killed, session told after %s; the SVID was good for another %s", took.Round(time.Millisecond), max(0, left).Round(time.Second))
			if took < x.least || took > x.most || x.offline == 0 && left > 0 {
				t.Fatalf("it ended after %s", took)
			}
		})
	}
}

// An agent that hangs takes connections and answers nobody.
func TestAgentHangs(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
	c := w.config()
	c.Wait, c.Recheck, c.Offline = 500*time.Millisecond, time.Second, 2*time.Second
	a := ready(t, open(t, c))
	l := w.bind(a, w.connection(peerOf(t, agent(t, uidA))))
	w.PauseAgent()
	t.Cleanup(w.ResumeAgent)
	from := time.Now()
	refused(t, a, w.connection(peerOf(t, agent(t, uidA))), spiffe.ErrUnavailable, "")
	if took := time.Since(from); took > 30*time.Second {
		t.Fatalf("it waited %s", took)
	}
	took := ends(t, l, spiffe.ErrExpired)
	t.Logf("agent hangs, session told after %s (re-check %s, wait %s, offline %s)", took.Round(time.Millisecond), c.Recheck, c.Wait, c.Offline)
	if err := a.Own().Check(); !errors.Is(err, spiffe.ErrUnavailable) {
		t.Fatalf("the daemon does not notice: %v", err)
	}
	w.ResumeAgent()
	w.bind(a, w.connection(peerOf(t, agent(t, uidA))))
}

// Who is no delegate learns nothing, and one that is none any more loses all.
func TestNoDelegate(t *testing.T) {
	for _, broker := range []bool{true, false} {
		w := newWorld(t, spiretest.Options{Delegates: []string{"spiffe://one.test/somebody"}, NoBroker: !broker})
		w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
		c := w.config()
		c.Wait = 500 * time.Millisecond
		if broker {
			c.Admin = ""
		}
		a := ready(t, open(t, c))
		conn := w.connection(peerOf(t, agent(t, uidA)))
		if broker { // the agent hangs up on the certificate
			refused(t, a, conn, spiffe.ErrUnavailable, "")
		} else {
			refused(t, a, conn, spiffe.ErrNobody, "not configured as an authorized delegate")
		}
	}
}

func TestDelegateWithdrawn(t *testing.T) {
	s := spiretest.Start(t, spiretest.Options{NoBroker: true})
	entry := s.Register(spiretest.Entry{Path: "/sallyport", Selectors: []string{"unix:uid:0"}})
	s.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
	w := &world{Spire: s, t: t, prover: newProver(t, s.Dir)}
	c := w.config()
	c.Recheck = 500 * time.Millisecond
	a := ready(t, open(t, c))
	l := w.bind(a, w.connection(peerOf(t, agent(t, uidA))))
	stays(t, l, time.Second)
	w.Delete(entry)
	t.Logf("the daemon's own entry deleted, session told after %s (re-check %s)", ends(t, l, spiffe.ErrWithdrawn).Round(time.Millisecond), c.Recheck)
}

// Close ends every lease.
func TestClose(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
	a, err := spiffe.Open(w.config())
	if err != nil {
		t.Fatal(err)
	}
	conn := w.connection(peerOf(t, agent(t, uidA)))
	l := w.bind(a, conn)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	ends(t, l, spiffe.ErrClosed)
	refused(t, a, conn, spiffe.ErrUnavailable, "closing")
	if _, err := a.Own().GetX509SVID(); !errors.Is(err, spiffe.ErrUnavailable) {
		t.Fatal(err)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []spiffe.Config{
		{},
		{Agent: "unix:///run/agent.sock"},
		{Agent: "/run/agent.sock", Admin: "unix:///run/admin.sock"},
		{Agent: "unix:///run/agent.sock", Admin: "tcp://127.0.0.1:1"},
		{Agent: "unix:///run/agent.sock", Broker: "dns:///elsewhere:1"},
		{Agent: "unix:///run/agent.sock", Broker: "unix://relative"},
		{Agent: "unix:///run/agent.sock", Admin: "unix:///run/admin.sock", Recheck: -1},
	} {
		if a, err := spiffe.Open(c); err == nil {
			a.Close()
			t.Errorf("%+v is taken", c)
		}
	}
}
