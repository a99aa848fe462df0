package approval_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// disk is a log in memory that can fail as a disk does.
type disk struct {
	mu      sync.Mutex
	records [][]byte
	fail    atomic.Bool
}

func (d *disk) Append(r []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail.Load() {
		return errors.New("no space")
	}
	d.records = append(d.records, slices.Clone(r))
	return nil
}

func (d *disk) Replace(all [][]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records = slices.Clone(all)
	return nil
}

func (d *disk) Size() int64 { return int64(len(d.records)) }

// world is a Book with its clock, its disk and its record.
type world struct {
	t       testing.TB
	disk    disk
	now     atomic.Int64
	stepped atomic.Int64 // of it, by who sets the clock
	*approval.Book

	mu     sync.Mutex
	steps  []string
	events []events.Approval
	deaf   atomic.Bool // nothing can be recorded
	claims []string    // that name people
	glass  []policy.BreakGlass
	alarms []string
	waits  int // for the record
}

var start = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func newWorld(t testing.TB) *world {
	w := &world{t: t}
	w.now.Store(start.UnixNano())
	w.open()
	return w
}

// open is what a restart does.
func (w *world) open() {
	w.t.Helper()
	w.openAt(&w.disk)
}

func (w *world) openAt(log approval.Log) {
	w.t.Helper()
	b, err := approval.Open(slices.Clone(w.disk.records), log, approval.Options{Now: w.clock, Passed: w.passed, Tell: w.tell, Claims: func() []string { return w.claims }, Glass: func() []policy.BreakGlass { return w.glass }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Book = b
}

func (w *world) clock() time.Time      { return time.Unix(0, w.now.Load()) }
func (w *world) pass(d time.Duration)  { w.now.Add(int64(d)) }
func (w *world) passed() time.Duration { return time.Duration(w.now.Load() - w.stepped.Load()) }

// set sets the clock.
func (w *world) set(d time.Duration) { w.stepped.Add(int64(d)); w.now.Add(int64(d)) }

func (w *world) tell(all ...*events.Event) error {
	if w.deaf.Load() {
		return errors.New("the journal is full")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range all {
		if e.Kind == events.Alarm {
			w.alarms = append(w.alarms, e.Message)
		}
		if e.Approval == nil {
			continue
		}
		w.steps = append(w.steps, e.Approval.Step)
		w.events = append(w.events, *e.Approval)
	}
	w.waits++
	return nil
}

func (w *world) told() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.steps, " ")
}

// rule asks for one approval of a lead.
func rule(change ...func(*policy.Approval)) *policy.Approval {
	a := &policy.Approval{
		Rule: "deletes", Digest: [32]byte{1}, Policy: [32]byte{2}, Reason: "rows of patients", Count: 1, Uses: 1,
		By:     []policy.Approver{{Issuer: "https://people", Claims: map[string][]string{"groups": {"leads"}}}},
		Within: 15 * time.Minute, Grant: 10 * time.Minute,
	}
	for _, c := range change {
		c(a)
	}
	return a
}

// asked is a DELETE by an agent for alice.
func asked(a *policy.Approval, change ...func(*policy.Asked)) []policy.Asked {
	q := policy.Asked{
		Approval: a,
		Request: &policy.Request{
			Text: "DELETE FROM clinic.visits WHERE id = $1 AND note = 'x'", Commands: []string{"delete"}, Writes: true,
			Objects: []policy.Object{{Schema: "clinic", Name: "visits", Access: policy.Delete}},
			Session: &policy.Session{
				Identity: intercept.Identity{Workload: "billing", Issuer: "https://id", Subject: "alice", Actors: []string{"bot-7"}, Proof: "oidc"},
				Resource: "clinic", Protocol: "postgres", Database: "clinic", User: "billing", Event: &events.Session{ID: "s-1"},
			},
		},
		Exact: policy.Exact{Parameters: []policy.Parameter{{Type: 23, Value: []byte("7")}}},
	}
	for _, c := range change {
		c(&q)
	}
	return []policy.Asked{q}
}

// Who asks in these tests waits as long as it takes.
func (w *world) Withdraw(id, why string) error {
	return w.Book.Withdraw(context.Background(), id, why)
}

func (w *world) Note(id string, e policy.Estimate) error {
	return w.Book.Note(context.Background(), id, e)
}

func (w *world) Own(id string, s *policy.Session) (policy.Standing, error) {
	return w.Book.Own(context.Background(), id, s)
}

func (w *world) Decide(id, verb, why string, p *approval.Proof) (approval.Entry, error) {
	return w.Book.Decide(context.Background(), id, verb, why, p)
}

func (w *world) ShowTo(id string, p *approval.Proof) (approval.Entry, error) {
	return w.Book.ShowTo(context.Background(), id, p)
}

func (w *world) ShowClaimed(id string, v approval.Viewer) (approval.Entry, error) {
	return w.Book.ShowClaimed(context.Background(), id, v)
}

func (w *world) Break(o *approval.Opening, why string, p *approval.Proof) (approval.Glass, error) {
	return w.Book.Break(context.Background(), o, why, p)
}

func (w *world) Mend(id, verb, why string, p *approval.Proof) (approval.Glass, error) {
	return w.Book.Mend(context.Background(), id, verb, why, p)
}

func (w *world) Glance(id string) (approval.Entry, error) {
	return w.Book.Glance(context.Background(), id)
}

func (w *world) List(all bool) []approval.Entry {
	w.t.Helper()
	l, err := w.Book.List(context.Background(), all)
	if err != nil {
		w.t.Error(err)
	}
	return l
}

func (w *world) Glasses(all bool) []approval.Glass {
	w.t.Helper()
	l, err := w.Book.Glasses(context.Background(), all)
	if err != nil {
		w.t.Error(err)
	}
	return l
}

// consume returns the state of what is missing, or that it runs.
func (w *world) consume(q []policy.Asked) (string, string) {
	w.t.Helper()
	ids, open, err := w.Consume(context.Background(), q)
	switch {
	case err != nil:
		return "error: " + err.Error(), ""
	case open != nil:
		return open.State.String(), open.ID
	}
	return "runs", ids[0]
}

// proof is a lead's for a decision.
func (w *world) proof(id, verb, why string, change ...func(*approval.Proof)) *approval.Proof {
	w.t.Helper()
	e, err := w.Show(id)
	if err != nil {
		w.t.Fatal(err)
	}
	nonce, err := approval.Nonce(&e.Subject, verb, why)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &approval.Proof{
		Issuer: "https://people", Subject: "dr-lee", Issued: w.clock(), LoggedIn: w.clock(), Token: "x.y.z",
		Claims: map[string]any{"nonce": nonce, "groups": []any{"staff", "leads"}},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

const why = "duplicate visit, ticket 4711"

func (w *world) approve(id string, change ...func(*approval.Proof)) error {
	w.t.Helper()
	_, err := w.Decide(id, approval.Approve, why, w.proof(id, approval.Approve, why, change...))
	return err
}

func TestOneStatementOnce(t *testing.T) {
	w := newWorld(t)
	state, id := w.consume(asked(rule()))
	if state != "pending" {
		t.Fatal(state)
	}
	if again, same := w.consume(asked(rule())); again != "pending" || same != id {
		t.Fatal("a retry is another request", again, same, id)
	}
	if err := w.approve(id); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"runs", "pending"} {
		if state, _ := w.consume(asked(rule())); state != want {
			t.Errorf("%s, want %s", state, want)
		}
	}
	if got := w.told(); got != "requested seen approved consumed requested" {
		t.Error(got)
	}
	a := w.events[2]
	if a.Approver != "dr-lee" || a.Issuer != "https://people" || a.Why != why || a.Proof != "oidc+nonce" || a.Workload != "billing" || a.Actor != "bot-7" || a.Principal != "alice" || len(a.Digest) != 64 {
		t.Errorf("%+v", a)
	}
	if strings.Contains(fmt.Sprintf("%+v", w.events), "DELETE") {
		t.Error("an event holds the statement")
	}
}

// Whatever is not what was approved does not run, and costs nothing of it.
func TestAnythingElseDoesNotRun(t *testing.T) {
	w := newWorld(t)
	_, id := w.consume(asked(rule()))
	if err := w.approve(id); err != nil {
		t.Fatal(err)
	}
	id2 := func(f func(*intercept.Identity)) func(*policy.Asked) {
		return func(a *policy.Asked) { f(&a.Request.Session.Identity) }
	}
	for name, c := range map[string]func(*policy.Asked){
		"a literal":      func(a *policy.Asked) { a.Request.Text = strings.Replace(a.Request.Text, "'x'", "'y'", 1) },
		"a space":        func(a *policy.Asked) { a.Request.Text += " " },
		"more behind it": func(a *policy.Asked) { a.Request.Text += "; DELETE FROM clinic.visits" },
		"a parameter":    func(a *policy.Asked) { a.Exact.Parameters[0].Value = []byte("8") },
		"its form":       func(a *policy.Asked) { a.Exact.Parameters[0].Binary = true },
		"its type":       func(a *policy.Asked) { a.Exact.Parameters[0].Type = 25 },
		"NULL":           func(a *policy.Asked) { a.Exact.Parameters[0] = policy.Parameter{Type: 23, Null: true} },
		"empty":          func(a *policy.Asked) { a.Exact.Parameters[0] = policy.Parameter{Type: 23} },
		"one more":       func(a *policy.Asked) { a.Exact.Parameters = append(a.Exact.Parameters, policy.Parameter{}) },
		"none":           func(a *policy.Asked) { a.Exact.Parameters = nil },
		"a relation": func(a *policy.Asked) {
			a.Request.Objects = []policy.Object{{Schema: "pg_temp_3", Name: "visits", Access: policy.Delete}}
		},
		"what it does": func(a *policy.Asked) {
			a.Request.Objects = []policy.Object{{Schema: "clinic", Name: "visits", Access: policy.Read}}
		},
		"a setting":         func(a *policy.Asked) { a.Exact.Settings = []string{"datestyle=ISO, DMY"} },
		"a name":            func(a *policy.Asked) { a.Exact.Names = []string{"SELECT 1"} },
		"the database":      func(a *policy.Asked) { a.Request.Session.Database = "other" },
		"the resource":      func(a *policy.Asked) { a.Request.Session.Resource = "other" },
		"the database user": func(a *policy.Asked) { a.Request.Session.User = "other" },
		"the workload":      id2(func(i *intercept.Identity) { i.Workload = "other" }),
		"the SPIFFE ID":     id2(func(i *intercept.Identity) { i.SPIFFE = "spiffe://a/b" }),
		"the actor":         id2(func(i *intercept.Identity) { i.Actors = []string{"bot-8"} }),
		"one more actor":    id2(func(i *intercept.Identity) { i.Actors = []string{"bot-7", "bot-8"} }),
		"the principal":     id2(func(i *intercept.Identity) { i.Subject = "bob" }),
		"the issuer":        id2(func(i *intercept.Identity) { i.Issuer = "https://other" }),
		"the policy":        func(a *policy.Asked) { x := *a.Approval; x.Policy[0]++; a.Approval = &x },
		"the rule":          func(a *policy.Asked) { x := *a.Approval; x.Digest[0]++; a.Approval = &x },
	} {
		if state, other := w.consume(asked(rule(), c)); state != "pending" || other == id {
			t.Errorf("%s: %s", name, state)
		}
	}
	if state, _ := w.consume(asked(rule())); state != "runs" {
		t.Error(state)
	}
}

// Parameters that run into each other are not those that were approved.
func TestParametersAreApart(t *testing.T) {
	params := func(vs ...string) func(*policy.Asked) {
		return func(a *policy.Asked) {
			a.Exact.Parameters = nil
			for _, v := range vs {
				a.Exact.Parameters = append(a.Exact.Parameters, policy.Parameter{Value: []byte(v)})
			}
		}
	}
	seen := map[[32]byte]string{}
	for _, vs := range [][]string{{"ab", "c"}, {"a", "bc"}, {"abc"}, {"", "abc"}, {"abc", ""}} {
		k := approval.Key(&asked(rule(), params(vs...))[0])
		if seen[k] != "" {
			t.Errorf("%q is %s", vs, seen[k])
		}
		seen[k] = fmt.Sprintf("%q", vs)
	}
}

// 1,000 at once run it once, or as often as was approved.
func TestRacingRetries(t *testing.T) {
	for _, uses := range []int{1, 7} {
		w := newWorld(t)
		r := rule(func(a *policy.Approval) { a.Uses = uses })
		_, id := w.consume(asked(r))
		if err := w.approve(id); err != nil {
			t.Fatal(err)
		}
		var ran atomic.Int32
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if _, open, err := w.Consume(context.Background(), asked(r)); err == nil && open == nil {
					ran.Add(1)
				}
			})
		}
		wg.Wait()
		if int(ran.Load()) != uses {
			t.Errorf("ran %d times, not %d", ran.Load(), uses)
		}
		w.open() // a restart gives nothing back
		if state, _ := w.consume(asked(r)); state != "pending" {
			t.Error(state)
		}
	}
}

