package postgres_test

import (
	"context"
	database "database/sql"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
)

const readOne = "SELECT ssn FROM clinic.patients WHERE id = 1"

// A refusal is to a driver what a syntax error of the server is: the same program
// says the same where the policy forbids DELETE, and where the server does not know
// the word, but for the SQLSTATE and the mask.
func TestDriversCarryOn(t *testing.T) {
	p := start(t, maskPolicy)
	passage := netip.MustParseAddrPort(p.Addr)
	dsn := func(a netip.AddrPort) string {
		return fmt.Sprintf("host=%s port=%d user=agent dbname=postgres", a.Addr(), a.Port())
	}
	url := func(a netip.AddrPort) string {
		return fmt.Sprintf("jdbc:postgresql://%v/postgres?user=agent&sslmode=disable", a)
	}
	const refused, unknown = "DELETE", "DELET"
	program := func(address func(netip.AddrPort) string, name string, args ...string) func(*testing.T) []string {
		return func(t *testing.T) []string {
			cmd := exec.Command(name, append(args, address(passage), refused, address(server.Addr), unknown)...)
			return strings.Split(string(drive(t, cmd, nil)), "====\n")[1:]
		}
	}
	modules, err := filepath.Abs("../../.cache/clients/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	both := func(speak func(t *testing.T, dsn, no string) string) func(*testing.T) []string {
		const rest = " FROM clinic.patients WHERE id = 1"
		return func(t *testing.T) []string {
			return []string{speak(t, dsn(passage), refused+rest), speak(t, dsn(server.Addr), unknown+rest)}
		}
	}
	for _, d := range []struct {
		name  string
		speak func(*testing.T) []string // what it said through the passage, and directly
		reads int                       // how often it read something masked, at least
	}{
		{"psql", both(psqlCarriesOn), 8},
		{"pgx", both(pgxCarriesOn), 20},
		{"pq", both(pqCarriesOn), 7},
		{"python", program(dsn, "/usr/bin/python3", "-B", "testdata/drivers/carries_on.py"), 60},
		{"node", program(dsn, "/usr/bin/env", "NODE_PATH="+modules, "node", "testdata/drivers/carries_on.js"), 9},
		{"pgjdbc", program(url, "/usr/bin/java", "-cp", "/usr/share/java/postgresql.jar", "testdata/drivers/CarriesOn.java"), 35},
	} {
		t.Run(d.name, func(t *testing.T) {
			out := d.speak(t)
			if len(out) != 2 {
				t.Fatalf("%q", out)
			}
			got, want := out[0], strings.NewReplacer("911-47-0001", "***-**-0001", "42601", "42501").Replace(out[1])
			if got != want {
				t.Errorf("through the passage:\n%s\ndirectly:\n%s", got, want)
			}
			if n := strings.Count(got, "***-**-0001"); n < d.reads || !strings.Contains(got, "42501") || !strings.Contains(got, "25P02") {
				t.Errorf("%d reads:\n%s", n, got)
			}
		})
	}
	p.settled()
}

// psqlCarriesOn has psql show SQLSTATEs, and what it thinks of its transaction.
func psqlCarriesOn(t *testing.T, dsn, noOne string) string {
	const status = "\\echo :LAST_ERROR_SQLSTATE\n"
	script := func(more string) string {
		return "\\set VERBOSITY sqlstate\n" + more + noOne + ";\n" + status + readOne + ";\nBEGIN;\n" + readOne + ";\n" + noOne + ";\n" + readOne + ";\n" + status + "COMMIT;\n" + readOne + ";\n" +
			"BEGIN;\nSAVEPOINT s;\n" + noOne + ";\nROLLBACK TO s;\n" + readOne + ";\nCOMMIT;\n" +
			"SELECT 1\\; " + noOne + "\\; SELECT 2;\n" + readOne + ";\n" +
			"PREPARE r AS " + readOne + ";\nEXECUTE r;\nPREPARE n AS " + noOne + ";\nEXECUTE n;\n" + status + "EXECUTE r;\n"
	}
	var out strings.Builder
	for _, more := range []string{"", "\\set ON_ERROR_ROLLBACK on\n"} {
		out.Write(drive(t, exec.Command("/usr/bin/psql", "-XAt", dsn), []byte(script(more))))
	}
	return out.String()
}

