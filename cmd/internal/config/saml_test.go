package config_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
)

// withSAML is a configuration with providers; each stands on a line of its own,
// from line 9 on.
func withSAML(providers ...string) []byte {
	return []byte(small + "  saml:\n    - {" + strings.Join(providers, "}\n    - {") + "}\n")
}

const (
	fileIdP = `name: clinic, entity_id: "https://idp.example", audience: "https://us.example", acs: "http://127.0.0.1:7080/acs", metadata: idp.xml`
	urlIdP  = `name: other, entity_id: "urn:other", audience: us, acs: "http://[::1]:7081/saml/acs", metadata: "https://other.example/md", pins: ["sha256:%s"]`
)

func TestSAML(t *testing.T) {
	pin := strings.Repeat("AB:", 31) + "ab"
	c, err := config.Parse(withSAML(fileIdP, fmt.Sprintf(urlIdP, pin)), "/etc/sallyport/sallyport.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f, u := c.Identity.SAML[0], c.Identity.SAML[1]
	if f.Remote() || f.Metadata != "/etc/sallyport/idp.xml" || f.Skew != 30*time.Second || f.MaxAge != 8*time.Hour || f.OfflineGrace != 24*time.Hour || f.Attributes != nil {
		t.Errorf("%+v", f)
	}
	if sum, err := config.Pin(u.Pins[0]); !u.Remote() || u.Metadata != "https://other.example/md" || err != nil || sum[0] != 0xab || sum[31] != 0xab {
		t.Errorf("%+v %v", u, err)
	}
}

func TestSAMLMistakes(t *testing.T) {
	for name, c := range map[string]struct{ old, by, why string }{
		"no name":             {"name: clinic", `name: ""`, "must be unique"},
		"a name of spaces":    {"name: clinic", `name: "a b"`, "must be unique"},
		"no entity id":        {`entity_id: "https://idp.example"`, `entity_id: ""`, "entity_id"},
		"an issuer's":         {"https://idp.example", "https://issuer.example", "unique among identity.saml and identity.issuers"},
		"no audience":         {`audience: "https://us.example", `, "", "audience: required"},
		"acs elsewhere":       {"http://127.0.0.1:7080", "https://us.example", "must be http on loopback"},
		"acs without a port":  {":7080", "", "must be http on loopback"},
		"acs without a path":  {"7080/acs", "7080", "must be http on loopback"},
		"no metadata":         {", metadata: idp.xml", "", "metadata: required"},
		"metadata in clear":   {"idp.xml", `"http://idp.example/md", pins: ["sha256:` + strings.Repeat("ab", 32) + `"]`, "https URL"},
		"metadata by trust":   {"idp.xml", `"https://idp.example/md"`, "pins"},
		"a pin of SHA-1":      {"idp.xml", `idp.xml, pins: ["sha1:00"]`, "64 hexadecimal digits"},
		"a short pin":         {"idp.xml", `idp.xml, pins: ["sha256:00"]`, "64 hexadecimal digits"},
		"a claim of its own":  {"idp.xml", "idp.xml, attributes: {name_id: x}", "other than name_id"},
		"a claim of nothing":  {"idp.xml", `idp.xml, attributes: {x: ""}`, "attribute's name"},
		"much skew":           {"idp.xml", "idp.xml, skew: 6m", "skew"},
		"a long life":         {"idp.xml", "idp.xml, max_age: 200h", "max_age"},
		"a long grace":        {"idp.xml", "idp.xml, offline_grace: 200h", "offline_grace"},
		"an unknown field":    {"idp.xml", "idp.xml, sign: no", "unknown field"},
		"something elsewhere": {"idp.xml", "idp.xml, attributes: [x]", "cannot unmarshal"},
	} {
		if !strings.Contains(fileIdP, c.old) {
			t.Fatalf("%s: nothing is changed", name)
		}
		_, err := config.Parse(withSAML(strings.Replace(fileIdP, c.old, c.by, 1)), "x.yaml")
		if err == nil || !strings.Contains(err.Error(), "x.yaml:10: ") || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := config.Parse(withSAML(fileIdP, fileIdP), "x.yaml")
	if err == nil || !strings.Contains(err.Error(), "x.yaml:11: name") || !strings.Contains(err.Error(), "x.yaml:11: entity_id") {
		t.Error(err)
	}
}
