package postgres_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net"
	"os"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
	"sallyport.dev/sallyport/policy/rules"
	"sallyport.dev/sallyport/protocols/postgres"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/parser"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/rewrite"
	"sallyport.dev/sallyport/protocols/protocoltest"
	"sallyport.dev/sallyport/protocols/wire"
)

var (
	server *postgrestest.Server
	pool   *parser.Pool

	// borrowed: the server is another process's. A fuzzer's worker, which is killed
	// when it does not end at once, has that of the process that started it.
	borrowed bool
)

const lender = "SALLYPORT_TEST_SERVER"

func TestMain(m *testing.M) {
	if parser.IsChild() {
		os.Exit(parser.Main())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	clinic, err := os.ReadFile("testdata/attacks/clinic.sql")
	borrowed = os.Getenv(lender) != ""
	if err == nil && borrowed {
		server, err = postgrestest.Borrow(os.Getenv(lender))
	} else if err == nil {
		server, err = postgrestest.Start("CREATE ROLE agent SUPERUSER LOGIN; CREATE ROLE sallyport_catalog LOGIN;"+
			"CREATE ROLE backslash SUPERUSER LOGIN; ALTER ROLE backslash SET standard_conforming_strings = off;"+
			"CREATE ROLE latin SUPERUSER LOGIN; ALTER ROLE latin SET client_encoding = 'LATIN1';"+
			"CREATE ROLE ascii_ok SUPERUSER LOGIN; ALTER ROLE ascii_ok SET client_encoding = 'SQL_ASCII';"+
			"CREATE TABLE t (a int, b text); CREATE TABLE asked (a int, b text); CREATE TABLE t2 (a int); CREATE TABLE t3 (a int);"+
			"CREATE TABLE later (a int UNIQUE DEFERRABLE INITIALLY DEFERRED); CREATE TABLE w (a text); CREATE TABLE m0 AS SELECT 'm0' AS a; CREATE TABLE m1 AS SELECT 'm1' AS a; CREATE TABLE m2 AS SELECT 'm2' AS a;"+postgrestest.Schema(string(clinic)), "max_prepared_transactions=2")
	}
	if err == nil {
		if !borrowed {
			defer server.Stop()
			os.Setenv(lender, server.Lend())
		}
		pool, err = parser.New(parser.Options{Size: 2})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer pool.Close()
	wire.Poison(true)
	return m.Run()
}

// proxy is the passage in front of the server.
type proxy struct {
	*protocoltest.Passage
	t testing.TB
}

const maskPolicy = `
rules:
  - name: clinic-staff
    effect: allow
    identity: "*"
    resource: "*"
    commands: [read, session, write]
    relations: ["*.*"]
  - name: no-deletes
    effect: block
    identity: "*"
    resource: "*"
    commands: [delete, truncate]
    relations: ["clinic.*"]
    reason: rows of the clinic are never deleted
    remedy: ask the clinic's administrator
  - name: phi
    effect: mask
    identity: "*"
    resource: "*"
    fields:
      clinic.patients.ssn: {mask: partial, last: 4}
      clinic.patients.name: redact
      clinic.patients.birth_date: year
      clinic.patients.email: "null"
      clinic.patients.phone: redact
      clinic.claims.ssn: redact
`

const allowAll = `
rules:
  - name: all
    effect: allow
    identity: "*"
    resource: "*"
    commands: ["*"]
    relations: ["*.*"]
`

func engine(t testing.TB, text string) policy.Engine {
	t.Helper()
	p, err := rules.Parse(rules.File{Name: "policy.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func start(t testing.TB, pol string) *proxy {
	t.Helper()
	return open(t, pol, protocoltest.Options{})
}

// startOn starts a proxy with a journal of the test's own.
func startOn(t testing.TB, pol string, j events.Journal) *proxy {
	t.Helper()
	return open(t, pol, protocoltest.Options{Journal: j})
}

// open starts a proxy under a policy, with what o says besides.
func open(t testing.TB, pol string, o protocoltest.Options) *proxy {
	t.Helper()
	return openWith(t, pol, o, func(*postgres.Options) {})
}

// openWith is open with other options of the protocol.
func openWith(t testing.TB, pol string, o protocoltest.Options, change func(*postgres.Options)) *proxy {
	t.Helper()
	cat, err := catalog.Open(t.Context(), catalog.Options{Dial: dialServer, User: "sallyport_catalog", Database: "postgres"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cat.Close() }) // after the sessions
	an := rewrite.New(rewrite.Options{Parser: pool, Catalog: cat})
	p := postgres.Options{
		Analyzer: func(context.Context, string, string) (query.Analyzer, func(), error) { return an, func() {}, nil },
		Digest:   digest,
		Keys:     func() *mask.Keys { return maskingKeys },
		Subjects: func() *events.SubjectKey { return subjectKey },
	}
	change(&p)
	o.Protocol = postgres.New(p)
	o.Engine, o.Server = engine(t, pol), server.Addr
	return &proxy{Passage: protocoltest.Open(t, o), t: t}
}

// maskingKeys are those of all proxies here.
var maskingKeys = func() *mask.Keys {
	k, err := mask.ParseKeys([]byte("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"))
	if err != nil {
		panic(err)
	}
	return k
}()

// subjectKey is that of all proxies here.
var subjectKey = func() *events.SubjectKey {
	k, err := events.ParseSubjectKey([]byte("202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"))
	if err != nil {
		panic(err)
	}
	return k
}()

func dialServer(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", server.Addr.String())
}

func digest(b []byte) events.Digest { s := sha256.Sum256(b); return events.Digest(s[:8]) }

func (p *proxy) dsn(more string) string {
	host, port, _ := net.SplitHostPort(p.Addr)
	return fmt.Sprintf("host=%s port=%s user=agent dbname=postgres sslmode=disable %s", host, port, more)
}

// settled waits until every statement on the record has its outcome, and
// returns the journal.
func (p *proxy) settled() *protocoltest.Journal {
	p.t.Helper()
	type statement struct {
		session string
		number  uint64
	}
	for range 12000 {
		open := map[statement]bool{}
		for _, e := range p.Journal.All() {
			switch e.Kind {
			case events.Statement:
				open[statement{e.Session.ID, e.Number}] = true
			case events.Response, events.SessionClose:
				maps.DeleteFunc(open, func(s statement, _ bool) bool {
					return s.session == e.Session.ID && (e.Kind == events.SessionClose || s.number <= e.Number)
				})
			}
		}
		if len(open) == 0 {
			return p.Journal
		}
		time.Sleep(5 * time.Millisecond)
	}
	p.t.Error("a statement has no outcome")
	return p.Journal
}
