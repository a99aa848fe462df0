package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

const clinicSchema = `
CREATE SCHEMA clinic;
CREATE TABLE clinic.patients (id int PRIMARY KEY, name text, ssn text, birth_date date, city text);
CREATE TABLE clinic.encounters (id int, patient_id int, note text);
CREATE TABLE public.products (id int);
CREATE ROLE sallyport_catalog LOGIN;
`

// policyFiles writes a configuration and a policy beside it.
func policyFiles(t *testing.T, policy, address, more string) (config string) {
	t.Helper()
	dir := t.TempDir()
	config = filepath.Join(dir, "sallyport.yaml")
	text := fmt.Sprintf(`host: test
resources:
  - {name: clinic, protocol: postgres, addresses: ["%s"]%s}
identity:
  issuers: [{url: "http://127.0.0.1:1", audience: test}]
  workloads: [{name: billing-agent, match: {uid: 1}, subjects: [a]}]
`, address, more)
	for f, b := range map[string]string{config: text, filepath.Join(dir, "policy.yaml"): policy} {
		if err := os.WriteFile(f, []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return config
}

// manualExamples returns the first policy of the manual, and its tests.
func manualExamples(t *testing.T) (policy, tests string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
		switch {
		case policy == "" && strings.HasPrefix(m[1], "rules:"):
			policy = m[1]
		case tests == "" && strings.HasPrefix(m[1], "policy:"):
			tests = m[1]
		}
	}
	return policy, tests
}

func exitCode(err error) int {
	var e *exitError
	if errors.As(err, &e) {
		return e.code
	}
	return 1
}

func TestPolicyCheck(t *testing.T) {
	good, _ := manualExamples(t)
	config := policyFiles(t, good, "127.0.0.1:1", "")
	policy := filepath.Join(filepath.Dir(config), "policy.yaml")
	if out, err := command("policy", "check", "-c", config); err != nil || out != policy+" is good: 3 rules, 1 allow, 1 block, 1 mask\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := command("policy", "check", policy); err != nil || !strings.Contains(out, "is good") {
		t.Errorf("without a configuration: %q, %v", out, err)
	}
	typo := policyFiles(t, strings.ReplaceAll(good, "resource: clinic", "resource: clinci"), "127.0.0.1:1", "")
	if out, err := command("policy", "check", "-c", typo); err != nil || strings.Count(out, `warning: `) != 3 || !strings.Contains(out, `policy.yaml:2: rule "billing reads": no resource "clinci" here`) {
		t.Errorf("a name that is not there: %q, %v", out, err)
	}
	keyed := policyFiles(t, strings.Replace(good, "ssn: {mask: partial, last: 4}", "ssn: token", 1), "127.0.0.1:1", "")
	if out, err := command("policy", "check", "-c", keyed); exitCode(err) != 2 || out != "" || !strings.Contains(err.Error(), "ssn: mask token needs a key: make one with openssl rand -hex 32, and name its file as masking.key_file") {
		t.Errorf("a keyed mask without a key: %q, %v", out, err)
	}
	bad := policyFiles(t, strings.NewReplacer("commands: read", "commands: reed", "ssn: {", "ssn: { first: x,").Replace(good), "127.0.0.1:1", "")
	policy = filepath.Join(filepath.Dir(bad), "policy.yaml")
	_, err := command("policy", "check", "-c", bad)
	if exitCode(err) != 2 || !strings.Contains(err.Error(), "\n"+policy+":5: commands: command \"reed\" is not known") || !strings.Contains(err.Error(), "\n"+policy+":14: first: write a whole number") {
		t.Errorf("a bad policy: %v", err)
	}
	out, err := command("policy", "check", "--json", policy)
	var rep checkReport
	if jerr := json.Unmarshal([]byte(out), &rep); jerr != nil || exitCode(err) != 2 || rep.Good || len(rep.Errors) != 2 || rep.Errors[0].Line != 5 {
		t.Errorf("%q, %v, %v", out, jerr, err)
	}
	if _, err := command("policy", "check", policy+".absent"); exitCode(err) != 2 {
		t.Errorf("no file: %v", err)
	}
}

