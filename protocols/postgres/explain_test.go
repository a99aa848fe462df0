package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"
	"github.com/jackc/pgx/v5"

	"sallyport.dev/sallyport/events"
)

const explainOn = "SET sallyport.explain = on"

// explained is what a program reads of an explanation.
type explained struct {
	Verdict, Refused, Code, Message, Remedy, Session string
	Rules, Commands, Objects, Filtered               []string
	Masked                                           []struct{ Field, Mask string }
	Limits                                           []struct{ Rule string }
	Rewritten                                        bool
	Statement                                        uint64
}

// explain has one statement explained, and returns the row for people and the
// JSON for programs.
func explain(t *testing.T, c *pgx.Conn, sql string, args ...any) (row map[string]any, x explained) {
	t.Helper()
	rows, err := c.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	row, err = pgx.CollectExactlyOneRow(rows, pgx.RowToMap)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	b, _ := json.Marshal(row["detail"])
	if err := json.Unmarshal(b, &x); err != nil {
		t.Fatalf("%s: %v: %s", sql, err, b)
	}
	return row, x
}

// An explanation says what a refusal would, or what comes masked, in each way in
// which a driver can ask.
func TestExplain(t *testing.T) {
	p := start(t, strings.Replace(maskPolicy, `relations: ["*.*"]`, `relations: ["*.*"]
    limits: {statement: {rows: 100}, hour: {bytes: 10MiB}}`, 1)+`
  - name: berlin
    effect: filter
    identity: "*"
    resource: "*"
    relations: clinic.visits
    where: "id > 4711"
`)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeCacheStatement} {
		c := connect(t, p, "")
		if _, err := c.Exec(t.Context(), explainOn, mode); err != nil {
			t.Fatal(err)
		}
		row, x := explain(t, c, "SELECT ssn, city FROM clinic.patients WHERE id = $1", mode, 1)
		if row["verdict"] != "mask" || row["masked"] != "clinic.patients.ssn partial" || row["code"] != nil || row["rules"] == "" ||
			x.Verdict != "mask" || len(x.Masked) != 1 || x.Masked[0].Field != "clinic.patients.ssn" || !x.Rewritten ||
			!slices.Contains(x.Objects, "clinic.patients") || len(x.Limits) != 1 || x.Limits[0].Rule != "clinic-staff" || x.Refused != "" {
			t.Errorf("%v: %v %+v", mode, row, x)
		}
		row, x = explain(t, c, "DELETE FROM clinic.patients", mode)
		if row["verdict"] != "refuse" || row["code"] != "42501" || row["remedy"] != "ask the clinic's administrator" ||
			x.Refused != "rule" || x.Rules[0] != "no-deletes" || !strings.Contains(x.Message, "never deleted") || x.Session == "" || x.Statement == 0 {
			t.Errorf("%v: %v %+v", mode, row, x)
		}
		row, x = explain(t, c, "SELECT count(*) FROM clinic.visits", mode)
		if row["verdict"] != "allow" || !slices.Equal(x.Filtered, []string{"clinic.visits"}) || strings.Contains(fmt.Sprint(row), "4711") {
			t.Errorf("%v: %v %+v", mode, row, x)
		}
		if _, x = explain(t, c, "SELECT 1", mode); x.Verdict != "allow" || x.Rewritten {
			t.Errorf("%v: %+v", mode, x)
		}
		if _, x = explain(t, c, "DO 'BEGIN END'", mode); x.Verdict != "refuse" || x.Refused != "not-understood" || x.Code != "0A000" {
			t.Errorf("%v: %+v", mode, x)
		}
		if _, x = explain(t, c, "SELEC 'it''s \\'", mode); x.Verdict != "refuse" || x.Code != "42601" {
			t.Errorf("%v: %+v", mode, x)
		}
		if _, err := c.Exec(t.Context(), "RESET sallyport.explain", mode); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := c.QueryRow(t.Context(), "SELECT 1 + 1", mode).Scan(&n); err != nil || n != 2 {
			t.Errorf("%v: %d, %v", mode, n, err)
		}
		c.Close(context.Background())
	}
	seen := 0
	for _, e := range p.settled().Events(events.Statement) {
		if e.Verdict != events.Explained {
			continue
		}
		seen++
		if strings.Contains(e.Normalized, "DELETE") && (!strings.HasPrefix(e.Reason, `would be refused (block): rule "no-deletes" blocks delete`) || e.Rules[0] != "no-deletes" || e.Writes) {
			t.Errorf("%+v", e)
		}
		if len(e.Masked) > 0 {
			t.Errorf("nothing was masked: %+v", e)
		}
	}
	if seen != 24 {
		t.Errorf("%d questions on the record", seen)
	}
}

