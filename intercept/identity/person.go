package identity

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"sallyport.dev/sallyport/intercept"
)

// actsFor adds the person that root had the process act for, by a token of
// their own, and completes the identity's proof. Where the workload's token
// names a principal too, both must name the same.
func (b *Binder) actsFor(ctx context.Context, id *intercept.Identity, raw []byte) error {
	if raw = bytes.TrimSpace(raw); len(raw) > 0 {
		t, err := b.persons(raw).verify(ctx, raw, "")
		if err == nil {
			err = person(id, t)
		}
		if err != nil {
			return fmt.Errorf("the person that it acts for: %w", err)
		}
	}
	id.Proof = id.Weakest()
	return nil
}

// BelieveLogins has persons be proved by v who have no JWT, but something in
// base64: a login by SAML. It is asked for persons alone. Call it before the
// Binder is used.
func (b *Binder) BelieveLogins(v Verifier) {
	b.logins = &cache{verifier: v, now: b.now, kept: map[cacheKey]*Token{}}
}

// persons is who verifies a person's text: a JWT has dots, base64 has none.
func (b *Binder) persons(raw []byte) *cache {
	if b.logins == nil || bytes.IndexByte(raw, '.') >= 0 {
		return &b.cache
	}
	return b.logins
}

// person holds a verified token of a person's against the identity that acts
// for them.
func person(id *intercept.Identity, t *Token) error {
	proved := intercept.Proved{By: cmp.Or(t.Proof, intercept.ProofLogin)}
	switch {
	case len(t.Actors) > 0:
		return errors.New("its token is of somebody who acts for them: log in (sallyport login)")
	case t.Cert != nil || trustDomain(t.Subject) != "":
		return errors.New("its token is a workload's, and no person's")
	case t.OneTime:
		return errors.New("its token is for one use, and this one is for many: log in at another issuer")
	case id.Principal() != "" && (id.Principal() != t.Subject || id.PrincipalIssuer() != t.Issuer):
		return fmt.Errorf("its token is of %.128q, and the workload's own acts for %.128q", t.Subject, id.Principal())
	case t.MayAct != nil && *t.MayAct != Party{id.Issuer, id.Actor()}:
		return fmt.Errorf("its token lets %.128q act for them (may_act), and not %.128q", t.MayAct.Subject, id.Actor())
	}
	proved.Bound = bindings(t)
	if id.Principal() == "" { // else the workload's token proves it better
		id.Proofs.Principal = proved
	}
	id.Person = &intercept.Person{Issuer: t.Issuer, Subject: t.Subject, Claims: t.Claims}
	if t.Expires.Before(id.Expires) {
		id.Expires = t.Expires
	}
	if t.NotBefore.After(id.NotBefore) {
		id.NotBefore = t.NotBefore
	}
	return nil
}

// bindings is what ties a person's token to the proved process that acts for
// them.
func bindings(t *Token) (bound []string) {
	if len(t.Audience) == 1 && !t.Shared {
		bound = append(bound, intercept.BoundAudience)
	}
	if t.Party != "" {
		bound = append(bound, intercept.BoundParty)
	}
	bound = append(bound, intercept.BoundPidfd)
	if t.MayAct != nil {
		bound = append(bound, intercept.BoundMayAct)
	}
	return bound
}
