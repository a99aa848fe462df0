// Package approvaltest is a host with requests for approval, for tests of the ways to
// decide them: a Book as the daemon has it, asked over a real NATS server with its
// accounts, by people of a real issuer.
package approvaltest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/intercept/identity/oidctest"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// Client is that of approvers at the issuer.
const Client = "approvers"

// Device is the client there of log-ins by device code.
const Device = "lookers"

// Host is one that may be asked over NATS.
type Host struct {
	Name   string
	NATS   *jetstream.Server
	People *oidctest.Provider
	// Late is what the host's clock is ahead.
	Late atomic.Int64
	// Recorders are those whose word the host takes, and Claims those that people are
	// told apart by. Begin sets them.
	Recorders *desk.Recorders
	Claims    []string
	// Glass is the emergency access that its policy provides. Begin sets it.
	Glass []policy.BreakGlass

	t      testing.TB
	mu     sync.Mutex
	log    [][]byte
	steps  []string
	proofs []string
	book   *approval.Book
	desk   *desk.Desk
	stop   func()
}

// Start starts a host, its NATS and its issuer; they end with the test.
func Start(t testing.TB, name string) *Host {
	t.Helper()
	return Begin(t, name, func(*Host) {})
}

// Begin is Start for a host that set has changed before it answers.
func Begin(t testing.TB, name string, set func(*Host)) *Host {
	t.Helper()
	h := &Host{Name: name, t: t, People: oidctest.Start(t, "--people", Client, "--device", Device)}
	var err error
	h.NATS, err = jetstream.StartServer(jetstream.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", Host: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.NATS.Close)
	set(h)
	h.Open()
	t.Cleanup(h.Close)
	return h
}

// Open has the host answer, with what its log has; Close ends that. Between is what a
// restart is.
func (h *Host) Open() {
	h.t.Helper()
	issuers := []desk.Issuer{{URL: h.People.Issuer, Client: Client, Device: Device, Algorithms: []string{"RS256"}, Skew: 30 * time.Second}}
	logIns, err := desk.NewLogIns(issuers, func(string) string { return "sub" }, h.Now)
	if err != nil {
		h.t.Fatal(err)
	}
	h.book, err = approval.Open(h.records(), h, approval.Options{Host: h.Name, Now: h.Now, Tell: h.tell, Claims: func() []string { return h.Claims }, Glass: h.provided})
	if err != nil {
		h.t.Fatal(err)
	}
	h.desk = &desk.Desk{
		Book:    h.book,
		Glass:   h.provided,
		Issuers: func() []desk.Issuer { return issuers },
		Prove: func(ctx context.Context, q *desk.Ask) (*approval.Proof, error) {
			if q.Recorded != nil && h.Recorders != nil {
				return h.Recorders.Prove(ctx, q)
			}
			return logIns.Prove(ctx, q)
		},
	}
	nc, err := h.NATS.Connect()
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.desk.Serve(ctx, nc, h.Name, slog.New(slog.DiscardHandler)) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
		nc.Close()
	})
	h.awaitAnswer()
}

// Close has it answer no more.
func (h *Host) Close() { h.stop() }

// Desk is what answers, to be served elsewhere too.
func (h *Host) Desk() *desk.Desk { return h.desk }

// awaitAnswer waits until the host is asked and answers.
func (h *Host) awaitAnswer() {
	h.t.Helper()
	c := h.Asker(jetstream.RoleApprovals)
	defer c.Conn.Close()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		_, err := c.Ask(context.Background(), h.Name, &desk.Ask{Do: desk.List})
		if err == nil {
			return
		}
		if !errors.Is(err, desk.ErrAway) || time.Now().After(end) {
			h.t.Fatal(err)
		}
	}
}

