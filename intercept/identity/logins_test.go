package identity_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
)

// A login proves a person, and no agent: it is asked for persons alone, and a
// token of a person's is still one of the issuers'.
func TestLogins(t *testing.T) {
	tokens := byRaw{"agent.jwt.x": {Subject: "agent"}, "alice.jwt.x": {Subject: "alice"}}
	logins := byRaw{
		"bG9naW4=":    {Issuer: "idp", Subject: "alice", Proof: intercept.ProofSAML, Claims: map[string]any{"groups": []any{"doctors"}}},
		"alice.jwt.x": {Subject: "mallory"},
		"agentlogin":  {Subject: "agent", Proof: intercept.ProofSAML},
	}
	for _, c := range []struct{ token, person, proof, issuer, why string }{
		{"agent.jwt.x", "bG9naW4=\n", "saml+exec", "idp", ""},
		{"agent.jwt.x", "alice.jwt.x", "oidc+exec", "i", ""},
		{"agent.jwt.x", "b3RoZXI=", "", "", "not signed"},
		{"agentlogin", "", "", "", "not signed"},
		{"agentlogin", "bG9naW4=", "", "", "not signed"},
	} {
		b, err := identity.NewBinder(proves{Workload: "a", Token: []byte(c.token), Person: []byte(c.person)}, tokens, []identity.Workload{{Name: "a", Subjects: []string{"agent"}}}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		b.BelieveLogins(logins)
		id, err := b.Bind(t.Context(), &intercept.Peer{})
		if c.why != "" {
			if !errors.Is(err, identity.ErrNobody) || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%s, %s: %+v %v", c.token, c.person, id, err)
			}
			continue
		}
		if err != nil || id.Proof != c.proof || id.Proofs.Principal.By != c.proof || id.Principal() != "alice" || id.PrincipalIssuer() != c.issuer || id.Actor() != "agent" || id.Proofs.Actor.By != "oidc+pidfd" {
			t.Errorf("%s, %s: %+v %v", c.token, c.person, id, err)
		}
	}
	if p, o := intercept.Strength(intercept.ProofSAML), intercept.Strength(intercept.ProofLogin); p != 25 || o != 30 || intercept.Strength("saml") != 0 {
		t.Error(p, o)
	}
}
