package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

// give writes a token of its own for one agent.
func (h *host) give(name, client string, args ...string) string {
	h.t.Helper()
	f := filepath.Join(h.dir, name+".jwt")
	h.write(f+".new", h.issuer.Token(client, args...))
	if err := os.Rename(f+".new", f); err != nil {
		h.t.Fatal(err)
	}
	return f
}

// ended waits for a session to be ended, and returns what its client heard.
func (s *shell) ended(late time.Duration) string {
	s.t.Helper()
	done := make(chan string, 1)
	go func() {
		for {
			_, errs := s.run("select 'still here'")
			if errs != "" && strings.Contains(errs, "terminat") || strings.Contains(errs, "closed") {
				done <- errs
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	select {
	case errs := <-done:
		return errs
	case <-time.After(late):
		s.t.Fatalf("not ended within %v: %s", late, s.errs.String())
		return ""
	}
}

// What is revoked ends running sessions, and what only expired ends them when
// its time is over.
func TestIdentitiesOfRunningSessions(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.subject, h.identity = "agent-a, agent-b", "  recheck: 1s\n  expired_grace: 1h\n"
	h.configure()
	h.serve()

	stays := h.shell(h.give("stays", "agent-a"))
	removed := h.give("removed", "agent-a")
	gone := h.shell(removed)
	other := h.shell(h.give("other", "agent-a"))
	// Renewed before it is missed: the session rests until then.
	rests := h.shell(h.give("rests", "agent-a", "--life", "3s"))
	works := h.shell(h.give("works", "agent-a", "--life", "3s"))
	for _, s := range []*shell{stays, gone, other, rests, works} {
		if out, errs := s.run("select 1"); out != "1\n" {
			t.Fatalf("%q %q", out, errs)
		}
	}
	began := time.Now()
	slept := make(chan bool, 1)
	go func() {
		works.run("select pg_sleep(120)")
		slept <- true
	}()
	if err := os.Remove(removed); err != nil {
		t.Fatal(err)
	}
	h.give("other", "agent-b")
	gone.ended(25 * time.Second)
	other.ended(25 * time.Second)
	select {
	case <-slept:
		if d := time.Since(began); d > 25*time.Second {
			t.Errorf("ended after %v", d)
		}
		within(t, "it is told why", func() bool { return strings.Contains(works.errs.String(), "terminat") })
	case <-time.After(2 * time.Minute):
		t.Fatal("a statement runs on without a token")
	}
	rests.run("select 2")
	within(t, "it hears that its token has expired", func() bool { return strings.Contains(rests.errs.String(), "token has expired") })
	heard := rests.errs.String()
	h.give("rests", "agent-a")
	if out, errs := rests.run("select 3"); out != "3\n" || errs != heard {
		t.Errorf("renewed: %q %q", out, errs)
	}
	if out, errs := stays.run("select 4"); out != "4\n" {
		t.Errorf("another's end is not its own: %q %q", out, errs)
	}
	h.stop()
	want := map[string]int{"can't be proved any more": 1, "of somebody else now": 1, "the workload's token has expired": 1}
	for _, b := range recorded(h.record(), events.Block) {
		for w := range want {
			if strings.Contains(b.Reason, "the session is ended") && strings.Contains(b.Reason, w) && b.Rules[0] == "identity" {
				want[w]--
			}
		}
	}
	for w, n := range want {
		if n != 0 {
			t.Errorf("%q is recorded %d times too few", w, n)
		}
	}
}

// Without its issuer what was valid holds for as long as configured, and
// nothing else comes in.
func TestIssuerGoesAway(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.identity, h.trust = "  recheck: 1s\n", ", offline_grace: 4s"
	h.configure()
	h.serve()
	a := h.shell(h.give("a", "agent-a"))
	if out, errs := a.run("select 1"); out != "1\n" {
		t.Fatalf("%q %q", out, errs)
	}
	b := h.give("b", "agent-a")
	h.issuer.Stop()
	if out, err := h.psqlWith(b, "-c", "select 2"); err != nil || out != "2\n" {
		t.Errorf("within its time: %q %v", out, err)
	}
	a.ended(25 * time.Second)
	if out, err := h.psqlWith(b, "-c", "select 3"); err == nil || !has(out, "FATAL", "cannot be had") {
		t.Errorf("beyond its time: %q %v", out, err)
	}
	h.stop()
	last := func(all []ocsf.View) string { return all[len(all)-1].Reason }
	if r := last(recorded(h.record(), events.Block)); !strings.Contains(r, "cannot be had") {
		t.Errorf("recorded %q", r)
	}
}

// Each name of an identity stands on the record with its proof.
func TestNamesAndProofsAreRecorded(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.serve()
	file := h.give("for", "agent-a", "--for", "alice:secret-alice")
	if out, err := h.psqlWith(file, "-c", "select 1"); err != nil || out != "1\n" {
		t.Fatalf("%q %v", out, err)
	}
	h.stop()
	l := recorded(h.record(), events.Login)
	if len(l) != 1 {
		t.Fatalf("%d logins", len(l))
	}
	v := l[0]
	if v.Workload != "agent-a" || v.Actor != "agent-a" || v.Principal != "alice" || v.User != "postgres" || v.Vouches != h.issuer.Issuer ||
		v.Proof != "oidc+pidfd" || v.OfWorkload.By != "oidc+pidfd" || v.OfActor.By != "oidc+pidfd" || v.OfPrincipal.By != "oidc+pidfd" ||
		!has(strings.Join(v.OfActor.Bound, " "), "subjects", "pidfd") {
		t.Errorf("%+v", v)
	}
}
