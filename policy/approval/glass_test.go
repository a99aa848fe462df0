package approval_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// wardGlass is emergency access to what rule "deletes" asks about.
func wardGlass(change ...func(*policy.BreakGlass)) policy.BreakGlass {
	g := policy.BreakGlass{
		Name: "ward", Digest: [32]byte{7}, Rules: []string{"deletes"}, Resources: []string{"clinic"}, Workloads: []string{"billing"},
		By:     []policy.Approver{{Issuer: "https://people", Claims: map[string][]string{"groups": {"on-call"}}}},
		Review: []policy.Approver{{Issuer: "https://people", Claims: map[string][]string{"groups": {"privacy"}}}}, Longest: time.Hour, Within: 72 * time.Hour,
	}
	for _, c := range change {
		c(&g)
	}
	return g
}

// givesWay is a rule that gives way to it.
func givesWay(a *policy.Approval) { a.Glass = [][32]byte{{7}} }

func newWard(t *testing.T) *world {
	w := newWorld(t)
	w.glass = []policy.BreakGlass{wardGlass()}
	return w
}

const emergency = "patient is unconscious, bed 4"

// opening is for alice's agent.
func (w *world) opening(change ...func(*approval.Opening)) *approval.Opening {
	o := approval.NewOpening(&w.glass[0], w.clock())
	o.Resource, o.Workload, o.For, o.ForIssuer, o.Lasts = "clinic", "billing", "alice", "https://id", 30*time.Minute
	for _, c := range change {
		c(o)
	}
	return o
}

// person proves a step of emergency access.
func (w *world) person(subject, group string, o *approval.Opening, verb, why string, change ...func(*approval.Proof)) *approval.Proof {
	w.t.Helper()
	nonce, err := approval.GlassNonce(o, verb, why)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &approval.Proof{Issuer: "https://people", Subject: subject, Issued: w.clock(), LoggedIn: w.clock(), Token: "x.y.z", Claims: map[string]any{"nonce": nonce, "groups": []any{"staff", group}}}
	for _, c := range change {
		c(p)
	}
	return p
}

