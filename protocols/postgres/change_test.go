package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

const readNothing = `
rules:
  - name: session-only
    effect: allow
    identity: "*"
    resource: "*"
    commands: [session]
    relations: ["*.*"]
`

var unmasked = strings.Replace(maskPolicy, "clinic.patients.ssn: {mask: partial, last: 4}", "clinic.patients.ssn: redact", 1)

// A policy that changes between Parse, Bind and Execute: what was made under
// the old one does not run under the new, it is on the record, and what is made
// anew does.
func TestPolicyChanges(t *testing.T) {
	const sql = "SELECT ssn FROM clinic.patients WHERE id = 1"
	bindIt, run := []message{bind("p", "s"), flush}, []message{execute("p"), sync_}
	for _, c := range []struct {
		name, before, after string
		then                string // what a new statement shows
	}{
		{"other mask", maskPolicy, unmasked, "[redacted]"},
		{"masks come", allowAll, maskPolicy, "***-**-0001"},
		{"masks go", maskPolicy, allowAll, "911-47-0001"},
		{"nothing is allowed", maskPolicy, readNothing, ""},
		{"nothing is allowed any more", allowAll, readNothing, ""},
	} {
		for at, when := range []string{"before Bind", "before Execute", "between Executes"} {
			t.Run(c.name+"/"+when, func(t *testing.T) {
				p := start(t, c.before)
				r := p.raw()
				r.ask(2, q("BEGIN"), parse("s", sql), sync_)
				change := func(i int) {
					if i == at {
						time.Sleep(20 * time.Millisecond) // what was sent has been looked at
						p.Gate.SetEngine(engine(t, c.after))
					}
				}
				change(0)
				r.send(enc(bindIt...))
				change(1)
				r.send(enc(&pgExecute{Portal: "p", MaxRows: 1}, flush))
				change(2)
				r.send(enc(run...))
				out := r.until('Z', 1)
				if n := strings.Count(out, "D ") + strings.Count(out, "\ns \n"); at < 2 && strings.Contains(out, "D |") || n > 2 {
					t.Errorf("rows came: %s", out)
				}
				if strings.Contains(out, "911-47") && c.before != allowAll || !strings.Contains(out, "sallyport: refused") || !strings.HasSuffix(out, "Z E\n") {
					t.Errorf("%s", out)
				}
				if b := p.Journal.Events(events.Block); len(b) != 1 && !(c.after == allowAll && len(b) == 0) {
					t.Errorf("recorded: %+v", b)
				}
				out = r.ask(2, append([]message{q("ROLLBACK")}, extended(sql)...)...)
				if c.then == "" && !strings.Contains(out, "sallyport: refused") || !strings.Contains(out, c.then) {
					t.Errorf("then: %s", out)
				}
				if strings.Contains(c.name, "masks go") {
					if out := r.ask(1, bind("", "s"), execute(""), sync_); !strings.Contains(out, "C26000") {
						t.Errorf("a rewritten statement is not what would be sent now: %s", out)
					}
				}
				r.Close()
				_ = p.End()
				p.settled()
			})
		}
	}
}

// What is not affected by a change of the policy goes on.
func TestPolicyChangesElsewhere(t *testing.T) {
	p := start(t, maskPolicy)
	r := p.raw()
	r.ask(1, parse("s", "SELECT a FROM m0"), sync_)
	p.Gate.SetEngine(engine(t, unmasked))
	if out := r.ask(1, bind("", "s"), execute(""), sync_); !strings.Contains(out, "m0") {
		t.Error(out)
	}
	if out := r.ask(2, q("PREPARE z AS SELECT a FROM m0"), q("EXECUTE z")); !strings.Contains(out, "m0\n") {
		t.Error(out)
	}
	p.Gate.SetEngine(engine(t, maskPolicy))
	if out := r.ask(1, q("EXECUTE z")); !strings.Contains(out, "sallyport: refused") { // its text is not known
		t.Error(out)
	}
}

