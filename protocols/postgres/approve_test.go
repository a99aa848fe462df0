package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy/approval"
)

// kept is a log in memory.
type kept struct{ records [][]byte }

func (k *kept) Append(r []byte) error      { k.records = append(k.records, r); return nil }
func (k *kept) Replace(all [][]byte) error { k.records = all; return nil }
func (k *kept) Size() int64                { return 0 }

// asking is a proxy whose policy asks for approvals, and the approver.
type asking struct {
	*proxy
	book *approval.Book
}

const approvePolicy = maskPolicy + `
  - name: changes
    effect: approve
    identity: "*"
    resource: "*"
    commands: [update, insert, copy_from]
    relations: ["public.asked", "public.t2"]
    reason: somebody must look
    approve: {by: {issuer: "https://people", subjects: [dr-lee]}, within: 1h, WAIT}
  - name: looks
    effect: approve
    identity: "*"
    resource: "*"
    commands: [select, fetch]
    relations: ["public.t3", "clinic.patients"]
    approve: {by: {issuer: "https://people", subjects: [dr-lee]}, within: 1h, WAIT}
`

// newAsking starts one; wait is "wait: ..." of its rules.
func newAsking(t *testing.T, wait string) *asking {
	t.Helper()
	return askingOf(start(t, strings.ReplaceAll(approvePolicy, "WAIT", wait)))
}