// A restart loses no request, no decision and no use of it.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	two := rule(func(a *policy.Approval) { a.Count, a.Uses = 2, 2 })
	_, id := w.consume(asked(two))
	step := func(want string, do func() (string, error)) {
		t.Helper()
		w.open()
		if got, err := do(); got != want {
			t.Fatalf("%s %v, want %s", got, err, want)
		}
	}
	one := func(who string) func() (string, error) {
		return func() (string, error) {
			if err := w.approve(id, func(p *approval.Proof) { p.Subject = who }); err != nil {
				return "error", err
			}
			e, err := w.Show(id)
			return e.State, err
		}
	}
	step("pending", one("dr-lee"))
	step("error", one("dr-lee"))
	step("approved", one("dr-may"))
	for _, want := range []string{"runs", "runs", "pending"} {
		step(want, func() (string, error) { s, _ := w.consume(asked(two)); return s, nil })
	}
	// A log that is not what was written gives nothing.
	for i := range w.disk.records {
		cut := slices.Clone(w.disk.records)
		cut[i] = cut[i][:len(cut[i])/2]
		if _, err := approval.Open(cut, &disk{}, approval.Options{Now: w.clock, Tell: w.tell}); !errors.Is(err, approval.ErrDamaged) {
			t.Errorf("record %d was cut, and nobody noticed", i)
		}
	}
}

