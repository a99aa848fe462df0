package saml

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"sallyport.dev/sallyport/intercept/identity"
)

// Bound is what somebody signed by logging in: their provider says that they answered
// the request of this ID, which stands for what they signed.
type Bound struct {
	*identity.Token // ID is the assertion's

	Request string // the ID of the request that it answers (InResponseTo)
}

// BeginBound asks a provider, by its name, to have somebody log in anew
// (saml-core-2.0-os, section 3.4.1: ForceAuthn), by a request whose ID stands for what
// they sign by that. Nothing is remembered of it: whoever takes the answer (ReadBound)
// knows which ID it must have.
func (v *Verifier) BeginBound(ctx context.Context, name, id string) (*Request, error) {
	s, err := v.named(name)
	if err != nil {
		return nil, err
	}
	if !ncName.MatchString(id) {
		return nil, errors.New("make a request: its ID is none of XML")
	}
	return v.request(ctx, s, id)
}

// ReadBound verifies the answer of a provider, by its name, to a request that was made
// by BeginBound, here or elsewhere: signature, audience, recipient and times. Nothing
// is believed by that: whoever asks holds Request and the time of Issued, which is when
// the person authenticated, against what they must be, and takes each ID once.
func (v *Verifier) ReadBound(ctx context.Context, name, raw string) (*Bound, error) {
	s, err := v.named(name)
	if err != nil {
		return nil, err
	}
	now := v.now()
	_, said, _, err := v.open(ctx, raw, s.provider.EntityID, now)
	if err != nil {
		return nil, err
	}
	t, err := s.provider.holds(said, now)
	if err != nil {
		return nil, err
	}
	t.Sum = sha256.Sum256([]byte(raw))
	return &Bound{t, said.request}, nil
}

func (v *Verifier) named(name string) (*source, error) {
	s := v.find(func(p *Provider) bool { return p.Name == name })
	if s == nil {
		return nil, fmt.Errorf("provider %.64q is not configured here", name)
	}
	return s, nil
}
