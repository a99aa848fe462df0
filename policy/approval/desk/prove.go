package desk

import (
	"context"
	"fmt"
	"time"

	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/policy/approval"
)

// At is the issuer as ID tokens of one of its clients are verified.
func (is *Issuer) At(client string) oidc.Issuer {
	return oidc.Issuer{
		URL: is.URL, Audience: client, Parties: []string{client}, ID: true,
		Algorithms: is.Algorithms, Skew: is.Skew, MaxAge: 10 * time.Minute,
	}
}

// LogIns verify the tokens that come with questions. The zero value verifies none.
type LogIns struct {
	decide, look identity.Verifier
	person       func(issuer string) string
}

// NewLogIns verifies tokens of issuers. person names the claim by which an issuer's
// people are told apart.
func NewLogIns(all []Issuer, person func(issuer string) string, now func() time.Time) (*LogIns, error) {
	var decide, look []oidc.Issuer
	for i := range all {
		is := &all[i]
		decide = append(decide, is.At(is.Client))
		if is.Device != "" {
			look = append(look, is.At(is.Device))
		}
	}
	l := &LogIns{person: person}
	var err error
	if l.decide, err = oidc.New(decide, now); err != nil {
		return nil, err
	}
	l.look, err = oidc.New(look, now)
	return l, err
}

// Prove verifies the token of a question. One of a client for log-ins by device code
// proves who looks, and no decision: who approves such a log-in does not see whose it
// is, and may have been sent there.
func (l *LogIns) Prove(ctx context.Context, q *Ask) (*approval.Proof, error) {
	p, err := Prove(ctx, l.decide, q.Token, l.person)
	if err == nil || q.Do != List && q.Do != Show {
		return p, err
	}
	p, byDevice := Prove(ctx, l.look, q.Token, l.person)
	if byDevice != nil {
		return nil, fmt.Errorf("%w (as a log-in by device code: %w)", err, byDevice)
	}
	return p, nil
}

// Prove verifies an approver's ID token. person names the claim by which an issuer's
// people are told apart.
func Prove(ctx context.Context, v identity.Verifier, raw string, person func(issuer string) string) (*approval.Proof, error) {
	t, err := v.Verify(ctx, raw, "")
	if err != nil {
		return nil, fmt.Errorf("the approver is not proved: %w", err)
	}
	return &approval.Proof{
		Issuer: t.Issuer, Subject: t.Subject, Claims: t.Claims, Issued: t.Issued, LoggedIn: t.AuthTime, Token: raw,
		Acting: len(t.Actors) > 0 || t.Cert != nil, Person: person(t.Issuer),
	}, nil
}
