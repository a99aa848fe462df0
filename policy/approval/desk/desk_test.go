package desk_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/intercept/identity/oidctest"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/approvaltest"
	"sallyport.dev/sallyport/policy/approval/desk"
)

func TestMain(m *testing.M) { os.Exit(oidctest.Main(m)) }

const why = "duplicate visit, ticket 4711"

// nonce is that of a decision about what is shown.
func nonce(t *testing.T, c *desk.Client, host, id, verb, why string) string {
	t.Helper()
	a, err := c.Ask(t.Context(), host, &desk.Ask{Do: desk.Show, ID: id})
	if err != nil {
		t.Fatal(err)
	}
	n, err := approval.Nonce(&a.Entries[0].Subject, verb, why)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func refused(t *testing.T, what string, err error, want string) {
	t.Helper()
	var r *desk.Refused
	if !errors.As(err, &r) || !strings.Contains(r.Text, want) {
		t.Errorf("%s: %v, want a refusal with %q", what, err, want)
	}
}

// A request is listed, shown and decided over NATS: it runs once, and what is told of
// it holds neither a proof nor more than was asked for.
func TestDecidedOverNATS(t *testing.T) {
	h := approvaltest.Start(t, "h1")
	c := h.Asker(jetstream.RoleApprovals)
	s := approvaltest.Statement{Text: "DELETE FROM visits WHERE id = $1 -- \u202e\x1b[2J<b>"}
	id := h.Ask(s)
	a, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: desk.List})
	if err != nil || len(a.Entries) != 1 || a.Entries[0].ID != id || a.Entries[0].What.Text != "" || a.Entries[0].What.Parameters != nil {
		t.Fatalf("%+v, %v", a, err)
	}
	if a, err = c.Ask(t.Context(), "h1", &desk.Ask{Do: desk.List, ID: id}); err != nil || a.Entries[0].Seen {
		t.Errorf("%+v, %v", a, err)
	}
	a, err = c.Ask(t.Context(), "h1", &desk.Ask{Do: desk.Show, ID: id})
	if err != nil || a.Entries[0].What.Text != s.Text || a.Issuers[0].URL != h.People.Issuer || a.Issuers[0].Client != approvaltest.Client {
		t.Fatalf("%+v, %v", a, err)
	}
	token := h.Token(nonce(t, c, "h1", id, approval.Approve, why), "dr-lee", "staff leads")
	a, err = c.Ask(t.Context(), "h1", &desk.Ask{Do: approval.Approve, ID: id, Why: why, Token: token})
	if err != nil || a.Entries[0].State != "approved" || len(a.Entries[0].Decisions) != 1 || a.Entries[0].Decisions[0].Token != "" {
		t.Fatalf("%+v, %v", a, err)
	}
	if ran, _, _ := h.Run(s); !ran {
		t.Error("what was approved does not run")
	}
	if ran, _, _ := h.Run(s); ran {
		t.Error("it runs twice")
	}
	if got := h.Steps(); got != "requested seen approved consumed requested" {
		t.Error(got)
	}
}