// What can't be kept or recorded does not happen.
func TestFaults(t *testing.T) {
	w := newWorld(t)
	_, id := w.consume(asked(rule()))
	p := w.proof(id, approval.Approve, why)
	for _, fault := range []*atomic.Bool{&w.deaf, &w.disk.fail} {
		fault.Store(true)
		if _, err := w.Decide(id, approval.Approve, why, p); err == nil {
			t.Error("approved")
		}
		if state, _ := w.consume(asked(rule(), func(a *policy.Asked) { a.Request.Text = "other" })); !strings.HasPrefix(state, "error") {
			t.Error(state)
		}
		fault.Store(false)
	}
	if err := w.approve(id); err != nil {
		t.Fatal(err)
	}
	for _, fault := range []*atomic.Bool{&w.deaf, &w.disk.fail} {
		fault.Store(true)
		if state, _ := w.consume(asked(rule())); !strings.HasPrefix(state, "error") {
			t.Error("it runs without a record of it:", state)
		}
		fault.Store(false)
	}
}

// Each step has its time, and a clock that is set back gives none of it again.
func TestTimes(t *testing.T) {
	w := newWorld(t)
	_, id := w.consume(asked(rule()))
	p := w.proof(id, approval.Approve, why)
	w.pass(15 * time.Minute)
	p.Issued, p.LoggedIn = w.clock(), w.clock()
	if _, err := w.Decide(id, approval.Approve, why, p); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Error(err)
	}
	_, id = w.consume(asked(rule()))
	if err := w.approve(id); err != nil {
		t.Fatal(err)
	}
	w.pass(10 * time.Minute)
	if err := w.Sweep(); err != nil {
		t.Fatal(err)
	}
	w.set(-5 * time.Minute)
	if state, other := w.consume(asked(rule())); state != "pending" || other == id {
		t.Error("what has expired runs", state)
	}
	if got := w.told(); got != "requested seen expired requested seen approved expired requested" {
		t.Error(got)
	}
}

