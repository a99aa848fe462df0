package page

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// inside is a path of the page that a log-in leads to, "/approvals" for anything else:
// nobody is sent to another site.
func inside(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.IsAbs() || u.Host != "" || u.RawQuery != "" || u.Fragment != "" || !ownPath.MatchString(u.Path) || to != u.Path {
		return "/approvals"
	}
	return to
}

// needLogin sends a browser to log in, and back to where it wanted to be.
func (p *Page) needLogin(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, p.at("/login?to="+url.QueryEscape(inside(r.URL.Path))), http.StatusSeeOther)
}

func (p *Page) chooseLogin(w http.ResponseWriter, r *http.Request) {
	type choice struct{ Name, Path string }
	var all []choice
	for i := range p.set.Issuers {
		all = append(all, choice{p.set.Issuers[i].Name, p.at(fmt.Sprintf("/login/%d?to=%s", i, url.QueryEscape(inside(r.URL.Query().Get("to")))))})
	}
	for i := range p.set.SAML {
		all = append(all, choice{p.set.SAML[i].Name, p.at(fmt.Sprintf("/login/saml/%d?to=%s", i, url.QueryEscape(inside(r.URL.Query().Get("to")))))})
	}
	p.render(w, r, "login.html", view{Title: "Log in", Body: all})
}

// request is what a log-in at an issuer is to be.
func (p *Page) request(is *Issuer, state, nonce string, again bool) oidc.CodeRequest {
	return oidc.CodeRequest{
		Client: is.Client, Secret: is.secret, Scopes: is.Scopes, Redirect: p.callback(),
		State: state, Nonce: nonce, Again: again,
	}
}

// endpointsTime is how long an issuer is not asked again where its end points are: a
// stranger has the page ask it no oftener.
const endpointsTime = time.Minute

// found are the end points of an issuer, or why there are none.
type found struct {
	mu    sync.Mutex
	at    *oidc.Endpoints
	err   error
	until time.Time
}

// beginCode begins a log-in at an issuer.
func (p *Page) beginCode(ctx context.Context, is *Issuer, q oidc.CodeRequest) (*oidc.Code, error) {
	f := p.found[is.URL]
	f.mu.Lock()
	defer f.mu.Unlock()
	if !p.now().Before(f.until) {
		life := endpointsTime
		// Not of the one who asks: others wait for it.
		if f.at, f.err = oidc.Discover(context.WithoutCancel(ctx), is.of()); f.err != nil {
			life = time.Second
		}
		f.until = p.now().Add(life)
	}
	if f.err != nil {
		return nil, f.err
	}
	return oidc.BeginCode(is.of(), f.at, q)
}

func (p *Page) beginLogin(w http.ResponseWriter, r *http.Request) {
	i, err := strconv.Atoi(r.PathValue("issuer"))
	if err != nil || i < 0 || i >= len(p.set.Issuers) {
		p.fail(w, r, http.StatusNotFound, errors.New("there is no such issuer here"))
		return
	}
	is := &p.set.Issuers[i]
	l := &login{State: rand.Text(), Nonce: rand.Text(), Issuer: i, To: inside(r.URL.Query().Get("to")), Ends: p.now().Add(loginTime)}
	c, err := p.beginCode(r.Context(), is, p.request(is, l.State, l.Nonce, false))
	if err != nil {
		p.fail(w, r, http.StatusBadGateway, err)
		return
	}
	l.PKCE, l.TokenURL = c.PKCE, c.TokenURL
	if err := p.sessions.keepLogin(w, l); err != nil {
		p.fail(w, r, http.StatusInternalServerError, err)
		return
	}
	http.Redirect(w, r, c.URI, http.StatusSeeOther)
}

var errState = errors.New("this is not a log-in that was begun in this browser, or it was too long ago, or it has come to its end already: begin again")

// back is where issuers send browsers back to: of a log-in, or of a decision that is
// signed. What was begun in one browser ends in no other, and once.
func (p *Page) back(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	state := q.Get("state")
	if l := p.sessions.takeLogin(w, r, state); l != nil {
		p.loggedIn(w, r, l)
		return
	}
	s := p.sessions.of(r)
	if s == nil || s.saml != "" {
		p.fail(w, r, http.StatusForbidden, errState)
		return
	}
	d := s.take(state, p.now())
	if d == nil {
		p.fail(w, r, http.StatusForbidden, errState)
		return
	}
	r.SetPathValue("host", d.Host)
	r.SetPathValue("id", d.ID)
	p.signed(w, r, s, d)
}

// token fetches an ID token and verifies it. Its nonce must be that of what was begun.
func (p *Page) token(ctx context.Context, is *Issuer, q oidc.CodeRequest, pkce, tokenURL string, back url.Values) (*approval.Proof, error) {
	c, err := oidc.ResumeCode(is.of(), q, pkce, tokenURL)
	if err != nil {
		return nil, err
	}
	raw, err := c.IDToken(ctx, back)
	if err != nil {
		return nil, err
	}
	proof, err := desk.Prove(ctx, p.verifier, raw, func(string) string { return "" })
	if err != nil {
		return nil, err
	}
	switch nonce, _ := proof.Claims["nonce"].(string); {
	case proof.Issuer != is.URL || !same(nonce, q.Nonce):
		return nil, errors.New("the ID token is not of this log-in: its issuer or nonce is another")
	case proof.Acting || proof.Subject == "":
		return nil, errors.New("the ID token is of somebody who acts for another, or of nobody: log in in person")
	}
	return proof, nil
}

func (p *Page) loggedIn(w http.ResponseWriter, r *http.Request, l *login) {
	if l.SAML != "" || l.Issuer >= len(p.set.Issuers) {
		p.fail(w, r, http.StatusForbidden, errState)
		return
	}
	is := &p.set.Issuers[l.Issuer]
	proof, err := p.token(r.Context(), is, p.request(is, l.State, l.Nonce, false), l.PKCE, l.TokenURL, r.URL.Query())
	if err != nil {
		p.fail(w, r, http.StatusForbidden, err)
		return
	}
	proof.Token = "" // it is of no use any more
	if !p.sessions.begin(w, r, is, proof) {
		p.fail(w, r, http.StatusServiceUnavailable, errors.New("too many people have logged in: try again later"))
		return
	}
	p.log.Info("logged in", "issuer", proof.Issuer, "subject", proof.Subject)
	http.Redirect(w, r, p.at(inside(l.To)), http.StatusSeeOther)
}

func (p *Page) logout(w http.ResponseWriter, r *http.Request) {
	if s := p.sessions.of(r); s != nil && same(r.PostFormValue("csrf"), s.csrf) {
		p.sessions.end(w, r)
	}
	http.Redirect(w, r, p.at("/login"), http.StatusSeeOther)
}
