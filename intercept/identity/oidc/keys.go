package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	jose "github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"
)

const (
	fetchTimeout  = 5 * time.Second
	fetchInterval = time.Second     // at least, between two fetches
	keysFresh     = 5 * time.Minute // used without asking
	keysUsable    = time.Hour       // used while the issuer does not answer
	maxKeys       = 128
)

// keyError says why no key could be found.
type keyError struct{ msg string }

func (e *keyError) Error() string { return e.msg }

// keySet holds the keys that an issuer publishes. go-oidc's own set keeps a
// withdrawn key as long as no unknown one is asked for, and asks the issuer
// for each unknown one.
type keySet struct {
	issuer     string
	algorithms []jose.SignatureAlgorithm
	client     *http.Client
	fetches    singleflight.Group

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time // when keys came, by the monotonic clock
	tried   time.Time
}

func newKeySet(is Issuer) (*keySet, error) {
	u, err := url.Parse(is.URL)
	if err != nil || !safeURL(u) {
		return nil, fmt.Errorf("issuer %q: must be an https URL (http only on loopback)", is.URL)
	}
	k := &keySet{issuer: is.URL}
	for _, a := range is.Algorithms {
		k.algorithms = append(k.algorithms, jose.SignatureAlgorithm(a))
	}
	k.client = &http.Client{
		Timeout: fetchTimeout,
		// An issuer that sends elsewhere is configured wrongly.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &limited{http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
			DialContext: (&net.Dialer{Timeout: fetchTimeout}).DialContext,
		}},
	}
	return k, nil
}

func safeURL(u *url.URL) bool {
	ip, err := netip.ParseAddr(u.Hostname())
	loopback := u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
	return u.Host != "" && u.User == nil && (u.Scheme == "https" || u.Scheme == "http" && loopback)
}

// VerifySignature implements gooidc.KeySet.
func (k *keySet) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(raw, k.algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, errors.New("not signed by one allowed algorithm")
	}
	head := jws.Signatures[0].Header
	keys, err := k.find(ctx, head.KeyID, head.Algorithm)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if payload, err := jws.Verify(key.Key); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("no key verifies it")
}

// find returns the published keys that a token may be signed with.
func (k *keySet) find(ctx context.Context, id, alg string) ([]jose.JSONWebKey, error) {
	keys, age := k.choose(id, alg)
	if len(keys) > 0 && age < keysFresh {
		return keys, nil
	}
	fetch := k.fetches.DoChan("", func() (any, error) { return nil, k.fetch() })
	var enough <-chan time.Time // waited, for one whose key is known
	if len(keys) > 0 && age < keysUsable {
		enough = time.After(2 * fetchInterval)
	}
	select {
	case r := <-fetch:
		if r.Err != nil && enough == nil {
			return nil, &keyError{fmt.Sprintf("the keys of issuer %s cannot be had (%v): see that it runs and can be reached from here", k.issuer, r.Err)}
		}
	case <-enough:
	case <-ctx.Done():
		return nil, &keyError{fmt.Sprintf("the keys of issuer %s did not come in time: see that it runs and can be reached from here", k.issuer)}
	}
	if keys, _ = k.choose(id, alg); len(keys) == 0 {
		return nil, &keyError{fmt.Sprintf("its token is signed with a key that issuer %s does not publish: renew the token", k.issuer)}
	}
	return keys, nil
}

func (k *keySet) choose(id, alg string) (out []jose.JSONWebKey, age time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.keys {
		if (id == "" || key.KeyID == id) && (key.Algorithm == "" || key.Algorithm == alg) {
			out = append(out, key)
		}
	}
	return out, time.Since(k.fetched)
}

// fetch replaces the keys by those that the issuer publishes now. It waits
// where the last try was just before, so that tokens with made-up key ids
// cannot make it hammer the issuer.
func (k *keySet) fetch() error {
	k.mu.Lock()
	wait := fetchInterval - time.Since(k.tried)
	k.mu.Unlock()
	time.Sleep(wait)
	ctx, cancel := context.WithTimeout(context.Background(), 2*fetchTimeout)
	defer cancel()
	keys, err := k.download(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tried = time.Now()
	if err == nil {
		k.keys, k.fetched = keys, time.Now()
	}
	return err
}

// download discovers the issuer (OpenID Connect Discovery 1.0, section 4) and
// reads its key set (RFC 7517).
func (k *keySet) download(ctx context.Context) ([]jose.JSONWebKey, error) {
	p, err := gooidc.NewProvider(gooidc.ClientContext(ctx, k.client), k.issuer)
	if err != nil {
		return nil, fmt.Errorf("discovery: %.200q", err.Error())
	}
	var meta struct {
		Keys string `json:"jwks_uri"`
	}
	if err := p.Claims(&meta); err != nil {
		return nil, errors.New("discovery: the answer names no jwks_uri")
	}
	u, err := url.Parse(meta.Keys)
	if err != nil || !safeURL(u) {
		return nil, fmt.Errorf("discovery: jwks_uri %.200q must be an https URL (http only on loopback)", meta.Keys)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, meta.Keys, nil)
	if err != nil {
		return nil, err
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("keys: %.200q", err.Error())
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("keys: %s answered %.40q", meta.Keys, resp.Status)
	}
	var set struct{ Keys []json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		return nil, fmt.Errorf("keys: %s does not answer with a key set", meta.Keys)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		// Keys of kinds that are not known, or for other uses, are not for us
		// (RFC 7517, section 5).
		if key.UnmarshalJSON(raw) == nil && key.Valid() && key.IsPublic() && (key.Use == "" || key.Use == "sig") {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 || len(keys) > maxKeys {
		return nil, fmt.Errorf("keys: %s publishes %d usable ones: must be 1 to %d", meta.Keys, len(keys), maxKeys)
	}
	return keys, nil
}

// limited bounds the size of answers.
type limited struct{ http.Transport }

const maxAnswer = 1 << 20

// RoundTrip implements http.RoundTripper.
func (l *limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.Transport.RoundTrip(r)
	if err == nil {
		resp.Body = &body{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

type body struct {
	io.Reader
	io.Closer
}
