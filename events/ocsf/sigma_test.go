package ocsf_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bradleyjkemp/sigma-go"
	"github.com/bradleyjkemp/sigma-go/evaluator"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

// flat is an event as a SIEM has it: each field under its path, lists as such.
func flat(to map[string]any, at string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, m := range v {
			flat(to, strings.TrimPrefix(at+"."+k, "."), m)
		}
	case []any:
		if len(v) > 0 && isObject(v[0]) {
			for _, m := range v {
				flat(to, at, m)
			}
			return
		}
		to[at] = v
	default:
		to[at] = v
	}
}

// sigmaEvents are events as they are written, each with the rules that must
// match it; no other may.
func sigmaEvents() map[string]*events.Event {
	s := session()
	out := map[string]*events.Event{}
	for name, is := range map[string]events.Kind{"bypass": events.Bypass, "alarm": events.Alarm, "drift": events.Drift, "write_refused": events.Block, "revealed": events.Statement} {
		i := slices.IndexFunc(examples(), func(e *events.Event) bool { return e.Kind == is })
		out[name] = examples()[i]
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

func matches(t *testing.T, rule sigma.Rule, e *events.Event) bool {
	t.Helper()
	var v any
	if err := json.Unmarshal(ocsf.Append(nil, uid, e), &v); err != nil {
		t.Fatal(err)
	}
	fields := map[string]any{}
	flat(fields, "", v)
	res, err := evaluator.ForRule(rule).Matches(t.Context(), fields)
	if err != nil {
		t.Fatal(err)
	}
	return res.Match
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
	files, err := filepath.Glob("../../packaging/sigma/*.yml")
	if err != nil || len(files) != len(sigmaEvents()) {
		t.Fatalf("%d rules, %d events for them (%v)", len(files), len(sigmaEvents()), err)
	}
	page, err := os.ReadFile("../../docs/siem.md")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		rule, err := sigma.ParseRule(text)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "sallyport_"), ".yml")
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
