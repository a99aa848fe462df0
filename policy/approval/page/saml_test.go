package page_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity/saml"
	"sallyport.dev/sallyport/intercept/identity/samltest"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval/approvaltest"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// samlSite is a page on which people log in by SAML too, and a host that takes its word.
type samlSite struct {
	*site
	idp *samltest.IdP
}

func newSAMLSite(t *testing.T) *samlSite {
	t.Helper()
	s := &samlSite{site: &site{t: t}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.now.Load().ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	s.base = srv.URL
	const entity = "https://approvals.clinic.example"
	s.idp = samltest.Start(t, entity, s.base+"/acs")
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Host = approvaltest.Begin(t, "h1", func(h *approvaltest.Host) {
		v, err := saml.New([]saml.Provider{{
			Name: "staff", EntityID: s.idp.EntityID, Audience: entity, ACS: s.base + "/acs", Metadata: saml.Metadata{Text: s.idp.Metadata()},
			Subject: samltest.UID, Attributes: map[string]string{"groups": samltest.Groups, "email": samltest.Mail}, Skew: 30 * time.Second,
		}}, saml.NewLogins(h.Now), h.Now)
		if err != nil {
			t.Fatal(err)
		}
		h.Recorders = &desk.Recorders{Keys: []ed25519.PublicKey{pub}, People: v, Person: func(string) string { return "email" }}
		h.Claims = []string{"sub", "email"}
	})
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"idp.xml": s.idp.Metadata(), "page.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.more = fmt.Sprintf("saml:\n- {name: staff, entity_id: %q, audience: %q, metadata: %s/idp.xml, subject: %q, attributes: {groups: %q, email: %q}}\nsigning_key: %s/page.key\n",
		s.idp.EntityID, entity, dir, samltest.UID, samltest.Groups, samltest.Mail, dir)
	s.restart()
	return s
}

func (s *samlSite) statement(text string) approvaltest.Statement {
	return approvaltest.Statement{
		Text: text, By: []policy.Approver{{SAML: "staff", Claims: map[string][]string{"groups": {"doctors"}}}},
		Asks: &intercept.Identity{
			Workload: "billing", Issuer: "https://id", Subject: "0b0b", Actors: []string{"bot-7"}, Proof: "oidc",
			Claims: map[string]any{"email": "bob@clinic.example", "email_verified": true},
		},
	}
}

// post posts a response from the provider's site: no cookie goes along. It returns where
// the browser is sent to then.
func (s *samlSite) post(a *samltest.Answer) answer {
	s.t.Helper()
	b := s.browser("", "")
	return b.post("/acs", url.Values{"SAMLResponse": {a.Response}, "RelayState": {a.RelayState}}, "Origin", s.idp.URL, "Sec-Fetch-Site", "cross-site")
}

func (s *samlSite) atIdP(uri, user string) *samltest.Answer {
	s.t.Helper()
	for _, p := range samltest.People {
		if p.Name == user {
			return s.idp.Login(uri, user, p.Password)
		}
	}
	s.t.Fatal("nobody is called " + user)
	return nil
}

// toIdP opens a link of the page that leads to the provider, and returns where.
func (b *browser) toIdP(path string) string {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.base+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(req).to
}

func (s *samlSite) logIn(b *browser, path, user string) answer {
	s.t.Helper()
	back := s.post(s.atIdP(b.toIdP("/login/saml/0?to="+url.QueryEscape(path)), user))
	if back.status != http.StatusSeeOther || !strings.HasPrefix(back.to, "/acs?") {
		s.t.Fatalf("%d %s %s", back.status, back.to, back.body)
	}
	return b.get(back.to)
}

var samlLink = regexp.MustCompile(`href="([^"]+)">Sign at staff`)

func (s *samlSite) begin(b *browser, path, verb string) string {
	s.t.Helper()
	a := b.post(path, form(b.get(path), verb, why))
	m := samlLink.FindStringSubmatch(a.body)
	if a.status != http.StatusOK || m == nil {
		s.t.Fatalf("%d %s", a.status, a.body)
	}
	return html.UnescapeString(m[1])
}

