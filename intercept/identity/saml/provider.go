package saml

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"sallyport.dev/sallyport/internal/loopback"
)

// Provider is an identity provider whose logins are believed.
type Provider struct {
	Name     string // that it is asked for by
	EntityID string // exactly as it names itself: the issuer
	Audience string // our own entity id, that an assertion must be for
	// ACS is where responses go: a URL on loopback (http), or an https one. A
	// response to any other place is not for us.
	ACS      string
	Metadata Metadata
	// Subject is the attribute that names the person; "": the NameID, which
	// must then be one that lasts.
	Subject string
	// Attributes are those that become claims: the claim's name, and the
	// attribute's. nil: all, under their own names.
	Attributes map[string]string
	Skew       time.Duration // accepted clock skew
	// Life is how long after the person authenticated a login holds at most,
	// whatever the provider says; 0 is DefaultLife.
	Life time.Duration
}

// Metadata says where a provider's metadata comes from: Text, or URL.
type Metadata struct {
	Text []byte
	URL  string // https; http on loopback only
	// Pins are SHA-256 of the certificates that it may sign responses with, in
	// DER form; others in the metadata are passed over. Metadata from a URL
	// needs pins or a Signer.
	Pins [][sha256.Size]byte
	// Signer, when not nil, must have signed the metadata.
	Signer *x509.Certificate
	// Roots vouch for the URL's server; nil: the system's.
	Roots *x509.CertPool
	// Grace is how long metadata of a URL is used while that does not answer,
	// from when it came; 0 is DefaultGrace.
	Grace time.Duration
}

const (
	// DefaultLife is how long a login holds that does not say itself.
	DefaultLife = 8 * time.Hour
	// DefaultGrace is how long metadata is used without its URL.
	DefaultGrace = 24 * time.Hour
)

// Names of claims that are the assertion's own and no attribute's.
const (
	ClaimNameID  = "name_id"       // the NameID's text
	ClaimContext = "authn_context" // how the person authenticated: AuthnContextClassRef
)

func (p *Provider) check() error {
	switch {
	case p.Name == "" || p.EntityID == "" || p.Audience == "":
		return fmt.Errorf("provider %q: needs a name, its entity id, and our own (audience)", p.Name)
	case !safeURL(p.ACS):
		return fmt.Errorf("provider %s: acs %q: must be an https URL (http only on loopback)", p.Name, p.ACS)
	case p.Skew < 0 || p.Life < 0 || p.Metadata.Grace < 0:
		return fmt.Errorf("provider %s: times must not be negative", p.Name)
	}
	for claim, attribute := range p.Attributes {
		if claim == "" || attribute == "" || claim == ClaimNameID || claim == ClaimContext {
			return fmt.Errorf("provider %s: attributes: %q for %q: give each a name of its own", p.Name, claim, attribute)
		}
	}
	if err := p.Metadata.check(); err != nil {
		return fmt.Errorf("provider %s: metadata: %w", p.Name, err)
	}
	return nil
}

func (m *Metadata) check() error {
	switch {
	case (m.URL == "") == (m.Text == nil):
		return errors.New("give a file or a URL")
	case m.URL != "" && !safeURL(m.URL):
		return fmt.Errorf("%q: must be an https URL (http only on loopback)", m.URL)
	case m.URL != "" && len(m.Pins) == 0 && m.Signer == nil:
		return errors.New("from a URL it needs pins of the provider's certificates, or the certificate that signs it")
	case slices.Contains(m.Pins, [sha256.Size]byte{}):
		return errors.New("a pin is empty")
	}
	return nil
}

func safeURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && loopback.Host(u.Hostname())
}
