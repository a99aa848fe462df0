package postgres_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

const revealApprovedPolicy = maskPolicy + `
  - name: verify identity
    effect: reveal
    identity: {claims: {role: nurse}}
    resource: "*"
    reveal: [clinic.patients.ssn, clinic.patients.birth_date]
    justification: 12
    reason: a person must agree
    approve: {by: {issuer: "https://people", subjects: [dr-lee]}, within: 1h, wait: retry, SCOPE}
`

// revealingApproved starts a proxy for nurses, where what is revealed needs an
// approval; more are rules and parts of them besides.
func revealingApproved(t *testing.T, scope string, more ...string) *asking {
	t.Helper()
	return askingOf(open(t, strings.ReplaceAll(revealApprovedPolicy, "SCOPE", scope)+strings.Join(more, "\n"), protocoltest.Options{
		Identity: func(_ int, id *intercept.Identity) { id.Claims = map[string]any{"role": "nurse"} },
	}))
}

const ssnOfOne = "SELECT ssn FROM clinic.patients WHERE id = 1"

// A field that is revealed with an approval is shown in clear once somebody has
// approved just that, and masked to who does not ask for it.
func TestRevealByApproval(t *testing.T) {
	a := revealingApproved(t, "uses: 1")
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeCacheStatement,
	} {
		c := connect(t, a.proxy, "")
		ask := func() (string, error) {
			var s string
			err := c.QueryRow(t.Context(), ssnOfOne, mode).Scan(&s)
			return s, err
		}
		if s, err := ask(); err != nil || s != "***-**-0001" {
			t.Fatalf("%v: %q, %v", mode, s, err)
		}
		if _, err := c.Exec(t.Context(), because, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		if err := c.DeallocateAll(t.Context()); err != nil { // it was prepared without
			t.Fatal(err)
		}
		_, err := ask()
		id := refusedFor(t, err)
		if e, err := a.book.Show(id); err != nil || !slices.Equal(e.What.Revealed, []string{"clinic.patients.ssn"}) || len(e.What.Masked) != 0 ||
			e.Says.Justification != "the patient's daughter calls" || e.Reason != "a person must agree" {
			t.Errorf("%+v, %v", e, err)
		}
		a.decide(id, approval.Approve)
		if s, err := ask(); err != nil || s != "911-47-0001" {
			t.Errorf("%v: approved: %q, %v", mode, s, err)
		}
		if _, err := ask(); refusedFor(t, err) == id {
			t.Error("it is used twice")
		}
		if _, err := c.Exec(t.Context(), "RESET sallyport.justification", pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		if err := c.DeallocateAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s, err := ask(); err != nil || s != "***-**-0001" {
			t.Errorf("%v: without a justification: %q, %v", mode, s, err)
		}
	}
	a.settled()
	shown := 0
	for _, e := range a.Journal.All() {
		if e.Kind == events.Statement && len(e.Revealed) > 0 {
			shown++
			if len(e.Approvals) != 1 || e.Revealed[0].String() != "clinic.patients.ssn" || e.Justification != "the patient's daughter calls" || !slices.Contains(e.Rules, "verify identity") {
				t.Errorf("%+v", e)
			}
		}
	}
	if shown != 4 {
		t.Errorf("%d statements that reveal are on the record", shown)
	}
}

// What was approved shows nothing else, to nobody else, for no other words.
func TestRevealByApprovalIsExact(t *testing.T) {
	const other = "SET sallyport.justification = 'another patient calls'"
	one := func(sql string) []message {
		return []message{&pgproto3.Parse{Query: sql}, bind("", ""), execute(""), sync_}
	}
	for _, c := range []struct {
		name  string
		then  []message // with a justification given, and ssnOfOne approved
		n     int       // answers
		clear bool
	}{
		{name: "what was approved", then: []message{q(ssnOfOne)}, n: 1, clear: true},
		{name: "what was approved, extended", then: one(ssnOfOne), n: 1, clear: true},
		{name: "another column", then: []message{q("SELECT birth_date FROM clinic.patients WHERE id = 1")}, n: 1},
		{name: "both columns", then: []message{q("SELECT ssn, birth_date FROM clinic.patients WHERE id = 1")}, n: 1},
		{name: "another row", then: []message{q("SELECT ssn FROM clinic.patients WHERE id <= 1")}, n: 1},
		{name: "other words", then: []message{q(other), q(ssnOfOne)}, n: 2},
		{name: "other words, extended", then: append(one(other), one(ssnOfOne)...), n: 2},
		{name: "other words, locally", then: []message{q("BEGIN"), q("SET LOCAL sallyport.justification = 'another patient calls'"), q(ssnOfOne), q("ROLLBACK")}, n: 4},
		{name: "other words within one message", then: []message{q(other + "; " + ssnOfOne)}, n: 1},
		{name: "the whole row", then: []message{q("SELECT p FROM clinic.patients p WHERE id = 1")}, n: 1},
		{name: "by a view", then: []message{q("SELECT ssn FROM clinic.v_patients WHERE id = 1")}, n: 1},
		{name: "by a view of a view", then: []message{q("SELECT number FROM clinic.v_nested")}, n: 1},
		{name: "by a materialized view", then: []message{q("SELECT ssn FROM clinic.m_patients WHERE id = 1")}, n: 1},
		{name: "by COPY", then: []message{q("COPY clinic.patients (ssn) TO STDOUT")}, n: 1},
		{name: "by COPY of a query", then: []message{q("COPY (" + ssnOfOne + ") TO STDOUT")}, n: 1},
		{name: "by TABLE", then: []message{q("TABLE clinic.v_patients")}, n: 1},
		{name: "in an expression", then: []message{q("SELECT '9' || substr(ssn, 2) FROM clinic.patients WHERE id = 1")}, n: 1},
		{name: "in a condition", then: []message{q("SELECT '911-47-0001' FROM clinic.patients WHERE ssn = '911-47-0001'")}, n: 1},
		{name: "in another's text", then: []message{q(ssnOfOne + "; SELECT 1")}, n: 1},
		{name: "in a sub-query", then: []message{q("SELECT (" + ssnOfOne + ")")}, n: 1},
		{name: "a name of it", then: []message{q("PREPARE p AS " + ssnOfOne), q("EXECUTE p")}, n: 2},
		{name: "a cursor of it", then: []message{q("BEGIN"), q("DECLARE c CURSOR FOR " + ssnOfOne), q("FETCH ALL FROM c"), q("ROLLBACK")}, n: 4},
		{name: "explained", then: []message{q("EXPLAIN ANALYZE " + ssnOfOne)}, n: 1},
		{name: "twice in one message", then: []message{q(ssnOfOne), q(ssnOfOne)}, n: 2, clear: true},
		{name: "stored", then: []message{q("INSERT INTO w " + ssnOfOne)}, n: 1},
		{name: "stored in a table", then: []message{q("CREATE TABLE mine AS " + ssnOfOne)}, n: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := revealingApproved(t, "uses: 1")
			r := a.raw()
			defer r.Close()
			if out := r.ask(2, q(because), q(ssnOfOne)); !strings.Contains(out, "SPA01") || clear_.MatchString(out) {
				t.Fatal(out)
			}
			a.decide(a.pending().ID, approval.Approve)
			out := r.ask(c.n, c.then...)
			if clear_.MatchString(out) != c.clear || strings.Count(out, "911-47-0001") > 1 || strings.Contains(out, "1951-03-17") {
				t.Errorf("%s", out)
			}
			if !c.clear && !strings.Contains(out, "SPA01") && !strings.Contains(out, "sallyport: refused") {
				t.Errorf("it is not refused: %s", out)
			}
		})
	}
}

