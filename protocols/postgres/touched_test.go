package postgres_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// carriers are what the first Query behind an Execute without a Sync may be, where
// the server keeps their transaction open behind it, and what may end it.
var carriers = []struct {
	name  string
	say   []message
	ready int
}{
	{"a text of several", []message{q("SELECT 1"), q("SELECT 2; SELECT 3")}, 2},
	{"after another", []message{q("SELECT 1"), q("SELECT 2"), q("SELECT 2; SELECT 3")}, 3},
	{"COMMIT", []message{q("SELECT 1"), q("COMMIT")}, 2},
	{"a BEGIN, and COMMIT", []message{q("BEGIN"), q("SELECT 1"), q("COMMIT")}, 3},
	{"a BEGIN, a Sync, and COMMIT", []message{q("BEGIN"), sync_, q("SELECT 1"), q("COMMIT")}, 4},
	{"another Execute", append(append([]message{q("SELECT 1")}, postgrestest.Extended("SELECT 2")...), sync_), 2},
	{"END by Execute", append(append([]message{q("SELECT 1")}, postgrestest.Extended("END")...), sync_), 2},
}

// What was executed without a Sync may be committed by the next Query, or long
// after it: servers before 18 do the one, those since the other.
func TestWordsOfCarriedCommit(t *testing.T) {
	p := start(t, maskPolicy)
	for _, c := range carriers {
		for _, first := range []string{"SELECT ssn FROM clinic.patients", "SELECT 1"} {
			say := append(postgrestest.Extended(first), postgrestest.Extended("INSERT INTO later VALUES (1), (1)")...)
			r, hidden := p.raw(), strings.Contains(first, "ssn")
			got := r.ask(c.ready, append(say, c.say...)...)
			if n := strings.Count(got, "C23505|"); n != 1 {
				t.Errorf("%s, %s: it fails %d times: %q", c.name, first, n, got)
			}
			if h := strings.Contains(got, "withheld by sallyport"); h != hidden || h == strings.Contains(got, "Key (a)=(1)") {
				t.Errorf("%s, %s: withheld: %v: %q", c.name, first, h, got)
			}
		}
	}
}

// What a COMMIT says is withheld where the transaction may have touched protected
// data, and no longer: whatever ends it, and however that is sent.
func TestWordsOfCommit(t *testing.T) {
	p := start(t, maskPolicy)
	twice := "INSERT INTO later VALUES (1), (1)"
	masked := "SELECT ssn FROM clinic.patients"
	ex := func(sql string) []message { return postgrestest.Extended(sql) }
	for _, c := range []struct {
		name   string
		say    []message
		ready  int
		hidden bool
	}{
		{"open", []message{q("BEGIN"), q(twice), q("COMMIT")}, 3, false},
		{"masked", []message{q("BEGIN"), q(masked), q(twice), q("COMMIT")}, 4, true},
		{"after a masked one", []message{q("BEGIN"), q(masked), q("COMMIT"), q("BEGIN"), q(twice), q("COMMIT")}, 6, false},
		{"in one text", []message{q("BEGIN; " + twice), q("COMMIT; SELECT 1")}, 2, false},
		{"masked, in one text", []message{q("BEGIN; " + masked + "; " + twice), q("COMMIT; SELECT 1")}, 2, true},
		{"a cursor that is held", []message{q("BEGIN"), q("DECLARE c CURSOR WITH HOLD FOR SELECT id, ssn::int FROM clinic.patients"), q("COMMIT")}, 3, true},
		{"extended", append(ex(twice), sync_), 1, false},
		{"masked, extended", append(append(ex(masked), ex(twice)...), sync_), 1, true},
		{"extended, ended by a Query", append(ex(twice), q("SELECT 1; SELECT 2")), 1, false},
		{"masked, ended by a Query", append(append(ex(masked), ex(twice)...), q("SELECT 1; SELECT 2")), 1, true},
		{"extended, ended by a second Query", append(ex("SELECT 1"), q("SELECT 1"), q("BEGIN; "+twice), q("COMMIT")), 3, false},
		{"masked, ended by an Execute", append(append(append([]message{q("BEGIN"), q(masked)}, ex(twice)...), ex("END")...), sync_), 3, true},
		{"chained", []message{q("BEGIN"), q(masked), q("COMMIT AND CHAIN"), q(twice), q("COMMIT")}, 5, true},
	} {
		r := p.raw()
		got := r.ask(c.ready, c.say...)
		if !strings.Contains(got, "C23505|") && !strings.Contains(got, "C22P02|") {
			t.Errorf("%s: it does not fail: %q", c.name, got)
			continue
		}
		if hidden := strings.Contains(got, "withheld by sallyport"); hidden != c.hidden || hidden == strings.Contains(got, "Key (a)=(1)") {
			t.Errorf("%s: withheld: %v: %q", c.name, hidden, got)
		}
		if l := postgrestest.Planted([]byte(got)); l != "" {
			t.Errorf("%s: a planted value: %s", c.name, l)
		}
	}
}

