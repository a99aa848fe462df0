package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/identity/saml"
	"sallyport.dev/sallyport/intercept/identity/samltest"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// What a person has signed by SAML, and a recorder of the configuration brings, is
// proved by the daemon, counts once, and is marked on the record.
func TestApprovalBySAML(t *testing.T) {
	h := newApprovingHost(t, "retry")
	const service, acs = "https://approvals.clinic.example", "https://approvals.clinic.example/acs"
	idp := samltest.Start(t, service, acs)
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := h.overNATS()
	h.write(filepath.Join(h.dir, "approvers.xml"), string(idp.Metadata()))
	h.replace(h.config, "approvals:\n", fmt.Sprintf(`approvals:
  saml: [{name: staff, entity_id: %q, audience: %q, acs: %q, metadata: approvers.xml, subject: %q, attributes: {groups: %q, client_id: %q}, person: client_id}]
  recorder_keys: ["ed25519:%s"]
`, idp.EntityID, service, acs, samltest.UID, samltest.Groups, samltest.Mail, base64.StdEncoding.EncodeToString(pub)))
	h.replace(h.policy, fmt.Sprintf("approve: {by: {issuer: %q, claims: {groups: leads}}", h.people.Issuer), "approve: {by: {saml: staff, claims: {groups: doctors}}")
	h.serve()

	token := h.token("agent-a")
	ask := func() string {
		out, _ := h.psqlWith(token, "-c", "DELETE FROM visits WHERE id = 1")
		return out
	}
	id := approvalID.FindString(ask())
	var a *desk.Answer
	within(t, "the request is shown", func() bool {
		a, err = c.Ask(t.Context(), "test", &desk.Ask{Do: desk.Show, ID: id})
		return err == nil
	})
	const why = "duplicate visit, ticket 4711"
	nonce, err := approval.Nonce(&a.Entries[0].Subject, approval.Approve, why)
	if err != nil {
		t.Fatal(err)
	}
	people, err := saml.New([]saml.Provider{{Name: "staff", EntityID: idp.EntityID, Audience: service, ACS: acs, Metadata: saml.Metadata{Text: idp.Metadata()}, Subject: samltest.UID}}, saml.NewLogins(time.Now), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(who samltest.Person, key ed25519.PrivateKey) *desk.Ask {
		t.Helper()
		q := &desk.Ask{Do: approval.Approve, ID: id, Why: why, Recorded: &desk.Recorded{Provider: "staff", Salt: desk.NewSalt()}}
		r, err := people.BeginBound(t.Context(), "staff", approval.RequestID(nonce, q.Recorded.Salt))
		if err != nil {
			t.Fatal(err)
		}
		q.Recorded.Response = idp.Login(r.URL, who.Name, who.Password).Response
		q.Sign(key)
		return q
	}
	refused := func(q *desk.Ask, want string) {
		t.Helper()
		if _, err := c.Ask(t.Context(), "test", q); err == nil || !has(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	alice, mallory := samltest.People[0], samltest.People[1]
	_, stolen, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	refused(signed(alice, stolen), "no recorder")
	refused(signed(mallory, key), "does not name you")
	other := signed(alice, key)
	other.Why += " and more"
	other.Sign(key)
	refused(other, "nonce")
	if got := ask(); !has(got, id) || h.rows() != "1,2,3" {
		t.Fatalf("%s", got)
	}
	q := signed(alice, key)
	if a, err := c.Ask(t.Context(), "test", q); err != nil || a.Entries[0].State != "approved" {
		t.Fatal(err)
	}
	refused(q, "")
	if got := ask(); !has(got, "DELETE 1") || h.rows() != "2,3" {
		t.Errorf("%s", got)
	}
	h.stop()
	proofs := ""
	for _, e := range h.record() {
		if e.Approval != nil && e.Approval.ID == id && e.Approval.Approver != "" {
			proofs += fmt.Sprintf("%s by %s: %s. ", e.Approval.Step, e.Approval.Approver, e.Approval.Proof)
		}
	}
	if proofs != "approved by alice: saml+recorder. " {
		t.Errorf("on the record: %s", proofs)
	}
}
