package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// Everybody is masked but alice, nobody reads without saying for whom.
const pooledPolicy = `
rules:
  - name: staff
    effect: allow
    identity: "*"
    resource: "*"
    commands: [read, session, write]
    relations: ["*.*"]
  - name: say-for-whom
    effect: block
    identity: "*"
    resource: "*"
    commands: [read, write]
    condition: identity.pooled
    reason: say for whom this is
    remedy: set sallyport.principal
  - name: phi
    effect: mask
    identity: "*"
    resource: "*"
    fields:
      clinic.patients.ssn: {mask: partial, last: 4}
    except:
      condition: identity.principal == "alice"
`

// pooled starts a passage for a pooler. A token is NAME.secret; those of
// mallory are refused, those of "short" end after a moment.
func pooled(t *testing.T, pol string) *proxy {
	t.Helper()
	return open(t, pol, protocoltest.Options{
		Identity: func(_ int, id *intercept.Identity) {
			id.SpeaksFor, id.Proof = true, intercept.ProofPidfd
			id.Proofs.Workload.By, id.Proofs.Actor.By = id.Proof, id.Proof
		},
		Speak: func(_ context.Context, token []byte) (intercept.Spoken, error) {
			name, secret, _ := strings.Cut(string(token), ".")
			if name == "mallory" || !strings.HasPrefix(secret, "CANARY") {
				return intercept.Spoken{}, errors.New("its token does not verify")
			}
			s := intercept.Spoken{
				Person: intercept.Person{Issuer: "https://id.example", Subject: name}, Proved: intercept.Proved{By: intercept.ProofBearer, Bound: []string{intercept.BoundAudience}},
				Expires: time.Now().Add(time.Hour), Fresh: time.Now().Add(time.Hour),
			}
			if name == "short" {
				s.Expires = time.Now().Add(300 * time.Millisecond)
			}
			return s, nil
		},
	})
}

func as(name string) string  { return "SET sallyport.principal = '" + name + ".CANARY-x_y'" }
func asL(name string) string { return strings.Replace(as(name), "SET", "SET LOCAL", 1) }

const (
	ssn    = "SELECT ssn FROM clinic.patients WHERE id = 1"
	stored = "911-47-0001"
)

// seen is what came of a ssn: whose eyes it was read with.
func seen(out string) string {
	switch {
	case strings.Contains(out, "say for whom"):
		return "refused"
	case strings.Contains(out, "***-**-0001"):
		return "masked"
	case strings.Contains(out, stored):
		return "plain"
	}
	return out
}

// clean holds that no token stands anywhere on the record.
func (p *proxy) clean() {
	p.t.Helper()
	for _, c := range p.settled().Chunks() {
		if (c.Kind == events.ChunkStatement || c.Kind == events.ChunkBinds) && strings.Contains(string(c.Data), ".CANARY") {
			p.t.Errorf("a token is in the transcript: %q", c.Data)
		}
	}
	for _, e := range p.Journal.All() {
		if s := fmt.Sprintf("%+v", e); strings.Contains(s, "CANARY") {
			p.t.Errorf("a token is in an event: %s", s)
		}
	}
}