// What a COMMIT says of statements that ran when less was protected is withheld by
// what is protected now.
func TestWordsOfCommitAfterAChange(t *testing.T) {
	p := start(t, allowAll)
	open, masks, more := engine(t, allowAll), engine(t, maskPolicy), engine(t, maskPolicy+"      clinic.patients.city: redact\n")
	ex := func(sql string) []message { return postgrestest.Extended(sql) }
	twice := "INSERT INTO later VALUES (1), (1)"
	for _, c := range []struct {
		name         string
		from, to     policy.Engine
		before, then []message
		ready, after int
		hidden       bool
	}{
		{"a Query", open, masks, []message{q("BEGIN"), q(twice)}, []message{q("COMMIT")}, 2, 1, true},
		{"an Execute", open, masks, []message{q("BEGIN"), q(twice)}, append(ex("COMMIT"), sync_), 2, 1, true},
		{"a Sync", open, masks, append(ex(twice), flush), []message{sync_}, 0, 1, true},
		{"a Query in place of a Sync", open, masks, append(ex(twice), flush), []message{q("SELECT 1")}, 0, 1, true},
		{"with another between", open, masks, []message{q("BEGIN"), q(twice)}, []message{q("SELECT 1"), q("COMMIT")}, 2, 2, true},
		{"of a cursor", open, masks, []message{q("BEGIN"), q("DECLARE c CURSOR WITH HOLD FOR SELECT ssn::int FROM clinic.patients")}, []message{q("COMMIT")}, 2, 1, true},
		{"from less", masks, more, []message{q("BEGIN"), q(twice)}, []message{q("COMMIT")}, 2, 1, true},
		{"in the next transaction", open, masks, []message{q("BEGIN"), q("SELECT 1"), q("COMMIT")}, []message{q("BEGIN"), q(twice), q("COMMIT")}, 3, 3, false},
	} {
		p.Gate.SetEngine(c.from)
		r := p.raw()
		r.send(enc(c.before...))
		if c.ready == 0 {
			r.until('C', 1)
		} else {
			r.until('Z', c.ready)
		}
		p.Gate.SetEngine(c.to)
		r.send(enc(c.then...))
		got := r.until('Z', c.after)
		if !strings.Contains(got, "C23505|") && !strings.Contains(got, "C22P02|") {
			t.Errorf("%s: it does not fail: %q", c.name, got)
			continue
		}
		if hidden := strings.Contains(got, "withheld by sallyport"); hidden != c.hidden || hidden == strings.Contains(got, "Key (a)=(1)") {
			t.Errorf("%s: withheld: %v: %q", c.name, hidden, got)
		}
		if l := postgrestest.Planted([]byte(got)); l != "" {
			t.Errorf("%s: a planted value: %s", c.name, l)
		}
	}
}

// What names nothing that is there is refused as the server would do it: with its
// SQLSTATE and position and, in a transaction that has failed, by telling of that.
func TestNamesOfNothing(t *testing.T) {
	p := start(t, maskPolicy)
	through, err := postgrestest.Connect(t.Context(), p.dsn(""), "")
	if err != nil {
		t.Fatal(err)
	}
	defer through.Close()
	direct, err := postgrestest.Connect(t.Context(), directTo("postgres"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	both := func(way postgrestest.Way, sql string) {
		t.Helper()
		got, code := positionOf(t, through.Send(t.Context(), way, sql).Received)
		want, wantCode := positionOf(t, direct.Send(t.Context(), way, sql).Received)
		if got != want || code != wantCode {
			t.Errorf("%v: %s: %s at %d, want %s at %d", way, sql, code, got, wantCode, want)
		}
	}
	named := []string{
		"SELECT 'é', nowhere(1, 2)", "SELECT public.nowhere(city) FROM clinic.patients", "SELECT * FROM nowhere(3)", "SELECT 1::nothing",
		"SELECT city FROM clinic.nobody WHERE id = 1", "SELECT city, nothing FROM clinic.patients", "PREPARE x AS SELECT nowhere()",
		"FETCH nobodys", "EXECUTE nobodys", "MOVE ALL IN nobodys",
	}
	for _, sql := range named {
		both(postgrestest.Simple, sql)
		if !strings.HasPrefix(sql, "PREPARE") {
			both(postgrestest.ExtendedText, sql)
		}
	}
	for _, c := range []*postgrestest.Session{through, direct} {
		c.Send(t.Context(), postgrestest.Simple, "BEGIN")
		c.Send(t.Context(), postgrestest.Simple, "SELECT 1 / 0")
	}
	for _, sql := range named {
		both(postgrestest.Simple, sql)
		both(postgrestest.ExtendedText, sql)
	}
	for _, c := range []*postgrestest.Session{through, direct} {
		c.Send(t.Context(), postgrestest.Simple, "ROLLBACK")
	}
	// What may be something else is not said not to be there.
	for _, sql := range []string{"SELECT ssn(p) FROM clinic.patients p", "SELECT there(x) FROM (SELECT 1 AS there) x", "SELECT later('(1)')"} {
		if got, code := positionOf(t, through.Send(t.Context(), postgrestest.Simple, sql).Received); code != "0A000" || got != 0 {
			t.Errorf("%s: %s at %d", sql, code, got)
		}
	}
}
