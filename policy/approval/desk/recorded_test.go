package desk_test

import (
	"context"
	"crypto/ed25519"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity/saml"
	"sallyport.dev/sallyport/intercept/identity/samltest"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/approvaltest"
	"sallyport.dev/sallyport/policy/approval/desk"
)

const (
	pageEntity = "https://approvals.clinic.example"
	pageACS    = "https://approvals.clinic.example/acs"
)

// recorded is a host that takes a recorder's word, its recorder, and two providers of
// SAML: "clinic", whose doctors may approve, and "guests".
type recorded struct {
	*approvaltest.Host
	t      *testing.T
	c      *desk.Client
	key    ed25519.PrivateKey
	clinic *samltest.IdP
	guests *samltest.IdP
	people *saml.Verifier // the recorder's
}

func samlProvider(name string, p *samltest.IdP) saml.Provider {
	return saml.Provider{
		Name: name, EntityID: p.EntityID, Audience: pageEntity, ACS: pageACS, Metadata: saml.Metadata{Text: p.Metadata()},
		Subject: samltest.UID, Attributes: map[string]string{"groups": samltest.Groups, "email": samltest.Mail}, Skew: 30 * time.Second,
	}
}

func startRecorded(t *testing.T) *recorded {
	t.Helper()
	r := &recorded{t: t, clinic: samltest.Start(t, pageEntity, pageACS), guests: samltest.Start(t, pageEntity, pageACS)}
	ps := []saml.Provider{samlProvider("clinic", r.clinic), samlProvider("guests", r.guests)}
	verifier := func(now func() time.Time) *saml.Verifier {
		v, err := saml.New(ps, saml.NewLogins(now), now)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	r.key, r.people = key, verifier(time.Now)
	r.Host = approvaltest.Begin(t, "h1", func(h *approvaltest.Host) {
		h.Recorders = &desk.Recorders{Keys: []ed25519.PublicKey{pub}, People: verifier(h.Now), Person: func(string) string { return "email" }}
		h.Claims = []string{"sub", "email"}
	})
	r.c = r.Asker(jetstream.RoleApprovals)
	return r
}

// bob asks, by an agent of his.
func bob() *intercept.Identity {
	return &intercept.Identity{
		Workload: "billing", Issuer: "https://id", Subject: "0b0b", Actors: []string{"bot-7"}, Proof: "oidc",
		Claims: map[string]any{"email": "bob@clinic.example", "email_verified": true},
	}
}

func doctors(name string) []policy.Approver {
	return []policy.Approver{{SAML: name, Claims: map[string][]string{"groups": {"doctors"}}}}
}

func (r *recorded) statement(text string) approvaltest.Statement {
	return approvaltest.Statement{Text: text, By: doctors("clinic"), Asks: bob()}
}

// login is a person's answer to the request of a decision, as a recorder has it.
func (r *recorded) login(idp *samltest.IdP, provider, user, nonce string, salt []byte) string {
	r.t.Helper()
	q, err := r.people.BeginBound(context.Background(), provider, approval.RequestID(nonce, salt))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range samltest.People {
		if p.Name == user {
			return idp.Login(q.URL, p.Name, p.Password).Response
		}
	}
	r.t.Fatal("nobody is called " + user)
	return ""
}

// ask is a decision that alice has signed by logging in at the clinic's provider, and
// the recorder by its key.
func (r *recorded) ask(id, verb string) *desk.Ask {
	r.t.Helper()
	return r.askAs(r.clinic, "clinic", "alice", id, verb)
}

func (r *recorded) askAs(idp *samltest.IdP, provider, user, id, verb string) *desk.Ask {
	r.t.Helper()
	q := &desk.Ask{Do: verb, ID: id, Why: why, Recorded: &desk.Recorded{Provider: provider, Salt: desk.NewSalt()}}
	q.Recorded.Response = r.login(idp, provider, user, nonce(r.t, r.c, "h1", id, verb, why), q.Recorded.Salt)
	q.Sign(r.key)
	return q
}

// changed is a copy of a question; the recorder signs it anew where it is dishonest.
func (r *recorded) changed(q *desk.Ask, signs bool, change func(*desk.Ask)) *desk.Ask {
	c, rec := *q, *q.Recorded
	c.Recorded = &rec
	change(&c)
	if signs {
		c.Sign(r.key)
	}
	return &c
}

func (r *recorded) refused(what string, q *desk.Ask, want string) {
	r.t.Helper()
	_, err := r.c.Ask(r.t.Context(), "h1", q)
	refused(r.t, what, err, want)
}

func (r *recorded) decide(q *desk.Ask) desk.Answer {
	r.t.Helper()
	a, err := r.c.Ask(r.t.Context(), "h1", q)
	if err != nil {
		r.t.Fatal(err)
	}
	return *a
}

// Somebody who has logged in by SAML decides, and the record says that it is the
// weaker proof. It proves nothing again: not that decision, not another, and not after
// a restart.
func TestRecordedDecision(t *testing.T) {
	r := startRecorded(t)
	s := r.statement("DELETE FROM visits WHERE id = $1")
	s.Count = 2
	id, other := r.Ask(s), r.Ask(r.statement("DELETE FROM visits"))
	q := r.ask(id, approval.Approve)
	a := r.decide(q)
	if d := a.Entries[0].Decisions; len(d) != 1 || d[0].SAML != "clinic" || d[0].Subject != "alice" || d[0].Person != "alice@clinic.example" || d[0].Token != "" {
		t.Fatalf("%+v", d)
	}
	for _, when := range []string{"at once", "after a restart"} {
		r.refused(when, q, "has proved a decision already")
		r.refused(when+", by another salt", r.changed(q, true, func(q *desk.Ask) { q.Recorded.Salt = desk.NewSalt() }), "not of this decision")
		r.refused(when+", for another request", r.changed(q, true, func(q *desk.Ask) { q.ID = other }), "not of this decision")
		r.refused(when+", for another decision", r.changed(q, true, func(q *desk.Ask) { q.Do = approval.Deny }), "not of this decision")
		r.refused(when+", for other words", r.changed(q, true, func(q *desk.Ask) { q.Why += ", and more" }), "not of this decision")
		r.refused(when+", the same person again", r.ask(id, approval.Approve), "somebody else must")
		r.Close()
		r.Open()
	}
	if ran, _, state := r.Run(s); ran || state != "pending" {
		t.Fatal("one of two is enough: ", state)
	}
	// Whom it asks for twice: another by an ID token that names people by other claims
	// may be the same.
	if a := r.decide(r.ask(other, approval.Approve)); a.Entries[0].State != "approved" {
		t.Fatalf("%+v", a)
	}
	if ran, _, _ := r.Run(r.statement("DELETE FROM visits")); !ran {
		t.Error("what was approved does not run")
	}
	if got := r.Proofs(); got != "saml+recorder saml+recorder" {
		t.Error(got)
	}
	third := r.Ask(r.statement("DELETE FROM wards"))
	if a := r.decide(r.ask(third, approval.Deny)); a.Entries[0].State != "denied" {
		t.Errorf("%+v", a)
	}
}

// A recorder alone, a NATS user alone, and whoever changes what they have, forge nothing.
func TestRecordedForged(t *testing.T) {
	r := startRecorded(t)
	s := r.statement("DELETE FROM visits")
	id := r.Ask(s)
	q := r.ask(id, approval.Approve)
	rec := q.Recorded
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	const unsigned = "no recorder of approvals.recorder_keys has signed"

	// Who may ask over NATS has the assertion, and no recorder's key.
	r.refused("no signature", r.changed(q, false, func(q *desk.Ask) { q.Recorded.Signature = nil }), unsigned)
	r.refused("a stranger's signature", r.changed(q, false, func(q *desk.Ask) { q.Sign(stranger) }), unsigned)
	for name, change := range map[string]func(*desk.Ask){
		"the request": func(q *desk.Ask) { q.ID = "ap-aaaaaaaaaaaaaaaaaaaa" }, "the verb": func(q *desk.Ask) { q.Do = approval.Deny },
		"the words": func(q *desk.Ask) { q.Why += "!" }, "the provider": func(q *desk.Ask) { q.Recorded.Provider = "guests" },
		"the salt": func(q *desk.Ask) { q.Recorded.Salt = desk.NewSalt() }, "the response": func(q *desk.Ask) { q.Recorded.Response += "A" },
		"a byte from one field to the next": func(q *desk.Ask) { q.Do, q.ID = approval.Approve, "p-"+strings.TrimPrefix(q.ID, "ap-") },
	} {
		r.refused("changed: "+name, r.changed(q, false, change), unsigned)
	}

	// A recorder has the key, and no assertion of this decision.
	for name, c := range map[string]struct {
		change func(*desk.Ask)
		want   string
	}{
		"no assertion":          {func(q *desk.Ask) { q.Recorded.Response = "" }, "not base64"},
		"no provider":           {func(q *desk.Ask) { q.Recorded.Provider = "" }, "not configured here"},
		"an unknown provider":   {func(q *desk.Ask) { q.Recorded.Provider = "elsewhere" }, "not configured here"},
		"another's provider":    {func(q *desk.Ask) { q.Recorded.Provider = "guests" }, "not of its issuer"},
		"no salt":               {func(q *desk.Ask) { q.Recorded.Salt = nil }, "salt"},
		"a short salt":          {func(q *desk.Ask) { q.Recorded.Salt = q.Recorded.Salt[:31] }, "salt"},
		"a token besides":       {func(q *desk.Ask) { q.Token = "x" }, "one proof"},
		"another's login":       {func(q *desk.Ask) { q.Recorded.Response = r.login(r.clinic, "clinic", "alice", "anything", rec.Salt) }, "not of this decision"},
		"of no group":           {func(q *desk.Ask) { *q = *r.askAs(r.clinic, "clinic", "mallory", id, approval.Approve) }, "does not name you"},
		"of another provider":   {func(q *desk.Ask) { *q = *r.askAs(r.guests, "guests", "alice", id, approval.Approve) }, "does not name you"},
		"something to be shown": {func(q *desk.Ask) { q.Do = desk.Show }, "nothing else"},
		"a list":                {func(q *desk.Ask) { q.Do = desk.List }, "nothing else"},
		"emergency access":      {func(q *desk.Ask) { q.Do = desk.GlassOpen }, "nothing else"},
	} {
		r.refused(name, r.changed(q, true, c.change), c.want)
	}

	// An ID token is of no use where SAML is named, nor an assertion where an issuer is.
	token := r.Token(nonce(t, r.c, "h1", id, approval.Approve, why), "dr-lee", "doctors")
	r.refused("an ID token", &desk.Ask{Do: approval.Approve, ID: id, Why: why, Token: token}, "does not name you")
	strict := r.statement("DELETE FROM wards")
	strict.By = []policy.Approver{{Issuer: r.clinic.EntityID, Claims: map[string][]string{"groups": {"doctors"}}}}
	r.refused("where an issuer is named", r.ask(r.Ask(strict), approval.Approve), "does not name you")

	// Times.
	r.Late.Store(int64(7 * time.Minute))
	r.refused("of long ago", q, "expired")
	r.Late.Store(int64(-3 * time.Minute))
	r.refused("of the future", q, "later than now")
	r.Late.Store(0)

	if ran, _, state := r.Run(s); ran || state != "pending" {
		t.Fatal("a forged decision counts")
	}
	if a := r.decide(q); a.Entries[0].State != "approved" {
		t.Errorf("%+v", a)
	}
}

// The provider's signature must be over what is read: a recorder that changes, strips
// or wraps an assertion of the right decision makes nobody else of it.
func TestRecordedWrapped(t *testing.T) {
	r := startRecorded(t)
	s := r.statement("DELETE FROM visits")
	id := r.Ask(s)
	q := r.askAs(r.clinic, "clinic", "mallory", id, approval.Approve)
	another := func(f *samltest.Forged, a *etree.Element) *etree.Element {
		e := a.Copy()
		samltest.Strip(e)
		e.CreateAttr("ID", "evil")
		for _, v := range f.Find(e, "AttributeStatement").FindElements(".//AttributeValue") {
			switch v.Text() {
			case "mallory":
				v.SetText("alice")
			case "mallory@clinic.example":
				v.SetText("alice@clinic.example")
			case "visitors":
				v.SetText("doctors")
			}
		}
		return e
	}
	key, cert := samltest.KeyPair(t)
	old := r.login(r.clinic, "clinic", "alice", "of before", q.Recorded.Salt)
	for name, forge := range map[string]func() string{
		"stripped": func() string {
			f := samltest.Forge(t, q.Recorded.Response)
			samltest.Strip(f.Assertion())
			return f.Raw()
		},
		"changed": func() string {
			f := samltest.Forge(t, q.Recorded.Response)
			a := f.Assertion()
			e := another(f, a)
			e.CreateAttr("ID", a.SelectAttrValue("ID", ""))
			e.InsertChildAt(1, samltest.Strip(a))
			f.Response().RemoveChild(a)
			f.Response().AddChild(e)
			return f.Raw()
		},
		"another before it": func() string {
			f := samltest.Forge(t, q.Recorded.Response)
			a := f.Assertion()
			f.Response().InsertChildAt(a.Index(), another(f, a))
			return f.Raw()
		},
		"wrapped in another": func() string {
			f := samltest.Forge(t, q.Recorded.Response)
			a := f.Assertion()
			e := another(f, a)
			sig := samltest.Strip(a)
			f.Response().InsertChildAt(a.Index(), e)
			sig.AddChild(f.Response().RemoveChild(a))
			e.InsertChildAt(1, sig)
			return f.Raw()
		},
		"signed by a key of the recorder's own": func() string {
			f := samltest.Forge(t, q.Recorded.Response)
			a := f.Assertion()
			f.Response().AddChild(another(f, a))
			f.Response().RemoveChild(a)
			return f.Resign(key, cert, dsig.RSASHA256SignatureMethod).Raw()
		},
		"signed by the other provider": func() string {
			f := samltest.Forge(t, q.Recorded.Response)
			a := f.Assertion()
			f.Response().AddChild(another(f, a))
			f.Response().RemoveChild(a)
			return f.Resign(r.guests.Key, r.guests.Certificate, dsig.RSASHA256SignatureMethod).Raw()
		},
		"the doctor's of before, told to answer this": func() string {
			f := samltest.Forge(t, old)
			f.Find(f.Assertion(), "SubjectConfirmationData").CreateAttr("InResponseTo", approval.RequestID(nonce(t, r.c, "h1", id, approval.Approve, why), q.Recorded.Salt))
			f.Response().RemoveAttr("InResponseTo")
			return f.Raw()
		},
	} {
		raw := forge()
		_, err := r.c.Ask(t.Context(), "h1", r.changed(q, true, func(q *desk.Ask) { q.Recorded.Response = raw }))
		if err == nil {
			t.Fatalf("%s: it is approved", name)
		}
		refused(t, name, err, "not proved")
	}
	// And what the clinic's provider signed for others: another audience, place, time.
	mine := r.ask(id, approval.Approve)
	for name, c := range map[string]struct {
		change func(f *samltest.Forged)
		want   string
	}{
		"another audience": {func(f *samltest.Forged) { f.Find(f.Assertion(), "Audience").SetText("https://other.example") }, "audience"},
		"another recipient": {func(f *samltest.Forged) {
			f.Find(f.Assertion(), "SubjectConfirmationData").CreateAttr("Recipient", "https://other.example/acs")
		}, "Recipient"},
		"a login of yesterday": {func(f *samltest.Forged) {
			f.Find(f.Assertion(), "AuthnStatement").CreateAttr("AuthnInstant", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
		}, "older than the request"},
	} {
		f := samltest.Forge(t, mine.Recorded.Response)
		c.change(f)
		raw := f.Resign(r.clinic.Key, r.clinic.Certificate, dsig.RSASHA256SignatureMethod).Raw()
		r.refused(name, r.changed(mine, true, func(q *desk.Ask) { q.Recorded.Response = raw }), c.want)
	}
	if ran, _, state := r.Run(s); ran || state != "pending" {
		t.Fatal("a forged decision counts")
	}
	if a := r.decide(mine); a.Entries[0].State != "approved" {
		t.Errorf("%+v", a)
	}
}

// Four eyes: by each token of who asks it must be told that the approver is somebody
// else. Where that can't be told, nobody approves by SAML.
func TestRecordedFourEyes(t *testing.T) {
	r := startRecorded(t)
	for name, c := range map[string]struct {
		change func(*intercept.Identity)
		want   string // "": approved
	}{
		"another":                {func(*intercept.Identity) {}, ""},
		"herself":                {func(i *intercept.Identity) { i.Claims["email"] = "Alice@Clinic.example" }, "somebody else must"},
		"a token that is silent": {func(i *intercept.Identity) { i.Claims = nil }, "can't be told"},
		"an address not verified": {func(i *intercept.Identity) {
			i.Claims["email_verified"] = false
		}, "can't be told"},
		"herself, logged in": {func(i *intercept.Identity) {
			i.Actors, i.Person = nil, &intercept.Person{Issuer: "https://people", Subject: "a11ce", Claims: map[string]any{"email": "alice@clinic.example"}}
		}, "somebody else must"},
		"a log-in that is silent": {func(i *intercept.Identity) {
			i.Actors, i.Person = nil, &intercept.Person{Issuer: "https://people", Subject: "a11ce"}
		}, "can't be told"},
		"her own agent": {func(i *intercept.Identity) { i.Actors = []string{"alice"} }, "somebody else must"},
		"a workload alone": {func(i *intercept.Identity) {
			*i = intercept.Identity{Workload: "billing", Proof: "pidfd"}
		}, ""},
	} {
		s := r.statement("DELETE FROM visits -- " + name)
		c.change(s.Asks)
		q := r.ask(r.Ask(s), approval.Approve)
		if c.want != "" {
			r.refused(name, q, c.want)
		} else if a := r.decide(q); a.Entries[0].State != "approved" {
			t.Errorf("%s: %+v", name, a)
		}
	}
	// Two must approve, by SAML and by an ID token that names people otherwise.
	s := r.statement("DELETE FROM wards")
	s.Count, s.By = 2, append(slices.Clone(s.By), policy.Approver{Issuer: r.People.Issuer, Claims: map[string][]string{"groups": {"leads"}}})
	id := r.Ask(s)
	r.decide(r.ask(id, approval.Approve))
	token := r.Token(nonce(t, r.c, "h1", id, approval.Approve, why), "a11ce", "leads")
	r.refused("perhaps the same person", &desk.Ask{Do: approval.Approve, ID: id, Why: why, Token: token}, "by different claims")
	// What was asked for before people were named by a claim says nothing of them.
	r.Close()
	r.Claims = nil
	r.Open()
	before := r.Ask(r.statement("DELETE FROM shifts"))
	r.Close()
	r.Claims = []string{"sub", "email"}
	r.Open()
	r.refused("asked for before", r.ask(before, approval.Approve), "can't be told")
	// Without a claim that names people there is no proof of them.
	r.Close()
	r.Recorders.Person = func(string) string { return "" }
	r.Open()
	r.refused("no person", r.ask(r.Ask(r.statement("DELETE FROM beds")), approval.Approve), "told apart")
}
