//go:build conformance

package conformance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy/rules"
	"sallyport.dev/sallyport/protocols/postgres"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/parser"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/rewrite"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

func TestMain(m *testing.M) {
	if parser.IsChild() {
		os.Exit(parser.Main())
	}
	os.Exit(m.Run())
}

// maskElsewhere masks a relation that the regression tests know nothing of: all
// that they say is understood, or refused. One function is declared, that of an
// implicit cast which they never drop: it could run in any expression.
const maskElsewhere = `
rules:
  - name: everything
    effect: allow
    identity: "*"
    resource: "*"
    commands: ["*"]
    relations: ["*"]
    functions: [public.int4_casttesttype]
  - name: masks
    effect: mask
    identity: "*"
    resource: "*"
    fields:
      elsewhere.people.ssn: redact
      elsewhere.people.name: partial
`

// The server's regression tests under a policy that masks something else: what
// psql says is said again, statement by statement, to a second server directly and
// to a third through a passage. An answer is the same, or it is a refusal; how many
// are refused, and why, is printed.
//
// What is refused and would have worked is said to the third server past the
// passage, so that what comes after it finds what it expects.
func TestMasked(t *testing.T) {
	dir := placeSources(t)
	pool, err := parser.New(parser.Options{Size: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	first, again, third := regression(t), regression(t), regression(t)
	tape, err := newRecorder(first.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	cat, err := catalog.Open(t.Context(), catalog.Options{Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", third.Addr.String())
	}, User: "sallyport_catalog", Database: "regression"})
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Close()
	door := masking(t, pool, cat, third)
	all := newTally()
	for _, file := range scheduled(t, dir) {
		said, err := listen(t.Context(), tape, dir, file)
		if err != nil {
			t.Fatal(err)
		}
		n := newTally()
		for i, s := range said {
			h := held{t: t, file: file, talk: s, tally: n, cat: cat, door: door.Addr, direct: third.Addr.String()}
			if h.again, err = repeat(t.Context(), again.Addr.String(), s); err != nil {
				t.Errorf("%s, session %d, again: %v", file, i, err)
			}
			if err := h.hold(t.Context()); err != nil {
				t.Errorf("%s, session %d: %v", file, i, err)
			}
		}
		t.Logf("%-28s %s", file, n)
		all.add(n)
		all.write(t) // of what it has come to, when it ends early
	}
	all.report(t)
	if all.reads.same < 1000 {
		t.Error("too little of it ran to tell")
	}
}

// regression starts a server with the database that pg_regress makes.
func regression(t *testing.T) *postgrestest.Server {
	t.Helper()
	s, err := postgrestest.Start("CREATE ROLE sallyport_catalog LOGIN", "max_prepared_transactions=2", "autovacuum=off")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	sql := "CREATE DATABASE regression TEMPLATE template0;\n"
	for _, set := range []string{"lc_messages = 'C'", "lc_monetary = 'C'", "lc_numeric = 'C'", "lc_time = 'C'", "bytea_output = 'hex'", "timezone_abbreviations = 'Default'"} {
		sql += "ALTER DATABASE regression SET " + set + ";\n"
	}
	sql += "\\c regression\nCREATE SCHEMA elsewhere;\nCREATE TABLE elsewhere.people (id int PRIMARY KEY, name text, ssn text);\n"
	cmd := exec.Command("/usr/bin/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", s.DSN("postgres"))
	cmd.Stdin = strings.NewReader(sql)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("psql: %v: %s", err, b)
	}
	return s
}

func masking(t *testing.T, pool *parser.Pool, cat *catalog.Catalog, server *postgrestest.Server) *protocoltest.Passage {
	t.Helper()
	engine, err := rules.Parse(rules.File{Name: "policy.yaml", Data: []byte(maskElsewhere)})
	if err != nil {
		t.Fatal(err)
	}
	an := rewrite.New(rewrite.Options{Parser: pool, Catalog: cat})
	return protocoltest.Open(t, protocoltest.Options{
		Protocol: postgres.New(postgres.Options{
			Analyzer: func(context.Context, string, string) (query.Analyzer, func(), error) { return an, func() {}, nil },
			Digest:   func(b []byte) events.Digest { s := sha256.Sum256(b); return events.Digest(s[:8]) },
		}),
		Engine: engine, Server: server.Addr, Journal: oblivious{},
	})
}

// oblivious is a journal that keeps nothing: it would be much.
type oblivious struct{}

func (o oblivious) Append(*events.Event) (events.Ticket, error) { return events.NewTicket(o, 1), nil }

func (o oblivious) Record(*events.Chunk) (events.Ticket, error) { return events.NewTicket(o, 1), nil }
func (oblivious) WaitWritten(uint64) error                      { return nil }
func (oblivious) WaitDurable(context.Context, uint64) error     { return nil }
func (oblivious) Durable() uint64                               { return 1 }

// scheduled lists the tests in the order of the schedule, each of which finds
// what those before it have made.
func scheduled(t *testing.T, dir string) (out []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "parallel_schedule"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if names, ok := strings.CutPrefix(line, "test:"); ok {
			out = append(out, strings.Fields(names)...)
		}
	}
	return out
}

// listen has psql run a test as pg_regress has it, and returns what it said.
func listen(ctx context.Context, tape *recorder, dir, file string) ([]*talk, error) {
	sql, err := os.ReadFile(filepath.Join(dir, "sql", file+".sql"))
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(tape.Addr().String())
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/usr/bin/psql", "-X", "-a", "-q", "-d", "regression", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(sql)
	cmd.Env = []string{
		"PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin", "HOME=" + dir, "LC_MESSAGES=C",
		"PGHOST=" + host, "PGPORT=" + port, "PGUSER=postgres", "PGSSLMODE=disable", "PGGSSENCMODE=disable", "PGAPPNAME=pg_regress/" + file,
		"PGTZ=America/Los_Angeles", "PGDATESTYLE=Postgres, MDY", "PGOPTIONS=-c intervalstyle=postgres_verbose",
		"PG_ABS_SRCDIR=" + dir, "PG_ABS_BUILDDIR=" + dir, "PG_LIBDIR=" + dir, "PG_DLSUFFIX=.so",
	}
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return tape.take(), nil
}

// repeat holds a talk again and returns the answers.
func repeat(ctx context.Context, addr string, t *talk) (out [][]byte, err error) {
	p, err := play(ctx, addr, t.greeting)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	for i := range t.exchanges {
		reply, err := p.say(&t.exchanges[i])
		out = append(out, reply)
		if errors.Is(err, errEnded) {
			break
		} else if err != nil {
			return out, err
		}
	}
	return out, nil
}