func TestDeniedAndRevoked(t *testing.T) {
	w := newWorld(t)
	_, id := w.consume(asked(rule()))
	if _, err := w.Decide(id, approval.Deny, "no ticket was named", w.proof(id, approval.Deny, "no ticket was named")); err != nil {
		t.Fatal(err)
	}
	_, open, err := w.Consume(context.Background(), asked(rule()))
	if err != nil || open == nil || open.State != policy.Denied || open.Why != "no ticket was named" || open.ID != id {
		t.Fatalf("%+v %v", open, err)
	}
	if err := w.approve(id); err == nil {
		t.Error("what was denied is approved")
	}
	w.pass(15 * time.Minute)
	_, id = w.consume(asked(rule()))
	if err := w.approve(id); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Decide(id, approval.Revoke, "it was a mistake", w.proof(id, approval.Revoke, "it was a mistake")); err != nil {
		t.Fatal(err)
	}
	if state, other := w.consume(asked(rule())); state != "pending" || other == id {
		t.Error("what was revoked runs", state)
	}
}

// Nobody but who may decides, in person, about this and now.
func TestProofs(t *testing.T) {
	w := newWorld(t)
	w.pass(10 * time.Minute)
	_, id := w.consume(asked(rule()))
	_, other := w.consume(asked(rule(), func(a *policy.Asked) { a.Exact.Parameters[0].Value = []byte("8") }))
	nonceOf := func(id, verb, why string) any { return w.proof(id, verb, why).Claims["nonce"] }
	claim := func(name string, v any) func(*approval.Proof) {
		return func(p *approval.Proof) { p.Claims[name] = v }
	}
	for name, c := range map[string]func(*approval.Proof){
		"no nonce":                  claim("nonce", nil),
		"a nonce of another":        claim("nonce", nonceOf(other, approval.Approve, why)),
		"a nonce of a denial":       claim("nonce", nonceOf(id, approval.Deny, why)),
		"a nonce of another reason": claim("nonce", nonceOf(id, approval.Approve, why+"!")),
		"a list of nonces":          claim("nonce", []any{nonceOf(id, approval.Approve, why)}),
		"old":                       func(p *approval.Proof) { p.Issued = w.clock().Add(-7 * time.Minute) },
		"before the request":        func(p *approval.Proof) { p.Issued = start },
		"of no time":                func(p *approval.Proof) { p.Issued = time.Time{} },
		"of the future":             func(p *approval.Proof) { p.Issued = w.clock().Add(2 * time.Minute) },
		"logged in long ago":        func(p *approval.Proof) { p.LoggedIn = start },
		"logged in, who knows when": func(p *approval.Proof) { p.LoggedIn = time.Time{} },
		"to log in soon":            func(p *approval.Proof) { p.LoggedIn = w.clock().Add(2 * time.Minute) },
		"another group":             claim("groups", []any{"staff"}),
		"a group within a group":    claim("groups", []any{[]any{"leads"}}),
		"a longer group":            claim("groups", "leads-of-nothing"),
		"another issuer":            func(p *approval.Proof) { p.Issuer = "https://id" },
		"nobody":                    func(p *approval.Proof) { p.Subject = "" },
		"an agent of a lead":        func(p *approval.Proof) { p.Acting = true },
		"the principal":             func(p *approval.Proof) { p.Subject = "alice" },
		"the actor":                 func(p *approval.Proof) { p.Subject = "bot-7" },
		"the workload":              func(p *approval.Proof) { p.Subject = "billing" },
	} {
		if err := w.approve(id, c); err == nil {
			t.Errorf("%s approves", name)
		}
	}
	for _, bad := range []string{"", "short", "          x          ", strings.Repeat("x", 501), "because\x1b[2J I say so", "because \u202e I say so"} {
		if _, err := w.Decide(id, approval.Approve, bad, w.proof(id, approval.Approve, bad)); err == nil {
			t.Errorf("%q is a reason", bad)
		}
	}
	if _, err := w.Decide(id, "consume", why, w.proof(id, "consume", why)); err == nil {
		t.Error("a decision that is none")
	}
	p := w.proof(id, approval.Approve, why)
	if _, err := w.Decide(id, approval.Approve, why, p); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Decide(id, approval.Approve, why, p); err == nil {
		t.Error("a decision counts twice")
	}
	if state, _ := w.consume(asked(rule())); state != "runs" {
		t.Fatal(state)
	}
	if _, err := w.Decide(id, approval.Approve, why, p); err == nil {
		t.Error("a replayed decision gives another use")
	}
	if strings.Count(w.told(), "approved") != 1 {
		t.Error(w.told())
	}
}

