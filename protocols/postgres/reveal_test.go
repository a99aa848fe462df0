package postgres_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

const revealPolicy = maskPolicy + `
  - name: verify identity
    effect: reveal
    identity: {claims: {role: nurse}}
    resource: "*"
    reveal: [clinic.patients.ssn, clinic.patients.birth_date]
    justification: 12
`

// revealing starts a proxy for nurses, or for others.
func revealing(t *testing.T, role string) *proxy {
	t.Helper()
	return open(t, revealPolicy, protocoltest.Options{Identity: func(_ int, id *intercept.Identity) {
		id.Claims = map[string]any{"role": role}
	}})
}

const because = "SET sallyport.justification = 'the patient''s daughter calls'"

var clear_ = regexp.MustCompile(`911-47-0001`)

// What a rule reveals is seen in clear while it is said why, and by nobody else;
// everything else stays masked.
func TestReveal(t *testing.T) {
	p := revealing(t, "nurse")
	ssn := "SELECT ssn FROM clinic.patients WHERE id = 1"
	for _, c := range []struct {
		name   string
		say    []string
		clear  bool // the last answer
		refuse bool
	}{
		{name: "without a justification", say: []string{ssn}},
		{name: "with one", say: []string{because, ssn}, clear: true},
		{name: "for the session", say: []string{"set session sallyport.justification to 'the daughter calls' ;", ssn}, clear: true},
		{name: "too short", say: []string{"SET sallyport.justification = 'why not'", ssn}},
		{name: "blanks", say: []string{"SET sallyport.justification = '                  '", ssn}},
		{name: "short after a good one", say: []string{because, "SET sallyport.justification = 'x'", ssn}},
		{name: "reset", say: []string{because, "RESET sallyport.justification", ssn}},
		{name: "set to its default", say: []string{because, "SET sallyport.justification TO DEFAULT", ssn}},
		{name: "set to nothing", say: []string{because, "SET sallyport.justification = ''", ssn}},
		{name: "all reset", say: []string{because, "RESET ALL", ssn}},
		{name: "all discarded", say: []string{because, "DISCARD ALL", ssn}},
		{name: "all discarded in one text", say: []string{because, "DISCARD PLANS; RESET ALL; " + ssn}},
		{name: "for a transaction that is none", say: []string{"SET LOCAL sallyport.justification = 'the daughter calls'", ssn}},
		{name: "for a transaction", say: []string{"BEGIN", "SET LOCAL sallyport.justification = 'the daughter calls'", ssn}, clear: true},
		{name: "the transaction ended", say: []string{"BEGIN", "SET LOCAL sallyport.justification = 'the daughter calls'", "COMMIT", ssn}},
		{name: "it was rolled back", say: []string{"BEGIN", "SET LOCAL sallyport.justification = 'the daughter calls'", "ROLLBACK", ssn}},
		{name: "it ended, and another began", say: []string{"BEGIN", "SET LOCAL sallyport.justification = 'the daughter calls'", "COMMIT; BEGIN", ssn}},
		{name: "it ended, and another went on", say: []string{"BEGIN", "SET LOCAL sallyport.justification = 'the daughter calls'", "COMMIT AND CHAIN", ssn}},
		{name: "in a transaction that failed, and was committed", say: []string{"BEGIN", because, "SELECT 1 / 0", "COMMIT", ssn}},
		{name: "back to a savepoint before it", say: []string{"BEGIN", "SAVEPOINT s", because, "ROLLBACK TO s", ssn}},
		{name: "back to one behind it", say: []string{"BEGIN", because, "SAVEPOINT s", "SELECT 1 / 0", "ROLLBACK TO s", ssn}, clear: true},
		{name: "another, back to a savepoint before it", say: []string{because, "BEGIN", "SAVEPOINT s", "SET sallyport.justification = 'x'", "ROLLBACK TO s", ssn}, clear: true},
		{name: "committed", say: []string{"BEGIN", because, "COMMIT", ssn}, clear: true},
		{name: "rolled back", say: []string{"BEGIN", because, "ROLLBACK", ssn}},
		{name: "given before what was rolled back", say: []string{because, "BEGIN", "SELECT 1", "ROLLBACK", ssn}, clear: true},
		{name: "local in a session's", say: []string{because, "BEGIN", "SET LOCAL sallyport.justification = 'x'", "COMMIT", ssn}, clear: true},
		{name: "another setting reset", say: []string{because, "RESET work_mem", ssn}, clear: true},
		{name: "it ends within the text", say: []string{"BEGIN", "SET LOCAL sallyport.justification = 'the daughter calls'", "COMMIT; " + ssn}},
		{name: "set in a transaction that was rolled back", say: []string{"BEGIN", because, "ROLLBACK", ssn}},
		{name: "set where it has failed", say: []string{"BEGIN", "SELECT 1/0", because, "ROLLBACK", ssn}},
		{name: "set in another form", say: []string{"SET sallyport.justification = E'the daughter calls'", ssn}},
		{name: "set behind a comment", say: []string{"/* x */ SET sallyport.justification = 'the daughter calls'", ssn}},
		{name: "set within a text", say: []string{because + "; " + ssn}, refuse: true},
		{name: "set by a function", say: []string{"SELECT set_config('sallyport.justification', 'the daughter calls', false)", ssn}},
		{name: "too long", say: []string{"SET sallyport.justification = '" + strings.Repeat("the daughter calls ", 30) + "'", ssn}},
		{name: "with control characters", say: []string{"SET sallyport.justification = 'the daughter\x1b calls'", ssn}},
		{name: "another column", say: []string{because, "SELECT name FROM clinic.patients"}},
		{name: "another relation's column of the name", say: []string{because, "SELECT ssn FROM clinic.claims"}},
		{name: "in an expression", say: []string{because, "SELECT right(ssn, 99) || 'x' FROM clinic.patients ORDER BY ssn"}, clear: true},
		{name: "in a condition", say: []string{because, "SELECT ssn FROM clinic.patients WHERE ssn = '911-47-0001'"}, clear: true},
		{name: "by a view that passes it through", say: []string{because, "SELECT ssn FROM clinic.v_patients WHERE id = 1"}, clear: true},
		{name: "by a view that computes", say: []string{because, "SELECT s FROM clinic.v_derived"}},
		{name: "the whole row", say: []string{because, "SELECT p FROM clinic.patients p WHERE id = 1"}, clear: true},
		{name: "COPY", say: []string{because, "COPY (SELECT ssn FROM clinic.patients) TO STDOUT"}, clear: true},
		{name: "written", say: []string{because, "UPDATE clinic.patients SET ssn = 'x' WHERE false"}, refuse: true},
		{name: "stored elsewhere", say: []string{because, "CREATE TABLE public.mine AS SELECT ssn FROM clinic.patients"}, refuse: true},
		{name: "stored in a table", say: []string{because, "INSERT INTO later SELECT length(ssn) FROM clinic.patients"}, refuse: true},
		{name: "stored by a view", say: []string{because, "WITH x AS (SELECT s FROM clinic.v_derived) INSERT INTO later SELECT length(s) FROM x"}, refuse: true},
		{name: "stored by an update", say: []string{because, "UPDATE later SET a = (SELECT length(ssn) FROM clinic.patients WHERE id = 1)"}, refuse: true},
		{name: "a condition of a write", say: []string{because, "DELETE FROM later USING clinic.patients p WHERE p.ssn = 'x'"}, refuse: true},
		{name: "explained", say: []string{because, "EXPLAIN SELECT ssn FROM clinic.patients"}, refuse: true},
		{name: "statistics", say: []string{because, "SELECT most_common_vals::text FROM pg_stats WHERE tablename = 'patients' AND attname = 'ssn'"}, refuse: true},
		{name: "prepared before", say: []string{"PREPARE a AS " + ssn, because, "EXECUTE a"}, refuse: true},
		{name: "prepared for it, executed after", say: []string{because, "PREPARE a AS " + ssn, "RESET sallyport.justification", "EXECUTE a"}, refuse: true},
		{name: "a cursor that was left open", say: []string{"BEGIN", because, "DECLARE c CURSOR FOR " + ssn, "RESET sallyport.justification", "FETCH ALL FROM c"}, refuse: true},
	} {
		for _, extended := range []bool{false, true} {
			if extended && strings.Contains(strings.Join(c.say, "\n"), "; ") {
				continue
			}
			r := p.raw()
			var out string
			for _, sql := range c.say {
				if extended {
					out = r.ask(1, &pgproto3.Parse{Query: sql}, bind("", ""), execute(""), sync_)
				} else {
					out = r.ask(1, q(sql))
				}
			}
			r.Close()
			name := fmt.Sprintf("%s, extended %v", c.name, extended)
			if clear_.MatchString(out) != c.clear {
				t.Errorf("%s: %s", name, out)
			}
			if strings.Contains(out, "CANARY") {
				t.Errorf("%s shows what is not revealed: %s", name, out)
			}
			if c.refuse != strings.Contains(out, "sallyport: refused") {
				t.Errorf("%s: refused %v: %s", name, !c.refuse, out)
			}
		}
	}
	other := revealing(t, "clerk").raw()
	defer other.Close()
	if out := other.ask(2, q(because), q(ssn)); clear_.MatchString(out) {
		t.Errorf("it is revealed to others: %s", out)
	}
}

