package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

func limits(l string) string {
	return `
rules:
  - name: some
    effect: allow
    identity: "*"
    resource: "*"
    commands: [read, write, session]
    relations: "*"
    limits: ` + l + "\n"
}

const many = "SELECT g FROM generate_series(1, 9) g"

// The end of a result is an error behind the rows that may go out, the statement
// has failed at the server too, and the session goes on.
func TestLimitEndsAResult(t *testing.T) {
	p := start(t, limits("{statement: {rows: 3}}"))
	const huge = "SELECT generate_series(1, 2000000000)"
	for _, c := range []struct {
		name string
		say  []message
		n    int // of ReadyForQuery
		want string
	}{
		{"few", []message{q("SELECT g FROM generate_series(1, 3) g")}, 1, "T D D D C Z I"},
		{"many", []message{q(many)}, 1, "T D D D E Z I"},
		{"endless", []message{q(huge)}, 1, "T D D D E Z I"},
		{"in a transaction", []message{q("BEGIN"), q(many), q("SELECT 1"), q("ROLLBACK")}, 4, "C Z T T D D D E Z E E:25P02 Z E C Z I"},
		{"endless, in a transaction", []message{q("BEGIN"), q(huge), q("ROLLBACK")}, 3, "C Z T T D D D E Z E C Z I"},
		{"several", []message{q(many + "; " + many)}, 1, "T D D D E Z I"},
		{"extended", extended(many), 1, "1 2 T D D D E Z I"},
		{"extended, endless", extended(huge), 1, "1 2 T D D D E Z I"},
		{"what is behind it is skipped", append([]message{parse("", many), bind("", ""), execute("")}, extended("SELECT 1")...), 1, "1 2 D D D E Z I"},
		{"extended, in a transaction", append(append([]message{q("BEGIN")}, extended(many)...), q("ROLLBACK")), 3, "C Z T 1 2 T D D D E Z E C Z I"},
		{"in pieces", []message{q("BEGIN"), parse("", many), bind("x", ""), &pgExecute{Portal: "x", MaxRows: 2}, &pgExecute{Portal: "x", MaxRows: 4}, sync_, q("ROLLBACK")}, 3, "C Z T 1 2 D D s D E Z E C Z I"},
		{"COPY", []message{q("COPY (" + many + ") TO STDOUT")}, 1, "H d d d E Z I"},
		{"a cursor", []message{q("BEGIN"), q("DECLARE c CURSOR FOR " + many), q("FETCH 3 FROM c"), q("FETCH 4 FROM c"), q("ROLLBACK")}, 5, "C Z T C Z T T D D D C Z T T E Z E C Z I"},
		{"a cursor, row by row", []message{q("BEGIN"), q("DECLARE c CURSOR FOR " + many), q("FETCH 2 FROM c"), q("FETCH NEXT FROM c"), q("FETCH c"), q("ROLLBACK")}, 6, "C Z T C Z T T D D C Z T T D C Z T T E Z E C Z I"},
		{"a cursor that its text opens", []message{q("BEGIN; DECLARE c CURSOR FOR " + many + "; FETCH 2 FROM c"), q("FETCH 2 FROM c"), q("ROLLBACK")}, 3, "C C T D D C Z T T D E Z E C Z I"},
		{"a cursor, opened again", []message{q("BEGIN"), q("DECLARE c CURSOR FOR " + many), q("FETCH 3 FROM c"), q("CLOSE c"), q("DECLARE c CURSOR FOR " + many), q("FETCH 3 FROM c"), q("ROLLBACK")}, 7, "C Z T C Z T T D D D C Z T C Z T C Z T T D D D C Z T C Z I"},
		{"a cursor, by the protocol too", []message{q("BEGIN"), q("DECLARE c CURSOR FOR " + many), parse("f", "FETCH 2 FROM c"), bind("", "f"), execute(""), bind("", "f"), execute(""), sync_, q("ROLLBACK")}, 4, "C Z T C Z T 1 2 D D C 2 D E Z E C Z I"},
		{"a portal, by SQL too", []message{q("BEGIN"), parse("", many), bind("x", ""), &pgExecute{Portal: "x", MaxRows: 2}, q("FETCH 2 FROM x"), q("ROLLBACK")}, 3, "C Z T 1 2 D D s T D E Z E C Z I"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := p.raw()
			out := r.ask(c.n, c.say...)
			if got := strings.Join(strings.Fields(skeleton(out)), " "); got != c.want || strings.Contains(out, "VERROR") && !strings.Contains(out, `rule "some" lets at most 3 rows of a statement through`) {
				t.Errorf("%s\nwant %s\n%s", got, c.want, out)
			}
			if strings.Contains(c.want, " E ") && !strings.Contains(out, `{"refused":"limit","rules":["some"],`) {
				t.Errorf("a program can't tell:\n%s", out)
			}
			if out := r.ask(1, q("SELECT 'on'")); !strings.Contains(out, "on") {
				t.Errorf("the session does not go on: %s", out)
			}
			r.Close()
		})
	}
	p.settled()
	n := 0
	for _, e := range p.Journal.Events(events.Response) {
		if e.Status == "error" && e.Code == "53400" && strings.Contains(e.Reason, `rule "some"`) && e.Rows == 3 {
			n++
		}
	}
	if n != 10 {
		t.Errorf("%d results that ended on the record", n)
	}
}

