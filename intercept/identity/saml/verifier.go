package saml

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/beevik/etree"
	"github.com/crewjam/saml"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
)

// fresh bounds how long a login may be believed without looking at the
// provider's keys again.
const fresh = 5 * time.Minute

// Verifier implements identity.Verifier for responses that were accepted. It is
// safe for concurrent use.
type Verifier struct {
	providers []*source
	logins    *Logins
	now       func() time.Time
}

// New returns a Verifier that keeps its state in l. now is the clock that
// responses are held against.
func New(ps []Provider, l *Logins, now func() time.Time) (*Verifier, error) {
	v := &Verifier{logins: l, now: now}
	for i := range ps {
		p := &ps[i]
		if err := p.check(); err != nil {
			return nil, err
		}
		for _, s := range v.providers {
			if s.provider.Name == p.Name || s.provider.EntityID == p.EntityID {
				return nil, fmt.Errorf("provider %s: its name or its entity id is there twice", p.Name)
			}
		}
		s, err := newSource(p, now)
		if err != nil {
			return nil, err
		}
		v.providers = append(v.providers, s)
	}
	return v, nil
}

// Request is a login that has begun.
type Request struct {
	ID         string
	URL        string // where the person's browser must go
	RelayState string // what comes back with the response
	ACS        string // where the response comes to
	Until      time.Time
}

// Begin asks a provider, by its name, to say who somebody is
// (saml-bindings-2.0-os, section 3.4). The answer is taken once, and within
// ten minutes.
func (v *Verifier) Begin(ctx context.Context, name string) (*Request, error) {
	s := v.find(func(p *Provider) bool { return p.Name == name })
	if s == nil {
		return nil, fmt.Errorf("provider %.64q is not among identity.saml", name)
	}
	r, err := v.request(ctx, s, "")
	if err != nil {
		return nil, err
	}
	r.Until, err = v.logins.ask(s.provider.EntityID, r.ID)
	return r, err
}

// request makes a request to a provider. With an id of its own, the person must
// authenticate anew (ForceAuthn).
func (v *Verifier) request(ctx context.Context, s *source, id string) (*Request, error) {
	d, _, err := s.metadata(ctx)
	if err != nil {
		return nil, err
	}
	sp, err := s.provider.service()
	if err != nil {
		return nil, err
	}
	ask, err := sp.MakeAuthenticationRequest(d.login, saml.HTTPRedirectBinding, saml.HTTPPostBinding)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	ask.IssueInstant = v.now().UTC()
	if id != "" {
		anew := true
		ask.ID, ask.ForceAuthn = id, &anew
	}
	r := &Request{ID: ask.ID, RelayState: rand.Text(), ACS: s.provider.ACS}
	to, err := ask.Redirect(r.RelayState, sp)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	r.URL = to.String()
	return r, nil
}

// service is what the provider must know of us.
func (p *Provider) service() (*saml.ServiceProvider, error) {
	acs, err := url.Parse(p.ACS)
	if err != nil {
		return nil, fmt.Errorf("acs: %w", err)
	}
	return &saml.ServiceProvider{EntityID: p.Audience, AcsURL: *acs, AuthnNameIDFormat: saml.UnspecifiedNameIDFormat}, nil
}

// find returns the provider that is meant.
func (v *Verifier) find(is func(*Provider) bool) *source {
	for _, s := range v.providers {
		if is(s.provider) {
			return s
		}
	}
	return nil
}

// Accept verifies the answer to a request and uses that up: raw is the
// SAMLResponse, base64. From then on Verify knows it. An error's text says why
// and what to do.
func (v *Verifier) Accept(ctx context.Context, raw string) (*identity.Token, error) {
	now := v.now()
	s, said, left, err := v.open(ctx, raw, "", now)
	if err != nil {
		return nil, err
	}
	p := s.provider
	t, err := p.holds(said, now)
	if err != nil {
		return nil, err
	}
	t.Sum = sha256.Sum256([]byte(raw))
	window := said.notAfter.Add(p.Skew)
	if err := v.logins.take(p.EntityID, said, t.Sum, t.Expires, window); err != nil {
		return nil, err
	}
	t.Fresh = now.Add(min(left, fresh))
	return t, nil
}