// Whoever may ask forges nothing: what is not proved to the host decides nothing.
func TestForgedAndReplayed(t *testing.T) {
	h := approvaltest.Start(t, "h1")
	c := h.Asker(jetstream.RoleApprovals)
	s := approvaltest.Statement{Text: "DELETE FROM visits"}
	id := h.Ask(s)
	other := h.Ask(approvaltest.Statement{Text: "DELETE FROM visits WHERE id = 2"})
	decide := func(id, verb, why, token string) error {
		_, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: verb, ID: id, Why: why, Token: token})
		return err
	}
	n := nonce(t, c, "h1", id, approval.Approve, why)
	token := h.Token(n, "dr-lee", "leads")
	parts := strings.Split(token, ".")
	refused(t, "no token", decide(id, approval.Approve, why, ""), "not proved")
	refused(t, "another signature", decide(id, approval.Approve, why, parts[0]+"."+parts[1]+"."+strings.Repeat("A", len(parts[2]))), "not proved")
	refused(t, "no signature", decide(id, approval.Approve, why, "eyJhbGciOiJub25lIn0."+parts[1]+"."), "not proved")
	refused(t, "a token of nobody's nonce", decide(id, approval.Approve, why, h.Token("", "dr-lee", "leads")), "nonce")
	refused(t, "an agent's token", decide(id, approval.Approve, why, h.People.Token("agent-a", "--audience", approvaltest.Client)), "party")
	refused(t, "other words", decide(id, approval.Approve, why+", and more", token), "nonce")
	refused(t, "another decision", decide(id, approval.Deny, why, token), "nonce")
	refused(t, "another request", decide(other, approval.Approve, why, token), "nonce")
	refused(t, "a request that is not there", decide("ap-aaaaaaaaaaaaaaaaaaaa", approval.Approve, why, token), "no such request")
	refused(t, "somebody whom the rule does not name", decide(id, approval.Approve, why, h.Token(n, "mallory", "staff")), "does not name you")
	for _, own := range []string{"alice", "bot-7", "BILLING"} {
		refused(t, own, decide(id, approval.Approve, why, h.Token(n, own, "leads")), "somebody else must")
	}
	refused(t, "something else", decide(id, "grant", why, token), "not known here")
	if ran, _, state := h.Run(s); ran || state != "pending" {
		t.Fatal("a forged decision counts")
	}

	// A token of long ago, and one of the future.
	h.Late.Store(int64(7 * time.Minute))
	refused(t, "a stale token", decide(id, approval.Approve, why, token), "expired")
	h.Late.Store(0)

	// The same message once more changes nothing, over a restart too.
	h.Close()
	if _, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: desk.List}); !errors.Is(err, desk.ErrAway) {
		t.Errorf("a host that is away: %v", err)
	}
	h.Open()
}

// A decision that counted is of no use again: not twice, not for two of two people,
// not when the request has ended, not after a restart.
func TestReplayedDecision(t *testing.T) {
	h := approvaltest.Start(t, "h1")
	c := h.Asker(jetstream.RoleApprovals)
	two := approvaltest.Statement{Text: "DELETE FROM visits", Count: 2}
	id := h.Ask(two)
	token := h.Token(nonce(t, c, "h1", id, approval.Approve, why), "dr-lee", "leads")
	q := &desk.Ask{Do: approval.Approve, ID: id, Why: why, Token: token}
	if a, err := c.Ask(t.Context(), "h1", q); err != nil || a.Entries[0].State != "pending" {
		t.Fatalf("%+v, %v", a, err)
	}
	again := func(when, want string) {
		t.Helper()
		_, err := c.Ask(t.Context(), "h1", q)
		refused(t, when, err, want)
	}
	again("the same message", "somebody else must")
	h.Close()
	h.Open()
	again("after a restart", "somebody else must")
	second := h.Token(nonce(t, c, "h1", id, approval.Approve, why), "dr-kim", "leads")
	if a, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: approval.Approve, ID: id, Why: why, Token: second}); err != nil || a.Entries[0].State != "approved" {
		t.Fatalf("%+v, %v", a, err)
	}
	again("when it is approved", "nothing to decide")
	h.Close()
	h.Open()
	again("when it is approved, after a restart", "nothing to decide")
	if ran, _, _ := h.Run(two); !ran {
		t.Error("what two have approved does not run")
	}
	again("when it is used up", "nonce") // what it was of is forgotten
	h.Close()
	h.Open()
	again("when it is used up, after a restart", "nonce")
	if ran, _, _ := h.Run(two); ran {
		t.Error("it runs twice")
	}
}

// One message, brought a hundred times at once, is one decision.
func TestOneDecisionOfMany(t *testing.T) {
	h := approvaltest.Start(t, "h1")
	c := h.Asker(jetstream.RoleApprovals)
	id := h.Ask(approvaltest.Statement{Text: "DELETE FROM visits"})
	token := h.Token(nonce(t, c, "h1", id, approval.Approve, why), "dr-lee", "leads")
	var wg sync.WaitGroup
	got := make(chan error, 100)
	for range cap(got) {
		wg.Go(func() {
			_, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: approval.Approve, ID: id, Why: why, Token: token})
			got <- err
		})
	}
	wg.Wait()
	close(got)
	won := 0
	for err := range got {
		if err == nil {
			won++
		} else {
			refused(t, "another", err, "nothing to decide")
		}
	}
	if won != 1 || strings.Count(h.Steps(), "approved") != 1 {
		t.Errorf("%d decisions; %s", won, h.Steps())
	}
}

