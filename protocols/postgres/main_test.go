package postgres_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/rules"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/postgres"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/parser"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/rewrite"
	"sallyport.dev/sallyport/protocols/wire"
)

var (
	server *postgrestest.Server
	pool   *parser.Pool
)

func TestMain(m *testing.M) {
	if parser.IsChild() {
		os.Exit(parser.Main())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	clinic, err := os.ReadFile("rewrite/testdata/clinic.sql")
	if err == nil {
		server, err = postgrestest.Start("CREATE ROLE agent SUPERUSER LOGIN; CREATE ROLE sallyport_catalog LOGIN;" +
			"CREATE TABLE t (a int, b text); CREATE TABLE t2 (a int); CREATE TABLE t3 (a int);" + string(clinic))
	}
	if err == nil {
		defer server.Stop()
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

// record is a journal in memory that keeps what it was given.
type record struct {
	mu     sync.Mutex
	events []events.Event
	chunks []events.Chunk
	full   bool
	slow   chan struct{} // nil: everything is durable at once
	seq    uint64
}

func (r *record) Append(e *events.Event) (events.Ticket, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full && e.Kind != events.Response && e.Kind != events.SessionClose {
		return events.Ticket{}, events.ErrFull
	}
	c := *e
	c.Rules, c.Masked, c.Objects = slices.Clone(e.Rules), slices.Clone(e.Masked), slices.Clone(e.Objects)
	c.Literals, c.Normalized = slices.Clone(e.Literals), strings.Clone(e.Normalized)
	r.events = append(r.events, c)
	r.seq++
	return events.NewTicket(r, r.seq), nil
}

func (r *record) Record(c *events.Chunk) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := *c
	k.Data = bytes.Clone(c.Data)
	r.chunks = append(r.chunks, k)
	return nil
}

func (r *record) WaitDurable(ctx context.Context, _ uint64) error {
	select {
	case <-r.slow:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *record) Durable() uint64 {
	if r.slow == nil {
		return 1 << 62
	}
	select {
	case <-r.slow:
		return 1 << 62
	default:
		return 0
	}
}

// kinds returns the events of a kind.
func (r *record) kinds(k events.Kind) []events.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []events.Event
	for _, e := range r.events {
		if e.Kind == k {
			out = append(out, e)
		}
	}
	return out
}

func (r *record) transcript(k events.ChunkKind) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, c := range r.chunks {
		if c.Kind == k {
			b.Write(c.Data)
		}
	}
	return b.String()
}

// proxy is the passage without its kernel: it serves whoever connects as the
// workload "agent".
type proxy struct {
	t      testing.TB
	ln     net.Listener
	gate   *policy.Gate
	record *record
	errs   chan error
	stop   context.CancelFunc
	dial   func(context.Context) (net.Conn, error)
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
	return startOn(t, pol, nil)
}

// startOn starts a proxy with a journal of the test's own; nil: one in memory.
func startOn(t testing.TB, pol string, j events.Journal) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &proxy{t: t, ln: ln, record: &record{}, errs: make(chan error, 100), stop: cancel}
	p.dial = func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", server.Addr.String())
	}
	if j == nil {
		j = p.record
	}
	p.gate = policy.NewGate(engine(t, pol), j, time.Now)
	cat, err := catalog.Open(ctx, catalog.Options{
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", server.Addr.String())
		},
		User: "sallyport_catalog", Database: "postgres",
	})
	if err != nil {
		t.Fatal(err)
	}
	an := rewrite.New(rewrite.Options{Parser: pool, Catalog: cat})
	proto := postgres.New(postgres.Options{
		Analyzer: func(context.Context, string, string) (query.Analyzer, func(), error) { return an, func() {}, nil },
		Digest:   func(b []byte) events.Digest { s := sha256.Sum256(b); return events.Digest(s[:8]) },
	})
	var wg sync.WaitGroup
	n := 0
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			n++
			id := fmt.Sprintf("session-%d", n)
			wg.Go(func() {
				defer c.Close()
				s := protocols.NewSession(protocols.Options{
					Flow: &intercept.Flow{Conn: c, Destination: server.Addr}, Gate: p.gate, Journal: j,
					Policy: &policy.Session{
						Identity: intercept.Identity{Workload: "agent", Subject: "agent", Proof: "test", Expires: time.Now().Add(time.Hour)},
						Resource: "clinic", Protocol: "postgres",
						Event: &events.Session{ID: id, Host: "test", Protocol: "postgres", Resource: "clinic", Destination: server.Addr, Workload: "agent"},
					},
					Dial: func(ctx context.Context) (net.Conn, error) { return p.dial(ctx) },
				})
				err := proto.Serve(ctx, s)
				_ = s.Close(err)
				p.errs <- err
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		ln.Close()
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Error("a session did not end")
		}
		cat.Close()
	})
	return p
}

func (p *proxy) dsn(more string) string {
	a := p.ln.Addr().(*net.TCPAddr)
	return fmt.Sprintf("host=127.0.0.1 port=%d user=agent dbname=postgres sslmode=disable %s", a.Port, more)
}
