package protocoltest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols"
)

// Run holds protocols to what every protocol must do. all is the table of
// them; one without a driver fails.
func Run(t *testing.T, all map[string]protocols.Protocol, drivers map[string]*Driver) {
	for name, p := range all {
		t.Run(name, func(t *testing.T) {
			d := drivers[name]
			if d == nil {
				t.Fatal("it has no driver: write one, so that the suite can hold it")
			}
			s := &suite{p, d}
			t.Run("indistinguishable", s.indistinguishable)
			t.Run("nothing upstream", s.nothingUpstream)
			t.Run("refusal", s.refusal)
			t.Run("journal full", s.journalFull)
			t.Run("journal slow", s.journalSlow)
			t.Run("oversize", s.oversize)
			t.Run("client cut", s.clientCut)
			t.Run("server cut", s.serverCut)
			t.Run("nobody", s.nobody)
		})
	}
}

type suite struct {
	protocol protocols.Protocol
	*Driver
}

func (s *suite) open(t testing.TB, o Options) *Passage {
	t.Helper()
	o.Protocol, o.Server = s.protocol, s.Server
	if o.Engine == nil {
		o.Engine = engine{login: true, refused: s.Command}
	}
	return Open(t, o)
}

// enter logs in.
func (s *suite) enter(t testing.TB, addr string) *client {
	t.Helper()
	c := s.client(Dial(t, addr))
	if _, err := c.Write(s.Hello); err != nil {
		t.Fatal(err)
	}
	if err := s.Welcome(c.r); err != nil {
		t.Fatalf("login: %v", err)
	}
	return c
}

// ask says something and returns the answers.
func (s *suite) ask(t testing.TB, c *client, say []byte, answers int) []byte {
	t.Helper()
	go c.Write(say) // what is refused may not be read to its end
	var all []byte
	for range answers {
		a, err := s.Answer(c.r)
		if err != nil {
			t.Fatalf("%v, after %q", err, all)
		}
		all = append(all, a...)
	}
	return all
}

// indistinguishable: what a client gets is what the server gives, byte for
// byte, however the bytes come in.
func (s *suite) indistinguishable(t *testing.T) {
	plain := s.open(t, Options{})
	slow := s.open(t, Options{
		Client: Bytewise,
		Dial: func(context.Context) (net.Conn, error) {
			c, err := net.Dial("tcp", s.Server.String())
			if err != nil {
				return nil, err
			}
			return Bytewise(c), nil
		},
	})
	for _, talk := range s.Talks {
		want := s.ask(t, s.enter(t, s.Server.String()), talk.Say, talk.Answers)
		for name, p := range map[string]*Passage{"plain": plain, "bytewise": slow} {
			if got := s.ask(t, s.enter(t, p.Addr), talk.Say, talk.Answers); !bytes.Equal(got, want) {
				t.Errorf("%s, %s: got\n%q\nwant\n%q", talk.Name, name, got, want)
			}
		}
	}
}

// taps dials the server and keeps the doors.
type taps struct {
	addr string
	mu   sync.Mutex
	all  []*Tap
}

func (d *taps) dial(context.Context) (net.Conn, error) {
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, &Tap{Conn: c})
	return d.all[len(d.all)-1], nil
}

func (d *taps) written() (n int, all []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.all {
		all = append(all, t.Written()...)
	}
	return len(d.all), all
}

func (s *suite) nothingUpstream(t *testing.T) {
	t.Run("login refused", func(t *testing.T) {
		up := &taps{addr: s.Server.String()}
		p := s.open(t, Options{Engine: engine{}, Dial: up.dial})
		s.refusedAtTheDoor(t, p, up)
		if ev := p.Journal.Events(events.Login); len(ev) != 1 || ev[0].Verdict.Runs() {
			t.Errorf("recorded: %+v", ev)
		}
	})
	t.Run("identity expired", func(t *testing.T) {
		up := &taps{addr: s.Server.String()}
		p := s.open(t, Options{Identity: expired, Dial: up.dial})
		s.refusedAtTheDoor(t, p, up)
	})
	t.Run("journal full at login", func(t *testing.T) {
		up := &taps{addr: s.Server.String()}
		p := s.open(t, Options{Dial: up.dial})
		p.Journal.Full(true)
		s.refusedAtTheDoor(t, p, up)
	})
	for name, set := range map[string]struct {
		say, words []byte
		full       bool
	}{
		"refused": {s.Blocked, s.BlockedWords, false}, "journal full": {s.Stir, s.Words, true}, "unknown": {s.Unknown, s.Unknown, false},
	} {
		t.Run(name, func(t *testing.T) {
			up := &taps{addr: s.Server.String()}
			p := s.open(t, Options{Dial: up.dial})
			c := s.enter(t, p.Addr)
			p.Journal.Full(set.full)
			_, _ = c.Write(set.say)
			a, _ := s.Answer(c.r)
			if len(a) == 0 {
				t.Error("no answer")
			}
			if _, b := up.written(); bytes.Contains(b, set.words) {
				t.Errorf("the server got %q", b)
			}
			if name == "unknown" {
				if _, err := io.Copy(io.Discard, c.r); err != nil && !strings.Contains(err.Error(), "reset") {
					t.Error(err)
				}
				if err := p.End(); err == nil {
					t.Error("the session ended as if nothing was wrong")
				}
			}
		})
	}
}