// Of an embedded server's keys one alone may ask, and it can do nothing else; a host's
// can't listen for another, nor for an answer.
func TestWhoMayAsk(t *testing.T) {
	h := approvaltest.Start(t, "h1")
	h.Ask(approvaltest.Statement{Text: "DELETE FROM visits"})
	for _, role := range []string{jetstream.RoleHost, jetstream.RoleRecorder, jetstream.RoleSIEM, jetstream.RoleSink} {
		nc := h.Asker(role).Conn
		if err := nc.Publish(desk.Subject("h1"), []byte(`{"do":"list"}`)); err != nil {
			t.Fatal(err)
		}
		if _ = nc.Flush(); !errors.Is(nc.LastError(), nats.ErrPermissionViolation) {
			t.Errorf("%s may ask: %v", role, nc.LastError())
		}
		forbidden := []string{"sallyport.approvals.h2", "sallyport.approvals.>", "_INBOX_approvals.>", "_R_.>"}
		if role != jetstream.RoleHost {
			forbidden = append(forbidden, desk.Subject("h1"))
		}
		for _, subject := range forbidden {
			if mayListen(t, nc, subject) {
				t.Errorf("%s may listen to %s", role, subject)
			}
		}
	}
	nc := h.Asker(jetstream.RoleApprovals).Conn
	for _, subject := range []string{"sallyport.approvals.h2", "sallyport.audit.h1.host.alarm", "sallyport.receipt.h1", "$JS.API.STREAM.DELETE.SALLYPORT", "$JS.API.STREAM.MSG.GET.SALLYPORT"} {
		one := h.Asker(jetstream.RoleApprovals).Conn
		_ = one.Publish(subject, nil)
		if _ = one.Flush(); !errors.Is(one.LastError(), nats.ErrPermissionViolation) {
			t.Errorf("it may publish to %s", subject)
		}
	}
	for _, subject := range []string{"sallyport.>", desk.Subject("h1"), "_INBOX_recorder.>"} {
		if mayListen(t, nc, subject) {
			t.Errorf("it may listen to %s", subject)
		}
	}
	// An answer that is sent elsewhere comes to nobody, and to no stream.
	host := h.Asker(jetstream.RoleHost).Conn
	for _, reply := range []string{"sallyport.audit.h1.host.alarm", "$JS.API.STREAM.PURGE.SALLYPORT"} {
		if err := nc.PublishRequest(desk.Subject("h1"), reply, []byte(`{"do":"list"}`)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (&desk.Client{Conn: nc}).Ask(t.Context(), "h1", &desk.Ask{Do: desk.List}); err != nil { // these were answered before
		t.Fatal(err)
	}
	m, err := host.Request("$JS.API.STREAM.INFO.SALLYPORT", nil, time.Minute)
	var info struct {
		State struct {
			Messages uint64 `json:"messages"`
		} `json:"state"`
		Error any `json:"error"`
	}
	if err != nil || json.Unmarshal(m.Data, &info) != nil || info.Error != nil || info.State.Messages != 0 {
		t.Errorf("the stream has %+v, %v", info, err)
	}
}

func mayListen(t *testing.T, nc *nats.Conn, subject string) bool {
	t.Helper()
	sub, err := nc.SubscribeSync(subject)
	if err != nil {
		return false
	}
	_ = nc.Flush()
	_, err = sub.NextMsg(time.Millisecond)
	return !errors.Is(err, nats.ErrPermissionViolation)
}

// A host that answers for another is not believed, nor is one that answers for another
// request, or with what is no answer.
func TestAnswersOfAnother(t *testing.T) {
	h := approvaltest.Start(t, "h1")
	id := h.Ask(approvaltest.Statement{Text: "DELETE FROM visits"})
	h.Close()
	nc := h.Asker(jetstream.RoleHost).Conn
	c := h.Asker(jetstream.RoleApprovals)
	for said, want := range map[string]string{
		`{"host":"h2","entries":[]}`: "another host",
		`{"entries":[]}`:             "another host",
		`{"host":"h1","entries":[]}`: "another request",
		`{"host":"h1","entries":[{"id":"ap-aaaaaaaaaaaaaaaaaaaa"}]}`: "another request",
		`{"host":`: "not understood",
	} {
		sub, err := nc.Subscribe(desk.Subject("h1"), func(m *nats.Msg) {
			out := nats.NewMsg(m.Reply)
			out.Header.Set("Sallyport-Part", "1/1")
			out.Data = []byte(said)
			_ = m.RespondMsg(out)
		})
		if err == nil {
			err = nc.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: desk.Show, ID: id}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", said, err)
		}
		_ = sub.Unsubscribe()
		_ = nc.Flush()
	}
	// The host listens again: what was asked meanwhile was not decided.
	h.Open()
	if _, _, state := h.Run(approvaltest.Statement{Text: "DELETE FROM visits"}); state != "pending" {
		t.Error(state)
	}
}

// What is no question is refused, and the host goes on; long answers come whole.
func TestHostileQuestions(t *testing.T) {
	h := approvaltest.Start(t, "h1")
	c := h.Asker(jetstream.RoleApprovals)
	for _, q := range [][]byte{nil, []byte("{"), []byte(`{"do":7}`), []byte("\xff\xfe"), slices.Repeat([]byte("["), 200_000), slices.Repeat([]byte(" "), desk.MaxAsk+1)} {
		if err := c.Conn.PublishRequest(desk.Subject("h1"), c.Conn.NewInbox(), q); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: approval.Deny, ID: strings.Repeat("x", 1000), Why: strings.Repeat("\x00", 1000), Token: "\x1b]0;"})
	refused(t, "nonsense", err, "not proved")
	text := "DELETE FROM visits -- " + strings.Repeat("\x01<", 20_000)
	for i := range 20 {
		h.Ask(approvaltest.Statement{Text: fmt.Sprint(text, i)})
	}
	a, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: desk.List})
	if err != nil || len(a.Entries) != 20 {
		t.Fatalf("%d, %v", len(a.Entries), err)
	}
	for _, e := range a.Entries[:2] {
		if a, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: desk.Show, ID: e.ID}); err != nil || !strings.HasPrefix(a.Entries[0].What.Text, text) {
			t.Error(err)
		}
	}
}