// A pipeline in which a SET fails, or its transaction ends, shows nothing that was
// decided in advance.
func TestRevealInAPipeline(t *testing.T) {
	p := revealing(t, "nurse")
	ssn := "SELECT ssn FROM clinic.patients WHERE id = 1"
	one := func(sql string) []message { return []message{&pgproto3.Parse{Query: sql}, bind("", ""), execute("")} }
	local := "SET LOCAL sallyport.justification = 'the daughter calls'"
	for name, ms := range map[string][]message{
		"within one batch":               append(append(append(append(one("BEGIN"), one(local)...), one("COMMIT")...), one(ssn)...), sync_),
		"behind a batch":                 append(append(append(append(one("BEGIN"), sync_), append(one(local), sync_)...), append(one("COMMIT"), sync_)...), append(one(ssn), sync_)...),
		"without a transaction":          append(append(one(local), one(ssn)...), sync_),
		"behind an error in its batch":   append(append(append(one("SELECT 1/0"), one(because)...), sync_), append(one(ssn), sync_)...),
		"rolled back with its batch":     append(append(append(one(because), one("SELECT 1/0")...), sync_), append(one(ssn), sync_)...),
		"rolled back by a COMMIT":        append(append(append(append(one("BEGIN"), one(because)...), one("SELECT 1/0")...), sync_), append(append(one("COMMIT"), one(ssn)...), sync_)...),
		"by simple queries":              {q("BEGIN"), q(local), q("COMMIT"), q(ssn)},
		"in a transaction that failed":   {q("BEGIN"), q("SELECT 1/0"), q(because), q("ROLLBACK"), q(ssn)},
		"in a failed one, by COMMIT":     {q("BEGIN"), q("SELECT 1/0"), q(local), q("COMMIT"), q(ssn)},
		"a portal bound before a RESET":  append(append(append(one(because), sync_), &pgproto3.Parse{Query: ssn}, bind("", "")), append(append([]message{}, one2("RESET sallyport.justification")...), execute(""), sync_)...),
		"a statement prepared before it": append(append(append([]message{}, &pgproto3.Parse{Name: "p", Query: ssn}, sync_), append(one(because), sync_)...), bind("", "p"), execute(""), sync_),
	} {
		r := p.raw()
		n := 0
		for _, m := range ms {
			switch m.(type) {
			case *pgproto3.Sync, *pgproto3.Query:
				n++
			}
		}
		if out := r.ask(n, ms...); clear_.MatchString(out) {
			t.Errorf("%s: %s", name, out)
		}
		r.Close()
	}
}

