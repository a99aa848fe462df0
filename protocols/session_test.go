package protocols_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// yes allows what is not "no".
type yes struct{}

func (yes) Scope(*policy.Session, time.Time) *policy.Scope { return &policy.Scope{ID: "yes"} }

func (yes) Evaluate(r *policy.Request) policy.Evaluation {
	if r.Commands[0] == "no" {
		return policy.Evaluation{Effect: policy.EffectBlock, Reason: "no"}
	}
	return policy.Evaluation{Effect: policy.EffectAllow}
}

// passage is a session with its two doors' far ends.
type passage struct {
	*protocols.Session
	client, server *net.UnixConn
	journal        *protocoltest.Journal
	dials          int
}

func open(t *testing.T) *passage {
	p := &passage{journal: protocoltest.NewJournal()}
	door, backdoor := (*net.UnixConn)(nil), (*net.UnixConn)(nil)
	p.client, door = protocoltest.Pair(t)
	backdoor, p.server = protocoltest.Pair(t)
	p.Session = protocols.NewSession(protocols.Options{
		Flow: &intercept.Flow{Conn: door}, Gate: policy.NewGate(yes{}, p.journal, time.Now), Journal: p.journal,
		Dial: func(context.Context) (net.Conn, error) { p.dials++; return backdoor, nil },
		Policy: &policy.Session{
			Identity: intercept.Identity{Workload: "w", Proof: "test", Expires: time.Now().Add(time.Hour)}, Event: &events.Session{ID: "s"},
		},
	})
	t.Cleanup(func() { p.client.Close(); p.server.Close(); door.Close(); backdoor.Close() })
	return p
}

