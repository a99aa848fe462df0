package oidc

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// CodeLogin is a log-in of a person by code flow with PKCE (RFC 7636) on a loopback
// redirect (RFC 8252, section 7.3), whose ID token carries a nonce.
type CodeLogin struct {
	Client string   // of people's programs at the issuer: it has no secret
	Scopes []string // that are asked for, besides openid
	Nonce  string
	// Tell is called once, with where the person goes in a browser of this machine.
	Tell func(uri string) error
}

const redirectPath = "/callback"

// IDToken logs a person in at an issuer and returns their ID token, which is for
// whoever is shown it to verify. It waits until they have logged in, or ctx ends.
func (l *CodeLogin) IDToken(ctx context.Context, is Issuer) (string, error) {
	if err := is.check(); err != nil {
		return "", err
	}
	keys, err := newKeySet(is)
	if err != nil {
		return "", err
	}
	p, err := gooidc.NewProvider(gooidc.ClientContext(ctx, keys.client), is.URL)
	if err != nil {
		return "", fmt.Errorf("issuer %s: %.200q: see that it runs and can be reached from here", is.URL, err.Error())
	}
	for _, at := range []string{p.Endpoint().AuthURL, p.Endpoint().TokenURL} {
		if u, err := url.Parse(at); err != nil || !safeURL(u) {
			return "", fmt.Errorf("issuer %s: its end point %.200q must be an https URL (http only on loopback)", is.URL, at)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen for the browser: %w", err)
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, keys.client)
	c := oauth2.Config{
		ClientID: l.Client, Endpoint: p.Endpoint(), Scopes: append([]string{gooidc.ScopeOpenID}, l.Scopes...),
		RedirectURL: "http://" + ln.Addr().String() + redirectPath,
	}
	c.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	back := &redirected{host: ln.Addr().String(), state: rand.Text(), got: make(chan url.Values, 1)}
	srv := &http.Server{Handler: back, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	go func() { _ = srv.Serve(ln) }()
	defer func() { // the browser's page is written first
		end, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = srv.Shutdown(end)
		_ = srv.Close()
	}()
	pkce := oauth2.GenerateVerifier()
	// A login of just now, not one that the browser remembers.
	if err := l.Tell(c.AuthCodeURL(back.state, gooidc.Nonce(l.Nonce), oauth2.S256ChallengeOption(pkce), oauth2.SetAuthURLParam("prompt", "login"))); err != nil {
		return "", err
	}
	var q url.Values
	select {
	case q = <-back.got:
	case <-ctx.Done():
		return "", errors.New("nobody has logged in in time: begin again")
	}
	if e := q.Get("error"); e != "" {
		return "", fmt.Errorf("issuer %s refused the log-in (%.64q)", is.URL, e)
	}
	t, err := c.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(pkce))
	if err != nil {
		var r *oauth2.RetrieveError
		if errors.As(err, &r) {
			return "", fmt.Errorf("issuer %s refused the log-in (%.64q): see that client %q may log people in by code, with PKCE and a redirect to loopback", is.URL, r.ErrorCode, l.Client)
		}
		return "", fmt.Errorf("issuer %s does not answer: %.200q", is.URL, err.Error())
	}
	raw, _ := t.Extra("id_token").(string)
	if raw == "" {
		return "", fmt.Errorf("issuer %s gave no ID token", is.URL)
	}
	return raw, nil
}

// redirected takes what the browser brings back, once.
type redirected struct {
	host, state string
	got         chan url.Values
}

// ServeHTTP implements http.Handler.
func (r *redirected) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	q := req.URL.Query()
	switch {
	case req.Host != r.host || req.URL.Path != redirectPath:
		http.Error(w, "not found", http.StatusNotFound)
	case req.Method != http.MethodGet:
		http.Error(w, "a browser is sent here", http.StatusMethodNotAllowed)
	case subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(r.state)) != 1:
		http.Error(w, "this is not the login that was begun", http.StatusForbidden)
	default:
		select {
		case r.got <- q:
			_, _ = io.WriteString(w, "You have logged in. The terminal says what came of your decision.\n")
		default:
			http.Error(w, "an answer was brought already", http.StatusConflict)
		}
	}
}
