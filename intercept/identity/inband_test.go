package identity_test

import (
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/intercept/identity/oidctest"
)

// What a client sends is held against all that is known of its process
// otherwise.
func TestPresent(t *testing.T) {
	cert := sha256.Sum256(nil)
	const svid = "spiffe://a/agent"
	v := byRaw{
		"agent": {Subject: "agent"}, "another of it": {Subject: "agent"}, "other": {Subject: "other"}, "foreign": {Subject: "foreign"},
		"agent elsewhere": {Issuer: "j", Subject: "agent"}, "for alice": {Subject: "alice", Actors: []string{"agent"}},
		"for bob": {Subject: "bob", Actors: []string{"agent"}}, "alice": {Subject: "alice"}, "bound": {Subject: "agent", Cert: &cert},
		"of the SVID": {Subject: svid}, "of another SVID": {Subject: "spiffe://a/other"},
	}
	for _, c := range []struct{ sent, exec, person, spiffe, proof, why string }{
		{sent: "agent", proof: "oidc"},
		{sent: " agent\n", proof: "oidc"},
		{sent: "agent", exec: "agent", proof: "oidc"},
		{sent: "agent", exec: "another of it", proof: "oidc"},
		{sent: "for alice", person: "alice", proof: "oidc"},
		{sent: "agent", spiffe: svid, proof: "oidc"},
		{sent: "of the SVID", spiffe: svid, proof: "oidc+spiffe"},
		{sent: "", why: "not signed"},
		{sent: "", exec: "agent", why: "not signed"},
		{sent: "forged", exec: "agent", why: "not signed"},
		{sent: "foreign", why: "may not present"},
		{sent: "agent", exec: "other", why: "two tokens disagree"},
		{sent: "agent", exec: "agent elsewhere", why: "two tokens disagree"},
		{sent: "agent", exec: "for alice", why: "two tokens disagree"},
		{sent: "agent", exec: "forged", why: "sallyport exec gave it: not signed"},
		{sent: "agent", exec: "bound", why: "bound to a certificate"},
		{sent: "bound", why: "bound to a certificate"},
		{sent: "for bob", person: "alice", why: "acts for"},
		{sent: "of another SVID", spiffe: svid, why: "SPIRE takes its process for"},
	} {
		b, err := identity.NewBinder(proves{Workload: "a", Token: []byte(c.exec), Person: []byte(c.person)}, v, []identity.Workload{
			{Name: "a", Subjects: []string{"agent", "other", svid, "spiffe://a/other"}, SPIFFE: c.spiffe, InBand: true},
		}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		b.Attester = attested(func() (identity.SVID, error) { return identity.SVID{ID: svid, Expires: time.Now().Add(time.Hour)}, nil })
		// Before that it is nobody, whatever root gave it.
		if id, err := b.Bind(t.Context(), &intercept.Peer{}); !errors.Is(err, identity.ErrInBand) || id.Workload != "a" || id.Valid(time.Now()) {
			t.Errorf("%+v: bound before: %+v %v", c, id, err)
		}
		if id, err := b.Look(t.Context(), &intercept.Peer{}); !errors.Is(err, identity.ErrInBand) || id.Valid(time.Now()) {
			t.Errorf("%+v: looked at before: %+v %v", c, id, err)
		}
		id, err := b.Present(t.Context(), &intercept.Peer{}, []byte(c.sent), nil)
		if c.why != "" {
			if err == nil || !errors.Is(err, identity.ErrNobody) || !strings.Contains(err.Error(), c.why) || id.Valid(time.Now()) {
				t.Errorf("%+v: %+v %v", c, id, err)
			}
			continue
		}
		if err != nil || id.Proof != c.proof && c.spiffe == "" || id.Proofs.Actor.By != c.proof || !id.Proofs.Actor.Holds(intercept.BoundPidfd) || !id.Proofs.Actor.Holds(intercept.BoundSubjects) {
			t.Errorf("%+v: %+v %v", c, id, err)
		}
	}
	// One whose token is its own place's has none in band.
	b, err := identity.NewBinder(proves{Workload: "a", Token: []byte("agent")}, v, []identity.Workload{{Name: "a", Subjects: []string{"agent"}}}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := b.Present(t.Context(), &intercept.Peer{}, []byte("agent"), nil); err == nil || id.Valid(time.Now()) {
		t.Errorf("%+v %v", id, err)
	}
	if _, err := identity.NewBinder(proves{}, v, []identity.Workload{{Name: "a", SPIFFE: svid, InBand: true}}, time.Now); err == nil {
		t.Error("a workload without subjects")
	}
}

// A one-time token in band opens one connection, and holds for that.
func TestPresentOneTime(t *testing.T) {
	f, k := oidctest.NewForger(t), oidctest.RSAKey(t, 2048)
	f.Publish(oidctest.Public("k", "RS256", &k.PublicKey))
	v, err := oidc.New([]oidc.Issuer{{URL: f.URL, Audience: "sallyport", Algorithms: []string{"RS256"}, OneTime: true}}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	b, err := identity.NewBinder(proves{Workload: "a"}, v, []identity.Workload{{Name: "a", Subjects: []string{"agent-a"}, InBand: true}}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // it was issued after the start
	token := []byte(oidctest.Sign(t, jose.RS256, k, map[jose.HeaderKey]any{"kid": "k"}, f.Claims("jti", "one")))
	first, err := b.Present(t.Context(), &intercept.Peer{}, token, nil)
	if err != nil || !slices.Contains(first.Proofs.Actor.Bound, intercept.BoundAudience) {
		t.Fatalf("%+v %v", first, err)
	}
	for range 2 {
		if again, err := b.Present(t.Context(), &intercept.Peer{}, token, &first); err != nil || !again.Same(&first) {
			t.Errorf("its own session: %+v %v", again, err)
		}
	}
	if id, err := b.Present(t.Context(), &intercept.Peer{}, token, nil); err == nil {
		t.Errorf("another session: %+v", id)
	}
}