// refusedAtTheDoor holds that a client hears something, and the server nothing.
func (s *suite) refusedAtTheDoor(t *testing.T, p *Passage, up *taps) {
	t.Helper()
	c := s.client(Dial(t, p.Addr))
	_, _ = c.Write(s.Hello)
	if err := s.Welcome(c.r); err == nil {
		t.Error("the login succeeds")
	} else if errors.Is(err, io.EOF) {
		t.Error("the client hears nothing")
	}
	if n, b := up.written(); n > 0 {
		t.Errorf("the server's door was opened; written: %q", b)
	}
}

// refusal: in the protocol's own words, on the record before the client hears
// it, and the session goes on.
func (s *suite) refusal(t *testing.T) {
	p := s.open(t, Options{})
	c := s.enter(t, p.Addr)
	want := s.ask(t, c, s.Stir, 1)
	for range 3 {
		if a := s.ask(t, c, s.Blocked, 1); !s.Refused(a) {
			t.Errorf("not a refusal: %q", a)
		}
		if a := s.ask(t, c, s.Stir, 1); !bytes.Equal(a, want) {
			t.Errorf("the session gives %q, was %q", a, want)
		}
	}
	ev := p.Journal.Events(events.Block)
	if len(ev) != 3 || ev[0].Rules[0] != "suite" || ev[0].Reason == "" || ev[0].Remedy == "" || ev[0].Number == 0 {
		t.Errorf("recorded: %+v", ev)
	}

	release := p.Journal.Hold()
	go c.Write(s.Blocked)
	silent(t, c)
	release()
	if a, err := s.Answer(c.r); err != nil || !s.Refused(a) {
		t.Errorf("%q, %v", a, err)
	}
}

// silent holds that nothing comes.
func silent(t *testing.T, c *client) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if b, err := c.r.Peek(1); err == nil {
		t.Errorf("a byte comes before the record is durable: %q", b)
	}
	_ = c.SetReadDeadline(time.Now().Add(60 * time.Second))
}

// journalFull: running sessions are refused too, and go on when there is room.
func (s *suite) journalFull(t *testing.T) {
	p := s.open(t, Options{})
	c := s.enter(t, p.Addr)
	want := s.ask(t, c, s.Stir, 1)
	p.Journal.Full(true)
	for range 2 {
		if a := s.ask(t, c, s.Stir, 1); !s.Refused(a) {
			t.Errorf("not refused: %q", a)
		}
	}
	p.Journal.Full(false)
	if a := s.ask(t, c, s.Stir, 1); !bytes.Equal(a, want) {
		t.Errorf("the session gives %q, was %q", a, want)
	}
}

// journalSlow: no byte of an answer comes before the record is durable.
func (s *suite) journalSlow(t *testing.T) {
	p := s.open(t, Options{})
	c := s.enter(t, p.Addr)
	want := s.ask(t, c, s.Stir, 1)
	release := p.Journal.Hold()
	if _, err := c.Write(s.Stir); err != nil {
		t.Fatal(err)
	}
	silent(t, c)
	release()
	if a, err := s.Answer(c.r); err != nil || !bytes.Equal(a, want) {
		t.Errorf("%q, %v, want %q", a, err, want)
	}
}

func (s *suite) oversize(t *testing.T) {
	if s.Large == nil {
		t.Skip("the protocol has no limit")
	}
	up := &taps{addr: s.Server.String()}
	p := s.open(t, Options{Dial: up.dial})
	c := s.enter(t, p.Addr)
	want := s.ask(t, c, s.Stir, 1)
	if a := s.ask(t, c, s.Large, 1); !s.Refused(a) {
		t.Errorf("not refused: %q", a[:min(len(a), 1000)])
	}
	if a := s.ask(t, c, s.Stir, 1); !bytes.Equal(a, want) {
		t.Errorf("the session gives %q, was %q", a, want)
	}
	if _, b := up.written(); len(b) > len(s.Large)/2 {
		t.Errorf("%d bytes went to the server", len(b))
	}
}

// nobody: a client that says nothing, and one that says nonsense, are gone.
func (s *suite) nobody(t *testing.T) {
	check := NoLeak(t)
	up := &taps{addr: s.Server.String()}
	p := s.open(t, Options{Dial: up.dial})
	c := Dial(t, p.Addr)
	c.Close()
	_ = p.End()
	c = Dial(t, p.Addr)
	_, _ = c.Write(bytes.Repeat([]byte{0xff}, 100))
	_, _ = io.Copy(io.Discard, c)
	c.Close()
	if err := p.End(); err == nil {
		t.Error("nonsense is a session")
	}
	if n, _ := up.written(); n > 0 {
		t.Error("the server's door was opened")
	}
	p.close()
	check()
}

var _ policy.Engine = engine{}
