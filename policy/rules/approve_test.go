package rules_test

import (
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/rules"
)

const approvals = `
  - {name: all, effect: allow, identity: "*", resource: "*", commands: ["*"], relations: "*"}
  - name: deletes
    effect: approve
    identity: {workload: billing-agent}
    resource: clinic-db
    commands: [delete]
    relations: clinic.*
    condition: '!("b" in identity.claims.groups) || statement.text != "delete free.x"'
    reason: rows of patients
    approve: {by: {issuer: "https://id", claims: {groups: leads}}, count: 2, within: 1h, grant: 5m, wait: hold}
  - name: defines
    effect: approve
    identity: "*"
    resource: clinic-db
    commands: [ddl, truncate]
    relations: "*"
    approve: {by: {issuer: "https://id", subjects: [ann]}, scope: rule}
  - {name: never, effect: block, identity: "*", resource: "*", commands: [delete], relations: clinic.audit}
  - {name: phi, effect: mask, identity: "*", resource: "*", fields: {clinic.patients.ssn: redact}}
`

// What may be what a rule asks about waits; what blocks is not asked for, and
// masks stay.
func TestApprovals(t *testing.T) {
	p := load(t, approvals)
	for text, want := range map[string]string{
		"select clinic.patients/read":                              "",
		"delete clinic.patients/delete":                            "deletes",
		"delete other.patients/delete":                             "",
		"delete .patients/delete":                                  "deletes", // of any schema
		"merge clinic.patients/delete":                             "deletes",
		"execute clinic.patients/delete":                           "deletes",
		"delete,truncate clinic.patients/delete clinic.x/truncate": "deletes defines",
		"create_role":                                              "defines",
		"vacuum":                                                   "defines",
		"select":                                                   "",
		"delete clinic.patients/delete masked=clinic.patients.ssn": "deletes",
		"select,delete clinic.patients/read clinic.visits/delete":  "deletes",
		"insert clinic.patients/insert":                            "",
		"LOGIN":                                                    "",
		"call unknown.thing/define":                                "defines",
		"something_new clinic.patients/define":                     "defines",
		"create_table_as clinic.copy/define clinic.patients/read":  "defines",
		"explain clinic.patients/delete":                           "deletes",
		"delete clinic.visits/delete clinic.patients/read":         "deletes",
		"delete public.x/delete clinic.patients/read":              "",
		"update clinic.patients/update":                            "",
		"copy_to clinic.patients/read masked=clinic.patients.ssn":  "",
		"truncate clinic.patients/truncate":                        "defines",
		"lock clinic.patients/lock":                                "",
		"prepare clinic.patients/delete":                           "",
		"prepare,execute clinic.patients/delete":                   "deletes",
		"begin":                                                    "",
	} {
		e := p.Evaluate(request(t, agent(), text))
		var got []string
		for _, a := range e.Approvals {
			got = append(got, a.Rule)
		}
		if s := strings.Join(got, " "); s != want || (e.Effect == policy.EffectApprove) != (want != "") {
			t.Errorf("%s: %v asks %q, want %q", text, e.Effect, s, want)
		}
		if masked := strings.Contains(text, "masked="); want != "" && (e.Then == policy.EffectMask) != masked {
			t.Errorf("%s: then %v", text, e.Then)
		}
	}
	if got := decide(t, p, agent(), "delete clinic.audit/delete"); got != "block by never" {
		t.Error(got)
	}
	a := p.Evaluate(request(t, agent(), "delete clinic.patients/delete")).Approvals[0]
	if a.Count != 2 || a.Within != time.Hour || a.Grant != 5*time.Minute || a.Uses != 1 || a.Hold != time.Minute || a.Reason != "rows of patients" ||
		a.By[0].Issuer != "https://id" || a.By[0].Claims["groups"][0] != "leads" || a.Policy == [32]byte{} || a.Covers != policy.AStatement {
		t.Errorf("%+v", a)
	}
	if d := p.Evaluate(request(t, agent(), "vacuum")).Approvals[0]; d.Uses != 0 || d.Covers != policy.ARule || d.Hold != 0 || d.Policy != a.Policy {
		t.Errorf("%+v", d)
	}
	// A condition that can't be told asks.
	if e := p.Evaluate(request(t, agent(func(s *policy.Session) { delete(s.Identity.Claims, "groups") }), "delete clinic.patients/delete")); e.Effect != policy.EffectApprove {
		t.Error("what can't be told runs")
	}
	// Another policy is another digest.
	if load(t, approvals+"  - {name: more, effect: block, commands: [listen]}\n").Evaluate(request(t, agent(), "vacuum")).Approvals[0].Policy == a.Policy {
		t.Error("another policy has the same digest")
	}
}

