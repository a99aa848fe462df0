package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

type tokenRequest struct {
	issuer, client, secret, audience, behalf string
	life                                     time.Duration
}

// ask fetches a token at the provider's token end point: by client
// credentials, and with behalf by a token exchange of both sides' tokens.
func (r tokenRequest) ask(ctx context.Context) (string, error) {
	own, err := r.credentials(ctx, r.client, r.secret)
	if err != nil || r.behalf == "" {
		return own, err
	}
	id, secret, ok := strings.Cut(r.behalf, ":")
	if !ok {
		return "", fmt.Errorf("--for: want ID:SECRET")
	}
	subject, err := r.credentials(ctx, id, secret)
	if err != nil {
		return "", err
	}
	const accessToken = "urn:ietf:params:oauth:token-type:access_token"
	return r.post(ctx, r.client, r.secret, url.Values{
		"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token":        {subject},
		"subject_token_type":   {accessToken},
		"actor_token":          {own},
		"actor_token_type":     {accessToken},
		"requested_token_type": {accessToken},
		"audience":             {r.audience},
		"scope":                {r.scope()},
	})
}

func (r tokenRequest) credentials(ctx context.Context, id, secret string) (string, error) {
	return r.post(ctx, id, secret, url.Values{"grant_type": {"client_credentials"}, "scope": {r.scope()}})
}

// scope carries what client credentials have no parameter for.
func (r tokenRequest) scope() string {
	s := scopeAudience + r.audience
	if r.life != 0 {
		s += " " + scopeLife + r.life.String()
	}
	return s
}

func (r tokenRequest) post(ctx context.Context, id, secret string, form url.Values) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(r.issuer, "/")+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	var answer struct {
		AccessToken string `json:"access_token"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := do(req, &answer); err != nil {
		return "", err
	}
	if answer.AccessToken == "" {
		return "", fmt.Errorf("no token for %s: %s %s", id, answer.Error, answer.Description)
	}
	return answer.AccessToken, nil
}

func rotate(ctx context.Context, issuer string, withdraw bool) error {
	u := strings.TrimSuffix(issuer, "/") + rotatePath
	if withdraw {
		u += "?withdraw=1"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, nil)
	if err != nil {
		return err
	}
	return do(req, new(struct{}))
}

func do(req *http.Request, answer any) error {
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("%s answered %s", req.URL, resp.Status)
	}
	return nil
}