// With a database, masks are held against it.
func TestPolicyCheckDatabase(t *testing.T) {
	server, err := postgrestest.Start(clinicSchema + "; CREATE TABLE clinic.rooms (id int, number int, kind text, doc jsonb)")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	good, _ := manualExamples(t)
	rooms := `
  - name: rooms
    identity: {workload: nobody-knows}
    resource: clinic
    fields:
      clinic.rooms.kind: {mask: partial, first: 1}
      clinic.rooms.number: %s
      clinic.rooms.doc: {mask: json, keep: [a, "b[].c"]}
    effect: mask
  - name: elsewhere
    identity: "*"
    resource: [clinic]
    fields: {elsewhere.rooms.kind: year}
    effect: mask
`
	check := func(mask string, args ...string) (string, error) {
		config := policyFiles(t, good+fmt.Sprintf(rooms, mask), server.Addr.String(), ", catalog: {user: sallyport_catalog}")
		return command(append([]string{"policy", "check", "-c", config, "--database", "postgres"}, args...)...)
	}
	if out, err := check("{mask: bucket, width: 100}"); err != nil || !strings.Contains(out, "is good: 5 rules") {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := check("year"); exitCode(err) != 2 || !strings.Contains(err.Error(), "policy.yaml:29: clinic.rooms.number: mask year is not for type integer: NULL is shown") || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("a mask of another type: %v", err)
	}
	if _, err := check("redact\n      clinic.rooms.floor: null", "--server", server.Dir); exitCode(err) != 2 || !strings.Contains(err.Error(), "policy.yaml:29: clinic.rooms.number: mask redact is not for type integer") ||
		!strings.Contains(err.Error(), "policy.yaml:30: clinic.rooms.floor: the database has no such column") {
		t.Errorf("a column that is not there: %v", err)
	}
	var rep checkReport
	if out, err := check("zip3", "--json"); err != nil || json.Unmarshal([]byte(out), &rep) != nil || !rep.Good {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := check("email", "--json"); err == nil || json.Unmarshal([]byte(out), &rep) != nil || rep.Good || len(rep.Errors) != 1 {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := check("zip3", "--resource", "ward"); exitCode(err) != 2 {
		t.Errorf("no such resource: %v", err)
	}
}

// explain prints what the daemon would do, against a real server.
func TestPolicyExplain(t *testing.T) {
	server, err := postgrestest.Start(clinicSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	good, _ := manualExamples(t)
	good += `
  - name: nights
    identity: {claims: {role: [night, day]}}
    resource: clinic
    commands: delete
    relations: public.products
    condition: now.getHours() < 6 && identity.actor == "agent-7" && identity.principal == "dr-a"
    effect: allow
  - name: trusted
    identity: {workload: migration}
    resource: clinic
    commands: "*"
    relations: "*"
    record: events
    effect: allow
  - name: lost
    identity: {workload: billing-agent}
    resource: clinic
    fields: {clinic.encounters.diagnosis: redact, clinic.encounters.note: year, clinic.visits.note: redact}
    condition: session.user == "drifting"
    effect: mask
`
	// "identifiers" would hold for it too.
	good = strings.Replace(good, "identity: \"*\"\n    resource: clinic\n    fields:", "identity: {workload: \"*-agent\"}\n    resource: clinic\n    fields:", 1)
	config := policyFiles(t, strings.ReplaceAll(good, "- name: nothing is destroyed", "- name: nothing is destroyed\n    except: {identity: {workload: migration}}"), server.Addr.String(), ", catalog: {user: sallyport_catalog}")
	explain := func(args ...string) (string, error) {
		return command(append([]string{"policy", "explain", "-c", config, "--database", "postgres"}, args...)...)
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--as", "billing-agent", "SELECT upper(ssn) FROM clinic.patients"}, []string{
			"verdict    mask\n", "rules      identifiers, billing reads\n", "does       select\n", "reaches    read clinic.patients\n",
			"masks      clinic.patients.ssn: partial, last 4\n", "records    in full, up to 1048576 bytes of result\n", "sends      SELECT upper(ssn) FROM (SELECT ", "FROM clinic.patients) patients\n",
		}},
		{[]string{"--as", "billing-agent", "SELECT city FROM clinic.patients"}, []string{"verdict    allow\n", "rules      billing reads\n", "reaches    read clinic.patients\n"}},
		{[]string{"--as", "billing-agent", "SELECT note FROM clinic.encounters"}, []string{"verdict    allow\n", "sends      the client's own bytes\n"}},
		{[]string{"--as", "billing-agent", "DELETE FROM clinic.patients"}, []string{
			"verdict    block\n", "rules      nothing is destroyed\n",
			"reason     rule \"nothing is destroyed\" blocks delete on clinic.patients: records of patients are kept for ten years\n", "remedy     ",
		}},
		{[]string{"--as", "billing-agent", "SELECT * FROM public.products"}, []string{"verdict    deny\n", "rules      default\n", "reason     no rule allows select on public.products\n"}},
		{[]string{"--as", "billing-agent", "DO 'BEGIN END'"}, []string{"verdict    block\n", "rules      opaque\n"}},
		{[]string{"--as", "nobody", "SELECT 1"}, []string{"verdict    deny\n", "request    login: the statement would never be sent\n"}},
		{[]string{"--as", "migration", "DO 'BEGIN END'"}, []string{"verdict    allow\n", "rules      trusted\n", "records    events only\n", "sends      the client's own bytes: nothing but"}},
		{[]string{"--as", "w,subject=agent-7,principal=dr-a,claim.role=night,claim.role=x", "--at", "2026-03-01T03:00:00Z", "DELETE FROM public.products"}, []string{"verdict    allow\n", "rules      nights\n"}},
		{[]string{"--as", "w,subject=agent-7,principal=dr-a,claim.role=night", "--at", "2026-03-01T13:00:00Z", "DELETE FROM public.products"}, []string{"verdict    deny\n", `the condition or an exception of rule "nights" forbids it`}},
		{[]string{"--as", "billing-agent", "--server", server.Dir, "SELECT city FROM clinic.patients"}, []string{"verdict    allow\n"}},
		{[]string{"--as", "billing-agent", "--user", "drifting", "SELECT 1"}, []string{
			"warning    clinic.encounters.note: mask year is not for type text: NULL is shown\n", "           the policy masks clinic.encounters.diagnosis, which the database does not have: statements on its relation are refused\n",
			"           the policy masks fields of clinic.visits, a relation that the database does not have\n",
		}},
	} {
		out, err := explain(c.args...)
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(out, w) {
				t.Errorf("%q: no %q in\n%s", c.args, w, out)
			}
		}
	}
	out, err := explain("--as", "billing-agent", "--json", "TABLE clinic.patients")
	var x explanation
	if jerr := json.Unmarshal([]byte(out), &x); jerr != nil || err != nil || x.Verdict != "mask" || x.Request != "statement" || len(x.Masked) != 2 ||
		!strings.HasPrefix(x.Rewritten, "SELECT ") || len(x.Objects) != 1 || x.Objects[0] != "read clinic.patients" {
		t.Errorf("%s, %v, %v", out, jerr, err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"SELECT 1"}, 2, "--as WORKLOAD"},
		{[]string{"--as", "a=b", "SELECT 1"}, 2, "write WORKLOAD"},
		{[]string{"--as", "a,sub=x", "SELECT 1"}, 2, `unknown "sub"`},
		{[]string{"--as", "a,principal=p", "SELECT 1"}, 2, "somebody who acts for it"},
		{[]string{"--as", "a,uid=x", "SELECT 1"}, 2, "a uid is a number"},
		{[]string{"--as", "a", "--at", "noon", "SELECT 1"}, 2, "write a time like"},
		{[]string{"--as", "a", "--resource", "b", "SELECT 1"}, 2, "name one of clinic"},
		{[]string{"--as", "a"}, 2, "exactly one statement"},
		{[]string{"--as", "billing-agent", "--server", "nowhere", "SELECT 1"}, 2, "HOST:PORT"},
		{[]string{"--as", "billing-agent", "--server", t.TempDir(), "SELECT 1"}, 2, "0 servers have a socket there"},
		{[]string{"--as", "billing-agent", "--policy", config, "SELECT 1"}, 2, "the policy is refused"},
	} {
		if _, err := explain(c.args...); exitCode(err) != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.args, err, c.want)
		}
	}
	server.Stop()
	_, err = explain("--as", "billing-agent", "SELECT 1")
	var e *exitError
	if !errors.As(err, &e) || e.code != 1 || !strings.Contains(e.hint, "--server /run/postgresql") {
		t.Errorf("no server: %v", err)
	}
}

