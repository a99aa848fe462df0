package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// overNATS stops a host and has it asked over NATS once it serves again.
func (h *approvingHost) overNATS() *desk.Client {
	h.t.Helper()
	n, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: h.t.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		h.t.Fatal(err)
	}
	n.Start()
	h.t.Cleanup(func() { n.Shutdown(); n.WaitForShutdown() })
	if !n.ReadyForConnections(time.Minute) {
		h.t.Fatal("NATS does not start")
	}
	nc, err := nats.Connect(n.ClientURL())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(nc.Close)
	h.stop()
	h.replace(h.config, `nats: {listen: "127.0.0.1:0"}`, fmt.Sprintf("nats: {url: %q, approvals: true}", n.ClientURL()))
	return &desk.Client{Conn: nc, Timeout: time.Minute}
}

// replace puts text in the place of another in a file.
func (h *host) replace(file, old, text string) {
	h.t.Helper()
	b, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(b), old) {
		h.t.Fatalf("%v: no %q in %s", err, old, b)
	}
	h.write(file, strings.Replace(string(b), old, text, 1))
}

// What a person has signed elsewhere comes over NATS, is proved by the daemon, and
// counts once.
func TestApprovalOverNATS(t *testing.T) {
	h := newApprovingHost(t, "retry")
	c := h.overNATS()
	h.serve()
	token := h.token("agent-a")
	ask := func() string {
		out, _ := h.psqlWith(token, "-c", "DELETE FROM visits WHERE id = 1")
		return out
	}
	id := approvalID.FindString(ask())
	var a *desk.Answer
	var err error
	within(t, "the request is shown", func() bool {
		a, err = c.Ask(t.Context(), "test", &desk.Ask{Do: desk.Show, ID: id})
		return err == nil
	})
	if a.Entries[0].What.Text != "DELETE FROM visits WHERE id = 1" {
		t.Fatalf("%+v", a)
	}
	const why = "duplicate visit, ticket 4711"
	nonce, err := approval.Nonce(&a.Entries[0].Subject, approval.Approve, why)
	if err != nil {
		t.Fatal(err)
	}
	is := oidc.Issuer{URL: h.people.Issuer, Audience: a.Issuers[0].Client, Algorithms: []string{"RS256"}}
	at, err := oidc.Discover(t.Context(), is)
	if err != nil {
		t.Fatal(err)
	}
	login, err := oidc.BeginCode(is, at,
		oidc.CodeRequest{Client: a.Issuers[0].Client, Scopes: a.Issuers[0].Scopes, Redirect: "http://127.0.0.1/callback", State: "s", Nonce: nonce})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := login.IDToken(t.Context(), h.people.LogIn(t, login.URI, "dr-lee", "leads").Query())
	if err != nil {
		t.Fatal(err)
	}
	decide := func(q desk.Ask) error {
		q.ID = id
		_, err := c.Ask(t.Context(), "test", &q)
		return err
	}
	for want, q := range map[string]desk.Ask{
		"not proved": {Do: approval.Approve, Why: why, Token: h.issuer.Token("agent-a")},
		"nonce":      {Do: approval.Approve, Why: why + " and more", Token: raw},
	} {
		if err := decide(q); err == nil || !has(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if got := ask(); !has(got, id) || h.rows() != "1,2,3" {
		t.Fatalf("%s", got)
	}
	q := desk.Ask{Do: approval.Approve, Why: why, Token: raw}
	if err := decide(q); err != nil {
		t.Fatal(err)
	}
	if err := decide(q); err == nil || !has(err.Error(), "nothing to decide") {
		t.Errorf("once more: %v", err)
	}
	if got := ask(); !has(got, "DELETE 1") || h.rows() != "2,3" {
		t.Errorf("%s", got)
	}
}
