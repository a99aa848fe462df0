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
	s := p.filledIn(w, r)
	if s == nil {
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
	nonce, err := approval.Nonce(&e.Subject, verb, why)
	if err != nil {
		p.fail(w, r, http.StatusInternalServerError, err)
		return
	}
	p.toSign(w, r, s, a, q.Path, &pending{Host: host, ID: e.ID, Verb: verb, Why: why, Nonce: nonce})
}

// filledIn is the session of a form that was sent, nil where that was refused.
func (p *Page) filledIn(w http.ResponseWriter, r *http.Request) *session {
	s := p.sessions.of(r)
	switch {
	case s == nil:
		p.fail(w, r, http.StatusForbidden, errors.New("nobody has logged in here, or too long ago: log in, and decide again"))
	case r.ParseForm() != nil:
		p.fail(w, r, http.StatusBadRequest, fmt.Errorf("what was sent is no form, or longer than %d KiB", maxForm>>10))
	case !same(r.PostFormValue("csrf"), s.csrf):
		p.fail(w, r, http.StatusForbidden, errors.New("this form is not of this log-in: open the request again"))
	default:
		return s
	}
	return nil
}

// toSign sends who has decided to sign it, where its host, which has answered a, believes
// their issuer.
func (p *Page) toSign(w http.ResponseWriter, r *http.Request, s *session, a *desk.Answer, path string, d *pending) {
	if s.saml == "" && !slices.ContainsFunc(a.Issuers, func(i desk.Issuer) bool { return i.URL == s.issuer.URL && i.Client == s.issuer.Client }) {
		p.fail(w, r, http.StatusConflict, fmt.Errorf("host %s does not believe issuer %s with client %q: have it in approvals.issuers there", d.Host, s.issuer.URL, s.issuer.Client))
		return
	}
	d.State, d.Ends = rand.Text(), p.now().Add(loginTime)
	uri, err := p.sign(r.Context(), s, d)
	if err != nil {
		p.fail(w, r, http.StatusBadGateway, err)
		return
	}
	s.keep(d)
	does, of := doing(d.ID, d.Verb)
	p.render(w, r, "sign.html", view{Title: "Sign it", Body: map[string]any{
		"Path": path, "ID": d.ID, "Of": of, "Host": d.Host, "Verb": does, "Why": d.Why, "Issuer": s.issuer.Name, "URI": uri,
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
	q := &desk.Ask{Do: d.Verb, ID: d.ID, Why: d.Why, Token: proof.Token}
	if glassID.MatchString(d.ID) {
		q.Do = desk.GlassMend(d.Verb)
	}
	p.carry(w, r, d, q, proof.Issuer, proof.Subject)
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
	state := ""
	if !q.OfOne() && len(a.Glasses) == 1 && a.Glasses[0].ID == d.ID {
		state = a.Glasses[0].State
	} else if q.OfOne() {
		state = a.Entries[0].State
	} else {
		p.fail(w, r, http.StatusBadGateway, fmt.Errorf("host %s answers for something else than %s: open it again, and see what it is", d.Host, d.ID))
		return
	}
	p.log.Info("a decision was brought", "host", d.Host, "request", d.ID, "verb", d.Verb, "issuer", issuer, "subject", subject, "state", state)
	does, of := doing(d.ID, d.Verb)
	p.render(w, r, "done.html", view{Title: "Decided", Body: map[string]any{
		"Path": pathOf(d.Host, d.ID), "ID": d.ID, "Of": of, "Host": d.Host, "Verb": does, "State": state,
	}})
}
