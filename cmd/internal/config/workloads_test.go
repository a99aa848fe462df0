package config_test

import (
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/workload"
)

func TestWorkloadSelectors(t *testing.T) {
	c, err := config.Parse([]byte(small+`interception:
  mode: cgroup
  cgroups: [/agents.slice, "/ci/*/jobs"]
  workloads:
    - systemd: agent@*.service
      container: {labels: {team: "clinic"}}
    - kubernetes: {namespace: agents}
    - systemd: ci-jobs.slice
  exempt: [/backup, {systemd: user@1.service/x.service}, {container: {name: "m*"}}]
`), "f")
	if err != nil {
		t.Fatal(err)
	}
	in := &c.Interception
	want := []workload.Selector{
		{Cgroup: "/agents.slice"},
		{Cgroup: "/ci/*/jobs"},
		{Systemd: "agent@*.service", Container: &workload.Container{Labels: map[string]string{"team": "clinic"}}},
		{Kubernetes: &workload.Kubernetes{Namespace: "agents"}},
		{Systemd: "ci-jobs.slice"},
	}
	if got := in.Selectors(); !reflect.DeepEqual(got, want) {
		t.Errorf("covered: %+v", got)
	}
	if got := in.CoveredPaths(); !reflect.DeepEqual(got, []string{"/agents.slice", "/ci.slice/ci-jobs.slice"}) {
		t.Errorf("made in any case: %q", got)
	}
	in.Mode = "host"
	want = []workload.Selector{{Cgroup: "/backup"}, {Systemd: "user@1.service/x.service"}, {Container: &workload.Container{Name: "m*"}}}
	if got := in.Selectors(); !reflect.DeepEqual(got, want) {
		t.Errorf("exempt: %+v", got)
	}
	if got := in.ExemptPaths(); !reflect.DeepEqual(got, []string{"/backup"}) {
		t.Errorf("exempt paths: %q", got)
	}
	// What is written is read as the same.
	b, err := yaml.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var again config.Interception
	if err := yaml.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if b2, err := yaml.Marshal(again); err != nil || string(b2) != string(b) || again.Exempt[0].Cgroup != "/backup" {
		t.Errorf("%v\n%s\n%s", err, b, b2)
	}
}

func TestWorkloadErrors(t *testing.T) {
	for name, text := range map[string]string{
		`f:11: give at least one of systemd`:                "interception:\n  workloads:\n    - {}\n",
		`f:11: systemd "agent"`:                             "interception:\n  workloads:\n    - {systemd: agent}\n",
		`f:11: cgroup "agents"`:                             "interception:\n  workloads:\n    - {cgroup: agents}\n",
		`f:11: container: give at least`:                    "interception:\n  workloads:\n    - container: {}\n",
		`f:11: kubernetes: namespace: required`:             "interception:\n  workloads:\n    - kubernetes: {pod: x}\n",
		`f:11: unknown field "names"`:                       "interception:\n  workloads:\n    - container: {names: x}\n",
		`f:11: unknown field "pods"`:                        "interception:\n  exempt:\n    - kubernetes: {namespace: a, pods: x}\n",
		`f:11: cgroup "x"`:                                  "interception:\n  exempt:\n    - x\n",
		`f:10: mode cgroup covers nothing`:                  "interception:\n  mode: cgroup\n",
		`f:11: systemd "agent.service/x.service": a user's`: "interception:\n  exempt:\n    - {systemd: agent.service/x.service}\n",
	} {
		_, err := config.Parse([]byte(small+text), "f")
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want %s, got %v", name, err)
		}
	}
	match := func(m string) string {
		return strings.Replace(small, "identity:\n", "identity:\n  workloads: [{name: w, subjects: [s], match: {"+m+"}}]\n", 1)
	}
	for want, text := range map[string]string{
		"match: give at least one of": match(""),
		"match: systemd":              match("systemd: x"),
		"match: kubernetes: name":     match("kubernetes: {pod: x}"),
	} {
		if _, err := config.Parse([]byte(text), "f"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s, got %v", want, err)
		}
	}
}

// Where a token comes in band, it comes from nowhere else, and is the only
// password.
func TestInBandErrors(t *testing.T) {
	parse := func(workload, resource string) error {
		text := strings.Replace(small, "identity:\n", "identity:\n  workloads:\n    - {name: w, match: {uid: 1}, "+workload+"}\n", 1)
		_, err := config.Parse([]byte(strings.Replace(text, "resources:\n", "resources:\n  - {name: other, protocol: postgres, addresses: [\"192.0.2.9:5432\"], "+resource+"}\n", 1)), "f")
		return err
	}
	account := func(of string) string {
		return "accounts: [{" + of + ", user: u, password_file: /f}], agents: [{user: u, verifier: v}]"
	}
	const in = "subjects: [s], in_band: password"
	for _, c := range []struct{ workload, resource, want string }{
		{in, "", ""},
		{in, account("workloads: [another]"), ""},
		{in, account("workloads: [w]"), "agents: workload w may have an account here"},
		{in, account("actors: [s]"), "agents: workload w may have an account here"},
		{"subjects: [s], in_band: header", "", `in_band "header": must be password`},
		{"spiffe: spiffe://a/b, in_band: password", "", "in_band: list the subjects"},
		{in + ", token_file: /t", "", "in_band: the token comes from its client or from token_file"},
	} {
		err := parse(c.workload, c.resource)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), "f:") || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %s: %v", c.workload, c.resource, err)
		}
	}
}
