package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

const rulesOfAllKinds = `rules:
  - name: reads
    identity: {workload: billing-agent}
    resource: clinic
    commands: [read, session]
    relations: "*"
    effect: allow
    limits: {statement: {rows: 100}, hour: {bytes: 1MiB, statements: 7}, session: {length: 8h}}
  - name: own
    identity: {workload: billing-agent}
    resource: clinic
    relations: clinic.encounters
    where: patient_id IN {identity.claims.patients} AND NOT (note = 'it''s' OR note IS NULL)
    effect: filter
  - name: replica
    identity: {workload: replicator}
    resource: clinic
    commands: ["*", function_call, replication, undecoded]
    relations: "*"
    effect: allow
`

// Filters and limits have lines of their own, and sessions that can't be read can
// be asked about, of a server and in tests.
func TestPolicyExplainsRules(t *testing.T) {
	server, err := postgrestest.Start(clinicSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	config := policyFiles(t, rulesOfAllKinds, server.Addr.String(), ", catalog: {user: sallyport_catalog}")
	explain := func(args ...string) string {
		t.Helper()
		out, err := command(append([]string{"policy", "explain", "-c", config, "--as"}, args...)...)
		if err != nil {
			t.Errorf("%q: %v", args, err)
		}
		return out
	}
	out := explain("billing-agent,claim.patients=7,claim.patients=8", "--database", "postgres", "SELECT count(*) FROM clinic.encounters")
	for _, want := range []string{
		"filters    clinic.encounters: patient_id IN ('7', '8') AND NOT (note = 'it''s' OR note IS NULL)\n",
		"limits     reads: 100 rows a statement, 1048576 bytes an hour, 7 statements an hour, sessions of 8h0m0s\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out := explain("billing-agent", "--database", "postgres", "SELECT 1"); strings.Contains(out, "filters") {
		t.Error(out)
	}
	if out := explain("replicator", "--undecoded"); !strings.HasPrefix(out, "verdict    allow\nrequest    undecoded") || !strings.Contains(out, "rules      replica\n") || !strings.Contains(out, "warning    resource clinic has no such way") {
		t.Error(out)
	}
	if out := explain("billing-agent", "--undecoded"); !strings.HasPrefix(out, "verdict    deny\n") || strings.Contains(out, "records") {
		t.Error(out)
	}
	if _, err := command("policy", "explain", "-c", config, "--as", "replicator", "--undecoded", "SELECT 1"); exitCode(err) != 2 || !strings.Contains(err.Error(), "leave statement") {
		t.Error(err)
	}

	dir := filepath.Dir(config)
	cases := func(tests string) (string, error) {
		file := filepath.Join(dir, "policy.test.yaml")
		if err := os.WriteFile(file, []byte("policy: policy.yaml\ntests:\n"+tests), 0o600); err != nil {
			t.Fatal(err)
		}
		return command("policy", "test", file)
	}
	if out, err := cases(`- {name: a, as: replicator, resource: clinic, commands: [undecoded], want: allow, rules: [replica]}
- {name: b, as: billing-agent, resource: clinic, commands: [undecoded], want: deny}
`); err != nil || out != "2 tests passed\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := cases("- {name: a, as: replicator, resource: clinic, database: x, commands: [undecoded], want: allow}\n"); exitCode(err) != 2 || !strings.Contains(err.Error(), "leave database") {
		t.Error(err)
	}
}