// An approval is of who asked, under the rules of then.
func TestRevealByApprovalOfAnother(t *testing.T) {
	p := strings.ReplaceAll(revealApprovedPolicy, "SCOPE", "uses: 1")
	a := askingOf(open(t, p, protocoltest.Options{Identity: func(n int, id *intercept.Identity) {
		id.Claims = map[string]any{"role": "nurse"}
		if n == 2 {
			id.Subject = "another"
		}
	}}))
	first, second := a.raw(), a.raw()
	defer first.Close()
	defer second.Close()
	first.ask(2, q(because), q(ssnOfOne))
	id := a.pending().ID
	a.decide(id, approval.Approve)
	if out := second.ask(2, q(because), q(ssnOfOne)); clear_.MatchString(out) || !strings.Contains(out, "SPA01") {
		t.Errorf("another's: %s", out)
	}
	a.Gate.SetEngine(engine(t, p+"\n  - {name: unrelated, effect: block, identity: \"*\", resource: \"*\", commands: listen}\n"))
	if out := first.ask(1, q(ssnOfOne)); clear_.MatchString(out) || !strings.Contains(out, "SPA01") {
		t.Errorf("of other rules: %s", out)
	}
	a.Gate.SetEngine(engine(t, p))
	if out := first.ask(1, q(ssnOfOne)); !clear_.MatchString(out) {
		t.Errorf("what was approved: %s", out)
	}
}

