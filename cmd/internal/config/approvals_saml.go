package config

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"sallyport.dev/sallyport/internal/loopback"
)

// ApprovalSAML is an identity provider of SAML that approvers log in at, on the page of
// approvals. Fields that SAML has too mean the same.
type ApprovalSAML struct {
	Name         string            `yaml:"name"` // that rules name, unique
	EntityID     string            `yaml:"entity_id"`
	Audience     string            `yaml:"audience"`
	ACS          string            `yaml:"acs"` // of the page: its base_url and /acs
	Metadata     string            `yaml:"metadata"`
	Signer       string            `yaml:"metadata_signer"`
	Pins         []string          `yaml:"pins"`
	Subject      string            `yaml:"subject"`
	Attributes   map[string]string `yaml:"attributes"`
	Skew         time.Duration     `yaml:"skew"`
	OfflineGrace time.Duration     `yaml:"offline_grace"`
	Person       string            `yaml:"person"` // claim that all tokens of a person have, of requesters too
}

// Provider is it as one of identity.saml is.
func (s *ApprovalSAML) Provider() *SAML {
	return &SAML{
		Name: s.Name, EntityID: s.EntityID, Audience: s.Audience, ACS: s.ACS, Metadata: s.Metadata, Signer: s.Signer, Pins: s.Pins,
		Subject: s.Subject, Attributes: s.Attributes, Skew: s.Skew, OfflineGrace: s.OfflineGrace,
	}
}

// PersonBySAML is the claim by which a provider's people are told apart.
func (a *Approvals) PersonBySAML(name string) string {
	for i := range a.SAML {
		if a.SAML[i].Name == name {
			return a.SAML[i].Person
		}
	}
	return ""
}

// Keys are those of recorders whose word is taken; the check has read them already.
func (a *Approvals) Keys() (out []ed25519.PublicKey) {
	for _, s := range a.RecorderKeys {
		if k, err := recorderKey(s); err == nil {
			out = append(out, k)
		}
	}
	return out
}

// recorderKey reads a key: "ed25519:" and base64 of its 32 bytes.
func recorderKey(s string) (ed25519.PublicKey, error) {
	text, ok := strings.CutPrefix(s, "ed25519:")
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if !ok || err != nil || len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("recorder key %.64q: write ed25519: and the base64 of its 32 bytes", s)
	}
	return b, nil
}

func (a *Approvals) saml() (files []*string) {
	for i := range a.SAML {
		s := &a.SAML[i]
		def(&s.Skew, 30*time.Second)
		def(&s.OfflineGrace, 24*time.Hour)
		files = append(files, &s.Signer)
		if !s.Provider().Remote() {
			files = append(files, &s.Metadata)
		}
	}
	return files
}

func (c *checker) approvalSAML(a *Approvals, seen map[string]bool) {
	for i := range a.SAML {
		s := &a.SAML[i]
		at := func(msg string, keys ...any) { c.bad(msg, append([]any{"approvals", "saml", i}, keys...)...) }
		if !name.MatchString(s.Name) || seen["name "+s.Name] {
			at(fmt.Sprintf("name %q: must be unique, of letters, digits, - and _", s.Name), "name")
		}
		if s.EntityID == "" || seen[s.EntityID] {
			at(fmt.Sprintf("entity_id %q: required, and unique among approvals.saml and approvals.issuers", s.EntityID), "entity_id")
		}
		seen["name "+s.Name], seen[s.EntityID] = true, true
		if s.Audience == "" {
			at("audience: required: the entity id of the page of approvals, as it is registered at the provider")
		}
		if u, err := url.Parse(s.ACS); err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && loopback.Host(u.Hostname())) || u.Path == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			at(fmt.Sprintf("acs %q: must be the page's, as it is registered at the provider: its base_url and /acs", s.ACS), "acs")
		}
		c.samlMetadata(s.Provider(), at)
		for claim, attribute := range s.Attributes {
			if claim == "" || attribute == "" || claim == "name_id" || claim == "authn_context" {
				at(fmt.Sprintf("attributes: %q: give the attribute's name, and a claim's other than name_id and authn_context", claim), "attributes")
			}
		}
		if s.Person == "" || s.Person == "sub" || len(s.Person) > 128 || strings.ContainsFunc(s.Person, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }) {
			at(fmt.Sprintf("person %q: required: the claim by which people are told apart, that the tokens of requesters have too", s.Person), "person")
		}
		if s.Skew < 0 || s.Skew > time.Minute {
			at(fmt.Sprintf("skew %s: must be between 0 and 1m", s.Skew), "skew")
		}
		if s.OfflineGrace < time.Second || s.OfflineGrace > 7*24*time.Hour {
			at(fmt.Sprintf("offline_grace %s: must be between 1s and 168h", s.OfflineGrace), "offline_grace")
		}
	}
	for i, k := range a.RecorderKeys {
		if _, err := recorderKey(k); err != nil || slices.Contains(a.RecorderKeys[:i], k) {
			c.bad(fmt.Sprintf("recorder key %.64q: write ed25519: and the base64 of its 32 bytes, each once", k), "approvals", "recorder_keys", i)
		}
	}
	if len(a.SAML) > 0 && len(a.RecorderKeys) == 0 {
		c.bad("recorder_keys: required with saml: the key of the page that signs what its approvers decide", "approvals", "saml")
	}
}
