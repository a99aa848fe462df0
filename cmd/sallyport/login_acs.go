package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"sallyport.dev/sallyport/intercept/privsep"
)

// acs is where a browser of this machine brings the answer to a login
// (saml-bindings-2.0-os, section 3.5). What it brings is verified by the running
// sallyport; here it is told from what others on this machine may post.
type acs struct {
	at    *url.URL
	relay string
	ln    net.Listener
	http  *http.Server
	got   chan string
}

func listenACS(at, relay string) (*acs, error) {
	u, err := url.Parse(at)
	if err != nil || relay == "" {
		return nil, errors.New("the running sallyport's answer is not understood: it is of another version")
	}
	a := &acs{at: u, relay: relay, got: make(chan string, 1)}
	if a.ln, err = net.Listen("tcp", u.Host); err != nil {
		return nil, fmt.Errorf("listen for the browser (acs): %w", err)
	}
	a.http = &http.Server{
		Handler: a, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
	}
	go func() { _ = a.http.Serve(a.ln) }()
	return a, nil
}

// ServeHTTP takes the answer, once.
func (a *acs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Host != a.at.Host || r.URL.Path != a.at.Path {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodPost {
		http.Error(w, "the answer of a login is posted here", http.StatusMethodNotAllowed)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 2*privsep.MaxToken)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "not understood", http.StatusBadRequest)
		return
	}
	// Another page may have a browser post here: the relay state is known to
	// who began the login, and to the provider.
	if subtle.ConstantTimeCompare([]byte(r.PostForm.Get("RelayState")), []byte(a.relay)) != 1 {
		http.Error(w, "this is not the login that was begun", http.StatusForbidden)
		return
	}
	select {
	case a.got <- r.PostForm.Get("SAMLResponse"):
		_, _ = io.WriteString(w, "The answer is taken. The terminal says whether you are logged in.\n")
	default:
		http.Error(w, "an answer was brought already", http.StatusConflict)
	}
}

// wait returns what was brought.
func (a *acs) wait(ctx context.Context) (string, error) {
	select {
	case s := <-a.got:
		return s, nil
	case <-ctx.Done():
		return "", errors.New("nobody has logged in in time: begin again")
	}
}

// close lets the browser's page be written.
func (a *acs) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = a.http.Shutdown(ctx)
	_ = a.http.Close()
}