// What was opened with an approval goes on with it, and with the words it was for.
func TestRevealByApprovalOfCursors(t *testing.T) {
	a := revealingApproved(t, "uses: 1")
	r := a.raw()
	defer r.Close()
	r.ask(1, q(because))
	declare := q("DECLARE c CURSOR FOR SELECT ssn FROM clinic.patients ORDER BY id")
	if out := r.ask(3, q("BEGIN"), declare, q("ROLLBACK")); !strings.Contains(out, "SPA01") {
		t.Fatal(out)
	}
	a.decide(a.pending().ID, approval.Approve)
	if out := r.ask(3, q("BEGIN"), declare, q("FETCH 1 FROM c")); !clear_.MatchString(out) || strings.Contains(out, "SPA0") {
		t.Errorf("%s", out)
	}
	if out := r.ask(3, q("SET sallyport.justification = 'another patient calls'"), q("FETCH 1 FROM c"), q("ROLLBACK")); strings.Contains(out, "922-58-0002") || !strings.Contains(out, "SPA01") {
		t.Errorf("for other words: %s", out)
	}
	const all = "SELECT ssn FROM clinic.patients ORDER BY id DESC OFFSET 1"
	portal := []message{q("BEGIN"), &pgproto3.Parse{Query: all}, bind("p", ""), &pgproto3.Execute{Portal: "p", MaxRows: 1}, &pgproto3.Execute{Portal: "p", MaxRows: 1}, sync_}
	r.ask(1, q(because))
	if out := r.ask(3, append(slices.Clone(portal), q("ROLLBACK"))...); !strings.Contains(out, "SPA01") {
		t.Fatal(out)
	}
	for _, e := range a.listed(false) {
		if x, err := a.book.Show(e.ID); err == nil && x.What.Text == all {
			a.decide(x.ID, approval.Approve)
		}
	}
	if out := r.ask(4, append(slices.Clone(portal), q("SET sallyport.justification = 'another patient calls'"), &pgproto3.Execute{Portal: "p"}, sync_)...); !strings.Contains(out, "933-69-0003") || strings.Contains(out, "922-58-0002") || clear_.MatchString(out) || !strings.Contains(out, "SPA01") {
		t.Errorf("a portal: %s", out)
	}
	r.ask(1, q("ROLLBACK"))
	// What was prepared before anybody approved it is what is approved of it.
	if out := r.ask(3, q(because), q("PREPARE p AS "+ssnOfOne), q("EXECUTE p")); clear_.MatchString(out) || !strings.Contains(out, "SPA01") {
		t.Fatal(out)
	}
	var id string
	for _, e := range a.listed(false) {
		if x, err := a.book.Show(e.ID); err == nil && x.What.Text == "EXECUTE p" {
			id = x.ID
		}
	}
	a.decide(id, approval.Approve)
	if out := r.ask(3, q("DEALLOCATE p"), q("PREPARE p AS SELECT ssn FROM clinic.patients"), q("EXECUTE p")); clear_.MatchString(out) {
		t.Errorf("another statement of the name: %s", out)
	}
	if out := r.ask(3, q("DEALLOCATE p"), q("PREPARE p AS "+ssnOfOne), q("EXECUTE p")); !clear_.MatchString(out) {
		t.Errorf("%s", out)
	}
}