func (w *world) breakGlass(change ...func(*approval.Opening)) approval.Glass {
	w.t.Helper()
	o := w.opening(change...)
	g, err := w.Break(o, emergency, w.person("dr-kim", "on-call", o, approval.OpenGlass, emergency))
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

func (w *world) review(g *approval.Glass, subject, group string, change ...func(*approval.Proof)) error {
	w.t.Helper()
	_, err := w.Mend(g.ID, approval.Justified, why, w.person(subject, group, &g.Opening, approval.Justified, why, change...))
	return err
}

// runs asks for another statement each time.
func (w *world) runs(n int, change ...func(*policy.Asked)) (string, string) {
	w.t.Helper()
	return w.consume(asked(rule(givesWay), append([]func(*policy.Asked){func(a *policy.Asked) {
		a.Request.Text = fmt.Sprint("DELETE ", n)
		a.Request.Normalized = a.Request.Text
	}}, change...)...))
}

// While it is open, what a rule asks about runs, marked with it, for exactly the one
// whom it is for; it is told at once, and its review is asked for until it is there.
func TestBreakGlass(t *testing.T) {
	w := newWard(t)
	if state, _ := w.runs(1); state != "pending" {
		t.Fatal(state)
	}
	g := w.breakGlass()
	if len(w.alarms) != 1 || !strings.Contains(w.alarms[0], g.ID) || !strings.Contains(w.alarms[0], "opened by dr-kim of https://people") {
		t.Errorf("%q", w.alarms)
	}
	for n := range 3 { // the first waited before
		if state, id := w.runs(n + 1); state != "runs" || id != g.ID {
			t.Fatal(state, id)
		}
	}
	other := func(change func(*policy.Asked)) {
		t.Helper()
		if state, _ := w.runs(9, change); state != "pending" {
			t.Errorf("another one's is %s", state)
		}
	}
	other(func(a *policy.Asked) { a.Request.Session.Identity.Workload = "research" })
	other(func(a *policy.Asked) { a.Request.Session.Identity.Subject = "bob" })
	other(func(a *policy.Asked) { a.Request.Session.Identity.Issuer = "https://evil" })
	other(func(a *policy.Asked) {
		a.Request.Session.Identity.Actors = nil
		a.Request.Session.Identity.Subject = "bot-7"
	})
	other(func(a *policy.Asked) { a.Request.Session.Resource = "lab" })
	other(func(a *policy.Asked) {
		c := *a.Approval
		c.Rule, c.Digest, c.Glass = "other", [32]byte{9}, nil
		a.Approval = &c
	})
	other(func(a *policy.Asked) { c := *a.Approval; c.Glass = [][32]byte{{8}}; a.Approval = &c }) // the policy has changed it
	// Of two rules that ask, both must be lifted.
	both := append(asked(rule(givesWay)), asked(rule(func(a *policy.Approval) { a.Rule, a.Digest = "other", [32]byte{9} }))...)
	if state, _ := w.consume(both); state != "pending" {
		t.Error(state)
	}
	w.pass(30 * time.Minute)
	if state, _ := w.runs(1); state != "pending" {
		t.Error("it never ends:", state)
	}
	if err := w.Sweep(); err != nil {
		t.Fatal(err)
	}
	if list := w.Glasses(false); len(list) != 1 || list[0].State != approval.GlassExpired || list[0].Used != 3 || len(list[0].Users) != 1 || list[0].Users[0].Subject != "alice" {
		t.Errorf("%+v", list)
	}
	if err := w.review(&g, "ann", "privacy"); err != nil {
		t.Fatal(err)
	}
	if w.Glasses(false) == nil || len(w.Glasses(false)) != 0 || len(w.Glasses(true)) != 1 {
		t.Error("it is listed for ever, or forgotten at once")
	}
	var steps []string
	for _, e := range w.events {
		if e.ID == g.ID {
			steps = append(steps, e.Step)
		}
	}
	if got := strings.Join(steps, " "); got != "opened opened used expired unreviewed reviewed" { // "opened" is an alarm too
		t.Error(got)
	}
	if last := w.events[len(w.events)-1]; last.Approver != "ann" || last.Why != "justified: "+why || last.Proof != "oidc+nonce" || last.Rule != "ward" || last.Principal != "alice" {
		t.Errorf("%+v", last)
	}
}

// Nothing may use it before its alarm is on the record and it is kept.
func TestBreakGlassOnTheRecord(t *testing.T) {
	w := newWard(t)
	o := w.opening()
	p := w.person("dr-kim", "on-call", o, approval.OpenGlass, emergency)
	w.deaf.Store(true)
	if _, err := w.Break(o, emergency, p); !errors.Is(err, policy.ErrUnrecorded) {
		t.Error(err)
	}
	w.deaf.Store(false)
	w.disk.fail.Store(true)
	if _, err := w.Break(o, emergency, p); err == nil {
		t.Error("it is open, and not kept")
	}
	w.disk.fail.Store(false)
	if state, _ := w.runs(1); state != "pending" {
		t.Error(state)
	}
	g, err := w.Break(o, emergency, p)
	if err != nil {
		t.Fatal(err)
	}
	// Nor does a statement run whose use is neither.
	w.deaf.Store(true)
	if state, _ := w.runs(2); !strings.HasPrefix(state, "error") {
		t.Error(state)
	}
	w.deaf.Store(false)
	w.disk.fail.Store(true)
	if state, _ := w.runs(2); !strings.HasPrefix(state, "error") {
		t.Error(state)
	}
	w.disk.fail.Store(false)
	if state, id := w.runs(2); state != "runs" || id != g.ID {
		t.Error(state)
	}
}

// Who may not, by another's proof, or by an old one, opens nothing.
func TestBreakGlassRefused(t *testing.T) {
	w := newWard(t)
	for name, c := range map[string]struct {
		open  func(*approval.Opening)
		proof func(*approval.Proof)
		after func(*approval.Opening) // once it is signed
		want  string
	}{
		"another group":       {proof: func(p *approval.Proof) { p.Claims["groups"] = []any{"staff"} }, want: "does not name you"},
		"another issuer":      {proof: func(p *approval.Proof) { p.Issuer = "https://evil" }, want: "does not name you"},
		"nobody":              {proof: func(p *approval.Proof) { p.Subject = "" }, want: "does not name you"},
		"an agent for her":    {proof: func(p *approval.Proof) { p.Acting = true }, want: "in person"},
		"no nonce":            {proof: func(p *approval.Proof) { delete(p.Claims, "nonce") }, want: "not of this decision"},
		"an old login":        {proof: func(p *approval.Proof) { p.Issued = p.Issued.Add(-2 * time.Minute) }, want: "older than the request"},
		"a login to come":     {proof: func(p *approval.Proof) { p.Issued = p.Issued.Add(2 * time.Minute) }, want: "of the future"},
		"for longer":          {after: func(o *approval.Opening) { o.Lasts *= 2 }, want: "not of this decision"},
		"for another":         {after: func(o *approval.Opening) { o.For = "bob" }, want: "not of this decision"},
		"another ID":          {after: func(o *approval.Opening) { o.ID = "bg-aaaaaaaaaaaaaaaaaaaa" }, want: "not of this decision"},
		"an old opening":      {open: func(o *approval.Opening) { o.Asked = o.Asked.Add(-time.Hour) }, want: "too long ago"},
		"longer than allowed": {open: func(o *approval.Opening) { o.Lasts = 61 * time.Minute }, want: "1h0m0s at most"},
		"for no time":         {open: func(o *approval.Opening) { o.Lasts = -time.Minute }, want: "at most"},
		"another resource":    {open: func(o *approval.Opening) { o.Resource = "lab" }, want: "not for resource"},
		"another workload":    {open: func(o *approval.Opening) { o.Workload = "research" }, want: "not for workload"},
		"of no issuer":        {open: func(o *approval.Opening) { o.ForIssuer = "" }, want: "with their issuer"},
		"of another policy":   {open: func(o *approval.Opening) { o.Policy = strings.Repeat("00", 32) }, want: "has changed"},
		"that is not there":   {open: func(o *approval.Opening) { o.Name = "all" }, want: "no break_glass"},
		"without an ID":       {open: func(o *approval.Opening) { o.ID = "" }, want: "no ID"},
	} {
		o := w.opening()
		if c.open != nil {
			c.open(o)
		}
		p := w.person("dr-kim", "on-call", o, approval.OpenGlass, emergency)
		if c.proof != nil {
			c.proof(p)
		}
		if c.after != nil {
			c.after(o)
		}
		if _, err := w.Break(o, emergency, p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	o := w.opening()
	p := w.person("dr-kim", "on-call", o, approval.OpenGlass, emergency)
	for _, reason := range []string{"", "short", emergency + ".", "a\x00" + emergency, strings.Repeat("x", 501)} {
		if _, err := w.Break(o, reason, p); err == nil {
			t.Errorf("opened for %.20q", reason)
		}
	}
	if len(w.Glasses(true)) != 0 || len(w.alarms) != 0 {
		t.Error("something is open")
	}
	// The proof of an approval opens nothing, nor one of closing it.
	if _, err := w.Break(o, emergency, w.person("dr-kim", "on-call", o, approval.CloseGlass, emergency)); err == nil {
		t.Error("a proof of closing opens it")
	}
	if _, err := w.Break(o, emergency, p); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Break(o, emergency, p); err == nil || !strings.Contains(err.Error(), "opened before") {
		t.Error("a replay opens it again:", err)
	}
	again := w.opening()
	if _, err := w.Break(again, emergency, w.person("dr-lee", "on-call", again, approval.OpenGlass, emergency)); err == nil || !strings.Contains(err.Error(), "already") {
		t.Error(err)
	}
	w.pass(30 * time.Minute)
	if _, err := w.Break(o, emergency, p); err == nil {
		t.Error("a replay opens it again once it has ended")
	}
}

// Who opened it, whom it was for and whose statements ran do not review it.
func TestBreakGlassReview(t *testing.T) {
	w := newWard(t)
	w.claims = []string{"oid"}
	g := w.breakGlass()
	who := func(a *policy.Asked) {
		a.Request.Session.Identity.Claims = map[string]any{"oid": "person-1"}
	}
	if state, _ := w.runs(1, who); state != "runs" {
		t.Fatal(state)
	}
	if err := w.review(&g, "ann", "privacy"); err == nil || !strings.Contains(err.Error(), "close it first") {
		t.Error(err)
	}
	shut := func(subject, group string) error {
		_, err := w.Mend(g.ID, approval.CloseGlass, why, w.person(subject, group, &g.Opening, approval.CloseGlass, why))
		return err
	}
	if err := shut("mallory", "staff"); err == nil {
		t.Error("anybody closes it")
	}
	if err := shut("dr-kim", "on-call"); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	if e := w.events[len(w.events)-1]; e.Step != "closed" || !e.Until.Equal(w.clock().Add(72*time.Hour)) {
		t.Errorf("the record says that it is to be reviewed by %s: %+v", e.Until, e)
	}
	w.mu.Unlock()
	if state, _ := w.runs(2, who); state != "pending" {
		t.Error("closed, it still", state)
	}
	if err := shut("dr-kim", "on-call"); err == nil {
		t.Error("closed twice")
	}
	for name, c := range map[string]struct {
		subject, group string
		change         func(*approval.Proof)
		want           string
	}{
		"who opened it":        {"dr-kim", "privacy", nil, "opened it"},
		"in another case":      {"DR-KIM", "privacy", nil, "opened it"},
		"whom it was for":      {"alice", "privacy", nil, "whom it was for"},
		"the agent":            {"bot-7", "privacy", nil, "somebody else"},
		"under another name":   {"a.liddell", "privacy", func(p *approval.Proof) { p.Person, p.Claims["oid"] = "oid", "person-1" }, "somebody else"},
		"another group":        {"ann", "staff", nil, "does not name you"},
		"who may open only":    {"ann", "on-call", nil, "does not name you"},
		"by an agent":          {"ann", "privacy", func(p *approval.Proof) { p.Acting = true }, "in person"},
		"by a login of before": {"ann", "privacy", func(p *approval.Proof) { p.Issued = p.Issued.Add(-10 * time.Minute) }, "older"},
		"by another's token":   {"ann", "privacy", func(p *approval.Proof) { p.Claims["nonce"] = "other" }, "nonce"},
	} {
		change := []func(*approval.Proof){}
		if c.change != nil {
			change = append(change, c.change)
		}
		if err := w.review(&g, c.subject, c.group, change...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	// What was found is signed too.
	p := w.person("ann", "privacy", &g.Opening, approval.Unjustified, why)
	if _, err := w.Mend(g.ID, approval.Justified, why, p); err == nil {
		t.Error("what was found can be changed")
	}
	if _, err := w.Mend(g.ID, "fine", why, w.person("ann", "privacy", &g.Opening, "fine", why)); err == nil {
		t.Error("reviewed by another word")
	}
	if _, err := w.Mend("bg-aaaaaaaaaaaaaaaaaaaa", approval.Justified, why, p); !errors.Is(err, approval.ErrNoGlass) {
		t.Error(err)
	}
	if r, err := w.Mend(g.ID, approval.Unjustified, why, p); err != nil || r.State != approval.GlassReviewed {
		t.Fatal(r, err)
	}
	if _, err := w.Mend(g.ID, approval.Unjustified, why, p); err == nil {
		t.Error("reviewed twice")
	}
}

// What nobody reviews is told again each day and after each start, and stands against
// another; a review ends both.
func TestBreakGlassUnreviewed(t *testing.T) {
	w := newWard(t)
	g := w.breakGlass()
	w.pass(30 * time.Minute)
	sweep := func() int {
		t.Helper()
		before := len(w.alarms)
		if err := w.Sweep(); err != nil {
			t.Fatal(err)
		}
		return len(w.alarms) - before
	}
	for day := range 5 {
		if n := sweep(); n != 1 {
			t.Fatalf("day %d: %d alarms", day, n)
		}
		if n := sweep(); n != 0 {
			t.Fatalf("day %d: the alarm is there twice", day)
		}
		if got := strings.Contains(w.alarms[len(w.alarms)-1], "should have been"); got != (day >= 3) {
			t.Fatalf("day %d: %s", day, w.alarms[len(w.alarms)-1])
		}
		w.pass(24 * time.Hour)
	}
	w.open() // another start
	if n := sweep(); n != 1 {
		t.Errorf("%d alarms after a start", n)
	}
	attempt := func(subject string) error {
		o := w.opening(func(o *approval.Opening) { o.For = "bob" })
		_, err := w.Break(o, emergency, w.person(subject, "on-call", o, approval.OpenGlass, emergency))
		return err
	}
	if err := attempt("dr-lee"); err == nil || !strings.Contains(err.Error(), "should have been reviewed") {
		t.Error("another is opened of what nobody reviewed:", err)
	}
	// Who opened it opens no other one either; somebody else may.
	w.glass = append([]policy.BreakGlass{wardGlass(func(g *policy.BreakGlass) { g.Name, g.Digest = "other", [32]byte{8} })}, w.glass...)
	if err := attempt("dr-kim"); err == nil || !strings.Contains(err.Error(), "should have been reviewed") {
		t.Error("who was not reviewed opens another:", err)
	}
	if err := attempt("dr-lee"); err != nil {
		t.Error(err)
	}
	// The policy may name others for the review meanwhile.
	w.glass[1] = wardGlass(func(g *policy.BreakGlass) { g.Review[0].Claims = map[string][]string{"groups": {"compliance"}} })
	if err := w.review(&g, "ann", "compliance"); err != nil {
		t.Fatal(err)
	}
	if err := attempt("dr-kim"); err == nil || !strings.Contains(err.Error(), "already") {
		t.Error(err)
	}
}

// A restart forgets nothing of it, with its log as it grew and written anew.
func TestBreakGlassAfterARestart(t *testing.T) {
	w := newWard(t)
	g := w.breakGlass()
	for n := range 2 {
		w.open()
		if state, id := w.runs(n); state != "runs" || id != g.ID {
			t.Fatal(state, id)
		}
	}
	w.open()
	if list := w.Glasses(false); len(list) != 1 || list[0].Used != 2 || list[0].State != approval.GlassOpen {
		t.Errorf("%+v", list)
	}
	if got := strings.Count(w.told(), "used"); got != 1 {
		t.Errorf("its first use is told %d times", got)
	}
	w.pass(time.Hour) // it ends while nobody runs
	w.open()
	if state, _ := w.runs(7); state != "pending" {
		t.Error(state)
	}
	if err := w.Sweep(); err != nil {
		t.Fatal(err)
	}
	w.open()
	if err := w.review(&g, "ann", "privacy"); err != nil {
		t.Fatal(err)
	}
	w.open()
	if list := w.Glasses(true); len(list) != 1 || list[0].State != approval.GlassReviewed || list[0].Decisions[1].Subject != "ann" || list[0].Decisions[1].Token == "" {
		t.Errorf("%+v", list)
	}
	w.pass(2 * time.Hour)
	if err := w.Sweep(); err != nil {
		t.Fatal(err)
	}
	w.open()
	if list := w.Glasses(true); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

// What an approver has denied stays denied, and what is approved is used first.
func TestBreakGlassAfterADecision(t *testing.T) {
	w := newWard(t)
	_, denied := w.runs(1)
	if _, err := w.Decide(denied, approval.Deny, why, w.proof(denied, approval.Deny, why)); err != nil {
		t.Fatal(err)
	}
	_, granted := w.runs(2)
	if err := w.approve(granted); err != nil {
		t.Fatal(err)
	}
	g := w.breakGlass()
	if state, _ := w.runs(1); state != "denied" {
		t.Error(state)
	}
	if state, id := w.runs(2); state != "runs" || id != granted {
		t.Error(state, id)
	}
	if state, id := w.runs(2); state != "runs" || id != g.ID {
		t.Error(state, id)
	}
}

// A workload that serves many people and names none is nobody's emergency.
func TestBreakGlassOfAPool(t *testing.T) {
	w := newWard(t)
	w.breakGlass(func(o *approval.Opening) { o.For, o.ForIssuer = "pool", "https://id" })
	who := func(speaks bool) func(*policy.Asked) {
		return func(a *policy.Asked) {
			a.Request.Session.Identity = intercept.Identity{Workload: "billing", Issuer: "https://id", Subject: "pool", SpeaksFor: speaks}
		}
	}
	if state, _ := w.runs(1, who(true)); state != "pending" {
		t.Error(state)
	}
	if state, _ := w.runs(1, who(false)); state != "runs" {
		t.Error(state)
	}
}

// sleeper is a context that tells when somebody begins to wait with it.
type sleeper struct {
	context.Context
	once   sync.Once
	asleep chan struct{}
}

func (s *sleeper) Done() <-chan struct{} {
	s.once.Do(func() { close(s.asleep) })
	return s.Context.Done()
}

// Those that wait already go on when it is opened, and others go on waiting.
func TestBreakGlassWakes(t *testing.T) {
	w := newWard(t)
	_, mine := w.runs(1)
	_, others := w.runs(2, func(a *policy.Asked) { a.Request.Session.Identity.Subject = "bob" })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var woken sync.WaitGroup
	asleep := &sleeper{Context: ctx, asleep: make(chan struct{})}
	woken.Go(func() {
		if err := w.Wait(asleep, mine); err != nil {
			t.Error(err)
		}
	})
	<-asleep.asleep
	wait, stop := context.WithCancel(ctx)
	waits := make(chan error, 1)
	go func() { waits <- w.Wait(wait, others) }()
	g := w.breakGlass()
	woken.Wait()
	stop()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Error("another one's does not wait any more:", err)
	}
	if state, id := w.runs(1); state != "runs" || id != g.ID {
		t.Error(state)
	}
	e, err := w.Show(mine)
	if err != nil || e.State != "withdrawn" || !strings.Contains(e.End, "emergency") {
		t.Errorf("%+v %v", e, err)
	}
}

// However many statements race it, each that runs is counted, and none runs once it is
// closed.
func TestBreakGlassRaces(t *testing.T) {
	w := newWard(t)
	g := w.breakGlass()
	var ran sync.Map
	var all sync.WaitGroup
	for n := range 200 {
		all.Go(func() {
			q := asked(rule(givesWay), func(a *policy.Asked) { a.Request.Text = fmt.Sprint("DELETE ", n) })
			ids, open, err := w.Consume(context.Background(), q)
			if not := (*policy.Unasked)(nil); err != nil && !errors.As(err, &not) {
				t.Error(err)
			} else if err == nil && open == nil && slices.Equal(ids, []string{g.ID}) {
				ran.Store(n, true)
			}
		})
	}
	closed, err := w.Mend(g.ID, approval.CloseGlass, why, w.person("dr-kim", "on-call", &g.Opening, approval.CloseGlass, why))
	if err != nil {
		t.Fatal(err)
	}
	all.Wait()
	n := 0
	ran.Range(func(any, any) bool { n++; return true })
	if closed.Used != n {
		t.Errorf("%d ran, %d are counted", n, closed.Used)
	}
	w.pass(approval.Every)
	if state, _ := w.runs(1000); state != "pending" {
		t.Error(state)
	}
}

// What is open when the end of the log is lost may have been closed by it: it is closed,
// and must be reviewed.
func TestBreakGlassOfATornLog(t *testing.T) {
	w := newWard(t)
	g := w.breakGlass()
	b, err := approval.Open(slices.Clone(w.disk.records), &w.disk, approval.Options{Now: w.clock, Tell: w.tell, Torn: true})
	if err != nil {
		t.Fatal(err)
	}
	w.Book = b
	if state, _ := w.runs(1); state != "pending" {
		t.Error(state)
	}
	w.open()
	if list := w.Glasses(false); len(list) != 1 || list[0].State != approval.GlassExpired || !list[0].ReviewBy.Equal(w.clock().Add(72*time.Hour)) {
		t.Errorf("%+v", list)
	}
	if err := w.review(&g, "ann", "privacy"); err != nil {
		t.Error(err)
	}
}
