package page

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// decide takes a decision that a person has made, and has them sign it: at their
// issuer, which they reach by a link, for a browser follows no form elsewhere.
func (p *Page) decide(w http.ResponseWriter, r *http.Request) {
	s := p.sessions.of(r)
	switch {
	case s == nil:
		p.fail(w, r, http.StatusForbidden, errors.New("nobody has logged in here, or too long ago: log in, and decide again"))
		return
	case r.ParseForm() != nil:
		p.fail(w, r, http.StatusBadRequest, fmt.Errorf("what was sent is no form, or longer than %d KiB", maxForm>>10))
		return
	case !same(r.PostFormValue("csrf"), s.csrf):
		p.fail(w, r, http.StatusForbidden, errors.New("this form is not of this log-in: open the request again"))
		return
	}
	host, verb, why := r.PathValue("host"), r.PostFormValue("verb"), r.PostFormValue("why")
	e, a, status, err := p.entry(r.Context(), s, host, r.PathValue("id"))
	if err != nil {
		p.fail(w, r, status, err)
		return
	}
	q, err := describe(host, e)
	if err != nil {
		p.fail(w, r, http.StatusInternalServerError, err)
		return
	}
	// What is signed is what was shown.
	if !same(r.PostFormValue("digest"), q.Digest) {
		p.fail(w, r, http.StatusConflict, errors.New("the request is not the one that was shown: open it again"))
		return
	}
	q.Verb, q.Why = verb, why
	if !slices.Contains(q.Verbs, verb) {
		q.Wrong = fmt.Sprintf("the request is %s: choose one of what can be done with it now", e.State)
	} else if err := approval.CheckWhy(why); err != nil {
		q.Wrong = err.Error()
	}
	if q.Wrong != "" {
		p.render(w, r, "request.html", view{Title: "Request " + e.ID, Status: http.StatusUnprocessableEntity, Body: q})
		return
	}
	if s.saml == "" && !slices.ContainsFunc(a.Issuers, func(i desk.Issuer) bool { return i.URL == s.issuer.URL && i.Client == s.issuer.Client }) {
		p.fail(w, r, http.StatusConflict, fmt.Errorf("host %s does not believe issuer %s with client %q: have it in approvals.issuers there", host, s.issuer.URL, s.issuer.Client))
		return
	}
	nonce, err := approval.Nonce(&e.Subject, verb, why)
	if err != nil {
		p.fail(w, r, http.StatusInternalServerError, err)
		return
	}
	d := &pending{State: rand.Text(), Host: host, ID: e.ID, Verb: verb, Why: why, Nonce: nonce, Ends: p.now().Add(loginTime)}
	uri, err := p.sign(r.Context(), s, d)
	if err != nil {
		p.fail(w, r, http.StatusBadGateway, err)
		return
	}
	s.keep(d)
	p.render(w, r, "sign.html", view{Title: "Sign it", Body: map[string]any{
		"Path": q.Path, "ID": e.ID, "Host": host, "Verb": verb, "Why": why, "Issuer": s.issuer.Name, "URI": uri,
	}})
}

// sign begins the log-in that signs a decision, and returns where that is.
func (p *Page) sign(ctx context.Context, s *session, d *pending) (uri string, err error) {
	if s.saml != "" {
		return p.signSAML(ctx, s, d)
	}
	c, err := p.beginCode(ctx, s.issuer, p.request(s.issuer, d.State, d.Nonce, true))
	if err != nil {
		return "", err
	}
	d.PKCE, d.TokenURL = c.PKCE, c.TokenURL
	return c.URI, nil
}

var errOther = errors.New("somebody else has signed it than has decided: log out, and decide as who you are")

// signed brings a decision to its host, once it is signed.
func (p *Page) signed(w http.ResponseWriter, r *http.Request, s *session, d *pending) {
	proof, err := p.token(r.Context(), s.issuer, p.request(s.issuer, d.State, d.Nonce, true), d.PKCE, d.TokenURL, r.URL.Query())
	if err != nil {
		p.fail(w, r, http.StatusForbidden, err)
		return
	}
	if proof.Subject != s.proof.Subject {
		p.fail(w, r, http.StatusForbidden, errOther)
		return
	}
	p.carry(w, r, d, &desk.Ask{Do: d.Verb, ID: d.ID, Why: d.Why, Token: proof.Token}, proof.Issuer, proof.Subject)
}

// carry brings a decision with its proof to its host.
func (p *Page) carry(w http.ResponseWriter, r *http.Request, d *pending, q *desk.Ask, issuer, subject string) {
	a, err := p.hosts.Ask(r.Context(), d.Host, q)
	if errors.Is(err, desk.ErrAway) {
		p.fail(w, r, http.StatusBadGateway, fmt.Errorf("%w. It is not known whether the decision has come there: open the request again, and decide again if it still waits", err))
		return
	}
	if err != nil {
		status, err := ofHost(err)
		p.fail(w, r, status, err)
		return
	}
	p.log.Info("a decision was brought", "host", d.Host, "request", d.ID, "verb", d.Verb, "issuer", issuer, "subject", subject, "state", a.Entries[0].State)
	p.render(w, r, "done.html", view{Title: "Decided", Body: map[string]any{
		"Path": "/approvals/" + d.Host + "/" + d.ID, "ID": d.ID, "Host": d.Host, "Verb": d.Verb, "State": a.Entries[0].State,
	}})
}
