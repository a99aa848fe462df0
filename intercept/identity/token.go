package identity

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// ErrExpired is wrapped by a Verifier's refusal of a token that was valid once.
var ErrExpired = errors.New("its token expired")

// Token is a verified token. NotBefore and Expires include the accepted skew.
type Token struct {
	Issuer    string
	Subject   string
	Actors    []string // RFC 8693 act chain, current actor first; nil without one
	Audience  []string
	Claims    map[string]any
	NotBefore time.Time
	Issued    time.Time // zero where it does not say
	Expires   time.Time
	AuthTime  time.Time // of the log-in of an ID token; zero where it does not say

	Party  string             // to whom it was issued, where the issuer's list allows it; "" where there is no list
	MayAct *Party             // who may act for the subject (RFC 8693, section 4.4)
	Cert   *[sha256.Size]byte // of the certificate that it is bound to (RFC 8705, section 3.1)

	// Proof is how a person is proved who has it, where root ties it to a
	// process; "": intercept.ProofLogin.
	Proof string

	// Shared: it was for others than the one in Audience too, before it was
	// exchanged. They can present it.
	Shared bool

	Sum     [sha256.Size]byte // of its text; the Binder's
	OneTime bool              // may be presented once; see Verifier.Spend
	ID      string            // its jti, where OneTime
	// Fresh is how long it may be believed without verifying it again.
	Fresh time.Time
}

// Party is somebody named by an issuer.
type Party struct{ Issuer, Subject string }

// Presenter returns who presents the token: the current actor where one
// stands in it, else the subject.
func (t *Token) Presenter() string {
	if len(t.Actors) > 0 {
		return t.Actors[0]
	}
	return t.Subject
}

// Verifier verifies raw tokens. It is safe for concurrent use.
type Verifier interface {
	// Verify verifies a token. issuer, when not "", is the only one that is
	// accepted. An error's text says why and what to do, and holds nothing of
	// the token but the names of its parties.
	Verify(ctx context.Context, raw, issuer string) (*Token, error)
	// Spend takes a one-time token's only use, and fails if it is gone, or if
	// that can't be told. Of others it says nothing.
	Spend(t *Token) error
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

// MayAct reads the may_act claim of verified claims: nil where there is none.
// Its issuer is the token's own unless it names another.
func MayAct(claims map[string]any, issuer string) (*Party, error) {
	v, ok := claims["may_act"]
	if !ok {
		return nil, nil
	}
	m, isMap := v.(map[string]any)
	if !isMap {
		return nil, errors.New("the may_act claim is not an object (RFC 8693, section 4.4)")
	}
	p := &Party{Issuer: issuer}
	var err error
	if p.Subject, err = Name(m["sub"]); err != nil {
		return nil, fmt.Errorf("the may_act claim's sub: %w", err)
	}
	if iss, has := m["iss"]; has {
		if p.Issuer, err = Name(iss); err != nil {
			return nil, fmt.Errorf("the may_act claim's iss: %w", err)
		}
	}
	for name := range m {
		if name != "sub" && name != "iss" {
			return nil, errors.New("the may_act claim says more than sub and iss, which is not understood")
		}
	}
	return p, nil
}

// Confirmation reads the cnf claim (RFC 7800): the SHA-256 of the certificate
// that a token is bound to (x5t#S256), nil for a token that is bound to none. A
// token that is bound to anything else is an error: nobody here can check it.
func Confirmation(claims map[string]any) (*[sha256.Size]byte, error) {
	v, ok := claims["cnf"]
	if !ok {
		return nil, nil
	}
	m, isMap := v.(map[string]any)
	text, isText := m["x5t#S256"].(string)
	if !isMap || !isText || len(m) != 1 {
		return nil, errors.New("is bound to a key (cnf) by another way than x5t#S256, which can't be checked here")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != sha256.Size {
		return nil, errors.New("the cnf claim's x5t#S256 is no SHA-256 in base64url")
	}
	return (*[sha256.Size]byte)(b), nil
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