// Asker asks hosts with the key of a role.
func (h *Host) Asker(role string) *desk.Client {
	h.t.Helper()
	nc, err := jetstream.Connect(h.NATS.URL(), h.NATS.SeedFile(role), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(nc.Close)
	return &desk.Client{Conn: nc, Timeout: time.Minute}
}

// Statement is one that the gate is asked about.
type Statement struct {
	Text, Justification string
	Count               int                 // of people who must approve; 0 is 1
	Group               string              // who may; "" is leads
	By                  []policy.Approver   // who may, instead of Group
	Asks                *intercept.Identity // who asks; nil is alice by bot-7
}

// Run asks the gate's book, as a statement that comes does: it runs (true), or there
// is a request, whose ID and state are returned.
func (h *Host) Run(s Statement) (ran bool, id, state string) {
	h.t.Helper()
	session := &policy.Session{
		Identity: intercept.Identity{Workload: "billing", Issuer: "https://id", Subject: "alice", Actors: []string{"bot-7"}, Proof: "oidc"},
		Resource: "clinic", Protocol: "postgres", Database: "clinic", User: "billing", Application: s.Justification, Event: &events.Session{ID: "s-1"},
	}
	if s.Asks != nil {
		session.Identity = *s.Asks
	}
	group := s.Group
	if group == "" {
		group = "leads"
	}
	by := s.By
	if by == nil {
		by = []policy.Approver{{Issuer: h.People.Issuer, Claims: map[string][]string{"groups": {group}}}}
	}
	ids, open, err := h.book.Consume(context.Background(), []policy.Asked{{
		Approval: &policy.Approval{
			Rule: "deletes", Digest: [32]byte{1}, Policy: [32]byte{2}, Reason: "rows of patients", Count: max(s.Count, 1), Uses: 1,
			By:     by,
			Within: 15 * time.Minute, Grant: 10 * time.Minute,
		},
		Request: &policy.Request{
			Text: s.Text, Commands: []string{"delete"}, Writes: true, Session: session,
			Objects: []policy.Object{{Schema: "clinic", Name: "visits", Access: policy.Delete}},
		},
		Exact: policy.Exact{Parameters: []policy.Parameter{{Type: 23, Value: []byte("7")}}},
	}})
	switch {
	case err != nil:
		h.t.Fatal(err)
	case open != nil:
		return false, open.ID, open.State.String()
	}
	return true, ids[0], ""
}

// Ask makes a request that waits.
func (h *Host) Ask(s Statement) (id string) {
	h.t.Helper()
	ran, id, state := h.Run(s)
	if ran || state != "pending" {
		h.t.Fatalf("ran %v, %s is %s", ran, id, state)
	}
	return id
}

// Token is the ID token of a person who has logged in at the issuer with a nonce.
func (h *Host) Token(nonce, subject, groups string) string {
	h.t.Helper()
	const back = "http://127.0.0.1/callback"
	is := oidc.Issuer{URL: h.People.Issuer, Audience: Client, Algorithms: []string{"RS256"}}
	at, err := oidc.Discover(h.t.Context(), is)
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := oidc.BeginCode(is, at,
		oidc.CodeRequest{Client: Client, Scopes: []string{"profile"}, Redirect: back, State: "s", Nonce: nonce})
	if err != nil {
		h.t.Fatal(err)
	}
	raw, err := c.IDToken(h.t.Context(), h.People.LogIn(h.t, c.URI, subject, groups).Query())
	if err != nil {
		h.t.Fatal(err)
	}
	return raw
}

// Steps are those on the record, without the statement; "seen" by somebody who has
// logged in has their name behind a colon.
func (h *Host) Steps() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.steps, " ")
}

func (h *Host) provided() []policy.BreakGlass { return h.Glass }

// Now is the host's clock.
func (h *Host) Now() time.Time { return time.Now().Add(time.Duration(h.Late.Load())) }

func (h *Host) tell(all ...*events.Event) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range all {
		if strings.Contains(fmt.Sprintf("%+v %+v", e, e.Approval), "DELETE") {
			return errors.New("an event holds the statement")
		}
		step := e.Approval.Step
		if who := e.Approval.Approver; step == "seen" && who != "" {
			step += ":" + who
		}
		h.steps = append(h.steps, step)
		if p := e.Approval.Proof; p != "" && e.Approval.Step != "seen" {
			h.proofs = append(h.proofs, p)
		}
	}
	return nil
}

func (h *Host) records() [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.log)
}

// Append implements approval.Log.
func (h *Host) Append(r []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, slices.Clone(r))
	return nil
}

// Replace implements approval.Log.
func (h *Host) Replace(all [][]byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = slices.Clone(all)
	return nil
}

// Size implements approval.Log.
func (h *Host) Size() int64 { return int64(len(h.records())) }

// Proofs are how the decisions on the record were proved.
func (h *Host) Proofs() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.proofs, " ")
}
