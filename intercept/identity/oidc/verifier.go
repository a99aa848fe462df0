package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"

	"sallyport.dev/sallyport/intercept/identity"
)

// Issuer is one whose tokens are believed.
type Issuer struct {
	URL        string        // exactly as in the iss claim
	Audience   string        // that a token must carry
	Algorithms []string      // of signatures; asymmetric ones only
	Skew       time.Duration // accepted clock skew
}

// maxToken is the longest token that is looked at, in bytes.
const maxToken = 64 << 10

var algorithms = []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"}

// Verifier implements identity.Verifier.
type Verifier struct {
	issuers map[string]*issuer
	now     func() time.Time
}

type issuer struct {
	Issuer
	keys *keySet
}

// New returns a Verifier. It does not speak to the issuers yet. now is the
// clock that tokens are held against.
func New(issuers []Issuer, now func() time.Time) (*Verifier, error) {
	v := &Verifier{issuers: map[string]*issuer{}, now: now}
	for _, is := range issuers {
		if is.URL == "" || is.Audience == "" || is.Skew < 0 {
			return nil, fmt.Errorf("issuer %q: needs a URL, an audience, and a skew that is not negative", is.URL)
		}
		if v.issuers[is.URL] != nil {
			return nil, fmt.Errorf("issuer %q: configured twice", is.URL)
		}
		if len(is.Algorithms) == 0 {
			return nil, fmt.Errorf("issuer %q: no algorithms are allowed", is.URL)
		}
		for _, a := range is.Algorithms {
			if !slices.Contains(algorithms, a) {
				return nil, fmt.Errorf("issuer %q: algorithm %q: use an asymmetric one of %s", is.URL, a, strings.Join(algorithms, ", "))
			}
		}
		keys, err := newKeySet(is)
		if err != nil {
			return nil, err
		}
		v.issuers[is.URL] = &issuer{is, keys}
	}
	return v, nil
}

// Verify implements identity.Verifier.
func (v *Verifier) Verify(ctx context.Context, raw, only string) (*identity.Token, error) {
	iss, err := unverifiedIssuer(raw)
	if err != nil {
		return nil, err
	}
	if only != "" && iss != only {
		return nil, fmt.Errorf("its token is not from its issuer %s", only)
	}
	is := v.issuers[iss]
	if is == nil {
		return nil, fmt.Errorf("its token is from %.128q, which is not among identity.issuers", iss)
	}
	keys := &asked{keySet: is.keys}
	verifier := gooidc.NewVerifier(is.URL, keys, &gooidc.Config{
		ClientID: is.Audience, SupportedSigningAlgs: is.Algorithms,
		SkipExpiryCheck: true, // done below, with the configured skew
	})
	verified, err := verifier.Verify(ctx, raw)
	if err != nil {
		return nil, explain(err, keys.err, is)
	}
	var claims map[string]any
	if err := verified.Claims(&claims); err != nil {
		return nil, errors.New("its token's claims are no JSON object")
	}
	return is.token(claims, v.now())
}

// token checks the claims of a token whose signature holds. It reads them
// anew, by their exact names.
func (is *issuer) token(claims map[string]any, now time.Time) (*identity.Token, error) {
	t := &identity.Token{Issuer: is.URL, Claims: claims}
	if claims["iss"] != is.URL {
		return nil, errors.New("its token's iss claim is ambiguous")
	}
	var err error
	if t.Subject, err = identity.Name(claims["sub"]); err != nil {
		return nil, fmt.Errorf("its token's sub claim: %w", err)
	}
	switch aud := claims["aud"].(type) {
	case string:
		t.Audience = []string{aud}
	case []any:
		for _, a := range aud {
			s, ok := a.(string)
			if !ok {
				return nil, errors.New("its token's aud claim holds something that is no string")
			}
			t.Audience = append(t.Audience, s)
		}
	}
	if !slices.Contains(t.Audience, is.Audience) {
		return nil, fmt.Errorf("its token is not for the audience %q: ask the issuer for one that is", is.Audience)
	}
	if t.Actors, err = identity.Actors(claims, is.URL); err != nil {
		return nil, fmt.Errorf("its token: %w", err)
	}
	if err := is.times(t, claims, now); err != nil {
		return nil, err
	}
	return t, nil
}

// times holds exp, nbf and iat (RFC 7519, section 4.1) against now.
func (is *issuer) times(t *identity.Token, claims map[string]any, now time.Time) error {
	exp, ok, err := date(claims, "exp")
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("its token never expires (no exp claim): such a token is refused")
	}
	t.Expires = exp.Add(is.Skew)
	if !now.Before(t.Expires) {
		return fmt.Errorf("its token expired at %s: renew it", exp.UTC().Format(time.RFC3339))
	}
	for _, name := range []string{"nbf", "iat"} {
		at, ok, err := date(claims, name)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if from := at.Add(-is.Skew); from.After(t.NotBefore) {
			t.NotBefore = from
		}
		if now.Before(t.NotBefore) {
			return fmt.Errorf("its token holds only from %s on (%s): check both clocks, or raise the issuer's skew", at.UTC().Format(time.RFC3339), name)
		}
	}
	return nil
}

func date(claims map[string]any, name string) (time.Time, bool, error) {
	v, ok := claims[name]
	if !ok {
		return time.Time{}, false, nil
	}
	f, isNumber := v.(float64)
	// Up to the year 9999: beyond, and for NaN, arithmetic would go wrong.
	if !isNumber || !(f >= 0 && f <= 253402300799) {
		return time.Time{}, false, fmt.Errorf("its token's %s claim is no date", name)
	}
	sec, frac := math.Modf(f)
	return time.Unix(int64(sec), int64(frac*1e9)), true, nil
}

// unverifiedIssuer reads the iss claim, only to choose whose keys to ask.
func unverifiedIssuer(raw string) (string, error) {
	if len(raw) > maxToken {
		return "", fmt.Errorf("its token is longer than %d bytes", maxToken)
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return "", errors.New("its token file holds no signed JWT (three parts with dots between them)")
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", errors.New("its token is no JWT: the payload is not base64url")
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(b, &c); err != nil || c.Issuer == "" {
		return "", errors.New("its token is no JWT of an issuer: the payload has no iss")
	}
	return c.Issuer, nil
}

// asked keeps why the key set refused: go-oidc does not wrap it.
type asked struct {
	*keySet
	err error
}

// VerifySignature implements gooidc.KeySet.
func (a *asked) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	payload, err := a.keySet.VerifySignature(ctx, raw)
	a.err = err
	return payload, err
}

// explain turns what go-oidc says into a reason without the token's content.
func explain(err, keys error, is *issuer) error {
	var ke *keyError
	switch {
	case errors.As(keys, &ke):
		return ke
	case keys != nil:
		return fmt.Errorf("its token's signature by %s does not hold: renew the token", is.URL)
	case strings.Contains(err.Error(), "malformed jwt"):
		return fmt.Errorf("its token is not signed with one of %s: change the issuer's signature, or identity.issuers (algorithms)", strings.Join(is.Algorithms, ", "))
	case strings.Contains(err.Error(), "audience"):
		return fmt.Errorf("its token is not for the audience %q: ask the issuer for one that is", is.Audience)
	case strings.Contains(err.Error(), "issued by"):
		return errors.New("its token's iss claim is ambiguous")
	}
	return errors.New("its token is not understood: ask the issuer for a plain signed JWT")
}

var _ identity.Verifier = (*Verifier)(nil)
