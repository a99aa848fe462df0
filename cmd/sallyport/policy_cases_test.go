package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

const revealing = `
  - name: who calls
    identity: {workload: billing-agent}
    resource: clinic
    reveal: [clinic.patients.ssn]
    justification: 20
    effect: reveal
  - name: city
    identity: {workload: billing-agent}
    resource: clinic
    relations: clinic.encounters
    where: patient_id = 7
    effect: filter
`

// Tests may give a statement, and say what explain prints of it. What is not as
// wanted is told with its line.
func TestPolicyTestsStatements(t *testing.T) {
	server, err := postgrestest.Start(clinicSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	good, _ := manualExamples(t)
	config := policyFiles(t, good+revealing, server.Addr.String(), ", catalog: {user: sallyport_catalog}")
	file := filepath.Join(filepath.Dir(config), "policy.test.yaml")
	run := func(tests string, args ...string) (string, error) {
		t.Helper()
		if err := os.WriteFile(file, []byte("policy: policy.yaml\ntests:\n"+tests), 0o600); err != nil {
			t.Fatal(err)
		}
		return command(append([]string{"policy", "test", "-c", config, file}, args...)...)
	}
	const as = "  as: billing-agent\n  resource: clinic\n  database: postgres\n"
	const tests = "- name: end\n" + as + `  statement: SELECT ssn FROM clinic.patients
  want: mask
  rules: [billing reads, identifiers]
  masks: ["clinic.patients.ssn: partial, last 4"]
  reveals: ["clinic.patients.ssn: with a justification only, of at least 20 characters for rule \"who calls\""]
  filters: []
` + "- name: all\n" + as + `  justification: patient calls to change her address
  statement: SELECT ssn FROM clinic.patients
  want: allow
  masks: []
  reveals: [clinic.patients.ssn]
` + "- name: own\n" + as + `  statement: SELECT note FROM clinic.encounters
  want: allow
  filters: ["clinic.encounters: patient_id = '7'"]
  rewritten: SELECT note FROM (SELECT note FROM clinic.encounters WHERE patient_id OPERATOR(pg_catalog.=) '7'::int) encounters
` + "- name: gone\n" + as + `  statement: DELETE FROM clinic.patients
  want: block
` + "- name: nobody\n  as: nobody\n  database: postgres\n" + `  statement: SELECT 1
  want: deny
`
	out, err := run(tests)
	if err != nil || out != "5 tests passed\n" {
		t.Fatalf("%s%v", out, err)
	}
	bad := strings.NewReplacer("last 4", "last 3", "reveals: [clinic.patients.ssn]", "reveals: []", "want: block", "want: allow", "'7'::int) enc", "'8'::int) enc").Replace(tests)
	out, err = run(bad)
	if exitCode(err) != 1 || err.Error() != "4 of 5 tests failed" || strings.Count(out, "\n") != 4 {
		t.Errorf("%s%v", out, err)
	}
	for _, want := range []string{
		":10: end: masks: clinic.patients.ssn: partial, last 4, want clinic.patients.ssn: partial, last 3\n",
		":21: all: reveals: clinic.patients.ssn, want nothing\n",
		":29: own: rewritten: SELECT note FROM (",
		":30: gone: block by nothing is destroyed, want allow; rule ",
	} {
		if !strings.Contains(out, file+want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	var rep struct{ Failed []caseFailure }
	if out, err := run(bad, "--json"); exitCode(err) != 1 || json.Unmarshal([]byte(out), &rep) != nil || len(rep.Failed) != 4 ||
		len(rep.Failed[1].Differs) != 1 || rep.Failed[1].Differs[0] != (caseDiff{21, "reveals", "clinic.patients.ssn", ""}) {
		t.Errorf("%s%v", out, err)
	}
	for text, want := range map[string]string{
		"- {name: a, as: billing-agent, statement: SELECT 1, want: allow}":                                               ":3: statement: name the database",
		"- {name: a, as: billing-agent, database: postgres, resource: ward, statement: SELECT 1, want: allow}":           "name one of clinic",
		"- {name: a, as: billing-agent, database: postgres, statement: SELECT 1, commands: [select], want: allow}":       ":3: statement: what it does is read from it",
		"- {name: a, as: billing-agent, commands: [select], masks: [], want: allow}":                                     ":3: rewritten, masks, reveals, filters and would are of a statement",
		"- {name: a, as: billing-agent, database: postgres, statement: SELECT 1, want: allow, masks: clinic.patients.s}": "cannot unmarshal",
	} {
		if _, err := run(text); exitCode(err) != 2 || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if out, err := command("policy", "explain", "-c", config, "--as", "billing-agent", "--database", "postgres", "--justification", "patient calls to change her address", "SELECT ssn, name FROM clinic.patients"); err != nil ||
		!strings.Contains(out, "masks      clinic.patients.name: redact\nreveals    clinic.patients.ssn\n") {
		t.Errorf("%s%v", out, err)
	}
	approved := policyFiles(t, good+strings.Replace(revealing, "    effect: reveal\n", "    effect: reveal\n    approve: {by: {issuer: \"https://login.example.com\", subjects: lee}}\n", 1), server.Addr.String(), ", catalog: {user: sallyport_catalog}")
	if out, err := command("policy", "explain", "-c", approved, "--as", "billing-agent", "--database", "postgres", "--justification", "patient calls to change her address", "SELECT ssn, name FROM clinic.patients"); err != nil ||
		!strings.Contains(out, "verdict    approve\n") || !strings.Contains(out, "reveals    clinic.patients.ssn: with an approval only\n") {
		t.Errorf("%s%v", out, err)
	}
	if out, err := command("policy", "explain", "-c", approved, "--as", "billing-agent", "--database", "postgres", "SELECT ssn FROM clinic.patients"); err != nil ||
		!strings.Contains(out, "verdict    mask\n") || !strings.Contains(out, "for rule \"who calls\" and an approval\n") {
		t.Errorf("%s%v", out, err)
	}
	observed := policyFiles(t, strings.ReplaceAll(good, "- name: nothing is", "- observe: true\n    name: nothing is"), server.Addr.String(), ", catalog: {user: sallyport_catalog}")
	if out, err := command("policy", "check", "-c", observed); err != nil || !strings.Contains(out, `warning: `) || !strings.Contains(out, `:17: rule "nothing is destroyed" only observes: what it would block goes on`) {
		t.Errorf("%s%v", out, err)
	}
	if out, err := command("policy", "explain", "-c", observed, "--as", "billing-agent", "--database", "postgres", "SELECT ssn FROM clinic.patients"); err != nil || strings.Contains(out, "observes") {
		t.Errorf("%s%v", out, err)
	}
	const gone = `observes   would-block by nothing is destroyed: rule "nothing is destroyed" blocks delete on clinic.patients: records of patients`
	all := good + "\n  - {name: all, effect: allow, identity: {workload: billing-agent}, resource: clinic, commands: delete, relations: clinic.*}\n"
	observed = policyFiles(t, strings.ReplaceAll(all, "- name: nothing is", "- observe: true\n    name: nothing is"), server.Addr.String(), ", catalog: {user: sallyport_catalog}")
	if out, err := command("policy", "explain", "-c", observed, "--as", "billing-agent", "--database", "postgres", "DELETE FROM clinic.patients WHERE city = 'x'"); err != nil || !strings.HasPrefix(out, "verdict    allow\n") || !strings.Contains(out, gone) {
		t.Errorf("%s%v", out, err)
	}
	server.Stop()
	if _, err := run(tests); exitCode(err) != 1 || !strings.Contains(err.Error(), ":3: ") {
		t.Errorf("no server: %v", err)
	}
}

// The schema is the loader's.
func TestPolicySchema(t *testing.T) {
	out, err := command("policy", "schema")
	var doc struct {
		Schema string `json:"$schema"`
	}
	if jerr := json.Unmarshal([]byte(out), &doc); err != nil || jerr != nil || doc.Schema == "" || !strings.HasSuffix(out, "}\n") {
		t.Errorf("%v, %v: %.200s", err, jerr, out)
	}
}
