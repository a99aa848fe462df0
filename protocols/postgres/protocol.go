package postgres

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// Options of a Protocol. Analyzer and Digest are required.
type Options struct {
	// Analyzer returns the analyzer of a database of a resource, and what is
	// called when the session no longer needs it. It may connect. It is asked
	// only by sessions in which a rule needs to know what a statement does.
	Analyzer func(ctx context.Context, resource, database string) (query.Analyzer, func(), error)
	// Digest is the keyed hash of a literal, safe for concurrent use.
	Digest func(value []byte) events.Digest
	// Keys returns what keyed masks are made with at this moment; nil, or what
	// it returns is nil: their columns are redacted.
	Keys func() *mask.Keys
	// Subjects returns what subjects are named by at this moment; nil, or what it
	// returns is nil: none are.
	Subjects func() *events.SubjectKey
	// AliveEvery is how often a client that is held for an approval has a word that it
	// still waits; 0 is 15 s.
	AliveEvery time.Duration
}

// aliveEvery is Options.AliveEvery or its default.
func (p *Protocol) aliveEvery() time.Duration {
	if p.o.AliveEvery <= 0 {
		return defaultAliveEvery
	}
	return p.o.AliveEvery
}

// keys returns what keyed masks are made with, nil for nothing.
func (p *Protocol) keys() *mask.Keys {
	if p.o.Keys == nil {
		return nil
	}
	return p.o.Keys()
}

// Protocol serves PostgreSQL sessions. It implements protocols.Protocol.
type Protocol struct {
	o     Options
	cache *cache

	mock [32]byte // of salts for agents that there are not

	mu      sync.Mutex
	cancels map[cancelKey]*conn
	changes map[databaseKey]*changes
}

// New returns a Protocol.
func New(o Options) *Protocol {
	p := &Protocol{o: o, cache: newCache(), cancels: map[cancelKey]*conn{}, changes: map[databaseKey]*changes{}}
	_, _ = rand.Read(p.mock[:])
	return p
}

// Name implements protocols.Protocol.
func (p *Protocol) Name() string { return "postgres" }

// startupTime bounds a greeting and a login, the database's answer included.
const startupTime = 60 * time.Second

// Serve implements protocols.Protocol.
func (p *Protocol) Serve(ctx context.Context, s *protocols.Session) error {
	c := &conn{p: p, s: s, pol: s.Policy(), event: s.Policy().Event, ctx: ctx, replyCtx: context.WithoutCancel(ctx)}
	c.queue.init()
	c.queue.rested = s.Rest
	return c.serve()
}

// Refuse implements protocols.Protocol.
func (p *Protocol) Refuse(ctx context.Context, client net.Conn, cfg *tls.Config, reason, remedy string) error {
	stop := context.AfterFunc(ctx, func() { _ = client.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	g := greeting{conn: client, tls: cfg}
	if err := g.read(ctx); err != nil || g.cancel != nil {
		return err
	}
	r := refusal{code: codeIdentity, message: "sallyport: refused: " + reason, hint: remedy}
	_, err := g.conn.Write(r.append(nil, "FATAL"))
	if g.secured != nil {
		_ = g.secured.CloseWrite()
	}
	return err
}

var _ protocols.Protocol = (*Protocol)(nil)

// protects returns a scope that protects something, nil for another.
func protects(sc *policy.Scope) *policy.Scope {
	if sc.Protects() {
		return sc
	}
	return nil
}
