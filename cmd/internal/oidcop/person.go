package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// personPath is where a person is sent who logs in with a browser. Whoever goes
// there with a subject (and groups) is that person.
const personPath = "/-/person"

// personClient is a program without a secret that people log in with by code flow
// with PKCE, on a redirect to loopback (RFC 8252).
type personClient struct{ client }

func (personClient) RedirectURIs() []string              { return []string{"http://127.0.0.1/callback"} }
func (personClient) ApplicationType() op.ApplicationType { return op.ApplicationTypeNative }
func (personClient) AuthMethod() oidc.AuthMethod         { return oidc.AuthMethodNone }
func (personClient) GrantTypes() []oidc.GrantType        { return []oidc.GrantType{oidc.GrantTypeCode} }

func (personClient) LoginURL(id string) string { return personPath + "?id=" + url.QueryEscape(id) }

func (personClient) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}
func (personClient) IDTokenUserinfoClaimsAssertion() bool { return true }

// visit is a log-in that waits for a person, and then for its code.
type visit struct {
	id, subject string
	groups      []string
	at          time.Time
	asked       oidc.AuthRequest
}

func (v *visit) GetID() string                      { return v.id }
func (v *visit) GetACR() string                     { return "" }
func (v *visit) GetAMR() []string                   { return nil }
func (v *visit) GetAudience() []string              { return []string{v.asked.ClientID} }
func (v *visit) GetAuthTime() time.Time             { return v.at }
func (v *visit) GetClientID() string                { return v.asked.ClientID }
func (v *visit) GetNonce() string                   { return v.asked.Nonce }
func (v *visit) GetRedirectURI() string             { return v.asked.RedirectURI }
func (v *visit) GetResponseType() oidc.ResponseType { return v.asked.ResponseType }
func (v *visit) GetResponseMode() oidc.ResponseMode { return v.asked.ResponseMode }
func (v *visit) GetScopes() []string                { return v.asked.Scopes }
func (v *visit) GetState() string                   { return v.asked.State }
func (v *visit) GetSubject() string                 { return v.subject }
func (v *visit) Done() bool                         { return v.subject != "" }
func (v *visit) GetCodeChallenge() *oidc.CodeChallenge {
	return &oidc.CodeChallenge{Challenge: v.asked.CodeChallenge, Method: v.asked.CodeChallengeMethod}
}

// visits are the log-ins under way; storage.mu guards them.
type visits struct {
	byID, byCode map[string]*visit
	groups       map[string][]string // of who has logged in
}

// CreateAuthRequest implements op.AuthStorage. PKCE is asked of all.
func (s *storage) CreateAuthRequest(_ context.Context, r *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	if r.CodeChallenge == "" || r.CodeChallengeMethod != oidc.CodeChallengeMethodS256 {
		return nil, oidc.ErrInvalidRequest().WithDescription("PKCE with S256 is needed")
	}
	v := &visit{id: rand.Text(), asked: *r}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visits.byID[v.id] = v
	return v, nil
}

// AuthRequestByID implements op.AuthStorage.
func (s *storage) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	return s.visit(s.visits.byID, id)
}

// AuthRequestByCode implements op.AuthStorage.
func (s *storage) AuthRequestByCode(_ context.Context, code string) (op.AuthRequest, error) {
	return s.visit(s.visits.byCode, code)
}

func (s *storage) visit(in map[string]*visit, key string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := in[key]; v != nil {
		return v, nil
	}
	return nil, errors.New("unknown log-in")
}

// SaveAuthCode implements op.AuthStorage.
func (s *storage) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visits.byCode[code] = s.visits.byID[id]
	return nil
}

// DeleteAuthRequest implements op.AuthStorage: a code is of one use.
func (s *storage) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for code, v := range s.visits.byCode {
		if v.id == id {
			delete(s.visits.byCode, code)
		}
	}
	delete(s.visits.byID, id)
	return nil
}

// SetUserinfoFromScopes implements op.OPStorage: the groups of a person.
func (s *storage) SetUserinfoFromScopes(_ context.Context, info *oidc.UserInfo, subject, client string, _ []string) error {
	if client != s.people && client != s.device {
		return errUnused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	info.Subject = subject
	info.Claims = map[string]any{"groups": s.visits.groups[subject]}
	return nil
}

// arrive answers a person's browser.
func (s *storage) arrive(callback func(context.Context, string) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		v := s.visits.byID[r.FormValue("id")]
		if v != nil && r.FormValue("subject") != "" {
			v.subject, v.at = r.FormValue("subject"), time.Now()
			v.groups = strings.Fields(r.FormValue("groups"))
			s.visits.groups[v.subject] = v.groups
		}
		s.mu.Unlock()
		switch {
		case v == nil:
			http.Error(w, "unknown log-in", http.StatusNotFound)
		case !v.Done():
			fmt.Fprintln(w, "who are you? (&subject=...&groups=...)")
		default:
			http.Redirect(w, r, callback(r.Context(), v.id), http.StatusFound)
		}
	}
}
