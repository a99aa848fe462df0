package oidc_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/intercept/identity/oidctest"
)

// exchanging is a verifier that takes tokens of one audience and has them
// exchanged for another's.
func exchanging(t *testing.T, p *oidctest.Provider, x oidc.Exchange) *oidc.Verifier {
	t.Helper()
	v, err := oidc.New([]oidc.Issuer{{URL: p.Issuer, Audience: "agents", Algorithms: []string{"RS256"}, Exchange: &x}}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

var passage = oidc.Exchange{Client: "agent-b", Secret: "secret-b", Audience: "evidence"}

// What counts is the token for this passage's own audience; who it names does
// not change.
func TestExchange(t *testing.T) {
	p := oidctest.Start(t)
	v := exchanging(t, p, passage)
	raw := p.Token("agent-a", "--audience", "agents")
	tok, err := verify(v, raw)
	if err != nil || tok.Subject != "agent-a" || tok.Actors != nil || !slices.Contains(tok.Audience, "evidence") || slices.Contains(tok.Audience, "agents") {
		t.Fatalf("%+v %v", tok, err)
	}
	acting := p.Token("agent-a", "--audience", "agents", "--for", "alice:secret-alice")
	if tok, err = verify(v, acting); err != nil || tok.Subject != "alice" || !slices.Equal(tok.Actors, []string{"agent-a"}) || !slices.Contains(tok.Audience, "evidence") {
		t.Fatalf("%+v %v", tok, err)
	}
	refused(t, v, p.Token("agent-a", "--audience", "evidence"), `not for the audience "agents"`)
	other := p.Token("agent-b", "--audience", "agents")
	p.Stop()
	// What was exchanged is kept until it expires; nothing else comes in.
	if tok, err = verify(v, raw); err != nil || !slices.Contains(tok.Audience, "evidence") {
		t.Fatal("the issuer is away:", err)
	}
	refused(t, v, other, "can't be exchanged")
}

func TestExchangeRefused(t *testing.T) {
	p := oidctest.Start(t)
	wrong := passage
	wrong.Secret = "a wrong secret"
	refused(t, exchanging(t, p, wrong), p.Token("agent-a", "--audience", "agents"), "it refused")
	for name, x := range map[string]oidc.Exchange{"no client": {Secret: "s", Audience: "a"}, "no secret": {Client: "c", Audience: "a"}, "no audience": {Client: "c", Secret: "s"}} {
		if _, err := oidc.New([]oidc.Issuer{{URL: p.Issuer, Audience: "agents", Algorithms: []string{"RS256"}, Exchange: &x}}, time.Now); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// What an issuer gives for a token must name the same parties, and hold.
func TestExchangeOfFaults(t *testing.T) {
	f, v, sign := forged(t, func(is *oidc.Issuer) { is.Exchange = &oidc.Exchange{Client: "c", Secret: "s", Audience: "evidence"} }, time.Now)
	const form = `{"access_token":%q,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer"}`
	var answer string
	f.Exchange = func(w http.ResponseWriter, _ string) { _, _ = io.WriteString(w, answer) }
	gives := func(change ...any) string {
		return fmt.Sprintf(form, sign(f.Claims(append([]any{"aud", "evidence"}, change...)...)))
	}
	for name, c := range map[string]struct{ answer, why string }{
		"somebody else":      {gives("sub", "agent-b"), "names somebody else"},
		"an actor":           {gives("act", map[string]any{"sub": "agent-b"}), "names somebody else"},
		"for somebody else":  {gives("aud", "sallyport"), "does not hold"},
		"expired":            {gives("exp", time.Now().Unix()-1), "does not hold"},
		"of another issuer":  {gives("iss", "https://other"), "does not hold"},
		"not signed":         {fmt.Sprintf(form, b64(map[string]string{"alg": "none"})+"."+b64(f.Claims("aud", "evidence"))+"."), "does not hold"},
		"no JWT":             {fmt.Sprintf(form, "opaque"), "does not hold"},
		"an ID token's type": {strings.Replace(gives(), ":access_token", ":id_token", 1), "no access token"},
		"nothing":            {"{}", "no access token"},
		"no JSON":            {"<html>", "no token"},
		"an error":           {`{"error":"invalid_target"}`, "invalid_target"},
	} {
		answer = c.answer
		t.Run(name, func(t *testing.T) { refused(t, v, sign(f.Claims("jti", name)), c.why) })
	}
	answer = gives("act", map[string]any{"sub": "c"}, "role", "exchanged")
	tok, err := verify(v, sign(f.Claims("role", "own")))
	if err != nil || tok.Claims["role"] != "exchanged" || tok.Presenter() != "agent-a" || tok.Actors != nil {
		t.Errorf("with the passage as its actor: %+v %v", tok, err)
	}
	if tok.Shared {
		t.Error("a token for one audience alone is said to be for others too")
	}
	// Whom else a token was for can present it, whatever comes of its exchange.
	tok, err = verify(v, sign(f.Claims("aud", []string{"sallyport", "elsewhere"})))
	if err != nil || len(tok.Audience) != 1 || !tok.Shared {
		t.Errorf("a token for two audiences: %+v %v", tok, err)
	}
}
