package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"sallyport.dev/sallyport/intercept/identity"
)

// Login is a log-in of a person by device code (RFC 8628): they approve it in a
// browser, anywhere.
type Login struct {
	Client string   // of people's programs at the issuer: it has no secret
	Scopes []string // that are asked for
	ID     bool     // it is their ID token that is wanted, and not their access token
	// Tell is called once, with where the person goes and what they enter there.
	Tell func(uri, code string) error
}

// Token logs a person in at an issuer and returns their token, which holds here. It waits until they have approved, denied, or ctx ends.
func (l *Login) Token(ctx context.Context, is Issuer, v *Verifier) (string, *identity.Token, error) {
	if err := is.check(); err != nil {
		return "", nil, err
	}
	keys, err := newKeySet(is)
	if err != nil {
		return "", nil, err
	}
	p, err := gooidc.NewProvider(gooidc.ClientContext(ctx, keys.client), is.URL)
	if err != nil {
		return "", nil, fmt.Errorf("issuer %s: %.200q: see that it runs and can be reached from here", is.URL, err.Error())
	}
	if p.Endpoint().DeviceAuthURL == "" {
		return "", nil, fmt.Errorf("issuer %s lets nobody log in by device code", is.URL)
	}
	for _, at := range []string{p.Endpoint().DeviceAuthURL, p.Endpoint().TokenURL} {
		if u, err := url.Parse(at); err != nil || !safeURL(u) {
			return "", nil, fmt.Errorf("issuer %s: its end point %.200q must be an https URL (http only on loopback)", is.URL, at)
		}
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, keys.client)
	c := oauth2.Config{ClientID: l.Client, Endpoint: p.Endpoint(), Scopes: l.Scopes}
	if l.ID {
		c.Scopes = append([]string{gooidc.ScopeOpenID}, l.Scopes...)
	}
	c.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	// The audience is asked for in the way of RFC 8707, and of those before it.
	asked, err := c.DeviceAuth(ctx, oauth2.SetAuthURLParam("resource", is.Audience), oauth2.SetAuthURLParam("audience", is.Audience))
	if err != nil {
		return "", nil, l.refused(is.URL, err)
	}
	uri := asked.VerificationURIComplete
	if uri == "" {
		uri = asked.VerificationURI
	}
	if err := l.Tell(uri, asked.UserCode); err != nil {
		return "", nil, err
	}
	t, err := c.DeviceAccessToken(ctx, asked)
	if err != nil {
		return "", nil, l.refused(is.URL, err)
	}
	raw := t.AccessToken
	if l.ID {
		raw, _ = t.Extra("id_token").(string)
	}
	tok, err := v.Verify(ctx, raw, is.URL)
	if err != nil {
		return "", nil, fmt.Errorf("the person has logged in, but would be refused: %w", err)
	}
	return raw, tok, nil
}

// refused tells why an issuer gave no token, by its error code alone.
func (l *Login) refused(issuer string, err error) error {
	var r *oauth2.RetrieveError
	switch {
	case !errors.As(err, &r):
		return fmt.Errorf("issuer %s does not answer: %.200q", issuer, err.Error())
	case r.ErrorCode == "access_denied":
		return errors.New("the log-in was denied")
	case r.ErrorCode == "expired_token":
		return errors.New("nobody approved the log-in in time: try again")
	case r.ErrorCode == "":
		status := http.StatusText(r.Response.StatusCode)
		return fmt.Errorf("issuer %s refused the log-in (%s)", issuer, status)
	}
	return fmt.Errorf("issuer %s refused the log-in (%.64q): see that client %q may log people in by device code", issuer, r.ErrorCode, l.Client)
}