func TestShapeAndRule(t *testing.T) {
	w := newWorld(t)
	shape := rule(func(a *policy.Approval) {
		a.Covers, a.Uses, a.Free = policy.AShape, 3, map[int][]string{1: {"7", "8", "9"}}
	})
	value := func(v string, binary bool) func(*policy.Asked) {
		return func(a *policy.Asked) { a.Exact.Parameters[0].Value, a.Exact.Parameters[0].Binary = []byte(v), binary }
	}
	_, id := w.consume(asked(shape, value("7", false)))
	if err := w.approve(id); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		v      string
		binary bool
		want   string
	}{{"8", false, "runs"}, {"10", false, "pending"}, {"9", true, "pending"}, {"9", false, "runs"}, {"7", false, "runs"}, {"7", false, "pending"}} {
		if state, _ := w.consume(asked(shape, value(c.v, c.binary))); state != c.want {
			t.Errorf("%+v: %s", c, state)
		}
	}
	window := rule(func(a *policy.Approval) { a.Covers, a.Uses = policy.ARule, 0 })
	_, id = w.consume(asked(window))
	if err := w.approve(id); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if state, _ := w.consume(asked(window, func(a *policy.Asked) { a.Request.Text = fmt.Sprint(i) })); state != "runs" {
			t.Error(state)
		}
	}
	if state, _ := w.consume(asked(window, func(a *policy.Asked) { a.Request.Session.Identity.Workload = "other" })); state != "pending" {
		t.Error(state)
	}
	w.pass(10 * time.Minute)
	if state, _ := w.consume(asked(window)); state != "pending" {
		t.Error(state)
	}
}

