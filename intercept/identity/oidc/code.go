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
	at, err := Discover(ctx, is)
	if err != nil {
		return "", err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen for the browser: %w", err)
	}
	back := &redirected{host: ln.Addr().String(), state: rand.Text(), got: make(chan url.Values, 1)}
	srv := &http.Server{Handler: back, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	go func() { _ = srv.Serve(ln) }()
	defer func() { // the browser's page is written first
		end, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = srv.Shutdown(end)
		_ = srv.Close()
	}()
	c, err := BeginCode(is, at, CodeRequest{
		Client: l.Client, Scopes: l.Scopes, Nonce: l.Nonce, State: back.state, Again: true,
		Redirect: "http://" + back.host + redirectPath,
	})
	if err != nil {
		return "", err
	}
	if err := l.Tell(c.URI); err != nil {
		return "", err
	}
	var q url.Values
	select {
	case q = <-back.got:
	case <-ctx.Done():
		return "", errors.New("nobody has logged in in time: begin again")
	}
	return c.IDToken(ctx, q)
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