// Somebody logs in by SAML, sees what they may decide, and decides it by logging in
// again; the host takes it, as the weaker proof.
func TestDecideBySAML(t *testing.T) {
	s := newSAMLSite(t)
	st := s.statement("DELETE FROM visits")
	path := "/approvals/h1/" + s.Ask(st)
	alice := s.browser("", "")
	alice.get("/login").want(t, http.StatusOK, "Log in at staff", "Log in at the clinic")
	s.logIn(alice, path, "alice").want(t, http.StatusOK, "DELETE FROM visits", "alice of staff")
	uri := s.begin(alice, path, "approve")
	back := s.post(s.atIdP(uri, "alice"))
	if ran, _, _ := s.Run(st); ran {
		t.Fatal("it runs before the browser has come back")
	}
	alice.get(back.to).want(t, http.StatusOK, "approved")
	alice.get(path).want(t, http.StatusOK, "the weaker proof")
	if ran, _, _ := s.Run(st); !ran {
		t.Error("what was approved does not run")
	}
	if got := s.Proofs(); got != "saml+recorder" {
		t.Error(got)
	}
	alice.get(back.to).want(t, http.StatusForbidden, "begin again")
}

// What is begun in one browser ends in no other, once, by who began it; nothing that
// a provider did not sign for the very decision is carried to a host.
func TestForgedBySAML(t *testing.T) {
	s := newSAMLSite(t)
	st := s.statement("DELETE FROM visits")
	path := "/approvals/h1/" + s.Ask(st)
	other := "/approvals/h1/" + s.Ask(s.statement("DELETE FROM wards"))
	alice, mallory := s.browser("", ""), s.browser("", "")
	s.logIn(alice, path, "alice").want(t, http.StatusOK, "DELETE FROM visits")
	s.logIn(mallory, path, "mallory").want(t, http.StatusNotFound, "none that you may decide")
	uri := s.begin(alice, path, "approve")

	mine := s.atIdP(uri, "alice")
	mallory.get(s.post(mine).to).want(t, http.StatusForbidden, "begin again")
	s.browser("", "").get(s.post(mine).to).want(t, http.StatusForbidden, "begin again")

	// Of another login's relay state, and of nobody's.
	s2 := s.begin(alice, other, "approve")
	swapped := *s.atIdP(s2, "alice")
	swapped.RelayState = mine.RelayState
	alice.get(s.post(&swapped).to).want(t, http.StatusForbidden, "answers another log-in")
	nobody := *mine
	nobody.RelayState = "nobody"
	alice.get(s.post(&nobody).to).want(t, http.StatusForbidden, "begin again")
	// A log-in is no signature, and a signature is of who has decided.
	uri = s.begin(alice, path, "approve")
	alice.get(s.post(s.atIdP(uri, "mallory")).to).want(t, http.StatusForbidden, "somebody else has signed it")
	uri = s.begin(alice, path, "approve")
	signs := s.atIdP(uri, "alice")
	login := *s.atIdP(alice.toIdP("/login/saml/0"), "alice")
	login.RelayState = signs.RelayState
	alice.get(s.post(&login).to).want(t, http.StatusForbidden, "answers another log-in")

	// What no provider signed is not kept.
	f := samltest.Forge(t, signs.Response)
	samltest.Strip(f.Assertion())
	for _, raw := range []string{"", "x", f.Raw(), base64.StdEncoding.EncodeToString([]byte("<a/>"))} {
		s.post(&samltest.Answer{Response: raw, RelayState: signs.RelayState}).want(t, http.StatusForbidden)
	}
	s.post(&samltest.Answer{Response: strings.Repeat("A", 300<<10)}).want(t, http.StatusBadRequest, "longer than")
	alice.get("/acs?response=").want(t, http.StatusForbidden, "begin again")
	// Forms of another site are taken there alone.
	mallory.post(path, form(alice.get(path), "approve", why), "Origin", s.idp.URL, "Sec-Fetch-Site", "cross-site").want(t, http.StatusForbidden, "another site")
	if ran, _, state := s.Run(st); ran || state != "pending" {
		t.Fatal("a forged decision counts")
	}
	// Who logs in by SAML does not sign by an ID token, nor the other way round.
	s.begin(alice, path, "approve")
	alice.get("/callback?state="+url.QueryEscape(signs.RelayState)+"&code=x").want(t, http.StatusForbidden, "begin again")
	uri = s.begin(alice, path, "deny")
	alice.get(s.post(s.atIdP(uri, "alice")).to).want(t, http.StatusOK, "denied")
}
