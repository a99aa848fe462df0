// Package vault asks HashiCorp Vault or OpenBao for database accounts: made up
// for a session or for all of an account's, or one that it rotates. Leases are
// renewed while a session uses them, and given back.
package vault

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"sallyport.dev/sallyport/intercept/broker"
)

// Client speaks to one server. It logs in when it must.
type Client struct {
	Address   string         // https://host:port
	Namespace string         // "" for the root
	Roots     *x509.CertPool // that vouch for it; nil: the system's
	Store     *broker.Store

	// One of the two says who the client is: a token, or an AppRole.
	TokenFile    string
	RoleID       string
	SecretIDFile string
	Mount        string // of the AppRole method; "" is approle

	start sync.Once
	http  *http.Client

	mu    sync.Mutex
	token []byte
	until time.Time // of a token from an AppRole
}

// client is made once. It follows no redirection: the token would go along.
func (c *Client) client() *http.Client {
	c.start.Do(func() {
		c.http = &http.Client{
			Timeout: timeout,
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.Roots},
				TLSHandshakeTimeout: timeout, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	})
	return c.http
}

// timeout bounds one question.
const timeout = 10 * time.Second

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 1 << 20

// refusedError is an answer other than success. It tells the server's own words
// for what is wrong, which hold no secret.
type refusedError struct {
	path   string
	status int
	words  string
}

func (e *refusedError) Error() string {
	s := fmt.Sprintf("vault: %s: HTTP %d", e.path, e.status)
	if e.words != "" {
		s += ": " + e.words
	}
	return s
}

func (e *refusedError) forbidden() bool { return e.status == http.StatusForbidden }

// secret is a JSON string that can be overwritten.
type secret []byte

// UnmarshalJSON keeps no other copy, unless the text has escapes.
func (s *secret) UnmarshalJSON(b []byte) error {
	if len(b) >= 2 && b[0] == '"' && bytes.IndexByte(b, '\\') < 0 {
		*s = bytes.Clone(b[1 : len(b)-1])
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return errors.New("not a text")
	}
	*s = secret(text)
	return nil
}

// call makes a request, with a token unless that is nil, and reads the answer
// into out, nil for none.
func (c *Client) call(ctx context.Context, method, path string, token []byte, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		defer clear(b)
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.Address, "/")+"/v1/"+path, body)
	if err != nil {
		return fmt.Errorf("vault: %s: %w", path, err)
	}
	r.Header.Set("X-Vault-Request", "true")
	if token != nil {
		r.Header.Set("X-Vault-Token", string(token))
	}
	if c.Namespace != "" {
		r.Header.Set("X-Vault-Namespace", c.Namespace)
	}
	a, err := c.client().Do(r)
	if err != nil {
		return fmt.Errorf("vault: %s: %w", path, err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(io.LimitReader(a.Body, maxAnswer+1))
	defer func() { clear(b) }()
	switch {
	case err != nil:
		return fmt.Errorf("vault: %s: %w", path, err)
	case len(b) > maxAnswer:
		return fmt.Errorf("vault: %s: an answer of more than %d bytes", path, maxAnswer)
	case a.StatusCode/100 != 2:
		var e struct{ Errors []string }
		_ = json.Unmarshal(b, &e)
		return &refusedError{path, a.StatusCode, clip(strings.Join(e.Errors, "; "))}
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil { // whose text may be a secret's
		return fmt.Errorf("vault: %s: the answer is not understood", path)
	}
	return nil
}

func clip(s string) string {
	if len(s) > 200 {
		s = s[:200] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

// do is call as who the client is. A token that is refused is asked for again,
// once.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	token, err := c.login(ctx, nil)
	if err != nil {
		return err
	}
	defer clear(token)
	err = c.call(ctx, method, path, token, in, out)
	var r *refusedError
	if !errors.As(err, &r) || !r.forbidden() {
		return err
	}
	again, lerr := c.login(ctx, token)
	switch {
	case errors.Is(lerr, broker.ErrUnchanged):
		return err
	case lerr != nil:
		return errors.Join(err, lerr)
	}
	defer clear(again)
	if bytes.Equal(again, token) {
		return err
	}
	return c.call(ctx, method, path, again, in, out)
}

// login returns a copy of a token that is not refused.
func (c *Client) login(ctx context.Context, refused []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.TokenFile != "" {
		b, version, err := c.Store.Get(ctx, c.TokenFile, 0)
		if err == nil && refused != nil && bytes.Equal(bytes.TrimSpace(b), refused) {
			clear(b)
			b, _, err = c.Store.Get(ctx, c.TokenFile, version)
		}
		if err != nil {
			return nil, fmt.Errorf("vault: token: %w", err)
		}
		return bytes.TrimSpace(b), nil
	}
	if c.token != nil && time.Now().Before(c.until) && (refused == nil || !bytes.Equal(refused, c.token)) {
		return bytes.Clone(c.token), nil
	}
	id, version, err := c.Store.Get(ctx, c.SecretIDFile, 0)
	if err != nil {
		return nil, fmt.Errorf("vault: secret id: %w", err)
	}
	token, life, err := c.appRole(ctx, id)
	clear(id)
	if err != nil { // the secret id may have been changed
		id, _, gerr := c.Store.Get(ctx, c.SecretIDFile, version)
		if gerr != nil {
			return nil, err
		}
		defer clear(id)
		if token, life, err = c.appRole(ctx, id); err != nil {
			return nil, err
		}
	}
	clear(c.token)
	c.token, c.until = token, time.Now().Add(life*9/10)
	return bytes.Clone(token), nil
}

func (c *Client) appRole(ctx context.Context, id []byte) ([]byte, time.Duration, error) {
	mount := c.Mount
	if mount == "" {
		mount = "approle"
	}
	var out struct {
		Auth struct {
			Token secret `json:"client_token"`
			Life  int64  `json:"lease_duration"`
		}
	}
	in := map[string]string{"role_id": c.RoleID, "secret_id": string(bytes.TrimSpace(id))}
	if err := c.call(ctx, http.MethodPost, "auth/"+mount+"/login", nil, in, &out); err != nil {
		return nil, 0, err
	}
	if len(out.Auth.Token) == 0 {
		return nil, 0, errors.New("vault: the login gave no token")
	}
	life := time.Duration(out.Auth.Life) * time.Second
	if life <= 0 {
		life = time.Hour // one that does not expire is asked for again all the same
	}
	return out.Auth.Token, life, nil
}
