package config_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/config"
)

// A server on loopback is reached in clear unless the configuration says
// anything of what it must prove, or of what it is shown.
func TestSecured(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1:5432": false, "[::1]:5432": false, "192.0.2.1:5432": true, "localhost:5432": true, "nonsense": true} {
		if r := (config.Resource{}); r.Secured("tcp", address) != want {
			t.Errorf("%s: in TLS: %v", address, !want)
		}
		for _, tls := range []config.TLS{{Server: config.VerifyFull}, {CA: "ca.pem"}, {Name: "db"}, {Certificate: "c.pem", Key: "k.pem"}} {
			if r := (config.Resource{TLS: tls}); !r.Secured("tcp", address) {
				t.Errorf("%s with %+v: in clear", address, tls)
			}
		}
		if r := (config.Resource{TLS: config.TLS{Server: config.Off}}); r.Secured("tcp", address) {
			t.Errorf("%s, off: in TLS", address)
		}
	}
}

// What the passage can't read it can't log in to, nor can what it does not offer
// come to nothing.
func TestUndecoded(t *testing.T) {
	const accounts = `, accounts: [{workloads: ["*"], user: billing, password_file: /run/pw}]`
	for _, c := range []struct{ tls, more, authority, want string }{
		{"{undecoded: always}", "", "", ""},
		{"{undecoded: never}", accounts, "", ""},
		{"{undecoded: fallback, client_certificates: ignore}", "", "authority: {enabled: true}", ""},
		{"{client_certificates: refuse}", "", "", ""},
		{"{undecoded: always}", accounts, "", "logs in here in the agent's place"},
		{"{undecoded: fallback}", accounts, "authority: {enabled: true}", "logs in here in the agent's place"},
		{"{undecoded: always}", ", login: broker", "", "logs in here in the agent's place"},
		{"{undecoded: fallback}", "", "", "set authority.enabled"},
		{"{undecoded: fallback, agent: off}", "", "authority: {enabled: true}", "set authority.enabled"},
		{"{undecoded: sometimes}", "", "", "must be never, fallback or always"},
		{"{client_certificates: trust}", "", "", "must be refuse or ignore"},
	} {
		_, err := config.Parse([]byte(`resources:
  - {name: a, protocol: postgres, addresses: ["192.0.2.7:5432"], tls: `+c.tls+c.more+`}
identity: {issuers: [{url: "https://issuer.example", audience: a}]}
`+c.authority), "x.yaml")
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "x.yaml:2")) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