// one2 is a statement by names of its own.
func one2(sql string) []message {
	return []message{&pgproto3.Parse{Name: "o", Query: sql}, bind("o", "o"), execute("o")}
}

// The event says what was shown in clear, by which rule and why; and of what was
// masked, how.
func TestRevealOnTheRecord(t *testing.T) {
	p := revealing(t, "nurse")
	c := connect(t, p, "")
	defer c.Close(context.Background())
	for _, sql := range []string{"SELECT name, ssn FROM clinic.patients", because, "SELECT name, ssn FROM clinic.patients", "SELECT ssn, birth_date FROM clinic.patients", "SELECT 1"} {
		if _, err := c.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	p.settled()
	var got []string
	for _, e := range p.Journal.Events(events.Statement) {
		got = append(got, fmt.Sprintf("%v masked %v %v revealed %v by %v because %q", e.Verdict, e.Masked, e.Masks, e.Revealed, e.Rules, e.Justification))
		if strings.Contains(e.Normalized, "daughter") {
			t.Errorf("%s", e.Normalized)
		}
	}
	want := []string{
		`mask masked [clinic.patients.name clinic.patients.ssn] [redact partial] revealed [] by [phi clinic-staff] because ""`,
		`allow masked [] [] revealed [] by [session] because ""`,
		`mask masked [clinic.patients.name] [redact] revealed [clinic.patients.ssn] by [phi verify identity clinic-staff] because "the patient's daughter calls"`,
		`allow masked [] [] revealed [clinic.patients.birth_date clinic.patients.ssn] by [verify identity clinic-staff] because "the patient's daughter calls"`,
		`allow masked [] [] revealed [] by [clinic-staff] because ""`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("events\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
