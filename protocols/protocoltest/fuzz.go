package protocoltest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols"
)

// Fuzz says anything to a session that has logged in, and holds that it ends
// when the client leaves, that its record is sound, and that nothing of what is
// refused reaches the server.
func Fuzz(f *testing.F, p protocols.Protocol, d *Driver) {
	for _, talk := range d.Talks {
		f.Add(talk.Say, true)
		f.Add(talk.Say, false)
	}
	f.Add(d.Blocked, true)
	f.Add(d.Unknown, false)
	f.Fuzz(func(t *testing.T, say []byte, allow bool) {
		e := policy.Engine(refuser{})
		if allow {
			e = engine{login: true, refused: d.Command}
		}
		var up bytes.Buffer
		got := d.play(t, p, e, say, func(c net.Conn) { d.Fake(tee{c, &up}) })
		sent := up.Bytes()[min(up.Len(), len(d.Hello)):]
		if !allow {
			if err := d.Innocent(sent); err != nil {
				t.Errorf("%v\nthe server got %q", err, sent)
			}
		}
		if err := d.Whole(got); err != nil {
			t.Errorf("%v\nthe client got %q", err, got)
		}
	})
}

// FuzzServer lets a server say anything after the login, and holds that the
// session ends, that its record is sound, and that the client gets whole
// messages only.
func FuzzServer(f *testing.F, p protocols.Protocol, d *Driver, answers ...[]byte) {
	for i := range d.Talks {
		for _, a := range answers {
			f.Add(a, uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, answer []byte, talk uint8) {
		got := d.play(t, p, engine{login: true, refused: d.Command}, d.Talks[int(talk)%len(d.Talks)].Say, func(c net.Conn) {
			d.Admit(c)
			go io.Copy(io.Discard, c)
			_, _ = c.Write(answer)
			time.Sleep(time.Millisecond) // for what it was sent meanwhile
		})
		if err := d.Whole(got); err != nil {
			t.Errorf("%v\nthe client got %q", err, got)
		}
	})
}

// tee keeps what is read.
type tee struct {
	net.Conn
	to *bytes.Buffer
}

func (c tee) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.to.Write(b[:n])
	return n, err
}

// play serves one session: its client logs in, speaks and leaves, its server is
// serve. It returns what the client got.
func (d *Driver) play(t *testing.T, p protocols.Protocol, e policy.Engine, say []byte, serve func(net.Conn)) (got []byte) {
	client, door := Pair(t)
	backdoor, server := Pair(t)
	j := NewJournal()
	s := protocols.NewSession(protocols.Options{
		Flow: &intercept.Flow{Conn: door}, Gate: policy.NewGate(e, j, time.Now), Journal: j,
		Dial: func(context.Context) (net.Conn, error) { return backdoor, nil },
		Policy: &policy.Session{
			Identity: intercept.Identity{Workload: "agent", Proof: "test", Expires: time.Now().Add(time.Hour)},
			Event:    &events.Session{ID: "fuzz"},
		},
	})
	var wg sync.WaitGroup
	wg.Go(func() { got, _ = io.ReadAll(client) })
	wg.Go(func() {
		serve(server)
		server.Close()
	})
	wg.Go(func() {
		_, _ = client.Write(append(bytes.Clone(d.Hello), say...))
		_ = client.CloseWrite()
	})
	ended := make(chan struct{})
	go func() {
		err := p.Serve(context.Background(), s)
		_ = s.Close(err)
		door.Close()
		backdoor.Close()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		panic("a session does not end") // with all stacks
	}
	wg.Wait()
	client.Close()
	for _, f := range j.Faults() {
		t.Error(f)
	}
	return got
}

// Pair returns the ends of a connection that needs no port.
func Pair(t testing.TB) (a, b *net.UnixConn) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), fmt.Sprintf("end %d", i))
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

// refuser lets everybody in and refuses whatever they ask.
type refuser struct{ engine }

// Evaluate implements policy.Engine.
func (refuser) Evaluate(r *policy.Request) policy.Evaluation {
	if r.Kind == policy.Login {
		return policy.Evaluation{Effect: policy.EffectAllow, Rules: []string{"all"}}
	}
	return policy.Evaluation{Effect: policy.EffectBlock, Rules: []string{"suite"}, Reason: "the suite forbids it"}
}

// FuzzGreeting says anything in place of a greeting, and holds that the session
// ends, and that the server gets a login or nothing.
func FuzzGreeting(f *testing.F, p protocols.Protocol, d *Driver) {
	f.Fuzz(func(t *testing.T, hello []byte) {
		var up bytes.Buffer
		g := *d
		g.Hello = hello
		got := g.play(t, p, engine{login: true}, nil, func(c net.Conn) { d.Fake(tee{c, &up}) })
		if err := d.Login(up.Bytes()); up.Len() > 0 && err != nil {
			t.Errorf("%v\nthe server got %q", err, up.Bytes())
		}
		if err := d.Greeted(got); err != nil {
			t.Errorf("%v\nthe client got %q", err, got)
		}
	})
}
