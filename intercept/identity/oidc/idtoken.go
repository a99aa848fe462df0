package oidc

import (
	"errors"
	"strings"
	"time"
)

// kind refuses what is no ID token, where only these are taken: an access token by its
// header (RFC 9068, section 2.1), or by the claim by which Keycloak tells tokens apart.
func (is *issuer) kind(t *jwt) error {
	if !is.ID {
		return nil
	}
	typ, _ := t.header["typ"].(string)
	claim, has := t.claims["typ"]
	if strings.HasSuffix(strings.ToLower(typ), "at+jwt") || has && claim != "ID" {
		return errors.New("its token is no ID token (typ): an access token proves no log-in")
	}
	return nil
}

// loggedIn is when somebody has logged in, by an ID token: zero where it does not say.
func (is *issuer) loggedIn(claims map[string]any) (time.Time, error) {
	if !is.ID {
		return time.Time{}, nil
	}
	at, _, err := date(claims, "auth_time")
	return at, err
}
