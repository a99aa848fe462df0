package config_test

import (
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
)

const approversBySAML = `approvals:
  issuers: [{url: "https://login.example", client: approvers}]
  saml:
    - {name: staff, entity_id: "https://idp.example", audience: "https://page.example", acs: "https://page.example/acs", metadata: idp.xml, person: email}
  recorder_keys: ["ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]
`

func TestApproversBySAML(t *testing.T) {
	c, err := config.Parse([]byte(small+approversBySAML), "/etc/sallyport/sallyport.yaml")
	if err != nil {
		t.Fatal(err)
	}
	a := &c.Approvals
	if s := a.SAML[0]; s.Metadata != "/etc/sallyport/idp.xml" || s.Skew != 30*time.Second || s.OfflineGrace != 24*time.Hour || a.PersonBySAML("staff") != "email" || a.PersonBySAML("https://idp.example") != "" {
		t.Errorf("%+v", s)
	}
	if got := strings.Join(a.Claims(), " "); got != "sub email" || len(a.Keys()) != 1 || len(a.Keys()[0]) != 32 || a.Person("https://idp.example") != "" {
		t.Error(got, a.Keys())
	}
	for name, c := range map[string]struct{ old, by, why string }{
		"no name":            {"name: staff", `name: ""`, "must be unique"},
		"an issuer's":        {"https://idp.example", "https://login.example", "unique among approvals.saml and approvals.issuers"},
		"no audience":        {`audience: "https://page.example", `, "", "audience: required"},
		"acs in clear":       {"https://page.example/acs", "http://page.example/acs", "must be the page's"},
		"acs without a path": {"https://page.example/acs", "https://page.example", "must be the page's"},
		"no metadata":        {", metadata: idp.xml", "", "metadata: required"},
		"metadata by trust":  {"idp.xml", `"https://idp.example/md"`, "pins"},
		"no person":          {", person: email", "", "person"},
		"by sub":             {"person: email", "person: sub", "person"},
		"much skew":          {"idp.xml", "idp.xml, skew: 2m", "skew"},
		"a long grace":       {"idp.xml", "idp.xml, offline_grace: 200h", "offline_grace"},
		"a life":             {"idp.xml", "idp.xml, max_age: 1h", "unknown field"},
		"no key":             {`"ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="`, "", "recorder_keys: required"},
		"a short key":        {"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "AAAA", "base64 of its 32 bytes"},
		"another algorithm":  {"ed25519:", "rsa:", "base64 of its 32 bytes"},
	} {
		text := strings.Replace(approversBySAML, c.old, c.by, 1)
		if _, err := config.Parse([]byte(small+text), "c.yaml"); err == nil || !strings.Contains(err.Error(), c.why) || !strings.HasPrefix(err.Error(), "c.yaml:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
