package approval_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// Where subjects are pairwise, the same person has another one for each client:
// the claim that names people tells that who asks is who approves.
func TestFourEyesByPerson(t *testing.T) {
	w := newWorld(t)
	w.claims = []string{"sub", "email"}
	w.open()
	const people = "https://people"
	q := func(issuer string, claims map[string]any, change ...func(*intercept.Identity)) []policy.Asked {
		return asked(rule(), func(a *policy.Asked) {
			id := &a.Request.Session.Identity
			*id = intercept.Identity{Workload: "billing", Issuer: issuer, Subject: "pairwise-of-the-agent", Actors: []string{"bot-7"}, Claims: claims, Proof: "oidc"}
			for _, c := range change {
				c(id)
			}
		})
	}
	alice := map[string]any{"email": "Alice@Example.com", "email_verified": true}
	bob := func(verified any) map[string]any {
		return map[string]any{"email": "bob@example.com", "email_verified": verified}
	}
	loggedIn := func(claims map[string]any) func(*intercept.Identity) {
		return func(id *intercept.Identity) {
			id.Actors, id.Person = nil, &intercept.Person{Issuer: people, Subject: "pairwise-of-the-login", Claims: claims}
		}
	}
	for name, c := range map[string]struct {
		asked    []policy.Asked
		approver any
		want     string // in the error; "": it is approved
	}{
		"herself":                 {q(people, alice), "alice@example.com", "somebody else"},
		"herself, elsewhere":      {q("https://id", alice), "alice@example.com", "somebody else"},
		"herself, logged in":      {q("https://id", nil, loggedIn(alice)), "alice@example.com", "somebody else"},
		"another":                 {q(people, alice), "lee@example.com", ""},
		"another, logged in":      {q("https://id", nil, loggedIn(alice)), "lee@example.com", ""},
		"nobody":                  {q(people, alice), nil, `"email"`},
		"two":                     {q(people, alice), []any{"lee@example.com", "alice@example.com"}, `"email"`},
		"the requester is hidden": {q(people, nil), "lee@example.com", `have the issuer put it`},
		"the login is hidden":     {q("https://id", alice, loggedIn(nil)), "lee@example.com", `have the issuer put it`},
		"of another issuer":       {q("https://id", nil), "lee@example.com", ""},
		"a subject that is hers":  {q("https://id", nil, func(i *intercept.Identity) { i.Subject = "ALICE@example.com" }), "alice@example.com", "somebody else"},
		"verified, in text":       {q(people, bob("true")), "lee@example.com", ""},
		"not verified":            {q(people, bob(false)), "lee@example.com", `have the issuer put it`},
		"not verified, in text":   {q(people, bob("false")), "lee@example.com", `have the issuer put it`},
		"verified, by a number":   {q(people, bob(1.0)), "lee@example.com", `have the issuer put it`},
		"perhaps verified":        {q(people, map[string]any{"email": "bob@example.com"}), "lee@example.com", `have the issuer put it`},
		// What nobody has checked tells nobody apart, and may be true.
		"perhaps herself, elsewhere": {q("https://id", map[string]any{"email": "lee@example.com"}), "Lee@example.com", "somebody else"},
		"another, unknown elsewhere": {q("https://id", map[string]any{"email": "bob@example.com"}), "lee@example.com", ""},
	} {
		state, id := w.consume(c.asked)
		if state != "pending" {
			t.Fatal(name, state)
		}
		err := w.approve(id, func(p *approval.Proof) {
			p.Subject, p.Person, p.Claims["email"], p.Claims["email_verified"] = "pairwise-of-the-approver", "email", c.approver, true
		})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
		_ = w.Withdraw(id, "the next")
		if err == nil {
			w.pass(rule().Grant)
		}
	}
	// An address of an approver that is not verified is nobody's.
	for _, v := range []any{nil, false, "false", "TRUE", 1.0, []any{true}} {
		_, id := w.consume(q(people, alice))
		err := w.approve(id, func(p *approval.Proof) {
			p.Subject, p.Person, p.Claims["email"] = "pairwise-of-the-approver", "email", "lee@example.com"
			if v != nil {
				p.Claims["email_verified"] = v
			}
		})
		if err == nil || !strings.Contains(err.Error(), `no claim "email" that can be relied on`) {
			t.Errorf("verified %v: %v", v, err)
		}
	}
	// A subject that is an address counts in whatever case.
	_, id := w.consume(q("https://id", nil, func(i *intercept.Identity) { i.Subject = "Lee@Example.com" }))
	if err := w.approve(id, func(p *approval.Proof) { p.Subject = "lee@example.com" }); err == nil {
		t.Error("whom it is for approves")
	}
}

// One person counts once, by however many issuers and subjects.
func TestCountIsOfPeople(t *testing.T) {
	w := newWorld(t)
	two := rule(func(a *policy.Approval) {
		a.Count = 2
		other := a.By[0]
		other.Issuer = "https://other"
		a.By = append(a.By, other)
	})
	_, id := w.consume(asked(two))
	by := func(issuer, subject, email string) error {
		return w.approve(id, func(p *approval.Proof) {
			p.Issuer, p.Subject = issuer, subject
			if email != "" {
				p.Person, p.Claims["email"], p.Claims["email_verified"] = "email", email, true
			}
		})
	}
	if err := by("https://people", "lee", "lee@example.com"); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][3]string{{"https://people", "lee"}, {"https://other", "lee"}, {"https://other", "u-77", "Lee@example.com"}, {"https://other", "lee@example.com"}} {
		if err := by(c[0], c[1], c[2]); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("%v counts again: %v", c, err)
		}
	}
	w.open() // and after a restart
	if err := by("https://other", "u-77", "Lee@example.com"); err == nil {
		t.Error("they count again")
	}
	if err := by("https://other", "u-78", "may@example.com"); err != nil {
		t.Error(err)
	}
	if state, _ := w.consume(asked(two)); state != "runs" {
		t.Error(state)
	}
}

// The list has nothing of what is to run.
func TestListHoldsNoData(t *testing.T) {
	w := newWorld(t)
	w.consume(asked(rule()))
	l := w.List(true)
	if len(l) != 1 || l[0].What.Text != "" || l[0].What.Parameters != nil || l[0].Who.Known != nil || l[0].Who.Proofs != nil || l[0].Says.Justification != "" {
		t.Errorf("%+v", l)
	}
	// What it is chosen by is there.
	if len(l) == 1 && (l[0].Rule == "" || l[0].Who.Workload == "" || len(l[0].By) == 0 || len(l[0].What.Commands) == 0) {
		t.Errorf("%+v", l)
	}
}