// All rules that ask must have said yes, or none of what they said is used.
func TestSeveralRules(t *testing.T) {
	w := newWorld(t)
	both := func() []policy.Asked {
		return append(asked(rule()), asked(rule(func(a *policy.Approval) { a.Rule, a.Digest = "other", [32]byte{9} }))...)
	}
	_, first := w.consume(both())
	if err := w.approve(first); err != nil {
		t.Fatal(err)
	}
	state, second := w.consume(both())
	if state != "pending" || second == first {
		t.Fatal(state)
	}
	if err := w.approve(second); err != nil {
		t.Fatal(err)
	}
	ids, open, err := w.Consume(context.Background(), both())
	if err != nil || open != nil || !slices.Equal(ids, []string{first, second}) {
		t.Error(ids, open, err)
	}
}

// Only who asked sees how it stands, or ends it.
func TestOwn(t *testing.T) {
	w := newWorld(t)
	q := asked(rule())
	_, id := w.consume(q)
	if s, err := w.Own(id, q[0].Request.Session); err != nil || s.State != policy.Awaited {
		t.Error(s, err)
	}
	s := *q[0].Request.Session
	s.Identity.Actors = []string{"bot-8"}
	if _, err := w.Own(id, &s); !errors.Is(err, approval.ErrUnknown) {
		t.Error(err)
	}
	if err := w.Withdraw(id, "the client has gone"); err != nil {
		t.Fatal(err)
	}
	if err := w.approve(id); err == nil {
		t.Error("what was withdrawn is approved")
	}
	if state, other := w.consume(q); state != "pending" || other == id {
		t.Error(state)
	}
	if got := w.told(); got != "requested withdrawn requested" {
		t.Error(got)
	}
}

