package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"sallyport.dev/sallyport/intercept/identity"
)

// Exchange says that a token which a workload presents is exchanged at its
// issuer for one of another audience (RFC 8693), and that its claims are those
// that count. So the issuer says itself that the token still holds, and no
// policy and no record rests on a token that was made for somebody else.
type Exchange struct {
	Client, Secret string // of the passage at the issuer
	Audience       string // of the token that is asked for
	Scope          string // "" for the issuer's default
}

const (
	grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	typeToken     = "urn:ietf:params:oauth:token-type:access_token"
	typeJWT       = "urn:ietf:params:oauth:token-type:jwt"
	maxExchanged  = 4096
)

// exchanger asks one issuer, once for each token until what came expires.
type exchanger struct {
	Exchange
	keys    *keySet // whose client and discovery it shares
	now     func() time.Time
	flights singleflight.Group

	mu   sync.Mutex
	kept map[[sha256.Size]byte]exchanged
}

type exchanged struct {
	raw   string
	until time.Time
}

// token returns what a verified token was exchanged for.
func (x *exchanger) token(ctx context.Context, raw string) (string, error) {
	sum := sha256.Sum256([]byte(raw))
	x.mu.Lock()
	have, ok := x.kept[sum]
	x.mu.Unlock()
	if ok && x.now().Before(have.until) {
		return have.raw, nil
	}
	ch := x.flights.DoChan(string(sum[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*fetchTimeout)
		defer cancel()
		return x.ask(ctx, raw)
	})
	select {
	case r := <-ch:
		if r.Err != nil {
			return "", fmt.Errorf("its token can't be exchanged at %s for one of the audience %q: %w", x.keys.issuer, x.Audience, r.Err)
		}
		return r.Val.(string), nil
	case <-ctx.Done():
		return "", fmt.Errorf("the exchange of its token at %s did not come in time", x.keys.issuer)
	}
}

// keep remembers an exchanged token that was found good. One that expires
// between two looks is exchanged again a little early.
func (x *exchanger) keep(raw, got string, expires time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if now := x.now(); len(x.kept) >= maxExchanged {
		for k, e := range x.kept {
			if !now.Before(e.until) || len(x.kept) >= maxExchanged {
				delete(x.kept, k)
			}
		}
	}
	x.kept[sha256.Sum256([]byte(raw))] = exchanged{got, expires.Add(-10 * time.Second)}
}

// ask sends the request (RFC 8693, section 2.1). What the issuer says of a
// refusal is told by its error code alone.
func (x *exchanger) ask(ctx context.Context, raw string) (string, error) {
	meta, err := x.keys.discover(ctx)
	if err != nil {
		return "", err
	}
	if meta.token == "" {
		return "", errors.New("it names no token_endpoint")
	}
	form := url.Values{
		"grant_type": {grantExchange}, "subject_token": {raw}, "subject_token_type": {typeToken},
		"requested_token_type": {typeToken}, "audience": {x.Audience},
	}
	if x.Scope != "" {
		form.Set("scope", x.Scope)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, meta.token, strings.NewReader(form.Encode()))
	if err != nil {
		return "", errors.New("its token_endpoint is no URL")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(x.Client), url.QueryEscape(x.Secret)) // RFC 6749, section 2.3.1
	resp, err := x.keys.client.Do(req)
	if err != nil {
		return "", errors.New("it does not answer: see that it runs and can be reached from here")
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	var answer struct {
		Token string `json:"access_token"`
		Type  string `json:"issued_token_type"`
		Error string `json:"error"`
	}
	if err != nil || json.Unmarshal(b, &answer) != nil {
		return "", fmt.Errorf("it answered %.40q, and no token", resp.Status)
	}
	switch {
	case resp.StatusCode != http.StatusOK || answer.Error != "":
		return "", fmt.Errorf("it refused (%.64q, %.40q)", answer.Error, resp.Status)
	case answer.Token == "" || answer.Type != typeToken && answer.Type != typeJWT:
		return "", errors.New("its answer holds no access token")
	}
	return answer.Token, nil
}

// exchange replaces what a verified token says of itself by what the token
// says that it was exchanged for. Both must name the same parties.
func (v *Verifier) exchange(ctx context.Context, is *issuer, raw string, t *identity.Token) error {
	if is.exchanger == nil {
		return nil
	}
	got, err := is.exchanger.token(ctx, raw)
	if err != nil {
		return err
	}
	as := *is
	as.Audience, as.Parties, as.OneTime = is.exchanger.Audience, nil, false
	x, left, err := as.verify(ctx, got, v.now)
	if err != nil {
		return fmt.Errorf("what %s gave for it does not hold: %w", is.URL, err)
	}
	if x.Subject != t.Subject || !slices.Equal(x.Actors, t.Actors) && !slices.Equal(x.Actors, append([]string{is.exchanger.Client}, t.Actors...)) {
		return fmt.Errorf("what %s gave for it names somebody else", is.URL)
	}
	is.exchanger.keep(raw, got, x.Expires)
	t.Claims, t.Audience, t.Shared = x.Claims, x.Audience, len(t.Audience) > 1
	t.Fresh = v.now().Add(min(left, fresh))
	if x.Expires.Before(t.Expires) {
		t.Expires = x.Expires
	}
	if x.NotBefore.After(t.NotBefore) {
		t.NotBefore = x.NotBefore
	}
	return nil
}