// pgxCarriesOn goes through pgx's ways to run a statement, batches and pipelines.
func pgxCarriesOn(t *testing.T, dsn, noOne string) string {
	var out strings.Builder
	ctx := t.Context()
	code := func(err error) string {
		var e *pgconn.PgError
		switch {
		case errors.As(err, &e):
			return e.Code
		case errors.Is(err, pgx.ErrTxCommitRollback):
			return "rolled back"
		}
		return fmt.Sprint(err)
	}
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		cfg, err := pgx.ParseConfig(dsn + " sslmode=disable")
		if err != nil {
			t.Fatal(err)
		}
		cfg.DefaultQueryExecMode = mode
		c, err := pgx.ConnectConfig(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(context.Background())
		type asks interface {
			QueryRow(context.Context, string, ...any) pgx.Row
			Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
		}
		read := func(q asks) string {
			var v string
			if err := q.QueryRow(ctx, readOne).Scan(&v); err != nil {
				return code(err)
			}
			return v
		}
		no := func(q asks) string { _, err := q.Exec(ctx, noOne); return code(err) }
		fmt.Fprintln(&out, mode, "alone", no(c), read(c), no(c), read(c), string(c.PgConn().TxStatus()))
		tx, err := c.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&out, "transaction", read(tx), no(tx), read(tx), string(c.PgConn().TxStatus()), code(tx.Commit(ctx)), read(c))
		if tx, err = c.Begin(ctx); err != nil {
			t.Fatal(err)
		}
		nested, err := tx.Begin(ctx)
		fmt.Fprintln(&out, "savepoint", err, no(nested), code(nested.Rollback(ctx)), read(tx), code(tx.Commit(ctx)), string(c.PgConn().TxStatus()))
		batch := &pgx.Batch{}
		for _, sql := range []string{readOne, noOne, readOne} {
			batch.Queue(sql)
		}
		b := c.SendBatch(ctx, batch)
		for range 3 {
			_, err := b.Exec()
			fmt.Fprint(&out, code(err), " ")
		}
		fmt.Fprintln(&out, "batch", code(b.Close()), read(c), string(c.PgConn().TxStatus()))
	}
	c, err := pgconn.Connect(ctx, dsn+" sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	p := c.StartPipeline(ctx)
	for _, batch := range [][]string{{readOne, noOne, readOne}, {readOne}, {noOne}, {"BEGIN", noOne}, {readOne}, {"ROLLBACK"}, {readOne, readOne}} {
		for _, sql := range batch {
			p.SendQueryParams(sql, nil, nil, nil, nil)
		}
		if err := p.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	for syncs := 0; syncs < 7; {
		r, err := p.GetResults()
		switch r := r.(type) {
		case *pgconn.ResultReader:
			got := r.Read()
			fmt.Fprintf(&out, "%s %q\n", got.CommandTag, got.Rows)
		case *pgconn.PipelineSync:
			syncs++
			fmt.Fprintln(&out, "sync")
		default:
			fmt.Fprintln(&out, code(err))
		}
	}
	fmt.Fprintln(&out, code(p.Close()), string(c.TxStatus()))
	return out.String()
}

// pqCarriesOn goes through database/sql on lib/pq.
func pqCarriesOn(t *testing.T, dsn, noOne string) string {
	var out strings.Builder
	db, err := database.Open("postgres", dsn+" sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // the pool hides no broken session
	code := func(err error) string {
		if e, ok := errors.AsType[*pq.Error](err); ok {
			return string(e.Code)
		}
		return fmt.Sprint(err)
	}
	row := func(r *database.Row) string {
		var v string
		if err := r.Scan(&v); err != nil {
			return code(err)
		}
		return v
	}
	exec := func(_ database.Result, err error) string { return code(err) }
	fmt.Fprintln(&out, "alone", exec(db.Exec(noOne)), row(db.QueryRow(readOne)))
	fmt.Fprintln(&out, "several", exec(db.Exec("SELECT 1; "+noOne+"; SELECT 2")), row(db.QueryRow(readOne)))
	fmt.Fprintln(&out, "parameters", exec(db.Exec(strings.Replace(noOne, "1", "$1", 1), 1)), row(db.QueryRow("SELECT ssn FROM clinic.patients WHERE id = $1", 1)))
	read, err := db.Prepare("SELECT ssn FROM clinic.patients WHERE id = $1")
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&out, "transaction", row(tx.Stmt(read).QueryRow(1)), exec(tx.Exec(noOne)), row(tx.QueryRow(readOne)), code(tx.Commit()), row(read.QueryRow(1)))
	if tx, err = db.Begin(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&out, "savepoint", exec(tx.Exec("SAVEPOINT s")), exec(tx.Exec(noOne)), exec(tx.Exec("ROLLBACK TO s")), row(tx.QueryRow(readOne)), code(tx.Commit()))
	fmt.Fprintln(&out, "afterwards", row(read.QueryRow(1)))
	return out.String()
}
