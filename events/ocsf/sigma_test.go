package ocsf_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/ocsf/sigmatest"
)

// sigmaEvents are events as they are written, each with the rules that must
// match it; no other may.
func sigmaEvents() map[string]*events.Event {
	s := session()
	out := map[string]*events.Event{}
	for name, is := range map[string]events.Kind{"bypass": events.Bypass, "alarm": events.Alarm, "drift": events.Drift, "write_refused": events.Block, "revealed": events.Statement} {
		i := slices.IndexFunc(examples(), func(e *events.Event) bool { return e.Kind == is })
		e := *examples()[i]
		if name == "revealed" { // the example shows what rules that only observe would have done, too
			e.Would, e.WouldRules, e.WouldMasked = 0, nil, nil
		}
		out[name] = &e
	}
	undecoded := session()
	undecoded.Undecoded = true
	for name, e := range map[string]*events.Event{
		"guard_down":    {Kind: events.Lifecycle, Time: at, Status: "down", Message: "the guard is down"},
		"not_enforced":  {Kind: events.Statement, Time: at, Session: s, Number: 1, Command: "select", Normalized: "select 1", Verdict: events.Observed, Reason: "would have been refused (block)"},
		"login_refused": {Kind: events.Login, Time: at, Session: s, Verdict: events.Deny, Reason: "no token"},
		"unauthorized":  {Kind: events.Block, Time: at, Session: s, Number: 1, Command: "select", Normalized: "select 1", Verdict: events.Deny, Reason: "no rule allows it"},
		"bulk_read":     {Kind: events.Response, Time: at, Session: s, Number: 1, Status: "ok", Rows: 50000},
		"undecoded":     {Kind: events.SessionClose, Time: at, Session: undecoded, Status: "ok"},
		"interrupted":   {Kind: events.Response, Time: at, Session: s, Number: 1, Status: "interrupted"},
	} {
		out[name] = e
	}
	return out
}

// harmless is what no rule may match.
func harmless() []*events.Event {
	s := session()
	return []*events.Event{
		{Kind: events.Statement, Time: at, Session: s, Number: 4, Command: "select", Normalized: "select 1", Verdict: events.Allow, Status: "ok", Rows: 9999},
		{Kind: events.Login, Time: at, Session: s, Verdict: events.Allow, Rules: []string{"clinic-agents"}},
		{Kind: events.SessionOpen, Time: at, Session: s},
		{Kind: events.Statement, Time: at, Session: s, Number: 1, Command: "select", Normalized: "select down from bypass", Verdict: events.Allow},
		{Kind: events.Statement, Time: at, Session: s, Number: 2, Command: "update", Normalized: "update t set a = $1", Writes: true, Verdict: events.Allow},
		{Kind: events.Statement, Time: at, Session: s, Number: 3, Command: "select", Normalized: "select ssn from patients", Verdict: events.Mask, Masked: []events.Field{{Schema: "public", Relation: "patients", Column: "ssn"}}, Masks: []string{"partial"}},
		{Kind: events.Response, Time: at, Session: s, Number: 1, Status: "ok", Rows: 3},
		{Kind: events.Response, Time: at, Session: s, Number: 2, Status: "error", Code: "42P01"},
		{Kind: events.SessionClose, Time: at, Session: s, Status: "ok"},
		{Kind: events.Lifecycle, Time: at, Status: "start"},
		{Kind: events.Lifecycle, Time: at, Status: "up"},
		{Kind: events.Lifecycle, Time: at, Status: "heartbeat"},
		{Kind: events.Checkpoint, Time: at, Message: "down"},
	}
}

func matches(t *testing.T, rule sigmatest.Rule, e *events.Event) bool {
	t.Helper()
	hit, err := rule.Matches(ocsf.Append(nil, uid, e))
	if err != nil {
		t.Fatal(err)
	}
	return hit
}

// held is a schema of rules in the form of Sigma 2.0.0, with what its check asks for
// beyond that: tags are of tactics and techniques.
func held(t *testing.T) *jsonschema.Schema {
	t.Helper()
	sch, err := jsonschema.NewCompiler().Compile("testdata/sigma.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return sch
}

// hold says what of a rule is not of the schema.
func hold(t *testing.T, sch *jsonschema.Schema, text []byte) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	// YAML has read the date as a time.
	if v, err = jsonschema.UnmarshalJSON(bytes.NewReader(regexp.MustCompile(`("date":"\d{4}-\d\d-\d\d)T00:00:00Z"`).ReplaceAll(b, []byte(`$1"`)))); err != nil {
		t.Fatal(err)
	}
	return sch.Validate(v)
}

func TestSigmaRules(t *testing.T) {
	b, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_0-9.\\[\\]]+)` \\|").FindAllSubmatch(b, -1) {
		documented[string(m[1])] = true
	}
	rules, err := sigmatest.Rules()
	if err != nil || len(rules) != len(sigmaEvents()) {
		t.Fatalf("%d rules, %d events for them (%v)", len(rules), len(sigmaEvents()), err)
	}
	page, err := os.ReadFile("../../docs/siem.md")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	sch := held(t)
	for _, rule := range rules {
		file, name := rule.File, rule.Name
		if err := hold(t, sch, rule.Text); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if rule.Title == "" || rule.Level == "" || rule.Description == "" || rule.Logsource.Product != "sallyport" || ids[rule.ID] || len(rule.ID) != 36 {
			t.Errorf("%s: %+v", file, rule)
		}
		ids[rule.ID] = true
		if !strings.Contains(string(page), "`"+filepath.Base(file)+"`") {
			t.Errorf("%s is not in docs/siem.md", file)
		}
		for _, search := range rule.Detection.Searches {
			for _, m := range search.EventMatchers {
				for _, f := range m {
					if !documented[f.Field] {
						t.Errorf("%s: %s is not a field of events", file, f.Field)
					}
				}
			}
		}
		if e := sigmaEvents()[name]; e == nil || !matches(t, rule, e) {
			t.Errorf("%s does not match its event", file)
		}
		if would := examples()[slices.IndexFunc(examples(), func(e *events.Event) bool { return e.Would != 0 })]; name == "not_enforced" && !matches(t, rule, would) {
			t.Errorf("%s does not match what a rule only observed", file)
		}
		for other, e := range sigmaEvents() {
			if other != name && matches(t, rule, e) {
				t.Errorf("%s matches the event of %s", file, other)
			}
		}
		for _, e := range harmless() {
			if matches(t, rule, e) {
				t.Errorf("%s matches a harmless %s (%s)", file, e.Kind, e.Status)
			}
		}
	}
}

// The schema can refuse.
func TestSigmaSchema(t *testing.T) {
	rules, err := sigmatest.Rules()
	if err != nil {
		t.Fatal(err)
	}
	sch, text := held(t), string(rules[0].Text)
	for name, change := range map[string][2]string{
		"level": {"level: high", "level: severe"}, "status": {"status: stable", "status: final"}, "no detection": {"detection:", "detections:"},
		"tag": {"- attack.", "- Attack "}, "tactic": {"- attack.", "- attack.un"}, "date": {"date: 2026-", "date: 26-"}, "no condition": {"condition:", "conditions:"},
	} {
		wrong := strings.Replace(text, change[0], change[1], 1)
		if wrong == text || hold(t, sch, []byte(wrong)) == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}
