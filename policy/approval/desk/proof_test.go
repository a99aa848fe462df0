package desk_test

import (
	"context"
	"crypto/rsa"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity/oidctest"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/approvaltest"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// memory is a log that is kept nowhere.
type memory struct{}

func (memory) Append([]byte) error    { return nil }
func (memory) Replace([][]byte) error { return nil }
func (memory) Size() int64            { return 0 }

// forged is a desk of an issuer that says what a test wants, and a request that waits.
type forged struct {
	*oidctest.Forger
	t    *testing.T
	key  *rsa.PrivateKey
	desk *desk.Desk
	id   string
	of   approval.Subject
}

const device = "lookers"

var glass = policy.BreakGlass{
	Name: "ward emergency", Digest: [32]byte{7}, Resources: []string{"clinic"}, Workloads: []string{"billing"}, Rules: []string{"deletes"},
	Longest: time.Hour, Within: time.Hour,
}

func newForged(t *testing.T) *forged {
	t.Helper()
	f := &forged{Forger: oidctest.NewForger(t), t: t, key: oidctest.RSAKey(t, 2048)}
	f.Publish(oidctest.Public("k", "RS256", f.key.Public()))
	by := []policy.Approver{{Issuer: f.URL, Claims: map[string][]string{"groups": {"leads"}}}}
	provided := glass
	provided.By, provided.Review = by, by
	glasses := func() []policy.BreakGlass { return []policy.BreakGlass{provided} }
	book, err := approval.Open(nil, memory{}, approval.Options{Host: "h1", Now: time.Now, Tell: func(...*events.Event) error { return nil }, Glass: glasses})
	if err != nil {
		t.Fatal(err)
	}
	issuers := []desk.Issuer{{URL: f.URL, Client: "approvers", Device: device, Algorithms: []string{"RS256"}, Skew: 30 * time.Second}}
	logIns, err := desk.NewLogIns(issuers, func(string) string { return "sub" }, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	f.desk = &desk.Desk{Book: book, Issuers: func() []desk.Issuer { return issuers }, Glass: glasses, Prove: logIns.Prove}
	_, open, err := book.Consume(t.Context(), []policy.Asked{{
		Approval: &policy.Approval{Rule: "deletes", Digest: [32]byte{1}, Policy: [32]byte{2}, Count: 1, Uses: 1, By: by, Within: 15 * time.Minute, Grant: 10 * time.Minute},
		Request: &policy.Request{Text: "DELETE FROM visits", Commands: []string{"delete"}, Writes: true, Session: &policy.Session{
			Identity: intercept.Identity{Workload: "billing", Issuer: "https://id", Subject: "alice"}, Resource: "clinic", Protocol: "postgres", Event: &events.Session{ID: "s-1"},
		}},
	}})
	if err != nil || open == nil {
		t.Fatal(open, err)
	}
	f.id = open.ID
	e, err := book.Show(f.id)
	if err != nil {
		t.Fatal(err)
	}
	f.of = e.Subject
	return f
}

// token is one of a log-in of now for a nonce; the pairs change its claims.
func (f *forged) token(typ, nonce string, change ...any) string {
	now := time.Now().Unix()
	claims := f.Claims(append([]any{"sub", "dr-lee", "aud", "approvers", "azp", "approvers", "nonce", nonce, "auth_time", now, "groups", []string{"leads"}}, change...)...)
	return oidctest.Sign(f.t, jose.RS256, f.key, map[jose.HeaderKey]any{"kid": "k", "typ": typ}, claims)
}

func (f *forged) ask(q *desk.Ask) error {
	_, err := f.desk.Answer(context.WithoutCancel(f.t.Context()), q)
	return err
}

// What proves a decision, and a step of emergency access, is an ID token of the client
// for decisions, of a log-in of now: whatever else carries the right nonce proves nothing.
func TestProvenByALogInOfNow(t *testing.T) {
	f := newForged(t)
	nonce, err := approval.Nonce(&f.of, approval.Approve, why)
	if err != nil {
		t.Fatal(err)
	}
	a, err := f.desk.Answer(t.Context(), &desk.Ask{Do: desk.GlassBegin, Name: glass.Name})
	if err != nil {
		t.Fatal(err)
	}
	o := a.Opening
	o.Resource, o.Workload, o.For, o.ForIssuer, o.Lasts = "clinic", "billing", "alice", "https://id", 10*time.Minute
	broken, err := approval.GlassNonce(o, approval.OpenGlass, why)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ago := func(d time.Duration) int64 { return now.Add(-d).Unix() }
	for what, c := range map[string]struct {
		typ    string
		change []any
		want   string
	}{
		"a log-in by device code":                    {"JWT", []any{"aud", device, "azp", device}, "audience"},
		"a log-in by device code, for both":          {"JWT", []any{"aud", []string{"approvers", device}, "azp", device}, "party"},
		"a log-in by device code that does not say":  {"JWT", []any{"aud", []string{"approvers", device}, "azp", nil}, "party"},
		"another program's":                          {"JWT", []any{"azp", "wiki"}, "party"},
		"another program's, by client_id":            {"JWT", []any{"azp", nil, "client_id", "wiki"}, "party"},
		"an access token":                            {"at+jwt", nil, "no ID token"},
		"an access token, by its whole type":         {"application/at+JWT", nil, "no ID token"},
		"an access token of Keycloak":                {"JWT", []any{"typ", "Bearer"}, "no ID token"},
		"what the browser remembers":                 {"JWT", []any{"auth_time", ago(2 * time.Hour)}, "log-in of before"},
		"a log-in of before the request":             {"JWT", []any{"auth_time", ago(90 * time.Second)}, "log-in of before"},
		"a token that was refreshed":                 {"JWT", []any{"auth_time", ago(7 * time.Minute), "iat", now.Unix(), "exp", now.Add(time.Hour).Unix()}, "log-in of before"},
		"no time of a log-in":                        {"JWT", []any{"auth_time", nil}, "max_age"},
		"a time of a log-in that is none":            {"JWT", []any{"auth_time", "now"}, "auth_time"},
		"a log-in that is still to come":             {"JWT", []any{"auth_time", now.Add(time.Hour).Unix()}, "future"},
		"a log-in at the beginning of time":          {"JWT", []any{"auth_time", 0}, "log-in of before"},
		"a token of before, and a log-in of now":     {"JWT", []any{"iat", ago(5 * time.Minute)}, "older than the request"},
		"somebody who acts for them":                 {"JWT", []any{"act", map[string]any{"sub": "bot"}}, "in person"},
		"a token of another issuer's, without a key": {"JWT", []any{"iss", "https://elsewhere"}, "elsewhere"},
	} {
		for q, nonce := range map[*desk.Ask]string{
			{Do: approval.Approve, ID: f.id, Why: why}: nonce,
			{Do: desk.GlassOpen, Glass: o, Why: why}:   broken,
		} {
			q.Token = f.token(c.typ, nonce, c.change...)
			if err := f.ask(q); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, to %s: %v, want %q", what, q.Do, err, c.want)
			}
		}
	}
	open, err := f.desk.Book.Glasses(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := f.desk.Book.Show(f.id); err != nil || e.State != "pending" || len(open) != 0 {
		t.Fatalf("%s, %v, %+v", e.State, err, open)
	}
	// Who has logged in just now decides: also where the issuer leaves azp out, for one audience.
	if err := f.ask(&desk.Ask{Do: desk.GlassOpen, Glass: o, Why: why, Token: f.token("JWT", broken)}); err != nil {
		t.Error(err)
	}
	if err := f.ask(&desk.Ask{Do: approval.Approve, ID: f.id, Why: why, Token: f.token("JWT", nonce, "azp", nil)}); err != nil {
		t.Error(err)
	}
}

// Who has logged in by device code looks, as of any log-in; by a token of another
// program's nobody does.
func TestWhoLooks(t *testing.T) {
	f := newForged(t)
	for token, want := range map[string]string{
		f.token("JWT", "", "aud", device, "azp", device, "auth_time", nil):            "",
		f.token("JWT", "", "auth_time", time.Now().Add(-time.Hour).Unix()):            "",
		f.token("JWT", "", "aud", device, "azp", device, "groups", []string{"staff"}): approval.ErrUnknown.Error(),
		f.token("JWT", "", "aud", "wiki", "azp", "wiki"):                              "not proved",
		f.token("JWT", "", "aud", device, "azp", "wiki"):                              "not proved",
		f.token("at+jwt", "", "aud", device, "azp", device):                           "not proved",
	} {
		for _, do := range []string{desk.List, desk.Show} {
			if err := f.ask(&desk.Ask{Do: do, ID: f.id, Token: token}); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", do, err, want)
			}
		}
	}
}

// serve has a desk answer over a real NATS in a host's name, until the test ends, and
// returns who asks there.
func (f *forged) serve(host string) *desk.Client {
	f.t.Helper()
	h := approvaltest.Start(f.t, host)
	h.Close()
	nc, err := h.NATS.Connect()
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.desk.Serve(ctx, nc, host, slog.New(slog.DiscardHandler)) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Error(err)
		}
		nc.Close()
	})
	c := h.Asker(jetstream.RoleApprovals)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := c.Ask(f.t.Context(), host, &desk.Ask{Do: desk.GlassList}); !errors.Is(err, desk.ErrAway) {
			break
		}
	}
	return c
}
