package oidc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/intercept/identity"
)

// fresh bounds how long a verified token may be believed without looking at
// its issuer's keys again, so that a withdrawn key ends soon.
const fresh = 5 * time.Minute

// Verifier implements identity.Verifier.
type Verifier struct {
	issuers map[string]*issuer
	now     func() time.Time
	spent   *spent
}

type issuer struct {
	Issuer
	keys      *keySet
	exchanger *exchanger // nil: tokens are taken as they are
}

// New returns a Verifier. It does not speak to the issuers yet. now is the
// clock that tokens are held against.
func New(issuers []Issuer, now func() time.Time) (*Verifier, error) {
	v := &Verifier{issuers: map[string]*issuer{}, now: now, spent: newSpent(now)}
	for _, is := range issuers {
		if err := is.check(); err != nil {
			return nil, err
		}
		if v.issuers[is.URL] != nil {
			return nil, fmt.Errorf("issuer %q: configured twice", is.URL)
		}
		keys, err := newKeySet(is)
		if err != nil {
			return nil, err
		}
		v.issuers[is.URL] = &issuer{Issuer: is, keys: keys}
		if x := is.Exchange; x != nil {
			v.issuers[is.URL].exchanger = &exchanger{Exchange: *x, keys: keys, now: now, kept: map[[sha256.Size]byte]exchanged{}}
		}
	}
	return v, nil
}

// Verify implements identity.Verifier. The issuer is the one configured whose
// URL is exactly the iss claim; nothing else in a token leads anywhere.
func (v *Verifier) Verify(ctx context.Context, raw, only string) (*identity.Token, error) {
	t, err := parse(raw)
	if err != nil {
		return nil, err
	}
	iss, _ := t.claims["iss"].(string)
	if iss == "" {
		return nil, errors.New("its token is no JWT of an issuer: the payload has no iss")
	}
	if only != "" && iss != only {
		return nil, fmt.Errorf("its token is not from its issuer %s", only)
	}
	is := v.issuers[iss]
	if is == nil {
		return nil, fmt.Errorf("its token is from %.128q, which is not among identity.issuers", iss)
	}
	token, left, err := is.verifyParsed(ctx, t, v.now)
	if err != nil {
		return nil, err
	}
	token.Fresh = v.now().Add(min(left, fresh))
	if err := v.exchange(ctx, is, raw, token); err != nil {
		return nil, err
	}
	return token, nil
}

// verify verifies a token of this issuer. left is how long the keys that it was
// checked with may still be used.
func (is *issuer) verify(ctx context.Context, raw string, now func() time.Time) (*identity.Token, time.Duration, error) {
	t, err := parse(raw)
	if err != nil {
		return nil, 0, err
	}
	if t.claims["iss"] != is.URL {
		return nil, 0, errors.New("it is of another issuer")
	}
	return is.verifyParsed(ctx, t, now)
}

func (is *issuer) verifyParsed(ctx context.Context, t *jwt, now func() time.Time) (*identity.Token, time.Duration, error) {
	// Before anybody is asked for keys: these hold for nobody.
	if alg, ok := t.header["alg"].(string); !ok || !slices.Contains(is.Algorithms, alg) {
		return nil, 0, fmt.Errorf("its token is not signed with one of %s: change the issuer's signature, or identity.issuers (algorithms)", strings.Join(is.Algorithms, ", "))
	}
	if err := is.kind(t); err != nil {
		return nil, 0, err
	}
	left, err := is.keys.verify(ctx, t)
	if err != nil {
		return nil, 0, err
	}
	token, err := is.token(t.claims, now())
	return token, left, err
}

// Spend implements identity.Verifier.
func (v *Verifier) Spend(t *identity.Token) error {
	if !t.OneTime {
		return nil
	}
	is := v.issuers[t.Issuer]
	if is == nil {
		return fmt.Errorf("its token is from %.128q, which is not among identity.issuers", t.Issuer)
	}
	return v.spent.spend(t, is.Skew)
}

var _ identity.Verifier = (*Verifier)(nil)
