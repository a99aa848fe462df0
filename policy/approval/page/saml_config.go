package page

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"sallyport.dev/sallyport/intercept/identity/saml"
)

// SAML is an identity provider of SAML that people log in at: one of the hosts'
// approvals.saml, by the same name.
type SAML struct {
	Name       string            `yaml:"name"`       // as hosts and their rules name it
	EntityID   string            `yaml:"entity_id"`  // exactly as the provider names itself
	Audience   string            `yaml:"audience"`   // the page's own entity id there
	Metadata   string            `yaml:"metadata"`   // file
	Subject    string            `yaml:"subject"`    // attribute that names the person; default the NameID
	Attributes map[string]string `yaml:"attributes"` // claims, by the attribute's name; default all
	Skew       time.Duration     `yaml:"skew"`       // accepted clock skew; default 30s

	metadata []byte
	// as is it where an issuer is shown.
	as Issuer
}

// acs is where browsers bring responses.
func (s *Settings) acs() string { return strings.TrimSuffix(s.base.String(), "/") + "/acs" }

// people verifies responses, nil where nobody logs in by SAML.
func (s *Settings) people(now func() time.Time) (*saml.Verifier, error) {
	if len(s.SAML) == 0 {
		return nil, nil
	}
	var ps []saml.Provider
	for i := range s.SAML {
		c := &s.SAML[i]
		ps = append(ps, saml.Provider{
			Name: c.Name, EntityID: c.EntityID, Audience: c.Audience, ACS: s.acs(), Metadata: saml.Metadata{Text: c.metadata},
			Subject: c.Subject, Attributes: c.Attributes, Skew: c.Skew,
		})
	}
	return saml.New(ps, saml.NewLogins(now), now)
}

// PublicKey is what hosts must have in approvals.recorder_keys, "" where the page signs
// nothing.
func (s *Settings) PublicKey() string {
	if s.key == nil {
		return ""
	}
	pub, _ := s.key.Public().(ed25519.PublicKey)
	return "ed25519:" + base64.StdEncoding.EncodeToString(pub)
}

func (c *check) saml(s *Settings) {
	seen := map[string]bool{}
	for i := range s.SAML {
		p := &s.SAML[i]
		at := func(why, key string) { c.Bad(why, "saml", i, key) }
		for key, v := range map[string]string{"name": p.Name, "entity_id": p.EntityID, "audience": p.Audience, "metadata": p.Metadata} {
			if v == "" || key != "audience" && key != "metadata" && seen[key+" "+v] {
				at(fmt.Sprintf("%s %q: required, as in the hosts' approvals.saml, once", key, v), key)
			}
			seen[key+" "+v] = true
		}
		if p.Skew == 0 {
			p.Skew = 30 * time.Second
		}
		if p.Skew < 0 || p.Skew > time.Minute {
			at(fmt.Sprintf("skew %s: must be between 0 and 1m", p.Skew), "skew")
		}
		c.file(&p.Metadata, "saml", i, "metadata")
		p.metadata, _ = os.ReadFile(p.Metadata) // that it is there was looked at
		p.as = Issuer{Name: p.Name, URL: p.EntityID}
	}
	if (s.SigningKey == "") != (len(s.SAML) == 0) {
		c.Bad("signing_key: required with saml, and of no use without: the key that decisions by SAML are signed with", "signing_key")
	}
	if s.SigningKey == "" {
		return
	}
	c.file(&s.SigningKey, "signing_key")
	if b, err := os.ReadFile(s.SigningKey); err == nil {
		if s.key, err = signingKey(b); err != nil {
			c.Bad("signing_key: "+err.Error(), "signing_key")
		}
	}
}

func signingKey(b []byte) (ed25519.PrivateKey, error) {
	wrong := errors.New("must be an Ed25519 key in PEM form (openssl genpkey -algorithm ed25519)")
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, wrong
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := k.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, wrong
	}
	return key, nil
}
