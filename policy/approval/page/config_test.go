package page_test

import (
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
		{"listen:", "listens:", ":2:", "listens"},
		{"listen:", "tls: {cert: x}\nlisten:", ":2:", "cert and key"},
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
	for _, name := range []string{"approvals.nk", "page.pem", "page.key", "client.secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "approvals.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := page.Load(file); err != nil {
		t.Error(err)
	}
	for _, field := range []string{"nats", "nkey", "hosts", "listen", "base_url", "tls", "cert", "key", "issuers", "url", "client", "secret_file", "name", "algorithms", "skew", "scopes"} {
		if !strings.Contains(string(text), field+":") {
			t.Errorf("it does not show %s", field)
		}
	}
}
