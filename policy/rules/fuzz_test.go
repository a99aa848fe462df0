package rules_test

import (
	"os"
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/rules"
)

// FuzzParse: no text makes the loader panic, and no policy that it takes lets
// nobody in, or panics on a request.
func FuzzParse(f *testing.F) {
	f.Add("rules:\n" + strings.TrimSpace(clinic))
	f.Add("rules:" + ok)
	f.Add("rules:\n  - {name: x, effect: block, commands: [drop_*, login], relations: '\"a\".b*', condition: 'now.getHours(\"Europe/Berlin\") > 3', except: [{identity: {claims: {a: [1, true, 'x*']}}}]}\n")
	f.Add("rules:\n  - {name: x, effect: mask, identity: {workload: a}, resource: {labels: {a: b}, database: c}, fields: {a.b.c: {mask: partial, last: 4}, a.b.d: null}}\n")
	if b, err := os.ReadFile("../../docs/policy.example.yaml"); err == nil {
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := rules.Parse(rules.File{Name: "p.yaml", Data: []byte(text)})
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a text")
			}
			return
		}
		for _, s := range []*policy.Session{agent(), {}} {
			sc := p.Scope(s, noon)
			for _, q := range []string{"LOGIN", "select clinic.patients/read", "drop_index", "delete .a/delete", "OPAQUE"} {
				e := p.Evaluate(request(t, s, q))
				if s.Identity.Workload == "" && (e.Effect == policy.EffectAllow || e.Effect == policy.EffectMask) {
					t.Errorf("nobody may %s", q)
				}
				if q == "OPAQUE" && e.Effect == policy.EffectAllow && !sc.Opaque {
					t.Error("what is not understood is allowed")
				}
			}
		}
	})
}

// FuzzGlob holds patterns against a plain implementation.
func FuzzGlob(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("**a", "bca")
	f.Add(`\*`, "*")
	f.Add("?", "é")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 12 || len(text) > 12 || strings.ToValidUTF8(pattern, "") != pattern || strings.ToValidUTF8(text, "") != text {
			return
		}
		got, overlaps, ok := rules.MatchGlob(pattern, text)
		if !ok {
			return
		}
		if want := slow([]rune(pattern), []rune(text)); got != want {
			t.Errorf("%q %q: %v, want %v", pattern, text, got, want)
		}
		if got && !overlaps {
			t.Errorf("%q matches %q, and has nothing in common with it", pattern, text)
		}
	})
}

func slow(p, s []rune) bool {
	switch {
	case len(p) == 0:
		return len(s) == 0
	case p[0] == '*':
		return slow(p[1:], s) || len(s) > 0 && slow(p, s[1:])
	case len(s) == 0:
		return false
	case p[0] == '?':
		return slow(p[1:], s[1:])
	case p[0] == '\\':
		return p[1] == s[0] && slow(p[2:], s[1:])
	}
	return p[0] == s[0] && slow(p[1:], s[1:])
}