// Each statement is of whom it was said to be for, and its events stay so.
func TestPrincipalPerStatement(t *testing.T) {
	p := pooled(t, pooledPolicy)
	r := p.raw()
	for _, x := range []struct{ say, answer, want string }{
		{"", "", "refused"},
		{as("alice"), "C SET", "plain"},
		{as("bob"), "C SET", "masked"},
		{"set session\n SallyPort.Principal to 'alice.CANARY' ; ", "C SET", "plain"},
		{"RESET sallyport.principal", "C RESET", "refused"},
		{as("alice"), "C SET", "plain"},
		{"SET sallyport.principal TO DEFAULT", "C SET", "refused"},
		{as("alice"), "C SET", "plain"},
		{"SET sallyport.principal = ''", "C SET", "refused"},
		{as("alice"), "C SET", "plain"},
		{"DISCARD ALL", "C DISCARD", "refused"},
		{as("alice"), "C SET", "plain"},
		{"/* x */ RESET  ALL", "C RESET", "refused"},
		{as("alice"), "C SET", "plain"},
		{as("mallory"), "C28000", "refused"},
	} {
		if x.say != "" {
			if out := r.ask(1, q(x.say)); !strings.Contains(out, x.answer) || strings.Contains(out, "CANARY") {
				t.Fatalf("%s: %s", x.say, out)
			}
		}
		if got := seen(r.ask(1, q(ssn))); got != x.want {
			t.Errorf("behind %q: %s, want %s", x.say, got, x.want)
		}
		r.ask(1, extended(ssn)...) // its analysis comes from the cache
		if got := seen(r.ask(1, extended(ssn)...)); got != x.want {
			t.Errorf("behind %q, extended: %s, want %s", x.say, got, x.want)
		}
	}
	p.clean()
	var whose []string
	for _, e := range p.Journal.Events(events.Statement, events.Response, events.Block) {
		if e.Kind == events.Block && e.Session.Principal != "" || e.Session.Pooled == (e.Session.Principal != "") {
			t.Errorf("%s is for %q, pooled %v", e.Kind, e.Session.Principal, e.Session.Pooled)
		}
		if e.Command == "select" && e.Kind == events.Statement {
			whose = append(whose, e.Session.Principal+":"+e.Verdict.String())
			if e.Session.Proof != intercept.ProofBearer || e.Session.PrincipalIssuer != "https://id.example" || e.Session.PrincipalProof.By != intercept.ProofBearer {
				t.Errorf("%+v", e.Session)
			}
		}
	}
	want := strings.Repeat("alice:allow ", 3) + strings.Repeat("bob:mask ", 3) + strings.Repeat("alice:allow ", 18)
	if got := strings.Join(whose, " ") + " "; got != want {
		t.Errorf("%s", got)
	}
	// The server was told nothing but that it was set.
	if out := r.ask(2, q(as("bob")), q("SHOW server_version")); strings.Contains(out, "CANARY") {
		t.Error(out)
	}
}

// An outcome is of whom its statement was decided for, whoever is spoken for
// when it comes.
func TestPrincipalOfOutcomes(t *testing.T) {
	p := pooled(t, pooledPolicy)
	out := p.raw().ask(6, q(as("alice")), q("SELECT pg_sleep(0.1)"), q(as("bob")), q(ssn), q("RESET sallyport.principal"), q("SHOW server_version"))
	if strings.Contains(out, "E S") {
		t.Fatal(out)
	}
	want := []string{"alice", "alice", "bob", "bob", "bob", ""}
	for _, e := range p.settled().Events(events.Statement, events.Response) {
		if got := e.Session.Principal; got != want[e.Number-1] {
			t.Errorf("%s of statement %d is for %q", e.Kind, e.Number, got)
		}
	}
}

