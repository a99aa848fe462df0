package spiffe_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/identity/spiffe"
	"sallyport.dev/sallyport/intercept/identity/spiretest"
)

// noTokens is a verifier for workloads that have none.
type noTokens struct{}

func (noTokens) Verify(context.Context, string, string) (*identity.Token, error) {
	return nil, errors.New("no tokens here")
}
func (noTokens) Spend(*identity.Token) error { return errors.New("no tokens here") }

// tokenless is the loader's proof without the token file.
type tokenless struct{ intercept.Prover }

func (p tokenless) Prove(ctx context.Context, peer *intercept.Peer) (intercept.Proof, error) {
	pr, err := p.Prover.Prove(ctx, peer)
	pr.Token = nil
	return pr, err
}

// A connection bound by its SVID alone, through the Binder, until the entry is
// gone.
func TestSessions(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	entry := w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
	w.Register(spiretest.Entry{Path: "/second", Selectors: []string{"unix:uid:65534"}})
	a := ready(t, open(t, w.config()))
	s := spiffe.NewSessions(a, tokenless{w.prover}, map[string][]spiffeid.ID{"a": {mustID(t, "spiffe://one.test/agent")}})
	b, err := identity.NewBinder(s, noTokens{}, []identity.Workload{{Name: "a", SPIFFE: "spiffe://one.test/agent"}}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	b.Attester = s
	peer := peerOf(t, agent(t, uidA))
	var id intercept.Identity
	for end := time.Now().Add(soon); ; time.Sleep(20 * time.Millisecond) {
		if id, err = b.Bind(context.Background(), &peer); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if id.Workload != "a" || id.SPIFFE != "spiffe://one.test/agent" || id.Actor() != id.SPIFFE || id.Proof != "spiffe" || !id.Valid(time.Now()) {
		t.Fatalf("%+v", id)
	}
	l := s.Lease(&peer)
	again, err := b.Bind(context.Background(), &peer)
	if err != nil || !again.Same(&id) || s.Lease(&peer) != l {
		t.Fatalf("%+v %v", again, err)
	}
	other := peer // another connection of the process
	if _, err := b.Bind(context.Background(), &other); err != nil || s.Lease(&other) == l {
		t.Fatal(err)
	}
	s.Release(&other)
	s.Release(&other)
	if s.Lease(&other) != nil {
		t.Fatal("kept")
	}
	if n := a.Attestations(); n > 2 {
		t.Fatalf("%d attestations", n)
	}
	w.Delete(entry)
	ends(t, l, spiffe.ErrWithdrawn)
	if _, err := b.Bind(context.Background(), &peer); !errors.Is(err, spiffe.ErrWithdrawn) {
		t.Fatal(err)
	}
	s.Release(&peer)
	if _, err := b.Bind(context.Background(), &peer); !errors.Is(err, spiffe.ErrNobody) {
		t.Fatal(err)
	}
	s.Release(&peer)
	if _, err := s.Attest(context.Background(), &peer); err == nil {
		t.Fatal("not proved, and attested")
	}
}
