package identity

import (
	"context"
	"fmt"
	"time"
)

// Token is a verified token. NotBefore and Expires include the accepted skew.
type Token struct {
	Issuer    string
	Subject   string
	Actors    []string // RFC 8693 act chain, current actor first; nil without one
	Audience  []string
	Claims    map[string]any
	NotBefore time.Time
	Expires   time.Time
}

// Presenter returns who presents the token: the current actor where one
// stands in it, else the subject.
func (t *Token) Presenter() string {
	if len(t.Actors) > 0 {
		return t.Actors[0]
	}
	return t.Subject
}

// Verifier verifies raw tokens. It is safe for concurrent use. issuer, when
// not "", is the only one that is accepted. An error's text says why and what
// to do, and holds nothing of the token but the names of its parties.
type Verifier interface {
	Verify(ctx context.Context, raw, issuer string) (*Token, error)
}

const (
	maxActors = 8
	maxName   = 512 // bytes of a subject
)

// Actors reads the act claim of verified claims (RFC 8693, section 4.1): who
// acts, then who acted before. issuer is the token's own: actors of other
// issuers are refused, their names could be anybody's here. A chain that is
// not fully understood is an error.
func Actors(claims map[string]any, issuer string) ([]string, error) {
	var chain []string
	act, ok := claims["act"]
	for ok {
		if len(chain) == maxActors {
			return nil, fmt.Errorf("the act claim nests deeper than %d actors", maxActors)
		}
		m, isMap := act.(map[string]any)
		if !isMap {
			return nil, fmt.Errorf("the act claim is not an object (RFC 8693, section 4.1)")
		}
		if iss, has := m["iss"]; has && iss != issuer {
			return nil, fmt.Errorf("the act claim names an actor of another issuer")
		}
		sub, err := Name(m["sub"])
		if err != nil {
			return nil, fmt.Errorf("the act claim's sub: %w", err)
		}
		chain = append(chain, sub)
		act, ok = m["act"]
	}
	return chain, nil
}

// Name checks a claim that names a party: a string that is not empty, has no
// control characters, and is at most 512 bytes.
func Name(v any) (string, error) {
	s, ok := v.(string)
	if !ok || s == "" || len(s) > maxName {
		return "", fmt.Errorf("must be a string of 1 to %d bytes", maxName)
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return "", fmt.Errorf("must not hold control characters or broken UTF-8")
		}
	}
	return s, nil
}