// askingOf has a proxy ask for approvals.
func askingOf(p *proxy) *asking {
	t := p.t
	t.Helper()
	book, err := approval.Open(nil, &kept{}, approval.Options{Now: time.Now, Burst: 10_000, Tell: func(all ...*events.Event) (err error) {
		for _, e := range all {
			if _, err = p.Journal.Append(e); err != nil {
				break
			}
		}
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.Gate.SetApprovals(book)
	return &asking{p, book}
}

// decide is an approver's decision about a request.
func (a *asking) decide(id, verb string) {
	a.t.Helper()
	const why = "as agreed in ticket 4711"
	e, err := a.book.Show(id)
	if err != nil {
		a.t.Fatal(err)
	}
	nonce, err := approval.Nonce(&e.Subject, verb, why)
	if err == nil {
		_, err = a.book.Decide(context.Background(), id, verb, why, &approval.Proof{Issuer: "https://people", Subject: "dr-lee", Claims: map[string]any{"nonce": nonce}, Issued: time.Now(), LoggedIn: time.Now(), Token: "x"})
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// listed are the requests that wait or may be used; all: those too that have ended.
func (a *asking) listed(all bool) []approval.Entry {
	a.t.Helper()
	l, err := a.book.List(context.Background(), all)
	if err != nil {
		a.t.Fatal(err)
	}
	return l
}

// pending waits for the one request that waits, but for those known.
func (a *asking) pending(but ...string) approval.Entry {
	a.t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, e := range a.listed(false) {
			if e.State == "pending" && !slices.Contains(but, e.ID) {
				return e
			}
		}
	}
	a.t.Fatal("no request waits")
	return approval.Entry{}
}

// refusedFor returns the ID of the approval for want of which something was refused.
func refusedFor(t testing.TB, err error) string {
	t.Helper()
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "SPA01" {
		t.Fatalf("not refused for want of an approval: %v", err)
	}
	var d struct{ Refused, Approval, State, Until, Wait, Session string }
	if err := json.Unmarshal([]byte(pe.Detail), &d); err != nil || d.Refused != "approval" || d.State != "pending" || d.Wait != "sallyport approvals wait "+d.Approval || d.Session == "" || !strings.Contains(pe.Message, d.Approval) {
		t.Fatalf("%v: %s", err, pe.Detail)
	}
	if _, err := time.Parse(time.RFC3339, d.Until); err != nil {
		t.Error(err)
	}
	return d.Approval
}

// count is what the server has, past the proxy.
func count(t testing.TB, sql string) string {
	t.Helper()
	c, err := pgx.Connect(context.Background(), fmt.Sprintf("host=%s port=%d user=agent dbname=postgres sslmode=disable", server.Addr.Addr(), server.Addr.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	var s string
	if err := c.QueryRow(context.Background(), sql).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// What needs an approval is refused with its ID, and runs once when it has one,
// exactly as it was shown: in each form of the protocol.
func TestApprovalByRetry(t *testing.T) {
	a := newAsking(t, "wait: retry")
	for i, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeCacheStatement,
	} {
		c := connect(t, a.proxy, "")
		run := func(n int) error {
			_, err := c.Exec(t.Context(), "INSERT INTO public.asked VALUES ($1, 'approved')", mode, n)
			return err
		}
		n := 9100 + i
		id := refusedFor(t, run(n))
		e, err := a.book.Show(id)
		if err != nil || !strings.Contains(e.What.Text, "INSERT INTO public.asked VALUES") || (mode != pgx.QueryExecModeSimpleProtocol) != (len(e.What.Parameters) == 1) || !slices.Contains(e.What.Objects, "insert public.asked") {
			t.Errorf("%v: %+v", err, e.What)
		}
		if again := refusedFor(t, run(n)); again != id {
			t.Errorf("a retry is another request: %s, %s", again, id)
		}
		a.decide(id, approval.Approve)
		if other := refusedFor(t, run(n+100)); other == id {
			t.Error("another value is the same request")
		}
		if err := run(n); err != nil {
			t.Errorf("approved: %v", err)
		}
		if refusedFor(t, run(n)) == id {
			t.Error("it is used twice")
		}
		if got := count(t, fmt.Sprintf("SELECT count(*)::text FROM public.asked WHERE a IN (%d, %d)", n, n+100)); got != "1" {
			t.Errorf("it ran %s times", got)
		}
	}
	a.settled()
	ran := 0
	for _, e := range a.Journal.All() {
		switch {
		case e.Kind == events.Statement && e.Command == "insert":
			ran++
			if len(e.Approvals) != 1 || !slices.Contains(e.Rules, "changes") {
				t.Errorf("%+v", e)
			}
		case e.Kind == events.Block:
			if len(e.Approvals) != 1 || strings.Contains(e.Reason, "91") {
				t.Errorf("%+v", e)
			}
		}
	}
	if ran != 4 {
		t.Errorf("%d inserts on the record", ran)
	}
}

// A mask stays a mask, whoever approves.
func TestApprovalKeepsMasks(t *testing.T) {
	a := newAsking(t, "wait: retry")
	c := connect(t, a.proxy, "")
	ask := func() (string, error) {
		var s string
		err := c.QueryRow(t.Context(), "SELECT ssn FROM clinic.patients WHERE id = 1").Scan(&s)
		return s, err
	}
	_, err := ask()
	id := refusedFor(t, err)
	if e, err := a.book.Show(id); err != nil || !slices.Contains(e.What.Masked, "clinic.patients.ssn") {
		t.Error(e.What, err)
	}
	a.decide(id, approval.Approve)
	if s, err := ask(); err != nil || s != "***-**-0001" {
		t.Error(s, err)
	}
}

// What a session's names stand for is part of what is approved.
func TestApprovalOfNames(t *testing.T) {
	a := newAsking(t, "wait: retry")
	c := connect(t, a.proxy, "default_query_exec_mode=simple_protocol")
	exec := func(sql string) error {
		_, err := c.Exec(t.Context(), sql)
		return err
	}
	must := func(sql string) {
		t.Helper()
		if err := exec(sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	must("PREPARE q AS INSERT INTO public.asked VALUES (9200, 'approved')")
	id := refusedFor(t, exec("EXECUTE q"))
	if e, _ := a.book.Show(id); e.What.Text != "EXECUTE q" || len(e.What.Names) != 1 || !strings.Contains(e.What.Names[0], "9200, 'approved'") {
		t.Errorf("%+v", e.What)
	}
	a.decide(id, approval.Approve)
	must("DEALLOCATE q")
	must("PREPARE q AS INSERT INTO public.asked VALUES (9201, 'not approved')")
	if refusedFor(t, exec("EXECUTE q")) == id {
		t.Error("another statement of the name runs")
	}
	must("DEALLOCATE q")
	must("PREPARE q AS INSERT INTO public.asked VALUES (9200, 'approved')")
	must("EXECUTE q")
	if got := count(t, "SELECT string_agg(b, ',') FROM public.asked WHERE a IN (9200, 9201)"); got != "approved" {
		t.Error(got)
	}
	// A cursor's rows are of the statement that opened it.
	must("BEGIN")
	id = refusedFor(t, exec("DECLARE c CURSOR FOR SELECT * FROM public.t3"))
	must("ROLLBACK")
	a.decide(id, approval.Approve)
	must("BEGIN")
	must("DECLARE c CURSOR FOR SELECT * FROM public.t3")
	must("FETCH 1 FROM c")
	must("FETCH ALL FROM c")
	must("COMMIT")
	must("BEGIN")
	refusedFor(t, exec("DECLARE c CURSOR FOR SELECT * FROM public.t3"))
	must("ROLLBACK")
}

// A portal goes on under what it was bound under, and nothing else does.
func TestApprovalOfPortals(t *testing.T) {
	a := newAsking(t, "wait: retry")
	r := a.raw()
	defer r.Close()
	sql := "SELECT x FROM generate_series(1, 5) x, public.t3 RIGHT JOIN (VALUES (1)) v(b) ON true"
	begun := func() []message {
		return []message{q("BEGIN"), &pgproto3.Parse{Query: sql}, bind("p", ""), &pgproto3.Execute{Portal: "p", MaxRows: 1}, &pgproto3.Execute{Portal: "p", MaxRows: 1}, sync_, q("ROLLBACK")}
	}
	out := r.ask(3, begun()...)
	if !strings.Contains(out, "SPA01") {
		t.Fatal(out)
	}
	a.decide(a.pending().ID, approval.Approve)
	if out = r.ask(3, begun()...); strings.Contains(out, "SPA0") || strings.Contains(out, "E ") {
		t.Errorf("%s", out)
	}
	if out = r.ask(3, begun()...); !strings.Contains(out, "SPA01") {
		t.Errorf("used twice: %s", out)
	}
}

// A refusal leaves the transaction failed and the pipeline at its Sync, as an error
// of the server does.
func TestApprovalInTransactions(t *testing.T) {
	a := newAsking(t, "wait: retry")
	r := a.raw()
	defer r.Close()
	insert := "INSERT INTO public.asked VALUES (9300, 'x')"
	out := r.ask(4, q("BEGIN"), q(insert), q("SELECT 1"), q("ROLLBACK"))
	if !strings.Contains(out, "SPA01") || !strings.Contains(out, "25P02") || strings.Count(out, "Z E") != 2 || !strings.HasSuffix(out, "Z I\n") {
		t.Errorf("%s", out)
	}
	one := func(sql string) []message { return []message{&pgproto3.Parse{Query: sql}, bind("", ""), execute("")} }
	out = r.ask(2, append(append(append(append(one("SELECT 'first'"), one(insert)...), one("SELECT 'skipped'")...), sync_), append(one("SELECT 'next'"), sync_)...)...)
	if !strings.Contains(out, "first") || strings.Contains(out, "skipped") || !strings.Contains(out, "next") {
		t.Errorf("%s", out)
	}
	out = r.ask(1, q("SELECT 1; "+insert+"; SELECT 2"))
	if !strings.Contains(out, "SPA01") || strings.Contains(out, "D ") {
		t.Errorf("%s", out)
	}
	if got := count(t, "SELECT count(*)::text FROM public.asked WHERE a = 9300"); got != "0" {
		t.Error(got)
	}
}

// 1,000 retries of several sessions run it once.
func TestApprovalRaces(t *testing.T) {
	a := newAsking(t, "wait: retry")
	insert := "INSERT INTO public.asked VALUES (9400, 'x')"
	first := connect(t, a.proxy, "")
	_, err := first.Exec(t.Context(), insert)
	a.decide(refusedFor(t, err), approval.Approve)
	var ran atomic.Int32
	var wg sync.WaitGroup
	for range 10 {
		c := connect(t, a.proxy, "")
		wg.Go(func() {
			for range 100 {
				if _, err := c.Exec(context.Background(), insert, pgx.QueryExecModeSimpleProtocol); err == nil {
					ran.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := count(t, "SELECT count(*)::text FROM public.asked WHERE a = 9400"); ran.Load() != 1 || n != "1" {
		t.Errorf("%d answers, %s rows", ran.Load(), n)
	}
}

// A policy that is another now, or no approvals at all: nothing runs.
func TestApprovalFailsClosed(t *testing.T) {
	a := newAsking(t, "wait: retry")
	c := connect(t, a.proxy, "")
	insert := func() error {
		_, err := c.Exec(t.Context(), "INSERT INTO public.asked VALUES (9500, 'x')", pgx.QueryExecModeSimpleProtocol)
		return err
	}
	id := refusedFor(t, insert())
	a.decide(id, approval.Approve)
	a.Gate.SetEngine(engine(t, strings.ReplaceAll(approvePolicy, "WAIT", "wait: retry")+"\n  - {name: unrelated, effect: block, identity: \"*\", resource: \"*\", commands: listen}\n"))
	if refusedFor(t, insert()) == id {
		t.Error("it runs under another policy")
	}
	p := start(t, strings.ReplaceAll(approvePolicy, "WAIT", "wait: hold"))
	c = connect(t, p, "")
	if err := insert(); err == nil || !strings.Contains(err.Error(), "nobody can be asked") {
		t.Error(err)
	}
	if _, err := c.Exec(t.Context(), "INSERT INTO public.asked VALUES (repeat('x', 70000)::int, '"+strings.Repeat("x", 70000)+"')"); err == nil || !strings.Contains(err.Error(), "asks for an approval") {
		t.Error(err)
	}
	if got := count(t, "SELECT count(*)::text FROM public.asked WHERE a = 9500"); got != "0" {
		t.Error(got)
	}
}

// held begins a statement that is held, and returns where its end is told.
func (a *asking) held(c *pgx.Conn, n int, mode pgx.QueryExecMode) (approval.Entry, <-chan error) {
	a.t.Helper()
	var known []string
	for _, e := range a.listed(true) {
		known = append(known, e.ID)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(context.Background(), "INSERT INTO public.asked VALUES ($1, 'held')", mode, n)
		done <- err
	}()
	return a.pending(known...), done
}

func (a *asking) end(done <-chan error) error {
	a.t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(2 * time.Minute):
		a.t.Fatal("the client is still held")
		return nil
	}
}

// A client that is held is told so, and its statement runs, or not, once somebody
// has decided.
func TestApprovalByHolding(t *testing.T) {
	a := newAsking(t, "wait: 5m")
	var notices []string
	var mu sync.Mutex
	cfg, err := pgx.ParseConfig(a.dsn(""))
	if err != nil {
		t.Fatal(err)
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		mu.Lock()
		notices = append(notices, n.Code+" "+n.Message+" "+n.Detail)
		mu.Unlock()
	}
	c, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for i, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement} {
		e, done := a.held(c, 9600+i, mode)
		a.decide(e.ID, approval.Approve)
		if err := a.end(done); err != nil {
			t.Errorf("%v: %v", mode, err)
		}
		mu.Lock()
		if s := strings.Join(notices, "\n"); strings.Count(s, "SPA01") != 1 || !strings.Contains(s, e.ID) || !strings.Contains(s, `"approval":"`+e.ID) {
			t.Errorf("notices %q", notices)
		}
		notices = nil
		mu.Unlock()
	}
	e, done := a.held(c, 9610, pgx.QueryExecModeSimpleProtocol)
	a.decide(e.ID, approval.Deny)
	var pe *pgconn.PgError
	if err := a.end(done); !errors.As(err, &pe) || pe.Code != "SPA02" || !strings.Contains(pe.Message, "ticket 4711") {
		t.Error(err)
	}
	if got := count(t, "SELECT count(*)::text FROM public.asked WHERE a BETWEEN 9600 AND 9610"); got != "3" {
		t.Errorf("%s rows", got)
	}
	var n int
	if err := c.QueryRow(t.Context(), "SELECT 41 + 1").Scan(&n); err != nil || n != 42 {
		t.Error("the session is not usable behind it:", err)
	}
}

// A cancel request withdraws what is held, and so does going; nobody else's does.
func TestApprovalWithdrawn(t *testing.T) {
	a := newAsking(t, "wait: 5m")
	c := connect(t, a.proxy, "")
	e, done := a.held(c, 9700, pgx.QueryExecModeExec)
	if err := c.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	var pe *pgconn.PgError
	// Before the hold the server is told of the cancel as well, which may be what ends it.
	if err := a.end(done); !errors.As(err, &pe) || pe.Code != "57014" || strings.Contains(pe.Message, "sallyport") && !strings.Contains(pe.Detail, `"state":"withdrawn"`) {
		t.Error(err)
	}
	if _, err := c.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Error(err)
	}
	gone := a.raw()
	gone.send(enc(q("INSERT INTO public.asked VALUES (9701, 'x')"), q("SELECT 1")))
	g := a.pending()
	gone.Close()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		x, err := a.book.Show(g.ID)
		if err != nil {
			t.Fatal(err)
		}
		if x.State == "withdrawn" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it waits for a client that has gone: ", x.State)
		}
	}
	if x, _ := a.book.Show(e.ID); x.State != "withdrawn" {
		t.Error(x.State)
	}
	if got := count(t, "SELECT count(*)::text FROM public.asked WHERE a IN (9700, 9701)"); got != "0" {
		t.Error(got)
	}
}

// A wait that is over leaves the request, and so does the passage's end: the same
// statement runs when it is sent again.
func TestApprovalOutlivesTheWait(t *testing.T) {
	a := newAsking(t, "wait: 1s")
	c := connect(t, a.proxy, "")
	_, err := c.Exec(t.Context(), "INSERT INTO public.asked VALUES (9800, 'x')", pgx.QueryExecModeSimpleProtocol)
	a.decide(refusedFor(t, err), approval.Approve)
	if _, err := c.Exec(t.Context(), "INSERT INTO public.asked VALUES (9800, 'x')", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Error(err)
	}
	a = newAsking(t, "wait: 5m")
	c = connect(t, a.proxy, "")
	e, done := a.held(c, 9801, pgx.QueryExecModeSimpleProtocol)
	a.Drain()
	err = a.end(done)
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "SPA01" && pe.Code != "57P01" {
		t.Errorf("%v", err)
	}
	if x, _ := a.book.Show(e.ID); x.State != "pending" {
		t.Error(x.State)
	}
}

// The policy of the moment decides, not that of when it was asked.
func TestApprovalIsDecidedAgain(t *testing.T) {
	a := newAsking(t, "wait: 5m")
	c := connect(t, a.proxy, "")
	e, done := a.held(c, 9900, pgx.QueryExecModeExec)
	a.Gate.SetEngine(engine(t, maskPolicy+"\n  - {name: no, effect: block, identity: \"*\", resource: \"*\", commands: insert}\n"))
	a.decide(e.ID, approval.Approve)
	if err := a.end(done); err == nil || !strings.Contains(err.Error(), "changed") {
		t.Error(err)
	}
	if got := count(t, "SELECT count(*)::text FROM public.asked WHERE a = 9900"); got != "0" {
		t.Error(got)
	}
}