// The answer has the form that was asked for, and Describe tells of it.
func TestExplainForms(t *testing.T) {
	p := start(t, maskPolicy)
	r := p.raw()
	r.ask(1, q(explainOn))
	out := r.ask(1, &pgproto3.Parse{Name: "s", Query: "SELECT ssn FROM clinic.patients WHERE id = $1 AND city = $2", ParameterOIDs: []uint32{23}},
		describe('S', "s"),
		&pgproto3.Bind{PreparedStatement: "s", ParameterFormatCodes: []int16{1}, Parameters: [][]byte{{0, 0, 0, 1}, []byte("Bonn")}, ResultFormatCodes: []int16{1}},
		describe('P', ""), execute(""), execute(""), sync_)
	if got := skeleton(out); got != "1 t T 2 T D C C Z I" || !strings.Contains(out, "t |\x02|||\x17||||\n") {
		t.Errorf("%s\n%q", got, out)
	}
	for _, c := range []struct {
		name, want string
		n          int
		say        []message
	}{
		{"a pipeline", "1 2 T D C Z I 1 2 T D C Z I", 2, append(extended("SELECT 1"), extended("DROP TABLE t")...)},
		{"in a transaction", "C Z T T D C Z T C Z I", 3, []message{q("BEGIN"), q("DROP TABLE t"), q("COMMIT")}},
		{"in one that has failed", "C Z T C Z T E Z E E:25P02 Z E E:25P02 Z E C Z T T D C Z T C Z I", 8, append(append([]message{
			q("BEGIN"), q("SAVEPOINT a"), q("COMMIT AND x"),
		}, q("SELECT 1")), append([]message{q("TABLE t")}, q("ROLLBACK TO a"), q("SELECT 1"), q("ROLLBACK"))...)},
		{"several", "T D C Z I", 1, []message{q("BEGIN; DELETE FROM t; COMMIT")}},
		{"none", "I Z I", 1, []message{q(" ; -- nothing")}},
		{"COPY in", "T D C Z I T D C Z I", 2, []message{q("COPY t FROM STDIN"), data("1\tx\n"), copyDone, q("SELECT 1")}},
		{"COPY out", "T D C Z I", 1, []message{q("COPY t TO STDOUT")}},
		{"PREPARE and EXECUTE", "T D C Z I T D C Z I", 2, []message{q("PREPARE x AS DELETE FROM t"), q("EXECUTE x")}},
		{"a cursor", "C Z T T D C Z T T D C Z T C Z I", 4, []message{q("BEGIN"), q("DECLARE x CURSOR FOR SELECT 1"), q("FETCH ALL FROM x"), q("COMMIT")}},
		{"a function call", "E Z I", 1, []message{&pgproto3.FunctionCall{Function: 1598, ResultFormatCode: 0}}},
		{"in another form", "E Z I E Z I E Z I E Z I", 4, []message{
			q("/* */ SET sallyport.explain = off"), q(`SET "sallyport"."explain" = off`), q("SET Sallyport . Explain TO maybe"), q("SET sallyport.explain = off; SELECT 1"),
		}},
	} {
		if c.name == "in one that has failed" { // something that runs and fails
			c.say[2] = q("ROLLBACK TO nowhere")
			c.want = strings.Replace(c.want, "E Z E", "E Z E", 1)
		}
		out := r.ask(c.n, c.say...)
		if got := skeleton(out); got != c.want {
			t.Errorf("%s: %s, want %s\n%s", c.name, got, c.want, out)
		}
	}
	if out := r.ask(2, q("SET sallyport.explain TO 'off'"), q("SELECT count(*) FROM t")); !strings.HasSuffix(out, "|0\nC SELECT 1|\nZ I\n") && !strings.Contains(out, "0\nC SELECT 1") {
		t.Errorf("something ran, or it is still on: %s", out)
	}
}

