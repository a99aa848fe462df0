package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	jose "github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"

	"sallyport.dev/sallyport/internal/loopback"
)

const (
	fetchTimeout  = 5 * time.Second
	fetchInterval = time.Second      // at least, between two fetches
	retryInterval = 10 * time.Second // after a fetch that failed, for those whose key is known
	keysFresh     = 5 * time.Minute  // used without asking
	maxKeys       = 128
)

// keySet holds the keys that an issuer publishes. go-oidc's own set keeps a
// withdrawn key as long as no unknown one is asked for, and asks the issuer
// for each unknown one. Keys, and links to keys, in a token are never followed.
type keySet struct {
	issuer     string
	grace      time.Duration // keys are used so long while the issuer does not answer
	algorithms []jose.SignatureAlgorithm
	client     *http.Client
	fetches    singleflight.Group

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time // when keys came, by the monotonic clock
	tried   time.Time
	failed  time.Time // the last try, if it failed; else zero
}

func newKeySet(is Issuer) (*keySet, error) {
	u, err := url.Parse(is.URL)
	if err != nil || !safeURL(u) {
		return nil, fmt.Errorf("issuer %q: must be an https URL (http only on loopback)", is.URL)
	}
	k := &keySet{issuer: is.URL, grace: is.Grace}
	if k.grace == 0 {
		k.grace = DefaultGrace
	}
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
	return u.Host != "" && u.User == nil && (u.Scheme == "https" || u.Scheme == "http" && loopback.Host(u.Hostname()))
}

// verify checks a token's signature. left is how long the keys that it was
// checked with may still be used without asking the issuer.
func (k *keySet) verify(ctx context.Context, t *jwt) (left time.Duration, err error) {
	broken := fmt.Errorf("its token's signature by %s does not hold: renew the token", k.issuer)
	id := ""
	if v, has := t.header["kid"]; has {
		var ok bool
		if id, ok = v.(string); !ok || id == "" {
			return 0, errors.New("its token's key id (kid) is no text")
		}
	}
	jws, err := jose.ParseSignedCompact(t.raw, k.algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return 0, broken
	}
	keys, left, err := k.find(ctx, id, jws.Signatures[0].Header.Algorithm)
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		if _, err := jws.Verify(key.Key); err == nil {
			return left, nil
		}
	}
	return 0, broken
}

// find returns the published keys that a token may be signed with.
func (k *keySet) find(ctx context.Context, id, alg string) (keys []jose.JSONWebKey, left time.Duration, err error) {
	keys, age, failed := k.choose(id, alg)
	usable := len(keys) > 0 && age < k.grace
	if usable && (age < keysFresh || failed < retryInterval) {
		return keys, k.grace - age, nil
	}
	fetch := k.fetches.DoChan("", func() (any, error) { return nil, k.fetch() })
	var enough <-chan time.Time // waited, for one whose key is known
	if usable {
		enough = time.After(2 * fetchInterval)
	}
	select {
	case r := <-fetch:
		if r.Err != nil && !usable {
			return nil, 0, fmt.Errorf("the keys of issuer %s cannot be had (%w): see that it runs and can be reached from here", k.issuer, r.Err)
		}
	case <-enough:
	case <-ctx.Done():
		return nil, 0, fmt.Errorf("the keys of issuer %s did not come in time: see that it runs and can be reached from here", k.issuer)
	}
	if keys, age, _ = k.choose(id, alg); len(keys) == 0 || age >= k.grace {
		return nil, 0, fmt.Errorf("its token is signed with a key that issuer %s does not publish: renew the token", k.issuer)
	}
	return keys, k.grace - age, nil
}

// choose returns the keys that can be meant, how old all are, and how long ago
// the last fetch failed.
func (k *keySet) choose(id, alg string) (out []jose.JSONWebKey, age, failed time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.keys {
		if (id == "" || key.KeyID == id) && (key.Algorithm == "" || key.Algorithm == alg) && fits(key.Key, alg) {
			out = append(out, key)
		}
	}
	failed = retryInterval
	if !k.failed.IsZero() {
		failed = time.Since(k.failed)
	}
	return out, time.Since(k.fetched), failed
}

// fits reports that a key is one of the kind that an algorithm is for (RFC
// 7518, section 3.1; RFC 8037): no algorithm is tried with another's key.
func fits(key any, alg string) bool {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return (strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")) && key.N.BitLen() >= 2048 && key.N.BitLen() <= 8192
	case *ecdsa.PublicKey:
		return map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[alg] == key.Curve
	case ed25519.PublicKey:
		return alg == "EdDSA" && len(key) == ed25519.PublicKeySize
	}
	return false
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
	if err != nil {
		k.failed = k.tried
		return err
	}
	k.keys, k.fetched, k.failed = keys, k.tried, time.Time{}
	return nil
}

// metadata is what an issuer says of itself.
type metadata struct{ keys, token string }

// discover asks an issuer for its end points (OpenID Connect Discovery 1.0,
// section 4): it must name itself exactly as it is configured.
func (k *keySet) discover(ctx context.Context) (m metadata, err error) {
	p, err := gooidc.NewProvider(gooidc.ClientContext(ctx, k.client), k.issuer)
	if err != nil {
		return m, fmt.Errorf("discovery: %.200q", err.Error())
	}
	var said struct {
		Keys string `json:"jwks_uri"`
	}
	if err := p.Claims(&said); err != nil {
		return m, errors.New("discovery: the answer names no jwks_uri")
	}
	m = metadata{said.Keys, p.Endpoint().TokenURL}
	for name, at := range map[string]string{"jwks_uri": m.keys, "token_endpoint": m.token} {
		u, err := url.Parse(at)
		if at == "" && name == "token_endpoint" {
			continue
		}
		if err != nil || !safeURL(u) {
			return m, fmt.Errorf("discovery: %s %.200q must be an https URL (http only on loopback)", name, at)
		}
	}
	return m, nil
}

// download discovers the issuer and reads its key set (RFC 7517).
func (k *keySet) download(ctx context.Context) ([]jose.JSONWebKey, error) {
	meta, err := k.discover(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, meta.keys, nil)
	if err != nil {
		return nil, err
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("keys: %.200q", err.Error())
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("keys: %s answered %.40q", meta.keys, resp.Status)
	}
	var set struct{ Keys []json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		return nil, fmt.Errorf("keys: %s does not answer with a key set", meta.keys)
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
		return nil, fmt.Errorf("keys: %s publishes %d usable ones: must be 1 to %d", meta.keys, len(keys), maxKeys)
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
