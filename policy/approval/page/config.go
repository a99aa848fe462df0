package page

import (
	"crypto/ed25519"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/internal/lined"
	"sallyport.dev/sallyport/internal/loopback"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// Settings of sallyport-recorder approvals: docs/approvals.md documents each field.
type Settings struct {
	NATS    string        `yaml:"nats"`     // address; default nats://127.0.0.1:4222
	NKey    string        `yaml:"nkey"`     // nkey seed or .creds file
	NATSTLS jetstream.TLS `yaml:"nats_tls"` // towards NATS
	Hosts   []string      `yaml:"hosts"`    // that are asked, as they are named in events
	Listen  string        `yaml:"listen"`   // ip:port; without tls on loopback only
	BaseURL string        `yaml:"base_url"` // as browsers reach the page
	TLS     *TLS          `yaml:"tls"`
	Issuers []Issuer      `yaml:"issuers"`
	SAML    []SAML        `yaml:"saml"`
	// SigningKey is a file with the key that decisions by SAML are signed with: PEM,
	// PKCS#8, Ed25519.
	SigningKey string `yaml:"signing_key"`

	base *url.URL
	key  ed25519.PrivateKey
}

// TLS is what the page proves itself with.
type TLS struct {
	Cert string `yaml:"cert"` // PEM, with its chain
	Key  string `yaml:"key"`  // PEM
}

// Issuer is an OpenID Connect issuer that people log in at: one of the hosts'
// approvals.issuers, at the same client.
type Issuer struct {
	URL        string        `yaml:"url"`         // exactly as in the iss claim
	Client     string        `yaml:"client"`      // with base_url and /callback as a redirect
	SecretFile string        `yaml:"secret_file"` // of the client's secret; "" where it has none
	Name       string        `yaml:"name"`        // as people read it; default the URL
	Algorithms []string      `yaml:"algorithms"`  // signature algorithms; default RS256, ES256
	Skew       time.Duration `yaml:"skew"`        // accepted clock skew; default 30s
	Scopes     []string      `yaml:"scopes"`      // that are asked for, besides openid

	secret string
}

// of is the issuer as tokens for the page are verified.
func (is *Issuer) of() oidc.Issuer {
	at := desk.Issuer{URL: is.URL, Algorithms: is.Algorithms, Skew: is.Skew}
	return at.At(is.Client)
}

// Load reads and checks a file. Errors name file, line and remedy; there may be
// several, joined. Relative paths are relative to the file.
func Load(path string) (*Settings, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("approvals: %w", err)
	}
	s := &Settings{}
	f, err := lined.Decode(text, path, s)
	if err != nil {
		return nil, err
	}
	c := &check{f}
	c.settings(s)
	return s, f.Err()
}

type check struct{ *lined.File }

func (c *check) file(file *string, at ...any) {
	c.Resolve(file)
	if _, err := os.Stat(*file); *file != "" && err != nil {
		c.Bad(fmt.Sprintf("%v: %v", at[len(at)-1], err), at...)
	}
}

func (c *check) settings(s *Settings) {
	if s.NATS == "" {
		s.NATS = "nats://127.0.0.1:4222"
	}
	if err := jetstream.CheckURL(s.NATS); err != nil {
		c.Bad(fmt.Sprintf("nats: statements and tokens go there: %v", err), "nats")
	}
	c.file(&s.NKey, "nkey")
	s.NATSTLS.CheckIn(c.File, s.NATS)
	if len(s.Hosts) == 0 {
		c.Bad("hosts: name the hosts whose requests are decided here", "hosts")
	}
	for i, h := range s.Hosts {
		if !jetstream.ValidHost.MatchString(h) || slices.Contains(s.Hosts[:i], h) {
			c.Bad(fmt.Sprintf("host %q: must be a host's name, once", h), "hosts", i)
		}
	}
	if a, err := netip.ParseAddrPort(s.Listen); err != nil {
		c.Bad(fmt.Sprintf("listen %q: must be an ip:port", s.Listen), "listen")
	} else if s.TLS == nil && !a.Addr().IsLoopback() {
		c.Bad("listen: without tls it must be loopback, with a proxy before it that has TLS", "listen")
	}
	if t := s.TLS; t != nil {
		if t.Cert == "" || t.Key == "" {
			c.Bad("tls: give cert and key", "tls")
		}
		c.file(&t.Cert, "tls", "cert")
		c.file(&t.Key, "tls", "key")
	}
	c.base(s)
	if len(s.Issuers) == 0 && len(s.SAML) == 0 {
		c.Bad("issuers: name at least one, that the hosts have too (approvals.issuers), or saml", "issuers")
	}
	c.saml(s)
	seen := map[string]bool{}
	for i := range s.Issuers {
		c.issuer(&s.Issuers[i], i, seen)
	}
}

func (c *check) base(s *Settings) {
	u, err := url.Parse(strings.TrimSuffix(s.BaseURL, "/"))
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && !basePath.MatchString(u.Path):
		c.Bad(fmt.Sprintf("base_url %q: must be how browsers reach the page, like https://approvals.example.com", s.BaseURL), "base_url")
	case u.Scheme == "https" || u.Scheme == "http" && loopback.Host(u.Hostname()) && s.TLS == nil:
		s.base = u
	default:
		c.Bad(fmt.Sprintf("base_url %q: must be https (http only on loopback, without tls)", s.BaseURL), "base_url")
	}
}

var basePath = regexp.MustCompile(`^(/[a-zA-Z0-9_-][a-zA-Z0-9._-]*)+$`)

func (c *check) issuer(is *Issuer, i int, seen map[string]bool) {
	at := func(why, key string) { c.Bad(why, "issuers", i, key) }
	u, err := url.Parse(is.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback.Host(u.Hostname())) || seen[is.URL] {
		at(fmt.Sprintf("url %q: must be the issuer's URL (https; http only on loopback), once", is.URL), "url")
	}
	seen[is.URL] = true
	if is.Client == "" {
		at("client: required: that of the hosts' approvals.issuers", "client")
	}
	if is.Name == "" {
		is.Name = is.URL
	}
	if len(is.Algorithms) == 0 {
		is.Algorithms = []string{"RS256", "ES256"}
	}
	for _, a := range is.Algorithms {
		if !slices.Contains(oidc.Algorithms(), a) {
			at(fmt.Sprintf("algorithm %q: must be one of %s", a, strings.Join(oidc.Algorithms(), ", ")), "algorithms")
		}
	}
	if is.Skew == 0 {
		is.Skew = 30 * time.Second
	}
	if is.Skew < 0 || is.Skew > time.Minute {
		at(fmt.Sprintf("skew %s: must be between 0 and 1m", is.Skew), "skew")
	}
	if is.SecretFile == "" {
		return
	}
	c.file(&is.SecretFile, "issuers", i, "secret_file")
	b, err := os.ReadFile(is.SecretFile)
	if is.secret = strings.TrimSpace(string(b)); err == nil && is.secret == "" {
		at("secret_file: is empty", "secret_file")
	}
}
