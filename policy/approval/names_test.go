package approval_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// Four eyes see one person behind a name that another directory writes otherwise.
func TestFourEyesByNamesWrittenOtherwise(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct{ asks, approves string }{
		"composed and decomposed":  {"jos\u00e9", "jose\u0301"},
		"case that is no letter's": {"STRASSE", "straße"},
		"wide letters":             {"alice", "\uff41\uff4c\uff49\uff43\uff45"},
		"the Kelvin sign":          {"\u212aim", "kim"},
		"ligature":                 {"o\ufb03ce", "OFFICE"},
		"an accent, in capitals":   {"JOSE\u0301", "jos\u00e9"},
		"spaces around it":         {"alice", " alice\u00a0"},
		"a joiner in it":           {"alice", "al\u200dice"},
		"a soft hyphen in it":      {"alice", "al\u00adice"},
		"a filler behind it":       {"alice", "alice\u3164"},
		"a selector behind it":     {"alice", "alice\ufe0f"},
	} {
		t.Run(name, func(t *testing.T) {
			_, id := w.consume(asked(rule(), func(a *policy.Asked) {
				a.Request.Session.Identity = intercept.Identity{Workload: "billing", Issuer: "https://id", Subject: c.asks, Proof: "oidc"}
				a.Request.Text += " -- " + name
			}))
			if id == "" {
				t.Fatal("nobody is asked")
			}
			id = strings.Fields(id)[0]
			if err := w.approve(id, func(p *approval.Proof) { p.Subject = c.approves }); err == nil || !strings.Contains(err.Error(), "somebody else must") {
				t.Errorf("%q approves what %q asks for: %v", c.approves, c.asks, err)
			}
			if err := w.approve(id, func(p *approval.Proof) { p.Subject = "dr-lee" }); err != nil {
				t.Errorf("nobody may: %v", err)
			}
		})
	}
}

// A claim that is a number of which the last digits are lost names nobody.
func TestLargeNumbersNameNobody(t *testing.T) {
	r := rule(func(a *policy.Approval) {
		a.By = []policy.Approver{{Issuer: a.By[0].Issuer, Claims: map[string][]string{"employee": {"9007199254740992", "7"}}}}
	})
	w := newWorld(t)
	_, id := w.consume(asked(r))
	id = strings.Fields(id)[0]
	with := func(n float64) error {
		return w.approve(id, func(p *approval.Proof) { p.Claims["employee"] = n })
	}
	// 9007199254740993 is read as that.
	if err := with(9007199254740992); err == nil {
		t.Error("another employee approves")
	}
	if err := with(7); err != nil {
		t.Error(err)
	}
}