// holds is what an assertion says, where it may be handed over now.
func (p *Provider) holds(s *said, now time.Time) (*identity.Token, error) {
	if from := s.notBefore.Add(-p.Skew); now.Before(from) || now.Before(s.authn.Add(-p.Skew)) {
		return nil, fmt.Errorf("the response holds only later than now (%s): check both clocks, or raise the provider's skew", now.UTC().Format(time.RFC3339))
	}
	if !now.Before(s.notAfter.Add(p.Skew)) {
		return nil, fmt.Errorf("%w: the response could be handed over until %s: log in again", identity.ErrExpired, s.notAfter.Format(time.RFC3339))
	}
	t := p.token(s)
	if !now.Before(t.Expires) {
		return nil, fmt.Errorf("%w: the session at the provider has ended, or began too long ago: log in there again", identity.ErrExpired)
	}
	return t, nil
}

// Verify implements identity.Verifier: of a response that was accepted, and as
// long as its session lasts and its provider has the key.
func (v *Verifier) Verify(ctx context.Context, raw, only string) (*identity.Token, error) {
	now := v.now()
	s, said, left, err := v.open(ctx, raw, only, now)
	if err != nil {
		return nil, err
	}
	t := s.provider.token(said)
	t.Sum = sha256.Sum256([]byte(raw))
	until, ok := v.logins.known(s.provider.EntityID, t.Sum)
	if ok && until.Before(t.Expires) {
		t.Expires = until
	}
	switch {
	case !now.Before(t.Expires):
		return nil, fmt.Errorf("%w: log in again", identity.ErrExpired)
	case !ok:
		return nil, errors.New("its login is over, or was not made here: log in again (sallyport login)")
	}
	t.Fresh = now.Add(min(left, fresh))
	return t, nil
}

// Spend implements identity.Verifier: a login is used up when it is accepted.
func (v *Verifier) Spend(*identity.Token) error { return nil }

// open verifies a response; left is how long its provider's keys may be used.
func (v *Verifier) open(ctx context.Context, raw, only string, now time.Time) (s *source, said *said, left time.Duration, err error) {
	b, err := decode(raw)
	if err != nil {
		return nil, nil, 0, err
	}
	root, err := parse(b)
	if err != nil {
		return nil, nil, 0, err
	}
	assertion, err := outline(root)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("the response is refused: %w", err)
	}
	issuer := issuerOf(assertion)
	if only != "" && issuer != only {
		return nil, nil, 0, fmt.Errorf("the response is not of its issuer %s", only)
	}
	// Whom it claims to be of only says whose keys to try.
	if s = v.find(func(p *Provider) bool { return p.EntityID == issuer }); s == nil {
		return nil, nil, 0, fmt.Errorf("the response is of %.128q, which is not among identity.saml", issuer)
	}
	d, left, err := s.metadata(ctx)
	if err != nil {
		return nil, nil, 0, err
	}
	said, err = s.provider.open(root, d, now)
	return s, said, left, err
}

func issuerOf(assertion *etree.Element) string {
	name, err := textOf(assertion, nsAssertion, "Issuer")
	if err != nil {
		return ""
	}
	return name
}

// token is what a login says, until it ends by itself.
func (p *Provider) token(s *said) *identity.Token {
	life := p.Life
	if life == 0 {
		life = DefaultLife
	}
	end := s.authn.Add(life)
	if !s.end.IsZero() && s.end.Before(end) {
		end = s.end
	}
	return &identity.Token{
		Issuer: p.EntityID, Subject: s.subject, Audience: s.audience, Claims: s.claims,
		Issued: s.authn, Expires: end.Add(p.Skew), ID: s.id, Proof: intercept.ProofSAML,
	}
}

var _ identity.Verifier = (*Verifier)(nil)
