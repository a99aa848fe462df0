package desk

import (
	"context"
	"fmt"

	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/policy/approval"
)

// Prove verifies an approver's ID token. person names the claim by which an issuer's
// people are told apart.
func Prove(ctx context.Context, v identity.Verifier, raw string, person func(issuer string) string) (*approval.Proof, error) {
	t, err := v.Verify(ctx, raw, "")
	if err != nil {
		return nil, fmt.Errorf("the approver is not proved: %w", err)
	}
	return &approval.Proof{
		Issuer: t.Issuer, Subject: t.Subject, Claims: t.Claims, Issued: t.Issued, Token: raw,
		Acting: len(t.Actors) > 0 || t.Cert != nil, Person: person(t.Issuer),
	}, nil
}
