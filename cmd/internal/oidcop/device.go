package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// devicePath answers the person who is asked to approve a log-in.
const devicePath = "/-/device"

var deviceConfig = op.DeviceAuthorizationConfig{
	Lifetime: time.Minute, PollInterval: time.Second, UserFormPath: devicePath, UserCode: op.UserCodeBase20,
}

// deviceClient is a program without a secret that people log in with (RFC 8628).
type deviceClient struct{ client }

func (deviceClient) ApplicationType() op.ApplicationType  { return op.ApplicationTypeNative }
func (deviceClient) AuthMethod() oidc.AuthMethod          { return oidc.AuthMethodNone }
func (deviceClient) GrantTypes() []oidc.GrantType         { return []oidc.GrantType{oidc.GrantTypeDeviceCode} }
func (deviceClient) IDTokenUserinfoClaimsAssertion() bool { return true }

// asked is a log-in that waits for a person.
type asked struct {
	code string // that the person enters
	op.DeviceAuthorizationState
}

// StoreDeviceAuthorization implements op.DeviceAuthorizationStorage.
func (s *storage) StoreDeviceAuthorization(_ context.Context, client, device, code string, expires time.Time, scopes []string) error {
	a := &asked{code: code, DeviceAuthorizationState: op.DeviceAuthorizationState{ClientID: client, Scopes: scopes, Expires: expires}}
	for _, sc := range scopes {
		if aud, ok := strings.CutPrefix(sc, scopeAudience); ok {
			a.Audience = append(a.Audience, aud)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices[device] = a
	return nil
}

// GetDeviceAuthorizatonState implements op.DeviceAuthorizationStorage; the name
// is the library's.
func (s *storage) GetDeviceAuthorizatonState(_ context.Context, client, device string) (*op.DeviceAuthorizationState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.devices[device]
	if a == nil || a.ClientID != client {
		return nil, errors.New("unknown device code")
	}
	state := a.DeviceAuthorizationState
	return &state, nil
}

// approve answers for a person; without a subject it denies.
func (s *storage) approve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.devices {
		if a.code == r.FormValue("user_code") {
			a.Subject, a.AuthTime = r.FormValue("subject"), time.Now()
			a.Done, a.Denied = a.Subject != "", a.Subject == ""
			fmt.Fprintln(w, "{}")
			return
		}
	}
	http.Error(w, "unknown code", http.StatusNotFound)
}

// approveAt tells a provider what a person answers.
func approveAt(ctx context.Context, issuer, code, subject string) error {
	q := url.Values{"user_code": {code}, "subject": {subject}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(issuer, "/")+devicePath+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	return do(req, new(struct{}))
}