func (p *passage) decide(t *testing.T, kind policy.RequestKind, number uint64, command string) policy.Decision {
	t.Helper()
	d, err := p.Decide(t.Context(), &policy.Request{Kind: kind, Number: number, Commands: []string{command}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// got returns what has come to a far end.
func got(t *testing.T, c net.Conn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return string(b)
}

// Nothing goes to the server without a decision that allows.
func TestSendNeedsADecision(t *testing.T) {
	p := open(t)
	login := p.decide(t, policy.Login, 0, "login")
	if err := p.Send(login, []byte("x")); !errors.Is(err, protocols.ErrClosed) {
		t.Errorf("sent through a door that is shut: %v", err)
	}
	for _, d := range []policy.Decision{{}, p.decide(t, policy.StatementReq, 1, "no")} {
		if err := p.Open(t.Context(), d); !errors.Is(err, protocols.ErrNotAllowed) || p.dials > 0 {
			t.Errorf("opened: %v", err)
		}
		if err := p.Aside(t.Context(), d, []byte("x")); !errors.Is(err, protocols.ErrNotAllowed) || p.dials > 0 {
			t.Errorf("opened aside: %v", err)
		}
	}
	if err := p.Open(t.Context(), login); err != nil {
		t.Fatal(err)
	}
	for _, d := range []policy.Decision{{}, p.decide(t, policy.StatementReq, 2, "no")} {
		if err := p.Send(d, []byte("secret")); !errors.Is(err, protocols.ErrNotAllowed) {
			t.Errorf("sent: %v", err)
		}
	}
	if err := errors.Join(p.Send(login, []byte("al")), p.Send(p.decide(t, policy.StatementReq, 3, "yes"), []byte("lowed"))); err != nil {
		t.Fatal(err)
	}
	if s := got(t, p.server); s != "" || p.Queued() != 7 {
		t.Errorf("%q came before Flush", s)
	}
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	if s := got(t, p.server); s != "allowed" || p.Queued() != 0 {
		t.Errorf("the server got %q", s)
	}
}

// Send copies: what a protocol borrowed may change at once.
func TestSendCopies(t *testing.T) {
	p := open(t)
	login := p.decide(t, policy.Login, 0, "login")
	if err := p.Open(t.Context(), login); err != nil {
		t.Fatal(err)
	}
	b := []byte("before")
	_ = p.Send(login, b)
	copy(b, "after!")
	_ = p.Flush()
	if s := got(t, p.server); s != "before" {
		t.Errorf("%q", s)
	}
	large := bytes.Repeat([]byte("x"), 1<<20)
	go func() { _ = p.Send(login, large); _ = p.Flush() }()
	all := make([]byte, len(large))
	_ = p.server.SetReadDeadline(time.Now().Add(2 * time.Minute))
	if _, err := io.ReadFull(p.server, all); err != nil || !bytes.Equal(all, large) {
		t.Errorf("a large message: %v", err)
	}
}

// The server's side can be read from, and not be made into a writer.
func TestServerIsForReading(t *testing.T) {
	p := open(t)
	if p.Server() != nil {
		t.Error("there is a server before Open")
	}
	if err := p.Open(t.Context(), p.decide(t, policy.Login, 0, "login")); err != nil {
		t.Fatal(err)
	}
	r := p.Server()
	if _, ok := r.(io.Writer); ok {
		t.Error("it can be written to")
	}
	if _, ok := r.(net.Conn); ok {
		t.Error("it is a connection")
	}
	raw, err := r.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Write(func(uintptr) bool { t.Error("called"); return true }); err == nil {
		t.Error("its descriptor can be written to")
	}
	if err := raw.Control(func(uintptr) { t.Error("called") }); err == nil {
		t.Error("its descriptor can be had")
	}
	_, _ = p.server.Write([]byte("x"))
	b := make([]byte, 1)
	if n, err := r.Read(b); n != 1 || err != nil {
		t.Error(n, err)
	}
}

// No reply comes before the record of everything that was sent.
func TestReplyWaits(t *testing.T) {
	p := open(t)
	if err := p.Open(t.Context(), p.decide(t, policy.Login, 0, "login")); err != nil {
		t.Fatal(err)
	}
	release := p.journal.Hold()
	_ = p.Send(p.decide(t, policy.StatementReq, 1, "yes"), []byte("q"))
	done := make(chan error, 1)
	go func() { done <- p.Reply(context.Background(), []byte("answer")) }()
	if s := got(t, p.client); s != "" {
		t.Errorf("%q came before its record", s)
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s := got(t, p.client); s != "answer" {
		t.Errorf("%q", s)
	}
	defer p.journal.Hold()()
	_ = p.Send(p.decide(t, policy.StatementReq, 2, "yes"), []byte("q"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Reply(ctx, []byte("lost")); err == nil {
		t.Error("a reply without its record")
	}
	if s := got(t, p.client); s != "" {
		t.Errorf("%q", s)
	}
}

// Nor before what was recorded is written.
func TestReplyWaitsForTheTranscript(t *testing.T) {
	p := open(t)
	if err := p.Open(t.Context(), p.decide(t, policy.Login, 0, "login")); err != nil {
		t.Fatal(err)
	}
	_ = p.Send(p.decide(t, policy.StatementReq, 1, "yes"), []byte("q"))
	if err := p.Record(&events.Chunk{Number: 1, Kind: events.ChunkResult, Data: []byte("answer")}); err != nil {
		t.Fatal(err)
	}
	p.journal.Unwritten(true)
	if err := p.Reply(t.Context(), []byte("answer")); !errors.Is(err, events.ErrFull) || !errors.Is(p.Written(), events.ErrFull) {
		t.Errorf("a reply without its transcript: %v", err)
	}
	if s := got(t, p.client); s != "" {
		t.Errorf("%q", s)
	}
	p.journal.Unwritten(false)
	if err := p.Reply(t.Context(), []byte("answer")); err != nil {
		t.Fatal(err)
	}
	if s := got(t, p.client); s != "answer" {
		t.Errorf("%q", s)
	}
}

// A session's beginning and end are on the record, once, and what could not
// begin has neither.
func TestBeginningAndEnd(t *testing.T) {
	p := open(t)
	if err := p.Close(nil); err != nil || len(p.journal.All()) > 0 {
		t.Errorf("%v, %+v", err, p.journal.All())
	}
	p = open(t)
	login := p.decide(t, policy.Login, 0, "login")
	p.journal.Full(true)
	if err := p.Open(t.Context(), login); !errors.Is(err, policy.ErrUnrecorded) || p.dials > 0 {
		t.Errorf("opened without a record: %v", err)
	}
	p.journal.Full(false)
	if err := p.Open(t.Context(), login); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(errors.New("why")); err != nil {
		t.Fatal(err)
	}
	ev := p.journal.Events(events.SessionOpen, events.SessionClose)
	if len(ev) != 2 || ev[1].Status != "error" || ev[1].Reason != "why" || ev[1].Session.ID != "s" {
		t.Errorf("%+v", ev)
	}
}

// Interrupt frees who reads or writes at the server's door.
func TestInterrupt(t *testing.T) {
	p := open(t)
	login := p.decide(t, policy.Login, 0, "login")
	if err := p.Open(t.Context(), login); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 2)
	go func() { _, err := p.Server().Read(make([]byte, 1)); done <- err }()
	go func() {
		_ = p.Send(login, make([]byte, 4<<20))
		done <- p.Flush()
	}()
	time.Sleep(20 * time.Millisecond)
	p.Interrupt()
	for range 2 {
		select {
		case err := <-done:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("nobody was freed")
		}
	}
}