// A pipeline's later statements never run as whom it was before.
func TestPrincipalInPipelines(t *testing.T) {
	say := func(sql string) []message { return []message{parse("", sql), bind("", ""), execute("")} }
	read := extended(ssn)
	cat := func(ms ...[]message) (all []message) {
		for _, m := range ms {
			all = append(all, m...)
		}
		return all
	}
	one := func(m message) []message { return []message{m} }
	for _, c := range []struct {
		name string
		send []message
		z    int
		want []string // of each ReadyForQuery that shows something
	}{
		{"set and read in one batch", cat(say(as("bob")), read), 1, []string{"masked"}},
		{"two people in one batch", cat(say(as("bob")), read[:4], say(as("alice")), read), 1, []string{"masked", "plain"}},
		{"a bad token, simple", cat(one(q(as("mallory"))), one(q(ssn))), 2, []string{"refused"}},
		{"a bad token, extended", cat(say(as("mallory")), one(sync_), read), 2, []string{"refused"}},
		{"a bad token and the rest of its batch", cat(say(as("mallory")), read, read), 2, []string{"refused"}},
		{"skipped by the server", cat(say("SELECT 1/0"), say(as("bob")), one(sync_), read), 2, []string{"refused"}},
		{"skipped by a refusal", cat(say("DELETE FROM clinic.nowhere"), say(as("bob")), one(sync_), read), 2, []string{"refused"}},
		{"failed at the server", cat(one(q("BEGIN")), one(q("SELECT 1/0")), one(q(as("bob"))), one(q("ROLLBACK")), one(q(ssn))), 5, []string{"refused"}},
		{"prepared there in vain", cat(one(q("BEGIN")), one(q("SELECT 1/0")), one(parse("s", as("bob"))), one(sync_), one(q("ROLLBACK")), one(q(ssn))), 5, []string{"refused"}},
		{"rolled back", cat(one(q("BEGIN")), one(q(as("bob"))), one(q("ROLLBACK")), one(q(ssn))), 4, []string{"refused"}},
		{"rolled back to before", cat(one(q("BEGIN")), one(q("SAVEPOINT a")), one(q(as("bob"))), one(q("ROLLBACK TO a")), one(q(ssn)), one(q("COMMIT"))), 6, []string{"refused"}},
		{"rolled back with its batch", cat(say(as("bob")), say("SELECT 1/0"), one(sync_), read), 2, []string{"refused"}},
		{"committed", cat(one(q("BEGIN")), one(q(as("bob"))), one(q("COMMIT")), one(q(ssn))), 4, []string{"masked"}},
		{"a COMMIT that fails", cat(one(q("BEGIN")), one(q(as("bob"))), one(q("SELECT 1/0")), one(q("COMMIT")), one(q(ssn))), 5, []string{"refused"}},
		{"a COMMIT that fails itself", cat(one(q("BEGIN")), one(q(as("bob"))), one(q("INSERT INTO later VALUES (1), (1)")), one(q("COMMIT")), one(q(ssn))), 5, []string{"refused"}},
		{"a COMMIT that fails itself, extended", cat(one(q("BEGIN")), one(q(as("bob"))), one(q("INSERT INTO later VALUES (1), (1)")), say("COMMIT"), one(sync_), read), 5, []string{"refused"}},
		{"a batch that fails at its end", cat(say(as("bob")), say("INSERT INTO later VALUES (1), (1)"), one(sync_), read), 2, []string{"refused"}},
		{"for a transaction", cat(one(q("BEGIN")), one(q(asL("bob"))), one(q(ssn)), one(q("COMMIT")), one(q(ssn))), 5, []string{"masked", "refused"}},
		{"for a transaction, in one batch", cat(say("BEGIN"), say(asL("bob")), read[:4], say("COMMIT"), read), 1, []string{"masked", "refused"}},
		{"for the transaction of a batch", cat(say(asL("bob")), read, read), 2, []string{"masked", "refused"}},
		{"for no transaction", cat(one(q(asL("bob"))), one(q(ssn))), 2, []string{"refused"}},
		{"a text that goes on behind its end", cat(one(q("BEGIN")), one(q(asL("bob"))), one(q("COMMIT; "+ssn))), 3, nil},
		{"a text that goes on behind a reset", cat(one(q(as("bob"))), one(q("RESET ALL; "+ssn))), 2, nil},
		{"a text that ends its transaction", cat(one(q(as("bob"))), one(q("BEGIN; "+ssn+"; COMMIT"))), 2, []string{"masked"}},
		{"EXECUTE of what says so", cat(one(parse("s", as("bob"))), one(sync_), one(q("EXECUTE s")), one(q(ssn))), 3, []string{"refused"}},
		{"executed again", cat(one(parse("s", as("bob"))), one(bind("", "s")), one(execute("")), one(sync_), one(q(as("alice"))), one(bind("", "s")), one(execute("")), read), 3, []string{"masked"}},
		{"among others", cat(one(q("SELECT 1; "+as("bob"))), one(q(ssn))), 2, []string{"refused"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pooled(t, pooledPolicy)
			r := p.raw()
			if got := seen(r.ask(2, q(as("alice")), q(ssn))); got != "plain" {
				t.Fatal(got)
			}
			out := r.ask(c.z, c.send...)
			var got []string
			for _, l := range strings.Split(out, "\n") {
				if w := seen(l); w != l {
					got = append(got, w)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%v, want %v:\n%s", got, c.want, out)
			}
			p.clean()
		})
	}
}

// What was opened for one person shows nothing to another.
func TestPrincipalOfPortals(t *testing.T) {
	p := pooled(t, pooledPolicy)
	r := p.raw()
	// Of a prepared statement alone nothing is decided for good.
	if out := r.ask(2, q(as("alice")), parse("s", ssn), sync_); strings.Contains(out, "E S") {
		t.Fatal(out)
	}
	if got := seen(r.ask(1, bind("", "s"), execute(""), sync_)); got != "plain" {
		t.Error(got)
	}
	if out := r.ask(2, q(as("bob")), bind("", "s"), execute(""), sync_); strings.Contains(out, stored) || !strings.Contains(out, "E S") {
		t.Errorf("a statement that alice prepared: %s", out)
	}
	for name, open := range map[string]struct {
		z    int
		send []message
	}{
		"a cursor":       {1, []message{q("DECLARE c CURSOR FOR " + ssn)}},
		"a held cursor":  {2, []message{q("DECLARE c CURSOR WITH HOLD FOR " + ssn), q("COMMIT")}},
		"a portal":       {1, []message{parse("", ssn), bind("c", ""), sync_}},
		"carol's cursor": {2, []message{q(as("carol")), q("DECLARE c CURSOR FOR " + ssn)}},
	} {
		for how, fetch := range map[string][]message{
			"FETCH": {q("FETCH ALL FROM c")}, "FETCH, extended": extended("FETCH ALL FROM c"), "Execute": {execute("c"), sync_},
			"Describe": {describe('P', "c"), sync_},
		} {
			out := r.ask(2+open.z, append([]message{q(as("alice")), q("BEGIN")}, open.send...)...)
			if strings.Contains(out, "E S") {
				t.Fatalf("%s: %s", name, out)
			}
			out = r.ask(2, append([]message{q(as("bob"))}, fetch...)...)
			if strings.Contains(out, stored) || strings.Contains(out, "D ") || !strings.Contains(out, "E S") {
				t.Errorf("%s by %s: %s", name, how, out)
			}
			r.ask(2, q("ROLLBACK"), q("CLOSE ALL"))
		}
	}
	// It is there for whom it was opened, said anew or not.
	out := r.ask(7, q(as("alice")), q("BEGIN"), q("DECLARE c CURSOR FOR "+ssn), q(as("alice")), q("FETCH ALL FROM c"), q("COMMIT"), q("SHOW server_version"))
	if !strings.Contains(out, stored) {
		t.Errorf("%s", out)
	}
	p.clean()
}

// Other forms than the plain one are refused, and nobody is spoken for then.
func TestPrincipalIsNotSetByTricks(t *testing.T) {
	p := pooled(t, pooledPolicy)
	r := p.raw()
	const tok = "'bob.CANARY'"
	for _, sql := range []string{
		"SET /* x */ sallyport.principal = " + tok, "SET sallyport.principal = " + tok + " -- x", `SET "sallyport".principal = ` + tok, `SET sallyport."principal" = ` + tok,
		`SET U&"sally\0070ort".principal = 'eyJa.bob.CANARY'`, "SET sallyport . principal = " + tok, "SET sallyport.principal = E" + tok, "SET sallyport.principal = U&" + tok,
		"SET sallyport.principal = $$bob.CANARY$$", `SET sallyport.principal = "bob.CANARY"`, "SET sallyport.principal = 'a''b.CANARY'", "SET sallyport.principal = 'bob' '.CANARY'",
		"SET sallyport.principal = " + tok + ", 'x'", "SET sallyport.principal = " + tok + "; SELECT 1", "SELECT 1; SET sallyport.principal = " + tok,
		"SELECT set_config('sallyport.principal', " + tok + ", false)", "SELECT set_config('sally' || 'port.prin' || 'cipal', 'eyJa.bob.CANARY', false)",
		"ALTER ROLE agent SET sallyport.principal = " + tok, "ALTER DATABASE postgres SET sallyport.principal = " + tok, "ALTER SYSTEM SET sallyport.principal = " + tok,
		"SET sallyport.principal FROM CURRENT", "SET sallyport.principal.x = " + tok, "SET GLOBAL sallyport.principal = " + tok, "SET sallyport.principal = 1",
		"DO 'BEGIN SET sallyport.principal = x; END'", "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET sallyport.principal = " + tok + " AS 'SELECT 1'",
		"PREPARE x AS SELECT set_config('sallyport.principal', $1, false)",
	} {
		for _, ext := range []bool{false, true} {
			say := []message{q(sql)}
			if ext {
				say = extended(sql)
			}
			out := r.ask(2, append([]message{q(as("alice"))}, say...)...)
			if !strings.Contains(out, "E S") {
				t.Errorf("%s: %s", sql, out)
			}
			if got := seen(r.ask(1, q(ssn))); got == "masked" {
				t.Errorf("%s (%v): behind it bob reads", sql, ext)
			}
		}
	}
	p.clean()
	if out := r.ask(1, q("RESET sallyport.principal")); !strings.Contains(out, "C RESET") {
		t.Error(out)
	}
}

// A token's end is that of what it was for.
func TestPrincipalExpires(t *testing.T) {
	p := pooled(t, pooledPolicy)
	r := p.raw()
	if got := seen(r.ask(2, q(as("short")), q(ssn))); got != "masked" {
		t.Fatal(got)
	}
	time.Sleep(400 * time.Millisecond)
	for _, m := range [][]message{{q(ssn)}, extended(ssn), {q("SHOW server_version")}} {
		if out := r.ask(1, m...); !strings.Contains(out, "C28000") || !strings.Contains(out, "has expired") {
			t.Error(out)
		}
	}
	if got := seen(r.ask(2, q(as("alice")), q(ssn))); got != "plain" {
		t.Error(got)
	}
	for _, e := range p.settled().Events(events.Block) {
		if e.Session.Principal != "short" || e.Rules[0] != "identity" {
			t.Errorf("%+v", e)
		}
	}
}

// Who may not speak for others hears so, and its token goes nowhere.
func TestPrincipalOfAnotherWorkload(t *testing.T) {
	for _, pol := range []string{maskPolicy, allowAll} {
		p := start(t, pol)
		r := p.raw()
		for _, say := range [][]message{{q(as("alice"))}, extended(as("alice"))} {
			if out := r.ask(1, say...); !strings.Contains(out, "C28000") || !strings.Contains(out, "speaks_for") {
				t.Error(out)
			}
		}
		if out := r.ask(1, q("SELECT 1")); !strings.Contains(out, "C SELECT 1") {
			t.Error(out)
		}
		p.clean()
		if b := p.Journal.Events(events.Block); len(b) != 2 || b[0].Rules[0] != "identity" || b[0].Session.Pooled {
			t.Errorf("%+v", b)
		}
	}
}

// A verdict that depends on the person and the statement is of both.
func TestPrincipalInConditions(t *testing.T) {
	p := pooled(t, pooledPolicy+`
  - name: not-bob
    effect: block
    identity: "*"
    resource: "*"
    condition: identity.principal == "bob" && "public.m0" in statement.relations
    reason: not for bob
`)
	r := p.raw()
	for range 2 {
		for _, who := range []string{"alice", "bob", "carol"} {
			for _, m := range [][]message{{q("SELECT a FROM m0")}, extended("SELECT a FROM m0")} {
				if out := r.ask(2, append([]message{q(as(who))}, m...)...); strings.Contains(out, "not for bob") != (who == "bob") || strings.Contains(out, "D ") == (who == "bob") {
					t.Errorf("%s: %s", who, out)
				}
			}
		}
	}
}

// Where nothing is enforced a token is not recorded either.
func TestPrincipalObserved(t *testing.T) {
	j := protocoltest.NewJournal()
	stream := messages(hello, q(as("alice")), parse("s", as("bob")), bind("", "s"), execute(""), sync_, q(ssn))
	if err := observe(t, bytes.NewReader(stream), j, ""); err != nil {
		t.Fatal(err)
	}
	if n := len(j.Events(events.Statement)) + len(j.Events(events.Block)); n != 3 {
		t.Errorf("%d statements", n)
	}
	for _, c := range j.Chunks() {
		if strings.Contains(string(c.Data), ".CANARY") {
			t.Errorf("a token is in the transcript: %q", c.Data)
		}
	}
	if s := fmt.Sprintf("%+v", j.All()); strings.Contains(s, ".CANARY") {
		t.Errorf("a token is in an event: %s", s)
	}
}
