package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/cmd/internal/config"
)

// withAccounts is a configuration whose only resource has these lines more;
// they begin in line 6.
func withAccounts(lines, more string) string {
	return `host: test
resources:
  - name: clinic
    protocol: postgres
    addresses: ["10.0.0.1:5432"]
` + lines + `
identity:
  issuers: [{url: "https://one.test", audience: sallyport}, {url: "https://two.test", audience: sallyport}]
` + more
}

func TestAccounts(t *testing.T) {
	c, err := config.Parse([]byte(withAccounts(`    accounts:
      - {workloads: [a], user: u, password_file: secrets/u}
      - {workloads: [b], vault: {path: db/creds/x}}
      - {workloads: [c], user: u, password_file: $CREDENTIALS_DIRECTORY/u}`, `vault: {address: "https://vault.test", token_file: token}`)), "/etc/sallyport/sallyport.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := c.Resources[0]
	if !r.Brokered() || r.Accounts[0].PasswordFile != "/etc/sallyport/secrets/u" || c.Vault.TokenFile != "/etc/sallyport/token" {
		t.Errorf("%+v", r)
	}
	var names []string
	for _, f := range c.SecretFiles() {
		path, err := f.Where(func(string) string { return "/run/credentials/s" })
		if err != nil {
			t.Error(err)
		}
		names = append(names, path+" "+filepath.Base(f.At))
	}
	if want := "[/etc/sallyport/secrets/u sallyport.yaml:7 /run/credentials/s/u sallyport.yaml:9 /etc/sallyport/token sallyport.yaml:12]"; fmt.Sprint(names) != want {
		t.Errorf("%v, want %s", names, want)
	}
	f := config.SecretFile{Name: "$CREDENTIALS_DIRECTORY/u"}
	if _, err := f.Where(func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), "LoadCredential=") {
		t.Errorf("%v", err)
	}
	c, err = config.Parse([]byte(withAccounts("", "")), "x")
	if err != nil || c.Resources[0].Brokered() || c.Resources[0].Login != config.LoginPass {
		t.Errorf("%v: %+v", err, c)
	}
}

func TestAccountMistakes(t *testing.T) {
	const vault = `vault: {address: "https://vault.test", token_file: t}`
	for _, c := range []struct{ lines, more, want string }{
		{"    login: broker", "", "6: login is broker: list accounts"},
		{"    login: maybe", "", "6: login"},
		{"    accounts: [{workloads: [a], user: u, password_file: f}]\n    login: pass", "", "7: login is pass"},
		{"    accounts: [{user: u, password_file: f}]", "", "6: whom is it for"},
		{"    accounts:\n      - workloads: []\n        user: u\n        password_file: f", "", "7: workloads: an empty list"},
		{"    accounts:\n      - workloads: [a]\n        proofs: [oidc, trust-me]\n        user: u\n        password_file: f", "", `8: proof "trust-me"`},
		{"    accounts: [{workloads: [a], user: u}]", "", "6: one of password_file, vault, rds, certificate and svid"},
		{"    accounts: [{workloads: [a], user: u, password_file: f, svid: true}]", "", "6: one of password_file"},
		{"    accounts: [{workloads: [a], password_file: f}]", "", "6: user: required"},
		{"    accounts: [{workloads: [a], user: u, vault: {path: db/creds/x}}]", vault, "6: user: required, but not with vault"},
		{"    accounts: [{workloads: [a], vault: {path: db/creds/x}}]", "", ": vault: an account comes from it"},
		{"    accounts: [{workloads: [a], vault: {path: sys/leases}}]", vault, `6: path "sys/leases"`},
		{"    accounts: [{workloads: [a], vault: {path: db/creds/../../sys/x}}]", vault, "6: path"},
		{"    accounts: [{workloads: [a], vault: {path: db/static-creds/x, per_session: true}}]", vault, "6: per_session"},
		{"    accounts: [{workloads: [a], user: u, password_file: f, auth: kerberos}]", "", `6: auth "kerberos"`},
		{"    accounts: [{workloads: [a], user: none, password_file: f}]", "", "6: user: name"},
		{"    accounts: [{workloads: [a], user: u, password_file: f, set_role: '{workload}_{actor}'}]", "", "6: set_role: "},
		{"    accounts: [{workloads: [a], user: u, password_file: f, set_role: '{principal}'}]", "", "6: set_role: {principal} is somebody else's with each issuer"},
		{"    accounts: [{workloads: [a], user: '{actor}', password_file: f}]", "", "6: user: {actor} is somebody else's"},
		{"    accounts: [{workloads: [a], user: u, rds: {region: eu-central-1, credentials_file: f}}]", "", "6: endpoint"},
		{"    accounts: [{workloads: [a], user: u, rds: {region: here, endpoint: 'a:1', credentials_file: f}}]", "", "6: region"},
		{"    accounts: [{workloads: [a], user: u, rds: {region: eu-central-1, endpoint: 'a:1'}}]", "", "6: credentials_file"},
		{"    accounts: [{workloads: [a], user: u, certificate: {certificate: f}}]", "", "6: certificate and key"},
		{"    accounts: [{workloads: [a], user: u, svid: true}]", "", "6: svid: this host asks no SPIFFE agent"},
		{"    accounts: [{workloads: [a], user: u, svid: true}]\n    tls: {server: 'off'}", "", "6: it is only used inside of TLS"},
		{"    accounts: [{workloads: [a], user: u, password_file: f, auth: password}]\n    tls: {server: 'off'}", "", "6: it is only used inside of TLS"},
		{"    accounts: [{workloads: [a], user: u, password_file: f, pasword: x}]", "", `unknown field "pasword"`},
		{"    agents: [{user: u, verifier: v}]", "", "6: agents: list at least one, where login is broker"},
		{"    accounts: [{workloads: [a], user: u, password_file: f}]\n    agents: [{user: u}]", "", "7: verifier: required"},
		{"    accounts: [{workloads: [a], user: u, password_file: f}]\n    agents: [{user: u, verifier: v}, {user: u, verifier: v}]", "", `7: user "u": must be set and unique`},
		{"", `vault: {address: "http://vault.test", token_file: t}`, `: address "http://vault.test"`},
		{"", `vault: {address: "https://u:p@vault.test", token_file: t}`, ": address"},
		{"", `vault: {address: "https://vault.test"}`, ": one of token_file and approle"},
		{"", `vault: {address: "https://vault.test", approle: {role_id: r}}`, ": approle: role_id and secret_id_file"},
		{"", `vault: {address: "https://vault.test", approle: {mount: /sys, role_id: r, secret_id_file: f}}`, `: mount "/sys"`},
	} {
		_, err := config.Parse([]byte(withAccounts(c.lines, c.more)), "x.yaml")
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "x.yaml:") {
			t.Errorf("%s %s: %v, want %s", c.lines, c.more, err, c.want)
		}
	}
}

// The YAML in docs/credentials.md is taken as it stands.
func TestCredentialsExamples(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/credentials.md")
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(doc), -1)
	for _, m := range all {
		dec := yaml.NewDecoder(strings.NewReader(m[1]))
		dec.KnownFields(true)
		if err := dec.Decode(&config.Config{}); err != nil {
			t.Errorf("%v in\n%s", err, m[1])
		}
		if _, err := config.Parse([]byte(m[1]+"identity: {issuers: [{url: https://login.example.com, audience: sallyport}]}\n"), "x"); err != nil {
			t.Errorf("%v in\n%s", err, m[1])
		}
	}
	if len(all) < 3 {
		t.Errorf("%d examples", len(all))
	}
}
