package page

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"sallyport.dev/sallyport/intercept/identity/saml"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

const (
	maxResponse = 256 << 10       // bytes of a form that brings a response
	maxBrought  = 256             // responses that wait for their browser
	broughtTime = 2 * time.Minute // that they wait
)

// brought are responses that came by a provider's form. It is of another site, so that
// the browser sends no cookie with it: it is sent on to the page, and then is known.
type brought struct {
	mu  sync.Mutex
	all []*response // oldest first
}

type response struct {
	ticket, relay, raw  string
	provider, assertion string // that the assertion is of, and its ID there
	ends                time.Time
}

// put keeps a response; of one assertion the last, and of too many not the oldest.
func (b *brought) put(r *response) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = slices.DeleteFunc(b.all, func(x *response) bool { return x.provider == r.provider && x.assertion == r.assertion })
	if len(b.all) >= maxBrought {
		b.all = b.all[1:]
	}
	b.all = append(b.all, r)
}

// take takes the response that has a ticket, once.
func (b *brought) take(ticket string, now time.Time) *response {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, r := range b.all {
		if same(r.ticket, ticket) {
			b.all = append(b.all[:i:i], b.all[i+1:]...)
			if now.Before(r.ends) {
				return r
			}
			break
		}
	}
	return nil
}

// beginSAML begins a log-in at a provider.
func (p *Page) beginSAML(w http.ResponseWriter, r *http.Request) {
	i, err := strconv.Atoi(r.PathValue("provider"))
	if err != nil || i < 0 || i >= len(p.set.SAML) {
		p.fail(w, r, http.StatusNotFound, errors.New("there is no such provider here"))
		return
	}
	name := p.set.SAML[i].Name
	id := make([]byte, 32)
	_, _ = rand.Read(id) // it never fails
	l := &login{Nonce: "_" + hex.EncodeToString(id), SAML: name, To: inside(r.URL.Query().Get("to")), Ends: p.now().Add(loginTime)}
	q, err := p.people.BeginBound(r.Context(), name, l.Nonce)
	if err != nil {
		p.fail(w, r, http.StatusBadGateway, err)
		return
	}
	l.State = q.RelayState
	if err := p.sessions.keepLogin(w, l); err != nil {
		p.fail(w, r, http.StatusInternalServerError, err)
		return
	}
	http.Redirect(w, r, q.URL, http.StatusSeeOther)
}

// bring takes a response (saml-bindings-2.0-os, section 3.5) and sends the browser on to
// where its cookies come along. Only what a provider has signed for this page, for now,
// is kept: who only comes by fills no memory.
func (p *Page) bring(w http.ResponseWriter, r *http.Request) {
	if r.ParseForm() != nil {
		p.fail(w, r, http.StatusBadRequest, fmt.Errorf("what was sent is no form, or longer than %d KiB", maxResponse>>10))
		return
	}
	in := &response{ticket: rand.Text(), relay: r.PostFormValue("RelayState"), raw: r.PostFormValue("SAMLResponse"), ends: p.now().Add(broughtTime)}
	var err error
	for i := range p.set.SAML {
		var b *saml.Bound
		if b, err = p.people.ReadBound(r.Context(), p.set.SAML[i].Name, in.raw); err == nil {
			in.provider, in.assertion = p.set.SAML[i].Name, b.ID
			break
		}
	}
	if in.provider == "" || len(in.relay) > 128 {
		p.fail(w, r, http.StatusForbidden, errors.Join(errState, err))
		return
	}
	p.brought.put(in)
	http.Redirect(w, r, p.at("/acs?response="+url.QueryEscape(in.ticket)), http.StatusSeeOther)
}

// backSAML ends a log-in, or a decision that is signed, in the browser in which it
// began, once.
func (p *Page) backSAML(w http.ResponseWriter, r *http.Request) {
	in := p.brought.take(r.URL.Query().Get("response"), p.now())
	if in == nil {
		p.fail(w, r, http.StatusForbidden, errState)
		return
	}
	if l := p.sessions.takeLogin(w, r, in.relay); l != nil {
		p.loggedInSAML(w, r, l, in)
		return
	}
	s := p.sessions.of(r)
	if s == nil || s.saml == "" {
		p.fail(w, r, http.StatusForbidden, errState)
		return
	}
	d := s.take(in.relay, p.now())
	if d == nil {
		p.fail(w, r, http.StatusForbidden, errState)
		return
	}
	r.SetPathValue("host", d.Host)
	r.SetPathValue("id", d.ID)
	p.signedSAML(w, r, s, d, in)
}

// read verifies a response to the request that was made by an ID, to a provider.
func (p *Page) read(ctx context.Context, in *response, provider, id string) (*saml.Bound, error) {
	b, err := p.people.ReadBound(ctx, provider, in.raw)
	if err != nil {
		return nil, err
	}
	if in.provider != provider || !same(b.Request, id) {
		return nil, errors.New("the response answers another log-in (InResponseTo): begin again")
	}
	return b, nil
}

func (p *Page) loggedInSAML(w http.ResponseWriter, r *http.Request, l *login, in *response) {
	if l.SAML == "" {
		p.fail(w, r, http.StatusForbidden, errState)
		return
	}
	b, err := p.read(r.Context(), in, l.SAML, l.Nonce)
	if err != nil {
		p.fail(w, r, http.StatusForbidden, err)
		return
	}
	proof := &approval.Proof{Issuer: b.Issuer, Subject: b.Subject, Claims: b.Claims, SAML: l.SAML}
	if !p.sessions.begin(w, r, p.asIssuer(l.SAML), proof) {
		p.fail(w, r, http.StatusServiceUnavailable, errors.New("too many people have logged in: try again later"))
		return
	}
	p.log.Info("logged in", "saml", l.SAML, "issuer", proof.Issuer, "subject", proof.Subject)
	http.Redirect(w, r, p.at(inside(l.To)), http.StatusSeeOther)
}

// asIssuer is a provider where an issuer is shown.
func (p *Page) asIssuer(name string) *Issuer {
	for i := range p.set.SAML {
		if p.set.SAML[i].Name == name {
			return &p.set.SAML[i].as
		}
	}
	return &Issuer{Name: name}
}

// signSAML begins the log-in that signs a decision, and returns where that is.
func (p *Page) signSAML(ctx context.Context, s *session, d *pending) (uri string, err error) {
	d.Salt = desk.NewSalt()
	q, err := p.people.BeginBound(ctx, s.saml, approval.RequestID(d.Nonce, d.Salt))
	if err != nil {
		return "", err
	}
	d.State = q.RelayState
	return q.URL, nil
}

// signedSAML signs a decision beside its approver, and brings it to its host.
func (p *Page) signedSAML(w http.ResponseWriter, r *http.Request, s *session, d *pending, in *response) {
	b, err := p.read(r.Context(), in, s.saml, approval.RequestID(d.Nonce, d.Salt))
	if err != nil {
		p.fail(w, r, http.StatusForbidden, err)
		return
	}
	if b.Subject != s.proof.Subject {
		p.fail(w, r, http.StatusForbidden, errOther)
		return
	}
	q := &desk.Ask{Do: d.Verb, ID: d.ID, Why: d.Why, Recorded: &desk.Recorded{Provider: s.saml, Salt: d.Salt, Response: in.raw}}
	q.Sign(p.set.key)
	p.carry(w, r, d, q, b.Issuer, b.Subject)
}
