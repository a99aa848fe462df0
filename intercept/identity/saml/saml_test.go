package saml_test

import (
	"context"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/identity/saml"
	"sallyport.dev/sallyport/intercept/identity/samltest"
)

const (
	service = "https://sallyport.clinic.example"
	acs     = "http://127.0.0.1:17123/acs"
)

// world is a provider, and a verifier of its logins at a clock of the test's.
type world struct {
	*samltest.IdP
	*saml.Verifier
	t   testing.TB
	now time.Time
}

func provider(p *samltest.IdP) saml.Provider {
	return saml.Provider{
		Name: "clinic", EntityID: p.EntityID, Audience: service, ACS: acs, Metadata: saml.Metadata{Text: p.Metadata()},
		Subject: samltest.UID, Attributes: map[string]string{"groups": samltest.Groups, "mail": samltest.Mail}, Skew: 30 * time.Second,
	}
}

func start(t testing.TB, change ...func(*saml.Provider)) *world {
	t.Helper()
	w := &world{IdP: samltest.Start(t, service, acs), t: t, now: time.Now()}
	p := provider(w.IdP)
	for _, c := range change {
		c(&p)
	}
	w.Verifier = w.verifier(p)
	return w
}

func (w *world) verifier(ps ...saml.Provider) *saml.Verifier {
	w.t.Helper()
	now := func() time.Time { return w.now }
	v, err := saml.New(ps, saml.NewLogins(now), now)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// login begins a login and has alice answer it.
func (w *world) login() *samltest.Answer {
	w.t.Helper()
	r, err := w.Begin(context.Background(), "clinic")
	if err != nil {
		w.t.Fatal(err)
	}
	a := w.Login(r.URL, "alice", samltest.People[0].Password)
	if a.To != acs || a.RelayState != r.RelayState || r.ACS != acs {
		w.t.Fatalf("%+v answers %+v", a, r)
	}
	return a
}

func (w *world) refused(raw, why string) {
	w.t.Helper()
	t, err := w.Accept(context.Background(), raw)
	if err == nil {
		w.t.Fatalf("believed: %+v", t)
	}
	if !strings.Contains(err.Error(), why) {
		w.t.Errorf("refused for %q, want %q", err, why)
	}
	if t, err := w.Verify(context.Background(), raw, ""); err == nil {
		w.t.Fatalf("believed later: %+v", t)
	}
}

func TestLogin(t *testing.T) {
	w := start(t)
	a := w.login()
	if _, err := w.Verify(context.Background(), a.Response, ""); err == nil || !strings.Contains(err.Error(), "log in again") {
		t.Fatal("what was not handed over is believed:", err)
	}
	got, err := w.Accept(context.Background(), a.Response)
	if err != nil {
		t.Fatal(err)
	}
	check := func(got *identity.Token) {
		t.Helper()
		groups, _ := got.Claims["groups"].([]any)
		if got.Subject != "alice" || got.Issuer != w.EntityID || len(got.Audience) != 1 || got.Audience[0] != service ||
			len(groups) != 2 || groups[0] != "doctors" || groups[1] != "night shift" || got.Claims["mail"].([]any)[0] != "alice@clinic.example" {
			t.Fatalf("%+v", got)
		}
		if _, has := got.Claims[samltest.UID]; has {
			t.Error("an attribute that nobody asked for is a claim")
		}
		if got.Claims[saml.ClaimContext] == nil || got.Claims[saml.ClaimNameID] != "alice@clinic.example" {
			t.Errorf("%v", got.Claims)
		}
		if got.Sum != sha256.Sum256([]byte(a.Response)) || got.OneTime {
			t.Error("it is another token")
		}
	}
	check(got)
	// It stands for the login as long as the session lasts: longer than the
	// response could be handed over.
	end := got.Expires
	w.now = w.now.Add(10 * time.Minute)
	if got, err = w.Verify(context.Background(), a.Response, w.EntityID); err != nil || !got.Expires.Equal(end) || !got.Fresh.After(w.now) {
		t.Fatal(got, err)
	}
	check(got)
	if _, err := w.Verify(context.Background(), a.Response, "https://other"); err == nil {
		t.Error("taken for another issuer's")
	}
	w.now = end.Add(-time.Millisecond)
	if _, err := w.Verify(context.Background(), a.Response, ""); err != nil {
		t.Error(err)
	}
	w.now = end
	if _, err := w.Verify(context.Background(), a.Response, ""); err == nil {
		t.Error("believed after its session")
	}
}
