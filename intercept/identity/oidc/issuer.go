package oidc

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Issuer is one whose tokens are believed.
type Issuer struct {
	URL        string        // exactly as in the iss claim
	Audience   string        // that a token must carry
	Algorithms []string      // of signatures; asymmetric ones only
	Skew       time.Duration // accepted clock skew
	// Parties are those that tokens may be issued to: the azp claim, or
	// client_id where there is none. nil: any.
	Parties []string
	// ID: its tokens are ID tokens of a log-in, and no others (OpenID Connect Core 1.0,
	// section 3.1.3.7).
	ID bool
	// MaxAge is how long after it was issued (iat) a token holds at most; 0:
	// as long as it says itself.
	MaxAge time.Duration
	// Grace is how long keys are believed while the issuer does not answer,
	// from when they came; 0 is DefaultGrace.
	Grace time.Duration
	// OneTime says that its tokens may each be presented once (jti).
	OneTime bool
	// Exchange, when not nil, has its tokens exchanged before they count.
	Exchange *Exchange
}

// DefaultGrace is how long keys are believed without their issuer.
const DefaultGrace = time.Hour

// Algorithms lists the signature algorithms that an issuer may have. None and
// those with a shared secret are not among them.
func Algorithms() []string { return slices.Clone(algorithms) }

var algorithms = []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"}

func (is *Issuer) check() error {
	if is.URL == "" || is.Audience == "" || is.Skew < 0 || is.MaxAge < 0 || is.Grace < 0 {
		return fmt.Errorf("issuer %q: needs a URL, an audience, and times that are not negative", is.URL)
	}
	if len(is.Algorithms) == 0 {
		return fmt.Errorf("issuer %q: no algorithms are allowed", is.URL)
	}
	for _, a := range is.Algorithms {
		if !slices.Contains(algorithms, a) {
			return fmt.Errorf("issuer %q: algorithm %q: use an asymmetric one of %s", is.URL, a, strings.Join(algorithms, ", "))
		}
	}
	if x := is.Exchange; x != nil && (x.Client == "" || x.Secret == "" || x.Audience == "") {
		return fmt.Errorf("issuer %q: exchange needs a client, its secret and an audience", is.URL)
	}
	if is.Exchange != nil && is.OneTime {
		return fmt.Errorf("issuer %q: a one-time token can't be exchanged: its one use is here", is.URL)
	}
	if slices.Contains(is.Parties, "") {
		return fmt.Errorf("issuer %q: an authorized party without a name", is.URL)
	}
	return nil
}
