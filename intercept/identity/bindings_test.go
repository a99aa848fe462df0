package identity_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/intercept/identity/oidctest"
	"sallyport.dev/sallyport/intercept/privsep"
)

// attested says what SPIRE would.
type attested func() (identity.SVID, error)

func (a attested) Attest(context.Context, *intercept.Peer) (identity.SVID, error) { return a() }

// bound is a workload with an SVID, and a way to give it tokens.
func bound(t *testing.T, w identity.Workload, change func(*oidc.Issuer)) (*world, *oidctest.Forger, func(change ...any)) {
	t.Helper()
	wd := &world{t: t, dir: t.TempDir()}
	f, k := oidctest.NewForger(t), oidctest.RSAKey(t, 2048)
	f.Publish(oidctest.Public("k", "RS256", &k.PublicKey))
	is := oidc.Issuer{URL: f.URL, Audience: "sallyport", Algorithms: []string{"RS256"}}
	if change != nil {
		change(&is)
	}
	v, err := oidc.New([]oidc.Issuer{is}, wd.now)
	if err != nil {
		t.Fatal(err)
	}
	wd.verifier.Verifier = v
	a := uint32(uidA)
	p, err := privsep.NewProver(cgroupRoot(t), "", []privsep.Workload{{Name: "a", Match: privsep.Match{UID: &a}, TokenFile: wd.dir + "/{uid}.jwt"}})
	if err != nil {
		t.Fatal(err)
	}
	if wd.binder, err = identity.NewBinder(p, &wd.verifier, []identity.Workload{w}, wd.now); err != nil {
		t.Fatal(err)
	}
	return wd, f, func(change ...any) {
		wd.put(uidA, oidctest.Sign(t, jose.RS256, k, map[jose.HeaderKey]any{"kid": "k"}, f.Claims(change...)))
	}
}

// A token that is bound to somebody else is refused, and what held is told.
func TestBindings(t *testing.T) {
	const id = "spiffe://example.org/agent"
	cert := sha256.Sum256([]byte("its certificate"))
	other := sha256.Sum256([]byte("another's"))
	svid := identity.SVID{ID: id, Certs: [][32]byte{cert}, Expires: time.Now().Add(time.Minute)}
	var fails error
	a := attested(func() (identity.SVID, error) { return svid, fails })
	cnf := func(sum [32]byte) map[string]any {
		return map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])}
	}
	all := []string{"agent-a", id, "spiffe://example.org/other"}
	w, _, give := bound(t, identity.Workload{Name: "a", Subjects: all, SPIFFE: id}, nil)
	w.binder.Attester = a
	peer := peerOf(t, agent(t, uidA).Process.Pid)
	holds := func(name, proof string, want ...string) intercept.Identity {
		t.Helper()
		got, err := w.bind(peer)
		if err != nil || got.Proof != proof || !slices.Equal(got.Proofs.Actor.Bound, want) {
			t.Errorf("%s: %s %v %v", name, got.Proof, got.Proofs.Actor.Bound, err)
		}
		return got
	}
	give()
	got := holds("not bound", "oidc+pidfd", "subjects", "audience", "pidfd")
	if got.SPIFFE != id || got.Proofs.Workload.By != "spiffe" || got.Proofs.Actor.By != "oidc+pidfd" || got.Actor() != "agent-a" || !got.Expires.Equal(svid.Expires) {
		t.Errorf("%+v", got)
	}
	give("aud", []string{"sallyport", "elsewhere"})
	holds("for two", "oidc+pidfd", "subjects", "pidfd")
	give("cnf", cnf(cert))
	holds("bound", "oidc+spiffe", "subjects", "audience", "cnf", "pidfd")
	give("sub", id)
	holds("of the SVID's subject", "oidc+spiffe", "subjects", "audience", "spiffe", "pidfd")
	give("sub", "alice", "act", map[string]any{"sub": id}, "cnf", cnf(cert))
	if got := holds("acting", "oidc+spiffe", "subjects", "audience", "cnf", "spiffe", "pidfd"); got.Principal() != "alice" || got.Actor() != id {
		t.Errorf("%+v", got)
	}
	give("cnf", cnf(other))
	w.refused(peer, "somebody else")
	give("sub", "spiffe://example.org/other")
	w.refused(peer, "SPIRE takes its process for")
	give()
	svid.ID = "spiffe://example.org/other"
	w.refused(peer, "SPIRE takes its process for")
	svid = identity.SVID{}
	w.refused(peer, "SPIRE takes its process for")
	fails = errors.New("SPIRE does not answer")
	w.refused(peer, "does not answer")
	fails, svid = nil, identity.SVID{ID: id, Expires: time.Now().Add(-time.Second)}
	w.refused(peer, "expired")
	w.binder.Attester = nil
	w.refused(peer, "no SPIFFE is configured")

	// Without SPIFFE nobody can tell whose the certificate is.
	w, _, give = bound(t, identity.Workload{Name: "a", Subjects: all}, nil)
	give("cnf", cnf(cert))
	w.refused(peer, "has shown none")
	give("cnf", map[string]any{"jkt": "x"})
	w.refused(peer, "can't be checked")
	give("sub", id)
	if got, err := w.bind(peer); err != nil || got.Proof != "oidc+pidfd" || got.Proofs.Actor.Holds(intercept.BoundSPIFFE) {
		t.Errorf("%+v %v", got, err)
	}
}

