package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// Scopes that say what a token is wanted for.
const (
	scopeAudience = "audience:"
	scopeLife     = "life:"
)

// storage is what the provider keeps, all in memory.
type storage struct {
	unused
	alg     jose.SignatureAlgorithm
	life    time.Duration
	clients map[string]string
	device  string // client that people log in with, "" for none
	people  string // ... with a browser

	mu      sync.Mutex
	keys    []key // the last one signs
	devices map[string]*asked
	visits  visits
}

func newStorage(alg jose.SignatureAlgorithm, life time.Duration, clients map[string]string) (*storage, error) {
	s := &storage{alg: alg, life: life, clients: clients, devices: map[string]*asked{}, visits: visits{map[string]*visit{}, map[string]*visit{}, map[string][]string{}}}
	return s, s.rotate(false)
}

// rotate makes a new signing key and, with withdraw, forgets the others.
func (s *storage) rotate(withdraw bool) error {
	k := key{id: rand.Text(), alg: s.alg}
	var err error
	switch s.alg {
	case jose.RS256:
		k.private, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.ES256:
		k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		err = fmt.Errorf("algorithm %q: use RS256 or ES256", s.alg)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if withdraw {
		s.keys = nil
	}
	s.keys = append(s.keys, k)
	return nil
}

type key struct {
	id      string
	alg     jose.SignatureAlgorithm
	private crypto.Signer
}

func (k key) ID() string                                  { return k.id }
func (k key) Algorithm() jose.SignatureAlgorithm          { return k.alg }
func (k key) SignatureAlgorithm() jose.SignatureAlgorithm { return k.alg }
func (k key) Use() string                                 { return "sig" }
func (k key) Key() any                                    { return k.private }

type publicKey struct{ key }

func (k publicKey) Key() any { return k.private.Public() }

func (s *storage) SigningKey(context.Context) (op.SigningKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[len(s.keys)-1], nil
}

func (s *storage) KeySet(context.Context) ([]op.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ks []op.Key
	for _, k := range s.keys {
		ks = append(ks, publicKey{k})
	}
	return ks, nil
}

func (s *storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{s.alg}, nil
}

func (s *storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if id != "" && id == s.device {
		return deviceClient{client{id: id}}, nil
	}
	if id != "" && id == s.people {
		return personClient{client{id: id}}, nil
	}
	if s.clients[id] == "" {
		return nil, errors.New("unknown client")
	}
	return client{id: id}, nil
}

func (s *storage) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	want := s.clients[id]
	if want == "" || subtle.ConstantTimeCompare([]byte(want), []byte(secret)) != 1 {
		return errors.New("unknown client or wrong secret")
	}
	return nil
}

func (s *storage) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	if err := s.AuthorizeClientIDSecret(ctx, id, secret); err != nil {
		return nil, err
	}
	return s.GetClientByClientID(ctx, id)
}

// grant is a token to be made by client credentials.
type grant struct {
	subject string
	scopes  []string
}

func (g grant) GetSubject() string  { return g.subject }
func (g grant) GetScopes() []string { return g.scopes }
func (g grant) GetAudience() []string {
	var aud []string
	for _, s := range g.scopes {
		if a, ok := strings.CutPrefix(s, scopeAudience); ok {
			aud = append(aud, a)
		}
	}
	return aud
}

func (s *storage) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	return grant{id, scopes}, nil
}

func (s *storage) CreateAccessToken(_ context.Context, r op.TokenRequest) (string, time.Time, error) {
	life := s.life
	for _, sc := range r.GetScopes() {
		if v, ok := strings.CutPrefix(sc, scopeLife); ok {
			d, err := time.ParseDuration(v)
			if err != nil || d <= 0 || d > s.life {
				return "", time.Time{}, oidc.ErrInvalidScope().WithDescription("life must be a duration up to %s", s.life)
			}
			life = d
		}
	}
	return rand.Text(), time.Now().Add(life), nil
}

// ValidateTokenExchangeRequest lets a client act for the subject with its own
// token as the actor's, or exchange the subject's without an actor.
func (s *storage) ValidateTokenExchangeRequest(_ context.Context, r op.TokenExchangeRequest) error {
	if a := r.GetExchangeActor(); a != "" && a != r.GetClientID() {
		return oidc.ErrInvalidRequest().WithDescription("actor_token must be the client's own")
	}
	if r.GetRequestedTokenType() == "" {
		r.SetRequestedTokenType(oidc.AccessTokenType)
	}
	return nil
}

func (s *storage) CreateTokenExchangeRequest(context.Context, op.TokenExchangeRequest) error {
	return nil
}

// GetPrivateClaimsFromTokenExchangeRequest makes the act claim: the current
// actor outermost, those before it nested within (RFC 8693, section 4.1).
func (s *storage) GetPrivateClaimsFromTokenExchangeRequest(_ context.Context, r op.TokenExchangeRequest) (map[string]any, error) {
	if r.GetExchangeActor() == "" {
		if act, ok := r.GetExchangeSubjectTokenClaims()["act"]; ok {
			return map[string]any{"act": act}, nil
		}
		return nil, nil
	}
	act := map[string]any{"sub": r.GetExchangeActor()}
	if before, ok := r.GetExchangeSubjectTokenClaims()["act"]; ok {
		act["act"] = before
	}
	return map[string]any{"act": act}, nil
}

func (s *storage) SetUserinfoFromTokenExchangeRequest(context.Context, *oidc.UserInfo, op.TokenExchangeRequest) error {
	return errUnused
}
