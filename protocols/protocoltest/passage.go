package protocoltest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols"
)

// Options of a Passage. Protocol, Engine and one of Server and Dial are needed.
type Options struct {
	Protocol protocols.Protocol
	Engine   policy.Engine
	Server   netip.AddrPort
	Journal  events.Journal // nil: Passage.Journal

	// Dial opens the server's door; nil dials Server.
	Dial func(context.Context) (net.Conn, error)
	// Account is whom the passage logs in as at the server, nil for nobody.
	Account *protocols.Account
	// TLS is what the client's door may be secured with; TLSOnly refuses others.
	TLS     *tls.Config
	TLSOnly bool
	// IgnoreCertificates and Undecoded: see protocols.Options.
	IgnoreCertificates bool
	Undecoded          *protocols.Undecoded
	// Client may wrap the client's door.
	Client func(net.Conn) net.Conn
	// Identity may change who the nth connection (from 1) belongs to.
	Identity func(n int, id *intercept.Identity)
	// Speak proves for whom a connection says that it acts; see protocols.Options.
	Speak func(context.Context, []byte) (intercept.Spoken, error)
	// Present proves a connection by the token that its client sends; nil: none is
	// asked for.
	Present func(context.Context, []byte) (intercept.Identity, *protocols.Account, error)
	// Renew proves an expired identity again.
	Renew func(context.Context) (intercept.Identity, error)
}

// Passage is the passage without its kernel: it serves whoever connects, as
// the workload "agent".
type Passage struct {
	Addr    string
	Gate    *policy.Gate
	Journal *Journal // nil when Options named another
	Ends    <-chan error
	// Drain ends the context of all sessions.
	Drain context.CancelFunc

	t     testing.TB
	close func() // waits for the end of all sessions; more than once is no error
}

// Open opens a passage for the time of the test. All its sessions must end
// when their doors are shut.
func Open(t testing.TB, o Options) *Passage {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ends := make(chan error, 1<<16)
	p := &Passage{Addr: ln.Addr().String(), Ends: ends, Drain: cancel, t: t}
	if o.Journal == nil {
		p.Journal = NewJournal()
		o.Journal = p.Journal
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", o.Server.String())
		}
	}
	p.Gate = policy.NewGate(o.Engine, o.Journal, time.Now)
	var wg sync.WaitGroup
	var mu sync.Mutex
	doors := map[net.Conn]bool{}
	wg.Go(func() {
		for n := 1; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			doors[c] = true
			mu.Unlock()
			wg.Go(func() {
				ends <- p.serve(ctx, &o, c, n)
				mu.Lock()
				delete(doors, c)
				mu.Unlock()
			})
		}
	})
	p.close = sync.OnceFunc(func() {
		ln.Close()
		cancel()
		mu.Lock()
		for c := range doors {
			c.Close()
		}
		mu.Unlock()
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Error("a session did not end")
		}
		if p.Journal != nil {
			for _, f := range p.Journal.Faults() {
				t.Error(f)
			}
		}
	})
	t.Cleanup(p.close)
	return p
}

func (p *Passage) serve(ctx context.Context, o *Options, c net.Conn, n int) error {
	defer c.Close()
	id := intercept.Identity{Workload: "agent", Subject: "agent", Proof: "test", Expires: time.Now().Add(time.Hour)}
	if o.Identity != nil {
		o.Identity(n, &id)
	}
	if o.Client != nil {
		c = o.Client(c)
	}
	name := o.Protocol.Name()
	var event *events.Session
	var present func(context.Context, []byte) (intercept.Identity, *protocols.Account, error)
	if o.Present != nil {
		id = intercept.Identity{Workload: id.Workload}
		present = func(ctx context.Context, token []byte) (intercept.Identity, *protocols.Account, error) {
			id, account, err := o.Present(ctx, token)
			if err == nil {
				policy.Tell(event, &id)
			}
			return id, account, err
		}
	}
	event = &events.Session{
		ID: fmt.Sprintf("session-%d", n), Host: "test", Protocol: name, Resource: "clinic", Destination: o.Server,
		Workload: id.Workload, Actor: id.Actor(), Principal: id.Principal(), Actors: id.Actors, Issuer: id.Issuer,
		SPIFFE: id.SPIFFE, PrincipalIssuer: id.PrincipalIssuer(), Pooled: id.Pooled(),
	}
	s := protocols.NewSession(protocols.Options{
		Present: present,
		Flow:    &intercept.Flow{Conn: c, Destination: o.Server}, Gate: p.Gate, Journal: o.Journal, Dial: o.Dial, Account: o.Account, Renew: o.Renew, Speak: o.Speak, TLS: o.TLS, TLSOnly: o.TLSOnly,
		IgnoreCertificates: o.IgnoreCertificates, Undecoded: o.Undecoded,
		Policy: &policy.Session{
			Identity: id, Resource: "clinic", Protocol: name,
			Event: event,
		},
	})
	err := o.Protocol.Serve(ctx, s)
	_ = s.Close(err)
	return err
}

// Dial connects to the passage.
func (p *Passage) Dial() net.Conn { return Dial(p.t, p.Addr) }

// Dial connects for the time of the test, and at most 60 s.
func Dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	return c
}

// End waits for the next session to end, and returns what Serve did.
func (p *Passage) End() error {
	p.t.Helper()
	select {
	case err := <-p.Ends:
		return err
	case <-time.After(20 * time.Second):
		p.t.Fatal("no session ends")
		return nil
	}
}