// A catalog that changes between Parse and Bind: the analysis is made again,
// and where the server would be sent something else now, what it has does not
// run.
func TestCatalogChanges(t *testing.T) {
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(server.Exec(ctx, "CREATE TABLE changing (a int); INSERT INTO changing VALUES (1); CREATE VIEW seen AS SELECT id, city FROM clinic.patients"))
	defer server.Exec(ctx, "DROP VIEW seen; DROP TABLE changing, elsewhere, elsewhere2, elsewhere3")
	p := start(t, strings.Replace(maskPolicy, "[read, session, write]", "[read, session, write, ddl]", 1))
	r := p.raw()
	r.ask(1, parse("same", "SELECT a FROM changing"), parse("view", "SELECT * FROM seen WHERE id = 1"), sync_)
	// Somebody else's; this session's own makes it look.
	must(server.Exec(ctx, "CREATE OR REPLACE VIEW seen AS SELECT id, ssn AS city FROM clinic.patients"))
	must(server.Exec(ctx, "ALTER TABLE changing ADD COLUMN c int"))
	look := func(name string) message { return q("CREATE TABLE " + name + " (a int)") }
	if out := r.ask(1, look("elsewhere")); strings.Contains(out, "E S") {
		t.Fatal(out)
	}
	if out := r.ask(1, bind("", "same"), execute(""), sync_); !strings.Contains(out, "1\nC SELECT 1") {
		t.Errorf("a statement that the change does not touch: %s", out)
	}
	out := r.ask(1, bind("", "view"), execute(""), sync_)
	if strings.Contains(out, "911-47") || strings.Contains(out, "D |") || !strings.Contains(out, "C26000") {
		t.Errorf("%s", out)
	}
	if b := p.Journal.Events(events.Block); len(b) != 1 || !strings.Contains(b[0].Reason, "changed") {
		t.Errorf("recorded: %+v", b)
	}
	if out := r.ask(1, extended("SELECT * FROM seen WHERE id = 1")...); !strings.Contains(out, "***-**-0001") {
		t.Errorf("prepared again: %s", out)
	}
	// SQL's names too; and in one pipeline with what changes it.
	out = r.ask(4, q("PREPARE z AS SELECT city FROM seen WHERE id = 1"), q("EXECUTE z"), look("elsewhere2"), q("EXECUTE z"))
	if strings.Count(out, "***-**-0001") != 1 || !strings.Contains(out, "before the catalog changed") {
		t.Error(out)
	}
	out = r.ask(3, parse("t", "SELECT * FROM changing"), look("elsewhere3"), bind("", "t"), execute(""), sync_, q("SELECT 'on'"))
	if !strings.Contains(out, "on\n") {
		t.Error(out)
	}
}

// An identity that expires in mid-session is proved again, or nothing more is
// allowed. Another one is not taken in its place.
func TestIdentityExpires(t *testing.T) {
	var renew atomic.Pointer[func() (intercept.Identity, error)]
	soon := func(id *intercept.Identity) { id.Expires = time.Now().Add(time.Second) }
	fresh := intercept.Identity{Workload: "agent", Subject: "agent", Proof: "test", Expires: time.Now().Add(time.Hour)}
	set := func(f func() (intercept.Identity, error)) { renew.Store(&f) }
	p := open(t, maskPolicy, protocoltest.Options{
		Identity: func(_ int, id *intercept.Identity) { soon(id) },
		Renew:    func(context.Context) (intercept.Identity, error) { return (*renew.Load())() },
	})
	set(func() (intercept.Identity, error) { return intercept.Identity{}, errors.New("no token") })
	r := p.raw()
	r.ask(2, parse("s", "SELECT 'prepared'"), sync_, q("SELECT 1"))
	time.Sleep(1050 * time.Millisecond)
	other := fresh
	other.Subject = "another"
	actors := fresh
	actors.Actors = []string{"x"}
	old := fresh
	old.Expires = time.Now().Add(-time.Hour)
	for name, f := range map[string]func() (intercept.Identity, error){
		"no token": *renew.Load(), "another subject": func() (intercept.Identity, error) { return other, nil },
		"an actor": func() (intercept.Identity, error) { return actors, nil }, "expired too": func() (intercept.Identity, error) { return old, nil },
	} {
		set(f)
		for _, say := range [][]message{{q("SELECT 1")}, extended("SELECT 2"), {bind("", "s"), execute(""), sync_}} {
			if out := r.ask(1, say...); !strings.Contains(out, "C28000") || strings.Contains(out, "D ") || !strings.HasSuffix(out, "Z I\n") {
				t.Errorf("%s: %s", name, out)
			}
		}
	}
	if b := p.Journal.Events(events.Block); len(b) != 12 || b[0].Rules[0] != "identity" {
		t.Errorf("recorded: %d, %+v", len(b), b)
	}
	set(func() (intercept.Identity, error) { return fresh, nil })
	if out := r.ask(1, bind("", "s"), execute(""), sync_); !strings.Contains(out, "prepared") {
		t.Error(out)
	}
}
