package page_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy/approval/page"
)

const fine = `hosts: [ward-3]
listen: 127.0.0.1:8080
base_url: https://approvals.example.com/sallyport/
issuers:
  - url: https://login.example.com
    client: sallyport-approvals
`

func load(t *testing.T, text string) (*page.Settings, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "approvals.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return page.Load(file)
}

// What is wrong is told with its line, and how to mend it.
func TestWrongSettings(t *testing.T) {
	if _, err := load(t, fine); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, with, line, want string }{
		{"hosts: [ward-3]\n", "", ":1:", "name the hosts"},
		{"[ward-3]", "[ward-3, ward-3]", ":1:", "once"},
		{"[ward-3]", "['ward.>']", ":1:", "a host's name"},
		{"127.0.0.1:8080", "0.0.0.0:8080", ":2:", "without tls it must be loopback"},
		{"127.0.0.1:8080", "localhost", ":2:", "ip:port"},
		{"https://approvals.example.com/sallyport/", "http://approvals.example.com", ":3:", "must be https"},
		{"https://approvals.example.com/sallyport/", "https://a:b@example.com", ":3:", "how browsers reach"},
		{"https://approvals.example.com/sallyport/", "https://example.com/?x", ":3:", "how browsers reach"},
		{"https://login.example.com", "http://login.example.com", ":5:", "https"},
		{"    client: sallyport-approvals\n", "", ":5:", "client: required"},
		{"client: sallyport-approvals", "client: a\n    algorithms: [HS256]", ":7:", "HS256"},
		{"client: sallyport-approvals", "client: a\n    skew: 5m", ":7:", "skew"},
		{"client: sallyport-approvals", "client: a\n    secret_file: /nowhere/at/all", ":7:", "secret_file"},
		{"listen:", "nats: nats://nats.example.com:4222\nlisten:", ":2:", "use tls://"},
		{"listen:", "nats: nats.example.com\nlisten:", ":2:", "use tls://"},
		{"listen:", "nats: tls://a\nnats_tls: {ca_file: /nowhere/at/all}\nlisten:", ":3:", "ca_file"},
		{"listen:", "listens:", ":2:", "listens"},
		{"listen:", "tls: {cert: x}\nlisten:", ":2:", "cert and key"},
		{"issuers:", "signing_key: /nowhere/at/all\nissuers:", ":4:", "signing_key"},
		{"issuers:", "saml: [{name: a, entity_id: b, audience: c, metadata: approvals.yaml}]\nissuers:", ":1:", "signing_key: required with saml"},
		{"issuers:", "signing_key: approvals.yaml\nsaml: [{name: a, entity_id: b, audience: c, metadata: approvals.yaml}]\nissuers:", ":4:", "Ed25519 key in PEM form"},
		{"issuers:", "saml: [{name: a, entity_id: b, metadata: approvals.yaml}]\nissuers:", ":4:", "audience"},
		{"issuers:", "saml: [{name: a, entity_id: b, audience: c, metadata: /nowhere/at/all}]\nissuers:", ":4:", "metadata"},
		{"issuers:", "saml: [{name: a, entity_id: b, audience: c, metadata: approvals.yaml, skew: 2m}]\nissuers:", ":4:", "skew"},
		{fine, "", ":1:", "empty"},
		{fine, fine + "---\nx: 1\n", "", "more than one"},
	} {
		_, err := load(t, strings.Replace(fine, c.old, c.with, 1))
		if err == nil || !strings.Contains(err.Error(), c.line) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: %v, want %s %q", c.with, c.old, err, c.line, c.want)
		}
	}
}

// The example is one that holds, and has each field.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../../../docs/approvals.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"approvals.nk", "page.pem", "page.key", "client.secret", "idp.xml"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "signing.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "approvals.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := page.Load(file); err != nil {
		t.Error(err)
	} else if got := s.PublicKey(); got != "ed25519:O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik=" { // of the seed of zeros
		t.Error(got)
	}
	for _, field := range []string{"nats", "nkey", "nats_tls", "ca_file", "cert_file", "key_file", "hosts", "listen", "base_url", "tls", "cert", "key", "issuers", "url", "client", "secret_file", "name", "algorithms", "skew", "scopes", "saml", "entity_id", "audience", "metadata", "subject", "attributes", "signing_key"} {
		if !strings.Contains(string(text), field+":") {
			t.Errorf("it does not show %s", field)
		}
	}
}
