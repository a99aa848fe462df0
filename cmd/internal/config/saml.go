package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"

	"sallyport.dev/sallyport/internal/loopback"
)

// SAML is an identity provider that people log in at (sallyport login --saml).
type SAML struct {
	Name     string `yaml:"name"`      // for login, unique
	EntityID string `yaml:"entity_id"` // exactly as the provider names itself: the issuer
	Audience string `yaml:"audience"`  // sallyport's own entity id there
	ACS      string `yaml:"acs"`       // where the browser brings the answer: http://127.0.0.1:PORT/PATH
	Metadata string `yaml:"metadata"`  // file, or https URL
	// Signer is a file with the certificate that the metadata must be signed
	// with.
	Signer       string            `yaml:"metadata_signer"`
	Pins         []string          `yaml:"pins"`          // sha256:HEX of the certificates that sign responses
	Subject      string            `yaml:"subject"`       // attribute that names the person; default: the NameID
	Attributes   map[string]string `yaml:"attributes"`    // claims, by the attribute's name; default: all, as they are named
	Skew         time.Duration     `yaml:"skew"`          // accepted clock skew
	MaxAge       time.Duration     `yaml:"max_age"`       // of a login since the person authenticated
	OfflineGrace time.Duration     `yaml:"offline_grace"` // that metadata of a URL is used without it
}

// Remote reports whether the metadata is fetched.
func (s *SAML) Remote() bool { return strings.Contains(s.Metadata, "://") }

// saml fills in defaults, and returns the names of files.
func (id *Identity) saml() (files []*string) {
	for i := range id.SAML {
		s := &id.SAML[i]
		def(&s.Skew, 30*time.Second)
		def(&s.MaxAge, 8*time.Hour)
		def(&s.OfflineGrace, 24*time.Hour)
		files = append(files, &s.Signer)
		if !s.Remote() {
			files = append(files, &s.Metadata)
		}
	}
	return files
}

func (c *checker) saml(id *Identity) {
	seen := map[string]bool{}
	for _, is := range id.Issuers {
		seen[is.URL] = true
	}
	for i := range id.SAML {
		s := &id.SAML[i]
		at := func(msg string, keys ...any) { c.bad(msg, append([]any{"identity", "saml", i}, keys...)...) }
		if !name.MatchString(s.Name) || seen["name "+s.Name] {
			at(fmt.Sprintf("name %q: must be unique, of letters, digits, - and _", s.Name), "name")
		}
		if s.EntityID == "" || seen[s.EntityID] {
			at(fmt.Sprintf("entity_id %q: required, and unique among identity.saml and identity.issuers", s.EntityID), "entity_id")
		}
		seen["name "+s.Name], seen[s.EntityID] = true, true
		if s.Audience == "" {
			at("audience: required: sallyport's own entity id, as it is registered at the provider")
		}
		if u, err := url.Parse(s.ACS); err != nil || u.Scheme != "http" || !loopback.Host(u.Hostname()) || u.Port() == "" || u.Path == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			at(fmt.Sprintf("acs %q: must be http on loopback with a port and a path, as it is registered at the provider: http://127.0.0.1:7080/acs", s.ACS), "acs")
		}
		c.samlMetadata(s, at)
		for claim, attribute := range s.Attributes {
			if claim == "" || attribute == "" || claim == "name_id" || claim == "authn_context" {
				at(fmt.Sprintf("attributes: %q: give the attribute's name, and a claim's other than name_id and authn_context", claim), "attributes")
			}
		}
		if s.Skew < 0 || s.Skew > 5*time.Minute {
			at(fmt.Sprintf("skew %s: must be between 0 and 5m", s.Skew), "skew")
		}
		if s.MaxAge < time.Minute || s.MaxAge > 7*24*time.Hour {
			at(fmt.Sprintf("max_age %s: must be between 1m and 168h", s.MaxAge), "max_age")
		}
		if s.OfflineGrace < time.Second || s.OfflineGrace > 7*24*time.Hour {
			at(fmt.Sprintf("offline_grace %s: must be between 1s and 168h: a key that the provider withdraws is believed so long while its metadata can't be had", s.OfflineGrace), "offline_grace")
		}
	}
}

func (c *checker) samlMetadata(s *SAML, at func(string, ...any)) {
	switch u, err := url.Parse(s.Metadata); {
	case s.Metadata == "":
		at("metadata: required: a file, or an https URL")
	case s.Remote() && (err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !(u.Scheme == "http" && loopback.Host(u.Hostname()))):
		at(fmt.Sprintf("metadata %q: must be a file, or an https URL (http only on loopback)", s.Metadata), "metadata")
	case s.Remote() && len(s.Pins) == 0 && s.Signer == "":
		at("metadata: from a URL it needs pins of the provider's certificates, or metadata_signer", "metadata")
	}
	for k, p := range s.Pins {
		if _, err := Pin(p); err != nil {
			at(err.Error(), "pins", k)
		}
	}
}

// Pin reads a pin: "sha256:" and a SHA-256 in hexadecimal, with or without
// colons.
func Pin(s string) (sum [sha256.Size]byte, err error) {
	text, ok := strings.CutPrefix(s, "sha256:")
	b, herr := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if !ok || herr != nil || len(b) != len(sum) {
		return sum, fmt.Errorf("pin %q: write sha256: and 64 hexadecimal digits (openssl x509 -noout -fingerprint -sha256)", s)
	}
	return [sha256.Size]byte(b), nil
}
