package rules_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
	"sallyport.dev/sallyport/policy/rules"
)

const manual = "../../docs/policy.md"

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// Each example of the manual is a policy.
func TestManualExamples(t *testing.T) {
	n := 0
	for _, m := range yamlBlock.FindAllStringSubmatch(read(t, manual), -1) {
		text := m[1]
		switch {
		case strings.HasPrefix(text, "policy:"):
			continue // a table of tests
		case !strings.HasPrefix(text, "rules:") && !strings.Contains(text, "\nrules:"):
			text = "rules:\n" + text
		}
		if _, err := rules.Parse(rules.File{Name: "example", Data: []byte(text)}); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
		n++
	}
	if n < 8 {
		t.Errorf("%d examples", n)
	}
}

// The manual names all that a policy may say.
func TestManualIsWhole(t *testing.T) {
	text := read(t, manual)
	words := append(rules.Words(), mask.Names...)
	for _, w := range words {
		if !strings.Contains(text, "`"+w+"`") && !strings.Contains(text, "`"+w+":") {
			t.Errorf("%s is not in the manual", w)
		}
	}
}

// What the manual shows of partial.
func TestManualMasks(t *testing.T) {
	for _, m := range regexp.MustCompile("(?m)^\\| (?:`(.*)`|\\(empty\\)) \\| `(.*)` \\| `(.*)` \\|$").FindAllStringSubmatch(read(t, manual), -1) {
		last, _ := mask.Apply(policy.Mask{Kind: "partial", Last: 4}, mask.Type{Name: "text"}, m[1])
		first, _ := mask.Apply(policy.Mask{Kind: "partial", First: 1}, mask.Type{Name: "text"}, m[1])
		if last != m[2] || first != m[3] {
			t.Errorf("%q: %s and %s, want %s and %s", m[1], last, first, m[2], m[3])
		}
	}
}

// The clinic's policy decides what its comments say.
func TestExample(t *testing.T) {
	p, err := rules.Load("../../docs/policy.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	billing := func(s *policy.Session) {
		s.Resource, s.Labels = "clinic", map[string]string{"env": "production"}
		s.Peer.Exe = "/opt/billing/agent"
	}
	as := func(name, role string) func(*policy.Session) {
		return func(s *policy.Session) {
			billing(s)
			s.Identity.Workload, s.Identity.Issuer, s.Identity.Claims = name, "https://login.example.com", map[string]any{"role": role}
		}
	}
	elsewhere := func(s *policy.Session) {
		billing(s)
		s.Peer.Exe = "/usr/bin/psql"
	}
	alone := func(s *policy.Session) {
		billing(s)
		s.Identity.Actors = nil
	}
	for _, c := range []struct {
		who        func(*policy.Session)
		text, want string
	}{
		{billing, "LOGIN", "allow by reports"},
		{elsewhere, "LOGIN", "block by known programs"},
		{billing, "select clinic.patients/read masked=clinic.patients.ssn", "mask by patient identifiers, billing reads"},
		{billing, "insert billing.invoices/insert", "allow by billing writes"},
		{alone, "insert billing.invoices/insert", "deny by default"},
		{billing, "copy_to clinic.encounters/read", "block by no bulk copies"},
		{billing, "delete clinic.patients/delete", "block by nothing is destroyed"},
		{billing, "select pg_catalog.pg_class/read", "allow by catalogs"},
		{as("report-builder", ""), "create_table_as reporting.weeks/define clinic.encounters/read", "allow by reports build, reports read"},
		{as("report-builder", ""), "create_table clinic.weeks/define", "deny by default"},
		{as("intake-agent", "nurse"), "select clinic.patients/read masked=clinic.patients.name", "mask by patient identifiers, care reads"},
		{as("intake-agent", "doctor"), "select clinic.patients/read", "allow by care reads"},
		{as("intake-agent", "clerk"), "select clinic.patients/read", "deny by default"},
	} {
		if c.text == "LOGIN" && c.want[0] == 'a' {
			if got := decide(t, p, agent(c.who), c.text); !strings.HasPrefix(got, "allow") {
				t.Errorf("%s: %s", c.text, got)
			}
			continue
		}
		if got := decide(t, p, agent(c.who), c.text); got != c.want {
			t.Errorf("%s: %s, want %s", c.text, got, c.want)
		}
	}
	rel := policy.Relation{Schema: "clinic", Name: "patients"}
	if m := p.Scope(agent(as("intake-agent", "doctor")), noon).Masks; len(m) != 0 {
		t.Errorf("a doctor: %v", m)
	}
	if m := p.Scope(agent(as("intake-agent", "nurse")), noon).Masks[rel]; len(m) != 6 {
		t.Errorf("a nurse: %v", m)
	}
	if m := p.Scope(agent(billing), noon).Masks[rel]; len(m) != 7 || m["ssn"] != (policy.Mask{Kind: "partial", Last: 4}) {
		t.Errorf("billing: %v", m)
	}
}
