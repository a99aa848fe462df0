package rules_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/rules"
)

const filtering = `
- name: own
  identity: "*"
  resource: "*"
  relations: [clinic.patients, 'clinic."Notes"']
  where: %s
  effect: filter
`

// What a condition on rows means for the identity of the tests.
func TestFilterSyntax(t *testing.T) {
	eq := func(col string, vs ...string) policy.Predicate {
		return policy.Predicate{Op: policy.Equal, Column: col, Values: vs}
	}
	not := func(p policy.Predicate) policy.Predicate {
		return policy.Predicate{Op: policy.Not, Args: []policy.Predicate{p}}
	}
	for text, want := range map[string]policy.Predicate{
		`role = {identity.claims.role}`:                  eq("role", "billing"),
		`level = {identity.claims.level}`:                eq("level", "3"),
		`on_leave = {identity.claims.temp}`:              eq("on_leave", "false"),
		`who={ identity.workload }`:                      {},
		`who = {identity.workload}`:                      eq("who", "billing-agent"),
		`who = {identity.subject}`:                       eq("who", "agent-7"),
		`"Odd ""Name" = 'it''s; --'`:                     eq(`Odd "Name`, "it's; --"),
		`a <> -1.5`:                                      {Op: policy.Differs, Column: "a", Values: []string{"-1.5"}},
		`a >= 2`:                                         {Op: policy.AtLeast, Column: "a", Values: []string{"2"}},
		`a IS NOT NULL`:                                  not(policy.Predicate{Op: policy.IsNull, Column: "a"}),
		`g IN {identity.claims.groups}`:                  {Op: policy.In, Column: "g", Values: []string{"a", "b"}},
		`g not in ('x', {identity.claims.groups}, true)`: not(policy.Predicate{Op: policy.In, Column: "g", Values: []string{"x", "a", "b", "true"}}),
		`a = 1 or b = 2 and not (c = 3 or d = 4)`: {Op: policy.Or, Args: []policy.Predicate{
			eq("a", "1"),
			{Op: policy.And, Args: []policy.Predicate{eq("b", "2"), not(policy.Predicate{Op: policy.Or, Args: []policy.Predicate{eq("c", "3"), eq("d", "4")}})}},
		}},
	} {
		if want.Op == 0 {
			want = eq("who", "billing-agent")
		}
		sc := load(t, fmt.Sprintf(filtering, "|\n    "+text)).Scope(agent(), noon)
		for _, rel := range []policy.Relation{{Schema: "clinic", Name: "patients"}, {Schema: "clinic", Name: "Notes"}} {
			if f := sc.Filters[rel]; len(f) != 1 || f[0].Unknown != "" || !reflect.DeepEqual(f[0].Rows, want) {
				t.Errorf("%s: %+v\nwant %+v", text, f, want)
			}
		}
	}
}

// What is no condition on rows is refused when the policy is loaded.
func TestFilterMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"a":                                  "the end stands where a comparison should",
		"a = b":                              "stands where a value should",
		"1 = a":                              "the column comes first",
		"lower(a) = 'x'":                     "stands where = or another comparison should",
		"a = 1; DROP TABLE x":                "is not taken here",
		"a = 1 -- x":                         `"-" is no number`,
		"a = 'x":                             "has no end",
		"a = $1":                             "is not taken here",
		"a = now()":                          "stands where a value should",
		"a::text = 'x'":                      "is not taken here",
		"a = (select 1)":                     "stands where a value should",
		"a = {identity.claims.role":          "has no end",
		"a = {session.user}":                 "write {identity.claims.NAME}",
		"a = {identity.proofs}":              "write {identity.claims.NAME}",
		"a = {identity.claims.}":             "write {identity.claims.NAME}",
		"a = '{identity.claims.role}' b = 1": "conditions are joined by AND and OR",
		"a = null":                           "stands where a value should",
		"a like 'x%'":                        "stands where a comparison should",
		"A = 1":                              "has capital letters",
		"a in ()":                            "stands where a value should",
		"a = 1 and":                          "the end stands where a column should",
		"(a = 1":                             "is missing before it",
		"a = 1.2.3":                          "is no number",
		"a = 12abc":                          "is no number",
		"a is true":                          "NULL or NOT NULL only",
		strings.Repeat("not ", 40) + "a = 1": "nested too deeply",
		strings.Repeat("(", 9000) + "a = 1":  "longer than",
	} {
		_, err := rules.Parse(rules.File{Name: "p.yaml", Data: []byte("rules:" + fmt.Sprintf(filtering, "|\n    "+text))})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "where: ") {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
}

// An identity that does not say what a filter asks for gets nothing; the rules
// that are there are of this identity, and its analyses are nobody else's.
func TestFiltersAreAnded(t *testing.T) {
	p := load(t, fmt.Sprintf(filtering, "clinic = {identity.claims.clinic}")+strings.Replace(fmt.Sprintf(filtering, "level < 4"), "own", "low", 1))
	scopes := map[string]*policy.Scope{}
	rel := policy.Relation{Schema: "clinic", Name: "patients"}
	for _, clinic := range []any{"north", "south", nil, []any{"north"}, map[string]any{"a": 1.0}, strings.Repeat("x", 2000), "a\x00b"} {
		sc := p.Scope(agent(func(s *policy.Session) { s.Identity.Claims["clinic"] = clinic }), noon)
		f := sc.Filters[rel]
		if len(f) != 2 || !sc.Protects() || sc.Opaque {
			t.Fatalf("%v: %+v", clinic, sc)
		}
		known := clinic == "north" || clinic == "south"
		if got := f[0].Unknown == "" && f[1].Unknown == ""; got != known {
			t.Errorf("%v: %+v", clinic, f)
		}
		scopes[sc.ID] = sc
	}
	if len(scopes) < 3 {
		t.Error("the scopes of several identities have one name")
	}
	if a, b := p.Scope(agent(func(s *policy.Session) { s.Identity.Claims["clinic"] = "north" }), noon), scopes; b[a.ID] == nil {
		t.Error("the scope of the same identity has another name")
	}
}
