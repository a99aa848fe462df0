package rules_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/policy/rules"
)

var schema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(rules.Schema()))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("policy.json", doc); err != nil {
		return nil, err
	}
	return c.Compile("policy.json")
})

// validate holds a policy's text against the schema, as an editor does.
func validate(text string) error {
	s, err := schema()
	if err != nil {
		return err
	}
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

// The schema knows each member that the loader takes, and no other, wherever a
// policy has a mapping. What the loader takes in these tests it takes too: see load.
func TestSchemaKnowsMembers(t *testing.T) {
	var doc map[string]any
	if err := json.Unmarshal(rules.Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	at := func(v any, path ...any) map[string]any {
		t.Helper()
		for _, p := range path {
			switch k := p.(type) {
			case string:
				v = v.(map[string]any)[k]
			case int:
				v = v.([]any)[k]
			}
		}
		return v.(map[string]any)
	}
	rule := []any{"$defs", "rule", "properties"}
	of := func(path ...any) []any { return append(slices.Clone(rule), path...) }
	amounts := func(of string) string {
		return "rules:\n- {name: x, effect: allow, limits: {" + of + ": {nonsense: 1}}}\n"
	}
	for _, c := range []struct {
		text string
		path []any
	}{
		{"nonsense: 1\n", []any{"properties"}},
		{"rules:\n- {nonsense: 1}\n", rule},
		{"rules:\n- {identity: {nonsense: 1}}\n", []any{"$defs", "identity", "oneOf", 1, "properties"}},
		{"rules:\n- {resource: {nonsense: 1}}\n", of("resource", "oneOf", 1, "properties")},
		{"rules:\n- {except: {nonsense: 1}}\n", of("except", "oneOf", 0, "properties")},
		{"rules:\n- {fields: {a.b.c: {nonsense: 1}}}\n", of("fields", "additionalProperties", "oneOf", 1, "properties")},
		{"rules:\n- {limits: {nonsense: 1}}\n", of("limits", "properties")},
		{"rules:\n- {approve: {nonsense: 1}}\n", of("approve", "properties")},
		{"rules:\n- {approve: {by: {nonsense: 1}}}\n", of("approve", "properties", "by", "oneOf", 0, "properties")},
		{"break_glass:\n- {nonsense: 1}\n", []any{"properties", "break_glass", "items", "properties"}},
		{"break_glass:\n- {review: {nonsense: 1}}\n", []any{"properties", "break_glass", "items", "properties", "review", "properties"}},
		{amounts("statement"), of("limits", "properties", "statement", "properties")},
		{amounts("session"), of("limits", "properties", "session", "properties")},
		{amounts("minute"), of("limits", "properties", "minute", "properties")},
		{amounts("hour"), of("limits", "properties", "hour", "properties")},
	} {
		_, err := rules.Parse(rules.File{Name: "p.yaml", Data: []byte(c.text)})
		if err == nil {
			t.Fatalf("taken: %s", c.text)
		}
		m := regexp.MustCompile(`unknown field "nonsense": remove or correct it; there are (.*)`).FindStringSubmatch(err.Error())
		if m == nil {
			t.Fatalf("%s: %v", c.text, err)
		}
		want := strings.Split(m[1], ", ")
		want = slices.DeleteFunc(want, func(k string) bool { return notTaken(k) })
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(at(doc, c.path...))); !slices.Equal(got, want) {
			t.Errorf("%q: the schema has %v, the loader %v", c.text, got, want)
		}
	}
}

// notTaken reports that a member of a rule is a known word only.
func notTaken(key string) bool {
	_, err := rules.Parse(rules.File{Name: "p.yaml", Data: []byte("rules:\n- {" + key + ": x}\n")})
	return err != nil && strings.Contains(err.Error(), key+": not yet")
}

// What is wrong in a policy's form an editor shows.
func TestSchemaRefuses(t *testing.T) {
	for _, text := range []string{
		"", "rules: []", "rules: [x]", "rule: []",
		"rules: [{name: x}]", "rules: [{effect: block}]", "rules: [{name: x, effect: permit}]", "rules: [{name: 7, effect: block}]",
		"rules: [{name: ' x', effect: block}]", "rules: [{name: x, effect: block, identitiy: '*'}]",
		"rules: [{name: x, effect: allow, identity: '*', resource: a, commands: read}]",
		"rules: [{name: x, effect: allow, identity: '*', resource: a, commands: slect, relations: a.b}]",
		"rules: [{name: x, effect: allow, identity: '*', resource: a, commands: read, relations: a.b, reason: b}]",
		"rules: [{name: x, effect: mask, identity: '*', resource: a}]",
		"rules: [{name: x, effect: mask, identity: '*', resource: a, detect: ssn}]",
		"rules: [{name: x, effect: mask, identity: '*', resource: a, detect: sssn, on: '*'}]",
		"rules: [{name: x, effect: mask, identity: '*', resource: a, fields: {a.b.c: rot13}}]",
		"rules: [{name: x, effect: mask, identity: '*', resource: a, fields: {a.b.c: {mask: partial, last: -1}}}]",
		"rules: [{name: x, effect: mask, identity: '*', resource: a, fields: {a.b.c: {last: 1}}}]",
		"rules: [{name: x, effect: mask, identity: '*', resource: a, fields: {a.b.c: redact}, commands: read}]",
		"rules: [{name: x, effect: filter, identity: '*', resource: a, relations: a.b}]",
		"rules: [{name: x, effect: reveal, identity: '*', resource: a, reveal: a.b.c, justification: 0}]",
		"rules: [{name: x, effect: block, fields: {a.b.c: redact}}]", "rules: [{name: x, effect: block, limits: {hour: {rows: 1}}}]",
		"rules: [{name: x, effect: block, identity: {}}]", "rules: [{name: x, effect: block, identity: billing}]",
		"rules: [{name: x, effect: block, except: {}}]", "rules: [{name: x, effect: block, record: full}]",
	} {
		if _, err := rules.Parse(rules.File{Name: "p.yaml", Data: []byte(text)}); err == nil {
			t.Errorf("the loader takes %s", text)
		}
		var invalid *jsonschema.ValidationError
		if err := validate(text); !errors.As(err, &invalid) {
			t.Errorf("the schema takes %s (%v)", text, err)
		}
	}
}

// The manual's policies, and the example, an editor takes as they are.
func TestSchemaTakesTheManual(t *testing.T) {
	texts := []string{read(t, "../../docs/policy.example.yaml")}
	for _, m := range yamlBlock.FindAllStringSubmatch(read(t, manual), -1) {
		if text := m[1]; strings.HasPrefix(text, "rules:") || strings.Contains(text, "\nrules:") {
			texts = append(texts, text)
		} else if !strings.HasPrefix(text, "policy:") {
			texts = append(texts, "rules:\n"+text)
		}
	}
	for _, text := range texts {
		if err := validate(text); err != nil {
			t.Errorf("%v\n%s", fmt.Sprint(err), text)
		}
	}
}