// What is not understood is refused wherever a rule could ask, and nothing goes
// unread.
func TestApprovalsOfWhatIsNotUnderstood(t *testing.T) {
	p := load(t, approvals)
	if s := p.Scope(agent(), noon); s.Opaque || s.Undecoded || !s.Approves {
		t.Errorf("%+v", s)
	}
	if got := decide(t, p, agent(), "OPAQUE"); got != "block by opaque" {
		t.Error(got)
	}
	for _, text := range []string{"FUNCTION", "REPLICATION"} {
		if got := decide(t, p, agent(), text); got != "deny by default" {
			t.Error(text, got)
		}
	}
	s := p.Scope(agent(func(s *policy.Session) { s.Resource = "other" }), noon)
	if s.Approves {
		t.Error("no rule can ask there")
	}
}

// The weaker proof is admitted by name alone, and not for emergency access; an editor
// knows that too.
func TestApproversBySAML(t *testing.T) {
	text := strings.Replace(approvals, `by: {issuer: "https://id", claims: {groups: leads}}`, `by: [{issuer: "https://id", claims: {groups: leads}}, {saml: staff, subjects: ann}]`, 1)
	e := load(t, text).Evaluate(request(t, agent(), "delete clinic.patients/delete"))
	if len(e.Approvals) != 1 || len(e.Approvals[0].By) != 2 {
		t.Fatalf("%+v", e.Approvals)
	}
	strong, weak := e.Approvals[0].By[0], e.Approvals[0].By[1]
	if strong.SAML != "" || weak.SAML != "staff" || weak.Issuer != "" || weak.Subjects[0] != "ann" {
		t.Errorf("%+v", e.Approvals[0].By)
	}
	if before := load(t, approvals).Evaluate(request(t, agent(), "delete clinic.patients/delete")).Approvals[0]; before.Policy == e.Approvals[0].Policy {
		t.Error("another approver is the same policy")
	}
	if err := validate("rules:" + text); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]string{
		"both": strings.Replace(text, "{saml: staff", `{issuer: "https://id", saml: staff`, 1),
		"none": strings.Replace(text, "saml: staff, ", "", 1),
	} {
		if err := validate("rules:" + bad); err == nil {
			t.Errorf("%s: an editor takes it", name)
		}
	}
	for _, old := range []string{`by: {issuer: "https://id", claims: {groups: [on-call]}}`, `by: {issuer: "https://id", claims: {groups: privacy}}`} {
		if !strings.Contains(glass, old) {
			t.Fatalf("%s is not in\n%s", old, glass)
		}
		all := "rules:\n" + approvals + strings.Replace(glass, old, strings.Replace(old, `issuer: "https://id"`, "saml: staff", 1), 1)
		if _, err := rules.Parse(rules.File{Name: "p.yaml", Data: []byte(all)}); err == nil || !strings.Contains(err.Error(), "opened and reviewed by ID tokens") {
			t.Errorf("%s: %v", old, err)
		}
		if err := validate(all); err == nil {
			t.Errorf("%s: an editor takes it", old)
		}
	}
}