// Who has logged in is shown what they may decide alone, by any token of theirs; no
// other proof shows anything.
func TestShownToOnePerson(t *testing.T) {
	h := approvaltest.Start(t, "h1")
	c := h.Asker(jetstream.RoleApprovals)
	id := h.Ask(approvaltest.Statement{Text: "DELETE FROM visits"})
	lee, clerk := h.Token("any", "dr-lee", "leads"), h.Token("any", "clerk", "staff")
	for token, n := range map[string]int{lee: 1, clerk: 0} {
		if a, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: desk.List, Token: token}); err != nil || len(a.Entries) != n {
			t.Errorf("%v, %+v", err, a)
		}
	}
	for _, do := range []string{desk.List, desk.Show} {
		_, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: do, ID: id, Token: clerk})
		refused(t, "a clerk", err, approval.ErrUnknown.Error())
		_, err = c.Ask(t.Context(), "h1", &desk.Ask{Do: do, ID: id, Token: clerk + "A"})
		refused(t, "a forged token", err, "not proved")
	}
	if got := h.Steps(); got != "requested" {
		t.Error(got)
	}
	if a, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: desk.Show, ID: id, Token: lee}); err != nil || a.Entries[0].What.Text == "" {
		t.Errorf("%v, %+v", err, a)
	}
	if got := h.Steps(); got != "requested seen:dr-lee" {
		t.Error(got)
	}
	_, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: approval.Approve, ID: id, Why: why, Token: lee})
	refused(t, "the token that it was shown with", err, "nonce")
}

// While the issuer is away nobody logs in and nothing is proved: the request waits on.
func TestIssuerIsAway(t *testing.T) {
	h := approvaltest.Start(t, "h1")
	c := h.Asker(jetstream.RoleApprovals)
	s := approvaltest.Statement{Text: "DELETE FROM visits"}
	id := h.Ask(s)
	token := h.Token(nonce(t, c, "h1", id, approval.Approve, why), "dr-lee", "leads")
	h.Close()
	h.People.Stop()
	h.Open() // a host that does not know the issuer's keys yet
	_, err := c.Ask(t.Context(), "h1", &desk.Ask{Do: approval.Approve, ID: id, Why: why, Token: token})
	refused(t, "a decision while the issuer is away", err, "not proved")
	refused(t, "and its reason", err, h.People.Issuer)
	_, err = oidc.Discover(t.Context(), oidc.Issuer{URL: h.People.Issuer, Audience: approvaltest.Client, Algorithms: []string{"RS256"}})
	if err == nil || !strings.Contains(err.Error(), "see that it runs") {
		t.Error(err)
	}
	if ran, again, state := h.Run(s); ran || again != id || state != "pending" {
		t.Errorf("ran %v, %s is %s", ran, again, state)
	}
}
