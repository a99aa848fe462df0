package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Approvals says who can prove that they approve statements.
type Approvals struct {
	Issuers []ApprovalIssuer `yaml:"issuers"`
	// SAML and RecorderKeys: providers whose assertions prove decisions, with the word
	// of a recorder that has one of the keys.
	SAML         []ApprovalSAML `yaml:"saml"`
	RecorderKeys []string       `yaml:"recorder_keys"` // ed25519:BASE64
}

// ApprovalIssuer is an OpenID Connect issuer that approvers log in at.
type ApprovalIssuer struct {
	URL    string `yaml:"url"`    // exactly as in the iss claim
	Client string `yaml:"client"` // public, of sallyport approvals, without the device grant; the audience of its ID tokens
	// DeviceClient is public too, of log-ins by device code: these list and show, and
	// decide nothing.
	DeviceClient string        `yaml:"device_client"`
	Algorithms   []string      `yaml:"algorithms"` // signature algorithms; default RS256, ES256
	Skew         time.Duration `yaml:"skew"`       // accepted clock skew
	Scopes       []string      `yaml:"scopes"`     // that are asked for, besides openid
	Person       string        `yaml:"person"`     // claim that is the same for a person in whatever token; default sub
}

// Person is the claim by which an issuer's people are told apart.
func (a *Approvals) Person(issuer string) string {
	for i := range a.Issuers {
		if a.Issuers[i].URL == issuer {
			return a.Issuers[i].Person
		}
	}
	return ""
}

// Claims are all such claims.
func (a *Approvals) Claims() (out []string) {
	for i := range a.Issuers {
		out = append(out, a.Issuers[i].Person)
	}
	for i := range a.SAML {
		out = append(out, a.SAML[i].Person)
	}
	return out
}

// defaults fills them in, and returns the names of files.
func (a *Approvals) defaults() (files []*string) {
	for i := range a.Issuers {
		is := &a.Issuers[i]
		if len(is.Algorithms) == 0 {
			is.Algorithms = []string{"RS256", "ES256"}
		}
		def(&is.Skew, 30*time.Second)
		def(&is.Person, "sub")
	}
	return a.saml()
}

func (c *checker) approvals(a *Approvals) {
	seen := map[string]bool{}
	for i := range a.Issuers {
		is := &a.Issuers[i]
		at := func(msg string, key string) { c.bad(msg, "approvals", "issuers", i, key) }
		if u, err := url.Parse(is.URL); err != nil || u.Host == "" || !slices.Contains([]string{"https", "http"}, u.Scheme) || seen[is.URL] {
			at(fmt.Sprintf("url %q: must be the issuer's URL (https; http only on loopback), once", is.URL), "url")
		}
		seen[is.URL] = true
		if is.Client == "" {
			at("client: required: the client that is registered there for approvals", "client")
		}
		if is.DeviceClient != "" && is.DeviceClient == is.Client {
			at("device_client: must be another than client, which must not have the device grant: who logs in by device code decides nothing", "device_client")
		}
		if len(is.Person) > 128 || strings.ContainsFunc(is.Person, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }) {
			at(fmt.Sprintf("person %q: must be the name of a claim, like oid", is.Person), "person")
		}
		if is.Skew < 0 || is.Skew > time.Minute {
			at(fmt.Sprintf("skew %s: must be between 0 and 1m", is.Skew), "skew")
		}
	}
	c.approvalSAML(a, seen)
}
