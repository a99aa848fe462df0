package identity_test

import (
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
)

// A workload that serves many people says for whom it acts by a token of theirs.
// What ties it to that workload is told, and what ties it to another refuses it.
func TestSpeak(t *testing.T) {
	v := byRaw{
		"agent": {Subject: "agent"}, "for alice": {Subject: "alice", Actors: []string{"agent"}},
		"alice": {Subject: "alice", Claims: map[string]any{"role": "doctor"}}, "bob": {Subject: "bob"}, "party": {Subject: "alice", Party: "portal"},
		"lets agent": {Subject: "alice", MayAct: &identity.Party{Issuer: "i", Subject: "agent"}},
		"lets other": {Subject: "alice", MayAct: &identity.Party{Issuer: "i", Subject: "other"}},
		"a workload": {Subject: "spiffe://a/b"}, "once": {Subject: "alice", OneTime: true},
	}
	for _, c := range []struct {
		token, person, proof, weakest, bound, why string
		mute                                      bool
	}{
		{token: "agent", person: "alice", proof: "token-bearer", weakest: "token-bearer", bound: "audience"},
		{token: "agent", person: " alice\n", proof: "token-bearer", weakest: "token-bearer", bound: "audience"},
		{token: "agent", person: "party", proof: "token-bearer", weakest: "token-bearer", bound: "audience azp"},
		{token: "agent", person: "lets agent", proof: "oidc", weakest: "oidc", bound: "audience may_act"},
		{token: "for alice", person: "alice", proof: "oidc+pidfd", weakest: "oidc+pidfd", bound: "subjects audience pidfd"},
		{token: "for alice", person: "bob", why: `acts for "alice"`},
		{token: "agent", person: "lets other", why: "may_act"},
		{token: "agent", person: "for alice", why: "acts for them"},
		{token: "agent", person: "a workload", why: "no person's"},
		{token: "agent", person: "once", why: "one use"},
		{token: "agent", person: "forged", why: "not signed"},
		{token: "agent", person: "alice", why: "speaks_for", mute: true},
	} {
		ws := []identity.Workload{{Name: "a", Subjects: []string{"agent"}, SpeaksFor: !c.mute}}
		b, err := identity.NewBinder(proves{Workload: "a", Token: []byte(c.token)}, v, ws, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		id, err := b.Bind(t.Context(), &intercept.Peer{})
		if err != nil || id.SpeaksFor == c.mute || id.Pooled() != (!c.mute && c.token == "agent") {
			t.Fatalf("%s: %+v %v", c.token, id, err)
		}
		p, err := b.Speak(t.Context(), &id, []byte(c.person))
		if c.why != "" {
			if err == nil || !strings.Contains(err.Error(), c.why) || p.Subject != "" {
				t.Errorf("%s, %s: %+v %v", c.token, c.person, p, err)
			}
			continue
		}
		was := id
		who := id.For(&p)
		if err != nil || who.Principal() != "alice" || who.PrincipalIssuer() != "i" || who.Actor() != "agent" || who.Pooled() || who.Proof != c.weakest ||
			who.Proofs.Principal.By != c.proof || strings.Join(who.Proofs.Principal.Bound, " ") != c.bound || who.Proofs.Actor.By != "oidc+pidfd" || !who.Valid(time.Now()) {
			t.Errorf("%s, %s: %+v %v", c.token, c.person, who, err)
		}
		if id.Person != was.Person || id.Proof != was.Proof || id.Principal() != was.Principal() {
			t.Error("whom it is bound to has changed")
		}
		// Who was let to speak is asked for anew each time.
		ws[0].SpeaksFor = false
		if err := b.SetWorkloads(ws); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Speak(t.Context(), &id, []byte(c.person)); err == nil {
			t.Error("it speaks on behind a reload")
		}
	}
}
