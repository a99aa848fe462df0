package oidc

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"sallyport.dev/sallyport/intercept/identity"
)

// token checks the claims of a token whose signature holds, by their exact
// names.
func (is *issuer) token(claims map[string]any, now time.Time) (*identity.Token, error) {
	t := &identity.Token{Issuer: is.URL, Claims: claims, OneTime: is.OneTime}
	var err error
	if t.Subject, err = identity.Name(claims["sub"]); err != nil {
		return nil, fmt.Errorf("its token's sub claim: %w", err)
	}
	if t.Audience, err = audience(claims["aud"]); err != nil {
		return nil, err
	}
	if !slices.Contains(t.Audience, is.Audience) {
		return nil, fmt.Errorf("its token is not for the audience %q: ask the issuer for one that is", is.Audience)
	}
	if err := is.party(t, claims); err != nil {
		return nil, err
	}
	if t.Actors, err = identity.Actors(claims, is.URL); err != nil {
		return nil, fmt.Errorf("its token: %w", err)
	}
	if t.MayAct, err = identity.MayAct(claims, is.URL); err != nil {
		return nil, fmt.Errorf("its token: %w", err)
	}
	if t.Cert, err = identity.Confirmation(claims); err != nil {
		return nil, fmt.Errorf("its token: %w", err)
	}
	if is.OneTime {
		if t.ID, err = identity.Name(claims["jti"]); err != nil {
			return nil, fmt.Errorf("its token's jti claim, which one_time asks for: %w", err)
		}
	}
	if t.AuthTime, err = is.loggedIn(claims); err != nil {
		return nil, err
	}
	if err := is.times(t, claims, now); err != nil {
		return nil, err
	}
	return t, nil
}

// audience reads the aud claim: a string, or a list of them.
func audience(v any) (all []string, err error) {
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
	}
	for _, a := range list {
		s, ok := a.(string)
		if !ok {
			return nil, errors.New("its token's aud claim is missing, or holds something that is no string")
		}
		all = append(all, s)
	}
	return all, nil
}

// party checks to whom the token was issued: azp of an ID token (OpenID
// Connect Core, section 2), client_id of an access token (RFC 9068). Where
// both are there they must agree.
func (is *issuer) party(t *identity.Token, claims map[string]any) error {
	for _, name := range []string{"azp", "client_id"} {
		v, has := claims[name]
		if !has {
			continue
		}
		s, err := identity.Name(v)
		if err != nil {
			return fmt.Errorf("its token's %s claim: %w", name, err)
		}
		if t.Party != "" && t.Party != s {
			return errors.New("its token's azp and client_id claims name two parties")
		}
		t.Party = s
	}
	if is.ID && t.Party == "" && len(t.Audience) == 1 {
		t.Party = t.Audience[0] // whom an ID token is for asked for it, where it does not say
	}
	if is.Parties == nil {
		t.Party = "" // nothing was held against it
		return nil
	}
	if !slices.Contains(is.Parties, t.Party) {
		if is.ID {
			return fmt.Errorf("its token was issued to another party (azp, client_id) than the client %q: log in there", is.Audience)
		}
		return errors.New("its token was issued to a party that is not among identity.issuers (azp)")
	}
	return nil
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
	for _, name := range []string{"nbf", "iat"} {
		at, ok, err := date(claims, name)
		if err != nil {
			return err
		}
		if name == "iat" {
			if ok {
				t.Issued = at
			} else if is.MaxAge > 0 || is.OneTime {
				return errors.New("its token does not say when it was issued (no iat claim), which max_age and one_time ask for")
			}
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
	if is.MaxAge > 0 {
		if end := t.Issued.Add(is.MaxAge + is.Skew); end.Before(t.Expires) {
			t.Expires, exp = end, end.Add(-is.Skew)
		}
	}
	if !now.Before(t.Expires) {
		return fmt.Errorf("%w at %s: renew it", identity.ErrExpired, exp.UTC().Format(time.RFC3339))
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