func TestPolicyTests(t *testing.T) {
	policy, tests := manualExamples(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("policy.yaml", policy)
	file := write("policy.test.yaml", tests)
	if out, err := command("policy", "test", file); err != nil || out != "2 tests passed\n" {
		t.Errorf("%q, %v", out, err)
	}
	write("policy.yaml", strings.ReplaceAll(policy, "clinic.patients.ssn", "clinic.patients.number"))
	out, err := command("policy", "test", file)
	if exitCode(err) != 1 || err.Error() != "1 of 2 tests failed" || !strings.HasPrefix(out, file+":3: billing sees the end of a number: allow by billing reads, want mask by billing reads, identifiers") {
		t.Errorf("%q, %v", out, err)
	}
	out, err = command("policy", "test", "--json", file)
	var rep struct {
		Ran    int
		Failed []caseFailure
	}
	if jerr := json.Unmarshal([]byte(out), &rep); jerr != nil || exitCode(err) != 1 || rep.Ran != 2 || len(rep.Failed) != 1 || rep.Failed[0].Line != 3 || rep.Failed[0].Verdict != "allow" {
		t.Errorf("%q, %v, %v", out, err, jerr)
	}
	for text, want := range map[string]string{
		"":                                 "it needs a policy",
		"policy: policy.yaml\n":            "it needs a policy",
		"policy: /etc/x\ntests: [{as: a}]": "it needs a policy",
		"policy: policy.yaml\nwho: x\n":    "field who not found",
		"policy: policy.yaml\ntests:\n- {name: x, as: a, want: mask, objects: [clinic.patients]}\n": ":3: object \"clinic.patients\"",
		"policy: policy.yaml\ntests:\n- {name: x, as: a, want: masked}\n":                           ":3: want \"masked\"",
		"policy: policy.yaml\ntests:\n- {name: x, as: a, want: mask, fields: [ssn]}\n":              ":3: field \"ssn\"",
		"policy: absent.yaml\ntests:\n- {name: x, as: a, want: mask}\n":                             "absent.yaml",
	} {
		if _, err := command("policy", "test", write("bad.test.yaml", text)); exitCode(err) != 2 || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := command("policy", "test"); exitCode(err) != 2 {
		t.Errorf("no file: %v", err)
	}
}