// What a batch did before the result ended is undone, as its client believes; and
// what stays, outside of a transaction, the error says.
func TestLimitAndWhatWasWritten(t *testing.T) {
	p := start(t, limits("{statement: {rows: 3}}"))
	db, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	if _, err := db.Exec(t.Context(), "DROP TABLE IF EXISTS over; CREATE TABLE over (a int)"); err != nil {
		t.Fatal(err)
	}
	defer db.Exec(context.Background(), "DROP TABLE over")
	count := func() (n int) {
		if err := db.QueryRow(t.Context(), "SELECT count(*) FROM over").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	r := p.raw()
	r.ask(1, append([]message{parse("", "INSERT INTO over VALUES (1)"), bind("", ""), execute("")}, extended(many)...)...)
	if n := count(); n != 0 {
		t.Errorf("%d rows stay of a batch that failed", n)
	}
	r.ask(1, extended("INSERT INTO over SELECT generate_series(1, 5) RETURNING a")...)
	if n := count(); n != 0 {
		t.Errorf("%d rows stay of a statement that failed", n)
	}
	out := r.ask(1, q("INSERT INTO over SELECT generate_series(1, 5) RETURNING a"))
	if stays := count() == 5; stays != strings.Contains(out, "was carried out") || skeleton(out) != "T D D D E Z I" {
		t.Errorf("whether it stays (%t) is not what the client is told: %s", stays, out)
	}
	// Text that also takes data from the client ends the session.
	if out := r.ask(0, q("COPY over FROM STDIN; "+many)); strings.Count(out, "D |") > 3 {
		t.Errorf("%s", out)
	}
	r.Close()
}

// Limits of bytes, of a session, and of an identity over all its sessions.
func TestLimitsOfMore(t *testing.T) {
	for _, c := range []struct{ limits, want string }{
		{"{statement: {bytes: 60}}", "[9 9 9 9] 60 bytes of a statement"},
		{"{session: {rows: 12}}", "[9 3 0 0] 12 rows a session"},
		{"{session: {bytes: 200}}", "[9 9 0 0] 200 bytes a session"},
		{"{session: {statements: 1}}", "[9 0 0 0] 1 statements a session"},
		{"{hour: {rows: 20}}", "[9 9 2 0] 20 rows an hour"},
		{"{hour: {rows: 20}, minute: {rows: 10}}", "[9 1 0 0] 10 rows a minute"},
		{"{minute: {statements: 3}}", "[9 9 9 0] 3 statements a minute"},
		{"{hour: {bytes: 400}}", "[9 9 9 9] 400 bytes an hour"},
	} {
		t.Run(c.limits, func(t *testing.T) {
			p := open(t, limits(c.limits), protocoltest.Options{Identity: func(n int, id *intercept.Identity) {
				if n == 3 {
					id.Subject = "somebody else"
				}
			}})
			var got []int
			var said string
			one := func(conn *pgx.Conn) {
				rows, _ := conn.Query(t.Context(), many, pgx.QueryExecModeSimpleProtocol)
				n := 0
				for rows.Next() {
					n++
				}
				got = append(got, n)
				var e *pgconn.PgError
				if errors.As(rows.Err(), &e) {
					said = e.Message
					if e.Hint == "" || !strings.Contains(e.Detail, "some") {
						t.Errorf("no remedy, or no rule: %+v", e)
					}
				} else if rows.Err() != nil {
					t.Error(rows.Err())
				}
			}
			conn := connect(t, p, "")
			one(conn)
			one(conn)
			if strings.Contains(c.limits, "session") {
				one(conn)
				one(conn)
			} else { // the policy that is loaded anew does not begin anew
				p.Gate.SetEngine(engine(t, limits(c.limits)))
				second := connect(t, p, "")
				one(second)
				one(second)
			}
			_, want, _ := strings.Cut(c.want, "] ")
			if n := fmt.Sprint(got) + " " + want; n != c.want && !strings.Contains(c.want, "bytes") || said != "" && !strings.Contains(said, want) {
				t.Errorf("%v %s, want %s", got, said, c.want)
			}
			if !strings.Contains(c.limits, "session") {
				for len(p.Journal.Events(events.SessionOpen)) < 2 {
					connect(t, p, "")
				}
				got = nil
				if one(connect(t, p, "")); got[0] == 0 {
					t.Errorf("somebody else is given %d rows", got[0])
				}
			}
		})
	}
}

func TestSessionLength(t *testing.T) {
	p := start(t, limits("{session: {length: 1s}}"))
	r := p.raw()
	if out := r.ask(1, q(many)); skeleton(out) != "T D D D D D D D D D C Z I" {
		t.Errorf("%s", out)
	}
	began := time.Now()
	if out := r.ask(1, q("SELECT pg_sleep(0.01), repeat('x', 4000) FROM generate_series(1, 1000)")); !strings.Contains(out, "lets a session last 1s") || time.Since(began) > 5*time.Second {
		t.Errorf("%s", out)
	}
	if out := r.ask(1, q("SELECT 1")); !strings.Contains(out, "lets a session last 1s") || !strings.Contains(out, "connect again") {
		t.Errorf("%s", out)
	}
	r.Close()
}

// Rules that limit each have a budget, and the smallest counts; a rule is asked
// only about what it could allow.
func TestSmallestLimitCounts(t *testing.T) {
	p := start(t, limits("{statement: {rows: 5}}")+`
  - name: patients
    effect: allow
    identity: "*"
    resource: "*"
    commands: read
    relations: clinic.patients
    limits: {statement: {rows: 2}}
  - name: others
    effect: allow
    identity: "*"
    resource: "*"
    commands: read
    relations: "*"
`)
	for sql, want := range map[string]int{"SELECT id FROM clinic.patients": 2, "SELECT id FROM public.products": 5, "SELECT 1": 1} {
		r := p.raw()
		if out := r.ask(1, q(sql)); strings.Count(out, "D |") != want || want == 2 && !strings.Contains(out, `rule "patients" lets at most 2 rows`) {
			t.Errorf("%s: %s", sql, out)
		}
		r.Close()
	}
}

// Who goes away in the middle of a long statement is not waited for.
func TestLimitedClientGoes(t *testing.T) {
	p := start(t, limits("{statement: {rows: 5}}"))
	r := p.raw()
	r.send(enc(extended("SELECT pg_sleep(60)")...))
	time.Sleep(50 * time.Millisecond)
	r.Close()
	select {
	case <-p.Ends:
	case <-time.After(2 * time.Minute):
		t.Error("the session is still there")
	}
}

// Rows that are masked on their way out are counted too, and those beyond the
// limit do not go out in any form.
func TestLimitOfKeyedMasks(t *testing.T) {
	p := start(t, strings.Replace(keyedPolicy, `relations: ["*.*"]`, `relations: "*"
    limits: {statement: {rows: 2}}`, 1))
	for name, say := range map[string][]message{
		"simple":   {q("SELECT ssn, name FROM clinic.patients")},
		"extended": extended("SELECT ssn, name FROM clinic.patients"),
	} {
		r := p.raw()
		if out := r.ask(1, say...); strings.Count(out, "D |") != 2 || !strings.HasSuffix(skeleton(out), "D D E Z I") || planted.MatchString(out) {
			t.Errorf("%s: %s", name, out)
		}
		r.Close()
	}
}