// Who waits hears of a decision at once, and of the end of the time.
func TestWait(t *testing.T) {
	w := newWorld(t)
	_, id := w.consume(asked(rule()))
	done := make(chan error, 1)
	go func() { done <- w.Wait(context.Background(), id) }()
	if err := w.approve(id); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * time.Minute):
		t.Error("it still waits")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, id = w.consume(asked(rule(), func(a *policy.Asked) { a.Request.Text = "other" }))
	if err := w.Wait(ctx, id); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := w.Wait(context.Background(), "ap-none"); !errors.Is(err, approval.ErrUnknown) {
		t.Error(err)
	}
}

// One workload can't take the room of all, nor anybody more than there is; what
// nobody could be shown is refused.
func TestBounds(t *testing.T) {
	w := newWorld(t)
	nth := func(workload string, n int) []policy.Asked {
		w.pass(approval.Every) // as fast as it may
		return asked(rule(func(a *policy.Approval) { a.Within = 24 * time.Hour }), func(a *policy.Asked) {
			a.Request.Text = fmt.Sprint("DELETE ", n)
			a.Request.Session.Identity.Workload = workload
		})
	}
	n := 0
	for state := "pending"; state == "pending"; n++ {
		state, _ = w.consume(nth("flood", n))
	}
	if n < 1000 || n > 5000 {
		t.Errorf("%d requests of one workload", n)
	}
	if state, _ := w.consume(nth("other", 1)); state != "pending" {
		t.Error(state)
	}
	if state, _ := w.consume(asked(rule(), func(a *policy.Asked) { a.Request.Text = strings.Repeat("x", 10<<20) })); !strings.Contains(state, "longer") {
		t.Error(state[:40])
	}
	if state, _ := w.consume(asked(rule(), func(a *policy.Asked) { a.Request.Text = "DELETE '\xff'" })); !strings.Contains(state, "UTF-8") {
		t.Error(state)
	}
	w.pass(24 * time.Hour)
	if state, _ := w.consume(nth("flood", n)); state != "pending" {
		t.Error("room does not come back:", state)
	}
}

func TestListingMany(t *testing.T) {
	w := newWorld(t)
	for i := range 10_000 {
		if state, _ := w.consume(asked(rule(), func(a *policy.Asked) {
			a.Request.Text = fmt.Sprint("DELETE ", i)
			a.Request.Session.Identity.Workload = fmt.Sprint("w", i%400)
		})); state != "pending" {
			t.Fatal(i, state)
		}
	}
	if l := w.List(false); len(l) != 10_000 {
		t.Error(len(l))
	}
	w.open()
	began := time.Now()
	if l := w.List(false); len(l) != 10_000 {
		t.Error(len(l))
	}
	t.Logf("10,000 are listed in %s", time.Since(began))
}