// Nothing of a statement runs, not even what planning or preparing it would.
func TestExplainRunsNothing(t *testing.T) {
	ctx := t.Context()
	if err := server.Exec(ctx, `CREATE SEQUENCE traces; CREATE FUNCTION trace(int) RETURNS boolean LANGUAGE sql AS 'SELECT nextval(''traces'') > 0';
		CREATE FUNCTION traced() RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM nextval(''traces''); RETURN 1; END';
		CREATE DOMAIN traced_int AS int CHECK (trace(VALUE)); CREATE TABLE untouched (a int)`); err != nil {
		t.Fatal(err)
	}
	defer server.Exec(context.Background(), "DROP TABLE untouched; DROP DOMAIN traced_int; DROP FUNCTION traced(); DROP FUNCTION trace(int); DROP SEQUENCE traces")
	for _, pol := range []string{allowAll, maskPolicy} {
		r := start(t, pol).raw()
		r.ask(1, q(explainOn))
		for _, sql := range []string{
			"SELECT traced()", "SELECT '1'::traced_int", "SELECT nextval('traces')", "INSERT INTO untouched VALUES (1)", "DROP TABLE untouched",
			"SELECT setval('traces', 9)", "CREATE TABLE untouched2 ()", "PREPARE y AS SELECT '1'::traced_int", "EXPLAIN ANALYZE SELECT traced()",
			"SELECT $1::traced_int", "LISTEN x", "SET search_path = nowhere", "COMMIT PREPARED 'x'", "LOCK TABLE untouched", "VACUUM untouched",
		} {
			for _, say := range [][]message{{q(sql)}, {parse("", sql), describe('S', ""), bind("", "", "1"), describe('P', ""), execute(""), sync_}} {
				if out := r.ask(1, say...); strings.Count(out, "D |") != 1 || !strings.Contains(out, `{"verdict":"`) {
					t.Errorf("%s: %s", sql, out)
				}
			}
		}
		if out := r.ask(2, q("DISCARD ALL"), q("SELECT 'on'")); !strings.Contains(out, "on\n") {
			t.Error(out)
		}
		db, err := pgx.Connect(ctx, server.DSN("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		var called bool
		var n int
		if err := db.QueryRow(ctx, "SELECT is_called, (SELECT count(*) FROM untouched) FROM traces").Scan(&called, &n); err != nil || called || n > 0 {
			t.Errorf("something ran: %v, %d rows, %v", called, n, err)
		}
		db.Close(ctx)
	}
}

// What was prepared in one mode does not run in the other.
func TestExplainAndPrepared(t *testing.T) {
	for _, pol := range []string{allowAll, maskPolicy} {
		p := start(t, pol)
		r := p.raw()
		r.ask(1, parse("real", "SELECT 'ran'"), parse("begin", "BEGIN"), parse("on", explainOn), sync_)
		r.ask(1, q("PREPARE sqls AS SELECT 'ran'"))
		if out := r.ask(1, bind("", "on"), execute(""), sync_); skeleton(out) != "2 C Z I" {
			t.Error(out)
		}
		for _, name := range []string{"real", "sqls"} {
			if out := r.ask(1, bind("", name), execute(""), sync_); !strings.Contains(out, "C26000") || strings.Contains(out, "D ") {
				t.Errorf("%s: %s", name, out)
			}
		}
		if out := r.ask(1, q("EXECUTE sqls")); !strings.Contains(out, "verdict") {
			t.Error(out)
		}
		// A portal too. What belongs to transactions runs in both.
		out := r.ask(3, bind("", "begin"), execute(""), parse("carried", "DELETE FROM t"), bind("p", "carried"), sync_, q("SET LOCAL sallyport.explain = off"), execute("p"), sync_)
		if !strings.Contains(out, "C26000") || strings.Contains(out, "D ") {
			t.Error(out)
		}
		if out := r.ask(2, q("ROLLBACK"), q("SET sallyport.explain = off")); !strings.HasSuffix(out, "Z I\n") {
			t.Error(out)
		}
		if out := r.ask(1, bind("", "carried"), execute(""), sync_); !strings.Contains(out, "C26000") {
			t.Error(out)
		}
		if out := r.ask(1, q("EXECUTE carried")); strings.Contains(out, "DELETE 0") {
			t.Error(out)
		}
		if out := r.ask(1, bind("", "real"), execute(""), sync_); !strings.Contains(out, "ran") {
			t.Error(out)
		}
		r.Close()
	}
}

// Whether statements are explained is what the server's own setting says, through
// transactions, savepoints and errors, in either protocol.
func TestExplainIsASetting(t *testing.T) {
	p := start(t, allowAll)
	steps := []string{
		"SET sallyport.explain = on", "SET sallyport.explain = off", "SET LOCAL sallyport.explain = on", "SET LOCAL sallyport.explain TO off",
		"RESET sallyport.explain", "set session SALLYPORT.explain to default;", "RESET ALL", "DISCARD ALL",
		"BEGIN", "START TRANSACTION READ WRITE", "COMMIT", "END", "ROLLBACK", "ABORT", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN",
		"SAVEPOINT a", `savepoint "a"`, "SAVEPOINT b", "RELEASE a", "RELEASE SAVEPOINT b", "ROLLBACK TO a", "ROLLBACK TRANSACTION TO SAVEPOINT b", "ROLLBACK TO nowhere",
	}
	weight := func(g *rand.Rand) string {
		if g.IntN(3) == 0 {
			return steps[g.IntN(4)]
		}
		return steps[g.IntN(len(steps))]
	}
	for seed := range uint64(12) {
		g := rand.New(rand.NewPCG(seed, 5))
		truth, r := dial(t, server.Addr.String()), p.raw()
		batch := func(sqls []string) (ms []message) { // all in one implicit transaction
			for _, s := range sqls {
				ms = append(ms, parse("", s), bind("", ""), execute(""))
			}
			return append(ms, sync_)
		}
		var script []string
		for range 60 {
			var say []message
			sqls := []string{weight(g)}
			if g.IntN(3) == 0 {
				for range g.IntN(3) {
					sqls = append(sqls, weight(g))
				}
				say = batch(sqls)
			} else {
				say = []message{q(sqls[0])}
			}
			script = append(script, strings.Join(sqls, " | "))
			a, b := truth.ask(1, say...), r.ask(1, say...)
			if skeleton(a) != skeleton(b) {
				t.Fatalf("seed %d, %s:\n%s\n%s", seed, strings.Join(script, "\n"), skeleton(a), skeleton(b))
			}
			on := strings.Contains(truth.ask(1, q("SELECT current_setting('sallyport.explain', true) = 'on'")), "\x01t\n")
			is := r.ask(1, q("SELECT 'ran'"))
			if strings.Contains(is, "C25P02") {
				continue
			}
			if strings.Contains(is, "verdict") != on || strings.Contains(is, "ran\n") == on {
				t.Fatalf("seed %d: on is %v:\n%s\n%s", seed, on, strings.Join(script, "\n"), is)
			}
		}
		truth.Close()
		r.Close()
	}
}

// Drivers that nobody changed read the answer.
func TestExplainInDrivers(t *testing.T) {
	p := start(t, maskPolicy)
	host, port, _ := net.SplitHostPort(p.Addr)
	for want, cmd := range map[string]*exec.Cmd{
		"psycopg 3\npsycopg 2\n": exec.Command("/usr/bin/python3", "-B", "testdata/drivers/explain.py", p.dsn("")),
		"pgjdbc\n": exec.Command("/usr/bin/java", "-cp", "/usr/share/java/postgresql.jar", "testdata/drivers/Explain.java",
			"jdbc:postgresql://"+net.JoinHostPort(host, port)+"/postgres?user=agent&sslmode=disable"),
		"BEGIN\nSET\nrefuse\nROLLBACK\n42\n": exec.Command("/usr/bin/psql", "-XAt", p.dsn("")),
	} {
		out := drive(t, cmd, []byte("BEGIN;\nSET LOCAL sallyport.explain = on;\nDELETE FROM clinic.patients \\gset\n\\echo :verdict\nROLLBACK;\nSELECT 40 + 2;\n"))
		if string(out) != want {
			t.Errorf("%s, want %s", out, want)
		}
	}
}