// With scope: rule a window is of columns and words; an approval of a statement whose
// fields are masked does not show them; a rule that reveals without one is enough.
func TestRevealByApprovalBesidesOthers(t *testing.T) {
	a := revealingApproved(t, "scope: rule")
	r := a.raw()
	defer r.Close()
	r.ask(2, q(because), q(ssnOfOne))
	a.decide(a.pending().ID, approval.Approve)
	if out := r.ask(1, q("SELECT ssn FROM clinic.patients ORDER BY id LIMIT 1")); !clear_.MatchString(out) {
		t.Errorf("%s", out)
	}
	if out := r.ask(1, q("SELECT birth_date FROM clinic.patients")); strings.Contains(out, "1951-03-17") || !strings.Contains(out, "SPA01") {
		t.Errorf("another column: %s", out)
	}
	if out := r.ask(2, q("SET sallyport.justification = 'another patient calls'"), q(ssnOfOne)); clear_.MatchString(out) || !strings.Contains(out, "SPA01") {
		t.Errorf("other words: %s", out)
	}

	a = revealingApproved(t, "uses: 1", `
  - name: looks
    effect: approve
    identity: "*"
    resource: "*"
    commands: select
    relations: "clinic.patients"
    approve: {by: {issuer: "https://people", subjects: [dr-lee]}, within: 1h, uses: 9}
`)
	r2 := a.raw()
	defer r2.Close()
	if out := r2.ask(1, q(ssnOfOne)); !strings.Contains(out, "SPA01") {
		t.Fatal(out)
	}
	masked := a.pending()
	a.decide(masked.ID, approval.Approve)
	if out := r2.ask(1, q(ssnOfOne)); !strings.Contains(out, "***-**-0001") {
		t.Errorf("%s", out)
	}
	for range 2 { // the rule that reveals, and the one that asks of what is in clear
		if out := r2.ask(2, q(because), q(ssnOfOne)); clear_.MatchString(out) || !strings.Contains(out, "SPA01") {
			t.Errorf("%s", out)
		}
		e := a.pending()
		if !slices.Equal(e.What.Commands, []string{"select"}) {
			t.Errorf("%+v", e.What)
		}
		a.decide(e.ID, approval.Approve)
	}
	if out := r2.ask(1, q(ssnOfOne)); !clear_.MatchString(out) {
		t.Errorf("with both: %s", out)
	}

	p := askingOf(open(t, strings.ReplaceAll(revealApprovedPolicy, "SCOPE", "uses: 1")+`
  - {name: birthdays, effect: reveal, identity: "*", resource: "*", reveal: clinic.patients.birth_date}
`, protocoltest.Options{Identity: func(_ int, id *intercept.Identity) { id.Claims = map[string]any{"role": "nurse"} }}))
	c := connect(t, p.proxy, "default_query_exec_mode=simple_protocol")
	if _, err := c.Exec(t.Context(), because); err != nil {
		t.Fatal(err)
	}
	var s string
	if err := c.QueryRow(context.Background(), "SELECT birth_date::text FROM clinic.patients WHERE id = 1").Scan(&s); err != nil || s != "1951-03-17" {
		t.Errorf("%q, %v", s, err)
	}
	if err := c.QueryRow(context.Background(), ssnOfOne).Scan(&s); err == nil {
		t.Errorf("%q is shown without an approval", s)
	}
}
