package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/protocols"
)

// A workload has its share, and no more; who is beyond it hears why.
func TestLimitOfAWorkload(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.more = "limits: {sessions: 10, sessions_per_workload: 2}\n"
	h.configure()
	h.serve()
	token := h.token("agent-a")
	one, two := h.shell(token), h.shell(token)
	for _, s := range []*shell{one, two} {
		if out, errs := s.run("select 1"); out != "1\n" {
			t.Fatalf("%q %s", out, errs)
		}
	}
	if out, err := h.psqlWith(token, "-c", "select 1"); err == nil || !has(out, "FATAL", "agent-a has 2 sessions open") {
		t.Errorf("%q, %v", out, err)
	}
	one.in.Close()
	_ = one.cmd.Wait()
	within(t, "a place is free again", func() bool {
		out, err := h.psqlWith(token, "-c", "select 1")
		return err == nil && out == "1\n"
	})
	if h.metric(`sallyport_refused_total{resource="clinic",why="limit"}`) == "0" {
		t.Error("it is not counted")
	}
	h.stop()
}

// With no place at all the door is shut, which is on the record.
func TestLimitOfAll(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.more = "limits: {sessions: 1, sessions_per_workload: 1}\n"
	h.configure()
	h.serve()
	token := h.token("agent-a")
	one := h.shell(token)
	if out, errs := one.run("select 1"); out != "1\n" {
		t.Fatalf("%q %s", out, errs)
	}
	if out, err := h.psqlWith(token, "-c", "select 1"); err == nil || has(out, "1\n") {
		t.Errorf("%q, %v", out, err)
	}
	if out, errs := one.run("select 2"); out != "2\n" {
		t.Errorf("the session that is open: %q %s", out, errs)
	}
	h.stop()
	all := h.record()
	var refused int
	for _, l := range recorded(all, events.Login) {
		if l.Verdict == "block" && has(l.Reason, "limits.sessions") && l.Process.UID == agentUID {
			refused++
		}
	}
	if a := recorded(all, events.Alarm); refused == 0 || len(a) != 1 || !has(a[0].Message, "limit: ") {
		t.Errorf("%d refused, alarms %+v", refused, a)
	}
}

// faulty is a protocol with a fault in it.
type faulty struct{ value string }

func (f faulty) Name() string { return "faulty" }

func (f faulty) Serve(context.Context, *protocols.Session) error { panic(f.value) }

func (f faulty) Refuse(context.Context, net.Conn, *tls.Config, string, string) error { panic(f.value) }

// A fault ends its session alone; what panicked is not told, it may be data.
func TestFaultEndsItsSession(t *testing.T) {
	const secret = "123-45-6789"
	var log syncBuffer
	d := &daemon{log: slog.New(slog.NewTextHandler(&log, nil))}
	var told []events.Event
	d.alarms.begin(journalFunc(func(e *events.Event) { told = append(told, *e) }), d.log)
	d.sessions.begin(config.Limits{Sessions: 1, PerWorkload: 1}, d.log)
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	p := &passage{flow: &intercept.Flow{Conn: a}, protocol: faulty{secret}, event: &events.Session{ID: "the-session"}}
	if err := d.guarded(t.Context(), p, nil); err != errFault {
		t.Errorf("served: %v", err)
	}
	if err := d.tell(context.Background(), p, &refused{}); err != errFault {
		t.Errorf("refused: %v", err)
	}
	if len(told) != 2 {
		t.Fatalf("%+v", told)
	}
	for i, place := range []string{"faulty.Serve", "faulty.Refuse"} {
		if told[i].Kind != events.Alarm || !has(told[i].Message, "the-session", place) {
			t.Errorf("%+v", told[i])
		}
		if strings.Contains(log.String()+told[i].Message, secret) {
			t.Error("the value is told")
		}
	}
}

// journalFunc takes events and promises nothing.
type journalFunc func(*events.Event)

func (f journalFunc) Append(e *events.Event) (events.Ticket, error) {
	f(e)
	return events.Ticket{}, nil
}
func (f journalFunc) Record(*events.Chunk) (events.Ticket, error) { return events.Ticket{}, nil }

// Who is refused again and again can't fill the journal.
func TestLimiter(t *testing.T) {
	l := limiter{max: 3}
	now := time.Unix(1000, 0)
	through := 0
	for range 10 {
		if missed, ok := l.allow(now); ok {
			through++
			if missed != 0 {
				t.Errorf("%d missed before any was", missed)
			}
		}
	}
	if through != 3 {
		t.Errorf("%d of 3", through)
	}
	if missed, ok := l.allow(now.Add(time.Second)); !ok || missed != 7 {
		t.Errorf("the next second: %d missed, %v", missed, ok)
	}
	if missed, ok := l.allow(now.Add(time.Second)); !ok || missed != 0 {
		t.Errorf("told twice: %d, %v", missed, ok)
	}
}

func TestDigestsAreKeyed(t *testing.T) {
	a, b := newDigester([]byte("key one")), newDigester([]byte("key two"))
	x := a.sum([]byte("x"))
	if x != a.sum([]byte("x")) || x == a.sum([]byte("y")) || x == b.sum([]byte("x")) || x == (events.Digest{}) {
		t.Error("digests do not tell values and keys apart")
	}
	v := []byte("value")
	if n := testing.AllocsPerRun(100, func() { a.sum(v) }); n > slack {
		t.Errorf("%v allocations for a digest", n)
	}
}
