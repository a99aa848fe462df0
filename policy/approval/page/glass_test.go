package page_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/approvaltest"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// newWardSite is a site whose host has emergency access, and one that dr-kim has opened.
func newWardSite(t *testing.T) (*site, *approval.Opening) {
	t.Helper()
	s := newSiteOf(t, func(h *approvaltest.Host) {
		by := func(group string) []policy.Approver {
			return []policy.Approver{{Issuer: h.People.Issuer, Claims: map[string][]string{"groups": {group}}}}
		}
		h.Glass = []policy.BreakGlass{{
			Name: "ward emergency", Digest: sha256.Sum256([]byte("ward")), By: by("on-call"), Review: by("privacy"), Rules: []string{"deletes"},
			Resources: []string{"clinic"}, Workloads: []string{"billing"}, Longest: time.Hour, Within: 72 * time.Hour,
		}}
	})
	c := s.Asker(jetstream.RoleApprovals)
	a, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: desk.GlassBegin, Name: "ward emergency"})
	if err != nil {
		t.Fatal(err)
	}
	o := a.Opening
	o.Resource, o.Workload, o.For, o.ForIssuer, o.Lasts = "clinic", "billing", "alice", "https://id", 10*time.Minute
	const emergency = "patient <b>unconscious</b>, bed 4"
	nonce, err := approval.GlassNonce(o, approval.OpenGlass, emergency)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: desk.GlassOpen, Glass: o, Why: emergency, Token: s.Token(nonce, "dr-kim", "on-call")}); err != nil {
		t.Fatal(err)
	}
	return s, o
}

// state is how it stands at its host.
func (s *site) state(id string) string {
	s.t.Helper()
	a, err := s.Asker(jetstream.RoleApprovals).Ask(s.t.Context(), "h1", &desk.Ask{Do: desk.GlassList, All: true})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, g := range a.Glasses {
		if g.ID == id {
			return g.State
		}
	}
	return ""
}

// Who may open or review emergency access sees what is open, who opened it and why, and
// what awaits a review; others see nothing. It is closed and reviewed by the signature
// that the command asks for too, and by nobody whom that would refuse.
func TestEmergencyAccess(t *testing.T) {
	s, o := newWardSite(t)
	at := "/break-glass/h1/" + o.ID
	kim, ann, clerk := s.browser("dr-kim", "on-call privacy"), s.browser("ann", "privacy"), s.browser("clerk", "leads")
	for _, b := range []*browser{kim, ann} {
		a := b.logIn("/break-glass")
		a.want(t, http.StatusOK, o.ID, "open", "ward emergency", "dr-kim", "patient <b>unconscious</b>, bed 4", "billing", "alice")
		if strings.Contains(a.body, "<b>unconscious") {
			t.Error("what somebody wrote is obeyed")
		}
		b.get(at).want(t, http.StatusOK, "to be closed now", "https://id")
	}
	if a := clerk.logIn("/break-glass"); strings.Contains(a.body, o.ID) || !strings.Contains(a.body, "nothing waits for a review of yours") {
		t.Errorf("%s", a.body)
	}
	clerk.get(at).want(t, http.StatusNotFound, "no such emergency access")
	clerk.post(at, form(clerk.get("/approvals"), "close", why)).want(t, http.StatusNotFound, "no such emergency access")
	for _, wrong := range []string{"/break-glass/h1/bg-aaaaaaaaaaaaaaaaaaaa", "/break-glass/h2/" + o.ID, "/break-glass/h1/ap-aaaaaaaaaaaaaaaaaaaa"} {
		ann.get(wrong).want(t, http.StatusNotFound)
	}

	// Nothing is done by a form alone, one of another site, or one of something else.
	ann.post(at, url.Values{"verb": {"close"}, "why": {why}}).want(t, http.StatusForbidden)
	ann.post(at, form(ann.get(at), "close", why), "Sec-Fetch-Site", "cross-site").want(t, http.StatusForbidden)
	changed := form(ann.get(at), "close", why)
	changed.Set("digest", hex.EncodeToString(make([]byte, 32)))
	ann.post(at, changed).want(t, http.StatusConflict)
	ann.post(at, form(ann.get(at), "close", "short")).want(t, http.StatusUnprocessableEntity, "say why")
	ann.post(at, form(ann.get(at), "justified", why)).want(t, http.StatusUnprocessableEntity, "it is open")
	ann.begin(at, "close") // and is not signed
	if got := s.state(o.ID); got != approval.GlassOpen {
		t.Fatalf("it is %s by a form", got)
	}
	// What is begun by one is signed by no other.
	other := *ann
	other.who, other.groups = "eve", "privacy"
	ann.get(other.atIssuer(ann.begin(at, "close"))).want(t, http.StatusForbidden, "somebody else has signed")

	ann.decide(at, "close").want(t, http.StatusOK, o.ID, "is closed")
	kim.decide(at, "justified").want(t, http.StatusConflict, "who opened it can't review it")
	if got := s.state(o.ID); got != approval.GlassClosed {
		t.Fatalf("it is %s by who opened it", got)
	}
	ann.get("/break-glass").want(t, http.StatusOK, o.ID, "closed")
	back := ann.atIssuer(ann.begin(at, "unjustified"))
	ann.get(back).want(t, http.StatusOK, "find unjustified", "is reviewed")
	ann.get(back).want(t, http.StatusForbidden) // once
	if got := s.state(o.ID); got != approval.GlassReviewed {
		t.Errorf("it is %s", got)
	}
	if a := ann.get("/break-glass"); strings.Contains(a.body, o.ID) {
		t.Errorf("%s", a.body)
	}
	ann.get("/break-glass?all=1").want(t, http.StatusOK, o.ID, "reviewed")
	if got := s.Steps(); !strings.HasSuffix(got, "closed reviewed") {
		t.Error(got)
	}
}