// A workload may have nothing but its SVID.
func TestSVIDAlone(t *testing.T) {
	const id = "spiffe://example.org/agent"
	w, _, _ := bound(t, identity.Workload{Name: "a", SPIFFE: id}, nil)
	peer := peerOf(t, agent(t, uidA).Process.Pid)
	w.binder.Attester = attested(func() (identity.SVID, error) {
		return identity.SVID{ID: id, Expires: time.Now().Add(time.Minute)}, nil
	})
	w.put(uidA, " ")
	got, err := w.bind(peer)
	if err != nil || got.Actor() != id || got.Principal() != "" || got.Issuer != "spiffe://example.org" || got.Proof != "spiffe" {
		t.Errorf("%+v %v", got, err)
	}
	if err := w.binder.SetWorkloads([]identity.Workload{{Name: "a", SPIFFE: "example.org/agent"}}); err == nil {
		t.Error("taken")
	}
}

// A one-time token opens one session, which may go on.
func TestBindOneTime(t *testing.T) {
	w, _, give := bound(t, identity.Workload{Name: "a", Subjects: []string{"agent-a"}}, func(is *oidc.Issuer) { is.OneTime = true })
	peer := peerOf(t, agent(t, uidA).Process.Pid)
	soon := time.Now().Unix() + 1
	time.Sleep(1100 * time.Millisecond)
	give("jti", "one", "iat", soon)
	id, err := w.bind(peer)
	if err != nil {
		t.Fatal(err)
	}
	w.refused(peer, "used before")
	if again, err := w.binder.Again(t.Context(), &peer, &id); err != nil || !again.Same(&id) {
		t.Errorf("its own session: %v", err)
	}
	give("jti", "two", "iat", soon)
	id, err = w.binder.Again(t.Context(), &peer, &id)
	if err != nil {
		t.Errorf("renewed: %v", err)
	}
	if _, err := w.binder.Again(t.Context(), &peer, &id); err != nil {
		t.Errorf("renewed, and looked at: %v", err)
	}
	w.refused(peer, "used before")
}

// Ten thousand connections of one workload verify its token once, and prove
// its process each time.
func TestManyConnectionsVerifyOnce(t *testing.T) {
	w := newWorld(t)
	w.put(uidA, w.provider.Token("agent-a"))
	peer := peerOf(t, agent(t, uidA).Process.Pid)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 625 {
				if _, err := w.bind(peer); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := w.verifier.n.Load(); n != 1 {
		t.Errorf("verified %d times", n)
	}
}

// BenchmarkBind is what a connection costs whose token is known.
func BenchmarkBind(b *testing.B) {
	pr := proves(intercept.Proof{Workload: "a", Token: []byte("a.b.c")})
	v := says{identity.Token{Issuer: "i", Subject: "a", Audience: []string{"x"}, Expires: time.Now().Add(time.Hour), Fresh: time.Now().Add(time.Hour)}}
	binder, err := identity.NewBinder(pr, v, []identity.Workload{{Name: "a", Subjects: []string{"a"}}}, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := binder.Bind(b.Context(), &intercept.Peer{}); err != nil {
			b.Fatal(err)
		}
	}
}

type proves intercept.Proof

func (p proves) Prove(context.Context, *intercept.Peer) (intercept.Proof, error) {
	return intercept.Proof(p), nil
}

type says struct{ t identity.Token }

func (s says) Verify(context.Context, string, string) (*identity.Token, error) { return &s.t, nil }
func (says) Spend(*identity.Token) error                                       { return nil }
