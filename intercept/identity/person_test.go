package identity_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
)

// byRaw says what each token is.
type byRaw map[string]identity.Token

func (b byRaw) Verify(_ context.Context, raw, _ string) (*identity.Token, error) {
	t, ok := b[raw]
	if !ok {
		return nil, errors.New("not signed")
	}
	t.Issuer = cmp.Or(t.Issuer, "i")
	t.Audience, t.Expires, t.Fresh = []string{"x"}, time.Now().Add(time.Hour), time.Now().Add(time.Minute)
	return &t, nil
}
func (byRaw) Spend(*identity.Token) error { return nil }

// The person whom root had a process act for is its principal, unless a token
// says otherwise: then it is nobody.
func TestPerson(t *testing.T) {
	cert := sha256.Sum256(nil)
	v := byRaw{
		"agent": {Subject: "agent"}, "for alice": {Subject: "alice", Actors: []string{"agent"}}, "for bob": {Subject: "bob", Actors: []string{"agent"}},
		"alice": {Subject: "alice", Claims: map[string]any{"role": "doctor"}}, "alice elsewhere": {Issuer: "j", Subject: "alice"},
		"lets agent":            {Subject: "alice", MayAct: &identity.Party{Issuer: "i", Subject: "agent"}},
		"lets other":            {Subject: "alice", MayAct: &identity.Party{Issuer: "i", Subject: "other"}},
		"lets agent of another": {Subject: "alice", MayAct: &identity.Party{Issuer: "j", Subject: "agent"}},
		"an actor":              {Subject: "alice", Actors: []string{"bob"}}, "bound": {Subject: "alice", Cert: &cert},
		"a workload": {Subject: "spiffe://a/b"}, "once": {Subject: "alice", OneTime: true},
	}
	for _, c := range []struct{ token, person, proof, principal, why string }{
		{"agent", "", "oidc+pidfd", "", ""},
		{"agent", "alice", "oidc+exec", "alice", ""},
		{"agent", "alice elsewhere", "oidc+exec", "alice", ""},
		{"agent", "lets agent", "oidc+exec", "alice", ""},
		{"for alice", "alice", "oidc+pidfd", "alice", ""},
		{"for bob", "alice", "", "", "acts for \"bob\""},
		{"for alice", "alice elsewhere", "", "", "acts for \"alice\""},
		{"agent", "lets other", "", "", "may_act"},
		{"agent", "lets agent of another", "", "", "may_act"},
		{"agent", "an actor", "", "", "acts for them"},
		{"agent", "bound", "", "", "no person's"},
		{"agent", "a workload", "", "", "no person's"},
		{"agent", "once", "", "", "one use"},
		{"agent", "forged", "", "", "not signed"},
	} {
		b, err := identity.NewBinder(proves{Workload: "a", Token: []byte(c.token), Person: []byte(c.person)}, v, []identity.Workload{{Name: "a", Subjects: []string{"agent"}}}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		id, err := b.Bind(t.Context(), &intercept.Peer{})
		if c.why != "" {
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%s, %s: %+v %v", c.token, c.person, id, err)
			}
			continue
		}
		if err != nil || id.Proof != c.proof || id.Principal() != c.principal || id.Actor() != "agent" || id.Proofs.Workload.By != "oidc+pidfd" ||
			id.Proofs.Principal.Holds(intercept.BoundMayAct) != (c.person == "lets agent") {
			t.Errorf("%s, %s: %+v %v", c.token, c.person, id, err)
		}
		if c.person == "alice" && (id.PrincipalClaims()["role"] != "doctor" || id.Claims["role"] != nil) {
			t.Errorf("claims: %+v", id)
		}
	}
}
