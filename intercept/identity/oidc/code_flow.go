package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// CodeRequest is what a log-in by code flow with PKCE (RFC 7636) is to be.
type CodeRequest struct {
	Client, Secret string // Secret is "" for a program of people's own
	Scopes         []string
	Redirect       string // where the browser comes back to
	State, Nonce   string
	Again          bool // a log-in of just now, not one that the browser remembers
}

// Code is a log-in that was begun. It is of one use.
type Code struct {
	URI string // where the browser is sent

	// What must be kept of it until the browser comes back, to go on with Resume.
	PKCE, TokenURL, Issuer string

	request CodeRequest
	client  *http.Client
}

// Endpoints are where people log in at an issuer.
type Endpoints struct{ Auth, Token string }

// Discover asks an issuer for its end points.
func Discover(ctx context.Context, is Issuer) (*Endpoints, error) {
	keys, err := newKeySet(is)
	if err != nil {
		return nil, err
	}
	p, err := gooidc.NewProvider(gooidc.ClientContext(ctx, keys.client), is.URL)
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %.200q: see that it runs and can be reached from here", is.URL, err.Error())
	}
	for _, at := range []string{p.Endpoint().AuthURL, p.Endpoint().TokenURL} {
		if u, err := url.Parse(at); err != nil || !safeURL(u) {
			return nil, fmt.Errorf("issuer %s: its end point %.200q must be an https URL (http only on loopback)", is.URL, at)
		}
	}
	return &Endpoints{p.Endpoint().AuthURL, p.Endpoint().TokenURL}, nil
}

// BeginCode begins one at the end points of an issuer.
func BeginCode(is Issuer, at *Endpoints, r CodeRequest) (*Code, error) {
	c, err := ResumeCode(is, r, oauth2.GenerateVerifier(), at.Token)
	if err != nil {
		return nil, err
	}
	o := []oauth2.AuthCodeOption{gooidc.Nonce(r.Nonce), oauth2.S256ChallengeOption(c.PKCE)}
	if r.Again {
		// max_age has the issuer say when it was (auth_time).
		o = append(o, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	}
	config := c.config()
	config.Endpoint.AuthURL = at.Auth
	c.URI = config.AuthCodeURL(r.State, o...)
	return c, nil
}

// ResumeCode goes on with one that BeginCode began for the same request.
func ResumeCode(is Issuer, r CodeRequest, pkce, tokenURL string) (*Code, error) {
	if err := is.check(); err != nil {
		return nil, err
	}
	keys, err := newKeySet(is)
	if err != nil {
		return nil, err
	}
	return &Code{PKCE: pkce, TokenURL: tokenURL, Issuer: is.URL, request: r, client: keys.client}, nil
}

func (c *Code) config() *oauth2.Config {
	style := oauth2.AuthStyleInParams
	if c.request.Secret != "" {
		style = oauth2.AuthStyleInHeader // RFC 6749, section 2.3.1: every issuer must take it
	}
	return &oauth2.Config{
		ClientID: c.request.Client, ClientSecret: c.request.Secret, RedirectURL: c.request.Redirect,
		Scopes:   append([]string{gooidc.ScopeOpenID}, c.request.Scopes...),
		Endpoint: oauth2.Endpoint{TokenURL: c.TokenURL, AuthStyle: style},
	}
}

// IDToken takes what the browser brought back, whose state the caller has held
// against that of the request, and returns the ID token, which is for whoever is shown
// it to verify.
func (c *Code) IDToken(ctx context.Context, back url.Values) (string, error) {
	if e := back.Get("error"); e != "" {
		return "", fmt.Errorf("issuer %s refused the log-in (%.64q)", c.Issuer, e)
	}
	if iss := back.Get("iss"); iss != "" && iss != c.Issuer { // RFC 9207
		return "", fmt.Errorf("it is %.128q that answers, and not issuer %s", iss, c.Issuer)
	}
	t, err := c.config().Exchange(context.WithValue(ctx, oauth2.HTTPClient, c.client), back.Get("code"), oauth2.VerifierOption(c.PKCE))
	if err != nil {
		var r *oauth2.RetrieveError
		if errors.As(err, &r) {
			return "", fmt.Errorf("issuer %s refused the log-in (%.64q): see that client %q may log people in by code, with PKCE and a redirect to %s", c.Issuer, r.ErrorCode, c.request.Client, c.request.Redirect)
		}
		return "", fmt.Errorf("issuer %s does not answer: %.200q", c.Issuer, err.Error())
	}
	raw, _ := t.Extra("id_token").(string)
	if raw == "" {
		return "", fmt.Errorf("issuer %s gave no ID token", c.Issuer)
	}
	return raw, nil
}
